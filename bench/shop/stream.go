package shop

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Stream makes bodies for one connection. It is for one goroutine.
type Stream struct {
	shop   *Shop
	rng    *rand.Rand
	buf    []byte
	now    *template // whose bodies are handed out
	part   int       // the next of them
	used   []int     // how often each template was begun
	traces []trace
	ids    []uint64 // of spans
}

// trace is what differs each time.
type trace struct {
	hi, lo        uint64
	begin         int64   // Unix nanoseconds
	root          float64 // nanoseconds that the root takes
	order         uint64
	user, product uint32
}

// Body is an export request.
type Body struct {
	Data  []byte // valid until the next call of Next
	Spans int
}

// Stream returns the stream with a number, which has the same content each time.
func (s *Shop) Stream(n int) *Stream {
	return &Stream{shop: s, rng: rand.New(rand.NewPCG(s.spec.Seed, uint64(n)+1)), used: make([]int, len(s.templates))}
}

// Next returns the next body. Its traces end within a second before at.
func (s *Stream) Next(at time.Time) Body {
	if s.now == nil || s.part == len(s.now.parts) {
		s.begin(at)
	}
	p := &s.now.parts[s.part]
	s.part++
	s.buf = append(s.buf[:0], p.data...)
	for _, h := range p.holes {
		s.fill(h)
	}
	return Body{Data: s.buf, Spans: p.spans}
}

// begin takes a template and draws ids, times and values for all its bodies.
func (s *Stream) begin(at time.Time) {
	n := s.rng.IntN(len(s.shop.templates))
	s.used[n]++
	s.now, s.part = &s.shop.templates[n], 0
	s.traces, s.ids = s.traces[:0], s.ids[:0]
	for i := range s.now.traces {
		t := &s.now.traces[i]
		root := s.duration(t.shape.seconds) * 1e9
		s.traces = append(s.traces, trace{
			hi: s.rng.Uint64() | 1, lo: s.rng.Uint64() | 1,
			begin: at.UnixNano() - int64(root*float64(t.extent)) - s.rng.Int64N(int64(time.Second)), root: root,
			order: s.rng.Uint64(), user: s.popular(1_000_000), product: s.popular(100_000),
		})
	}
	for range s.now.spans {
		s.ids = append(s.ids, s.rng.Uint64()|1)
	}
}

// duration draws seconds that are usual, or 10 to 50 times as many.
func (s *Stream) duration(usual float64) float64 {
	d := usual * math.Exp(0.5*s.rng.NormFloat64())
	if s.rng.IntN(100) == 0 {
		d *= 10 + 40*s.rng.Float64()
	}
	return d
}

// popular draws a number below n; half of the draws are of the lowest eighth.
func (s *Stream) popular(n int) uint32 {
	f := s.rng.Float64()
	return uint32(f * f * f * float64(n))
}

func (s *Stream) fill(h hole) {
	b := s.buf[h.at:]
	t := &s.traces[s.now.spans[h.span].trace]
	switch h.kind {
	case traceID:
		binary.BigEndian.PutUint64(b, t.hi)
		binary.BigEndian.PutUint64(b[8:], t.lo)
	case spanID:
		binary.BigEndian.PutUint64(b, s.ids[h.span])
	case start:
		from, _ := s.when(h.span)
		binary.LittleEndian.PutUint64(b, uint64(from))
	case end:
		_, to := s.when(h.span)
		binary.LittleEndian.PutUint64(b, uint64(to))
	case thrown:
		from, to := s.when(h.span)
		binary.LittleEndian.PutUint64(b, uint64(to-(to-from)/16))
	case order:
		var digits [8]byte
		binary.BigEndian.PutUint64(digits[:], t.order)
		hex.Encode(b, digits[:])
	case user:
		decimal(b[:6], t.user)
	case product:
		decimal(b[:5], t.product)
	case address:
		decimal(b[:3], 100+t.user%128)
		b[3] = '.'
		decimal(b[4:7], 100+t.user/128%128)
	case bodySize:
		v := s.rng.Uint32N(1<<21-1<<14) + 1<<14
		b[0], b[1], b[2] = byte(v)|0x80, byte(v>>7)|0x80, byte(v>>14)
	case threadID:
		b[0] = byte(1 + s.rng.IntN(127))
	}
}

// when is the beginning and the end of a span.
func (s *Stream) when(span int32) (from, to int64) {
	sl := s.now.spans[span]
	t := &s.traces[sl.trace]
	from = t.begin + int64(t.root*float64(sl.off))
	return from, from + int64(t.root*float64(sl.long))
}

func decimal(b []byte, v uint32) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = '0' + byte(v%10)
		v /= 10
	}
}

// Trace is what a server should know of one trace.
type Trace struct {
	ID          string // 32 hex digits
	Start, End  time.Time
	Order, User string // shop.order.id, of this trace alone; enduser.id
	Failed      bool
	Spans       []Span
}

// Span is one of a trace's, the root first.
type Span struct {
	Service, Name string
	Duration      time.Duration
}

// Sample is one of the traces that the latest body has spans of. With Spec.Split
// the other bodies of them may be still to come: Whole says whether they are.
func (s *Stream) Sample() Trace {
	n := s.rng.IntN(len(s.traces))
	t, info := &s.traces[n], &s.now.traces[n]
	out := Trace{
		ID: fmt.Sprintf("%016x%016x", t.hi, t.lo), Start: time.Unix(0, t.begin),
		End:   time.Unix(0, t.begin+int64(t.root*float64(info.extent))),
		Order: fmt.Sprintf("%016x", t.order), User: fmt.Sprintf("u-%06d", t.user), Failed: info.facts.failed,
	}
	for i, st := range info.shape.steps {
		from, to := s.when(int32(n*spansPerTrace + i))
		out.Spans = append(out.Spans, Span{Service: st.service, Name: st.name, Duration: time.Duration(to - from)})
	}
	return out
}

// Whole says whether all bodies of the current traces have been handed out.
func (s *Stream) Whole() bool { return s.now != nil && s.part == len(s.now.parts) }

// Calls are how often one service has called another, in all bodies of all traces
// begun so far.
func (s *Stream) Calls() map[Edge]int {
	out := map[Edge]int{}
	for i, n := range s.used {
		for e, calls := range s.shop.templates[i].calls {
			if n > 0 {
				out[e] += n * calls
			}
		}
	}
	return out
}
