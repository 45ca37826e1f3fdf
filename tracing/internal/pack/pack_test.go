package pack

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/weir-dev/weir/tracing/internal/pack/packtest"
	"github.com/weir-dev/weir/tracing/span"
)

var seed = flag.Uint64("pack.seed", 1, "of the generated spans")

// dict takes a string up when it meets it for the third time.
type dict struct {
	ids     map[string]uint32
	strings []string
	seen    map[string]int
	res     map[string]uint64
	byRes   [][]byte
	refuse  bool
}

func newDict() *dict {
	return &dict{ids: map[string]uint32{}, seen: map[string]int{}, res: map[string]uint64{}}
}

func (d *dict) ID(s string) (uint32, bool) {
	if id, ok := d.ids[s]; ok {
		return id, true
	}
	if len(d.seen) > 1<<16 {
		clear(d.seen)
	}
	if d.refuse {
		return 0, false
	}
	s = strings.Clone(s)
	if d.seen[s]++; d.seen[s] < 3 {
		return 0, false
	}
	d.ids[s] = uint32(len(d.strings))
	d.strings = append(d.strings, s)
	return d.ids[s], true
}

func (d *dict) String(id uint32) (string, error) {
	if int(id) >= len(d.strings) {
		return "", fmt.Errorf("no string %d", id)
	}
	return d.strings[id], nil
}

func (d *dict) Resource(enc []byte) uint64 {
	id, ok := d.res[string(enc)]
	if !ok {
		id = uint64(len(d.byRes))
		d.res[string(enc)] = id
		d.byRes = append(d.byRes, append([]byte{}, enc...))
	}
	return id
}

func (d *dict) ResourceBytes(id uint64) ([]byte, error) {
	if id >= uint64(len(d.byRes)) {
		return nil, fmt.Errorf("no resource %d", id)
	}
	return d.byRes[id], nil
}

// plain is a span with what its indexes stand for.
type plain struct {
	span.Span
	R span.Resource
	S span.Scope
}

func spansOf(b *span.Batch, at []int) []plain {
	var l []plain
	for _, i := range at {
		s := b.Spans[i]
		p := plain{s, b.Resources[s.Resource], b.Scopes[s.Scope]}
		p.Resource, p.Scope = 0, 0
		l = append(l, p)
	}
	return l
}

func all(b *span.Batch) []int {
	at := make([]int, len(b.Spans))
	for i := range at {
		at[i] = i
	}
	return at
}

func TestEverySpanComesBack(t *testing.T) {
	r := rand.New(rand.NewPCG(*seed, 0))
	for _, refuse := range []bool{false, true} {
		d := newDict()
		d.refuse = refuse
		var a Appender
		for round := range 300 {
			b := packtest.Any(r, 1+r.IntN(30)*(1+round%100/99*8))
			a.Begin(d, b)
			ids, groups := packtest.ByTrace(b)
			for i, at := range groups {
				data := a.Append([]byte("before"), at)[len("before"):]
				roundTrip(t, d, ids[i], b, at, data)
				if round%10 == 0 {
					roundTrip(t, d, ids[i], b, at, Append(nil, d, b, at))
				}
				if t.Failed() {
					t.Fatalf("round %d, -pack.seed %d", round, *seed)
				}
			}
		}
	}
}

func roundTrip(t *testing.T, d Dict, id span.TraceID, b *span.Batch, at []int, data []byte) {
	t.Helper()
	var got span.Batch
	if err := Decode(d, id, data, &got); err != nil {
		t.Errorf("decoding %d spans: %v", len(at), err)
		return
	}
	clear(data) // nothing of it may be used by now
	have, want := spansOf(&got, all(&got)), spansOf(b, at)
	for i := range want {
		if i >= len(have) || !reflect.DeepEqual(have[i], want[i]) {
			t.Errorf("span %d:\ngot  %+v\nwant %+v", i, have[min(i, len(have)-1)], want[i])
			return
		}
	}
}

func TestFragmentsShareResources(t *testing.T) {
	d, b := newDict(), &span.Batch{}
	packtest.Shop(rand.New(rand.NewPCG(*seed, 1)), b, 1, 1e18, 0)
	one, two := Append(nil, d, b, []int{0, 1, 2}), Append(nil, d, b, []int{3, 4, 5, 6, 7, 8, 9})
	var got span.Batch
	var dec Decoder
	dec.Begin(d, &got)
	for _, data := range [][]byte{one, two} {
		if err := dec.Decode(b.Spans[0].TraceID, data); err != nil {
			t.Fatal(err)
		}
	}
	if len(got.Spans) != 10 || len(got.Resources) != 5 || len(got.Scopes) != 1 {
		t.Errorf("got %d spans of %d resources and %d scopes, want 10 of 5 and 1", len(got.Spans), len(got.Resources), len(got.Scopes))
	}
}

func TestDecodeRefuses(t *testing.T) {
	d, b := newDict(), &span.Batch{}
	packtest.Shop(rand.New(rand.NewPCG(*seed, 1)), b, 1, 1e18, 0)
	good := Append(nil, d, b, all(b))
	had := span.Batch{Spans: make([]span.Span, 3)}
	for n := range good {
		if err := Decode(d, span.TraceID{}, good[:n], &had); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d of %d bytes: got error %v, want %v", n, len(good), err, ErrCorrupt)
		}
		if len(had.Spans) != 3 {
			t.Fatalf("%d of %d bytes: %d spans after the error, want the 3 that were", n, len(good), len(had.Spans))
		}
	}
	if err := Decode(newDict(), span.TraceID{}, good, &had); err == nil || errors.Is(err, ErrCorrupt) {
		t.Errorf("without the dictionary: got error %v, want the dictionary's", err)
	}
}

func FuzzDecode(f *testing.F) {
	d := newDict()
	r := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		b := packtest.Any(r, 8)
		_, groups := packtest.ByTrace(b)
		for _, at := range groups {
			f.Add(Append(nil, d, b, at))
		}
	}
	d.refuse = true
	f.Fuzz(func(t *testing.T, data []byte) {
		var got span.Batch
		if Decode(d, span.TraceID{1}, data, &got) != nil {
			return
		}
		if len(got.Spans) == 0 {
			return
		}
		again := Append(nil, d, &got, all(&got))
		var same span.Batch
		if err := Decode(d, span.TraceID{1}, again, &same); err != nil {
			t.Fatalf("what was decoded and packed again: %v", err)
		}
		if have, want := spansOf(&same, all(&same)), spansOf(&got, all(&got)); !reflect.DeepEqual(have, want) {
			t.Fatalf("got %+v\nwant %+v", have, want)
		}
	})
}

// TestBytesPerSpan holds the fragments' part of the bar of 150 bytes a span on disk,
// with their keys (trace id and 10 bytes) and the index's 35 left out.
func TestBytesPerSpan(t *testing.T) {
	const bar = 70
	d, r := newDict(), rand.New(rand.NewPCG(*seed, 3))
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	var a Appender
	var page []byte
	spans, raw, small := 0, 0, 0
	for round := range 60 {
		b := &span.Batch{}
		packtest.Shop(r, b, 100, 1_700_000_000_000_000_000+uint64(round)*1e9, 1e7)
		a.Begin(d, b)
		_, groups := packtest.ByTrace(b)
		for _, at := range groups {
			page = a.Append(page, at)
			if round < 10 { // the dictionary is still learning
				page = page[:0]
				continue
			}
			spans += len(at)
			if len(page) > 48<<10 {
				raw += len(page)
				small += len(enc.EncodeAll(page, nil))
				page = page[:0]
			}
		}
	}
	raw, small = raw+len(page), small+len(enc.EncodeAll(page, nil))
	t.Logf("%.1f bytes a span, %.1f after zstd", float64(raw)/float64(spans), float64(small)/float64(spans))
	if got := float64(small) / float64(spans); got > bar {
		t.Errorf("%.1f bytes a span after zstd, want at most %d", got, bar)
	}
}

func shop(n uint64) *span.Batch {
	b := &span.Batch{}
	packtest.Shop(rand.New(rand.NewPCG(*seed, n)), b, 100, 1_700_000_000_000_000_000, 1e7)
	return b
}

// learnt is a dictionary that knows the shop, and takes nothing up any more.
func learnt() *dict {
	d := newDict()
	var a Appender
	for n := range uint64(10) {
		b := shop(n)
		a.Begin(d, b)
		_, groups := packtest.ByTrace(b)
		for _, at := range groups {
			a.Append(nil, at)
		}
	}
	d.refuse = true
	return d
}

func BenchmarkAppend(b *testing.B) {
	d, batch := learnt(), shop(1000)
	_, groups := packtest.ByTrace(batch)
	var a Appender
	var dst []byte
	b.ReportAllocs()
	spans := 0
	from := cpu()
	for b.Loop() {
		a.Begin(d, batch)
		for _, at := range groups {
			dst = a.Append(dst[:0], at)
			spans += len(at)
		}
	}
	b.ReportMetric(float64(cpu()-from)/float64(spans), "cpu-ns/span")
}

func BenchmarkDecode(b *testing.B) {
	d, batch := learnt(), shop(1000)
	ids, groups := packtest.ByTrace(batch)
	var data [][]byte
	for _, at := range groups {
		data = append(data, Append(nil, d, batch, at))
	}
	b.ReportAllocs()
	var dec Decoder
	spans := 0
	from := cpu()
	for b.Loop() {
		for i := range data {
			var into span.Batch
			dec.Begin(d, &into)
			if err := dec.Decode(ids[i], data[i]); err != nil {
				b.Fatal(err)
			}
			spans += len(into.Spans)
		}
	}
	b.ReportMetric(float64(cpu()-from)/float64(spans), "cpu-ns/span")
}

// cpu is the time that the process has used in all its threads, which a busy machine
// changes less than the time that has passed.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
