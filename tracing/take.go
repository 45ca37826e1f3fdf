package tracing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Result is what became of the spans of a request.
type Result struct {
	Received  int
	Stored    int
	Duplicate int    // the store had them
	Dropped   int    // by sampling
	Refused   int    // the rest
	Message   string // why, for people; empty if none is refused
}

// ErrRefused is wrapped by the error that says that no span of a request can be stored,
// however often it is sent.
var ErrRefused = errors.New("spans refused")

// busyError asks the sender to try again.
type busyError struct{ total, max int64 }

// Error implements error.
func (e *busyError) Error() string {
	return fmt.Sprintf("requests of spans in flight hold %d bytes: try again later, or raise tracing.limits.max_in_flight_bytes (%d)", e.total, e.max)
}

// Retryable says that it may pass.
func (*busyError) Retryable() bool { return true }

const (
	// decodedFactor bounds the memory of a decoded request by the bytes of its body. A
	// usual one takes twice its bytes; the smallest sound span, 60 bytes, four times.
	decodedFactor = 8
	// decodedLeast is for requests of a few bytes.
	decodedLeast = 64 << 10
	// maxPooled bounds what a batch that is kept for the next request may hold: SDKs
	// send 512 spans at once, 0.5 MiB.
	maxPooled = 8 << 20
	// appendTimeout bounds how long a request waits for the store. Senders give up
	// after 10s by default.
	appendTimeout = 30 * time.Second
)

// request is the memory of one request, used again.
type request struct {
	batch   span.Batch
	refused []outcome
	isNew   []bool
	groups  []int // spans by resource
	clean   cleaner
}

type requestPool struct{ pool sync.Pool }

func (p *requestPool) get() *request {
	if q, ok := p.pool.Get().(*request); ok {
		return q
	}
	return &request{}
}

func (p *requestPool) put(q *request) {
	if q.batch.Size() > maxPooled {
		return
	}
	q.batch.Reset()
	p.pool.Put(q)
}

// TakeOTLP takes an ExportTraceServiceRequest in protobuf, which is borrowed until it
// returns: then what is stored is durable, and counted by Derive. Spans refused beside
// others that are stored make no error. Errors: [span.ErrMalformed],
// [span.ErrTooLarge], [ErrRefused] (all of them), and those with a method Retryable()
// bool that says true: nothing is stored, but may be next time.
func (t *Tracing) TakeOTLP(ctx context.Context, body []byte) (Result, error) {
	return t.take(ctx, protoOTLP, body)
}

// Export is TakeOTLP as listeners want it.
func (t *Tracing) Export(ctx context.Context, body []byte) (rejected int64, message string, err error) {
	r, err := t.TakeOTLP(ctx, body)
	return int64(r.Refused), r.Message, err
}

func (t *Tracing) take(ctx context.Context, p protocol, body []byte) (Result, error) {
	room := decodedFactor*len(body) + decodedLeast
	if err := t.flight.enter(room); err != nil {
		return Result{}, err
	}
	defer t.flight.leave(room)
	q := t.requests.get()
	defer t.requests.put(q)
	q.batch.MaxBytes = room
	if err := q.batch.Decode(body); err != nil {
		return Result{}, fmt.Errorf("decode spans (%d bytes): %w", len(body), err)
	}
	return t.store(ctx, p, q)
}

// store writes a decoded request and counts what became of it.
func (t *Tracing) store(ctx context.Context, p protocol, q *request) (Result, error) {
	b, now := &q.batch, t.deps.Now()
	limits := t.limits.Load()
	r := Result{Received: len(b.Spans)}
	t.ledger.received[p].Add(uint64(r.Received))
	q.inspect(t, limits, now)
	counts := q.compact()
	var failed error
	if len(b.Spans) > 0 {
		failed = t.write(ctx, q, &r, limits.MaxSpansPerTrace > 0)
		if failed != nil {
			counts[unavailable] += len(b.Spans)
		}
	}
	counts[stored], counts[duplicate], counts[dropped] = r.Stored, r.Duplicate, r.Dropped
	for o, n := range counts {
		if n > 0 {
			t.ledger.ended[p][o].Add(int64(n))
		}
	}
	r.Refused = r.Received - r.Stored - r.Duplicate - r.Dropped
	if r.Refused == 0 {
		return r, nil
	}
	r.Message = complaint(counts)
	switch {
	case failed != nil:
		return r, fmt.Errorf("store %d spans: %w", len(b.Spans), failed)
	case r.Refused == r.Received:
		return r, fmt.Errorf("%w: %s", ErrRefused, r.Message)
	}
	return r, nil
}

// inspect cleans the spans and notes which are refused.
func (q *request) inspect(t *Tracing, limits *Limits, now time.Time) {
	b := &q.batch
	q.refused = append(q.refused[:0], make([]outcome, len(b.Spans))...)
	q.clean = cleaner{limits: limits, latest: ^uint64(0), ledger: &t.ledger, notes: q.clean.notes[:0]}
	if limits.MaxFutureSkew > 0 {
		q.clean.latest = uint64(now.Add(limits.MaxFutureSkew.Std()).UnixNano())
	}
	q.clean.sanitize(b, q.refused)
	if limits.MaxSpansPerTrace > 0 {
		q.limitTraces(t.sizes, uint32(limits.MaxSpansPerTrace), now)
	}
	if limits.MaxSpansPerSecond > 0 {
		q.limitRates(t.rates, limits, now)
	}
}

// limitTraces refuses spans of traces that have enough. The spans of a request are
// counted when they are stored, so a trace overshoots by those in flight; within one
// request it does not.
func (q *request) limitTraces(sizes *traceSizes, most uint32, now time.Time) {
	sizes.turn(now)
	spans := q.batch.Spans
	// Only a request with that many spans can have a trace pass the limit by itself.
	var here map[span.TraceID]uint32
	if uint32(len(spans)) > most {
		here = map[span.TraceID]uint32{}
	}
	known := uint32(0) // spans of the trace before this request
	for i := range spans {
		id := &spans[i].TraceID
		if i == 0 || *id != spans[i-1].TraceID {
			known = sizes.add(id, 0)
		}
		n := known
		if here != nil {
			n += here[*id]
			here[*id]++
		}
		if n >= most && q.refused[i] == 0 {
			q.refused[i] = limitTrace
		}
	}
}

// limitRates refuses, of each resource, the last spans that its service may not send.
func (q *request) limitRates(rates *rates, limits *Limits, now time.Time) {
	b := &q.batch
	q.groups = append(q.groups[:0], make([]int, len(b.Resources))...)
	for i := range b.Spans {
		if q.refused[i] == 0 {
			q.groups[b.Spans[i].Resource]++
		}
	}
	for r, n := range q.groups {
		q.groups[r] = rates.take(b.Resources[r].Service, n, limits, now)
	}
	for i := range b.Spans {
		if q.refused[i] != 0 {
			continue
		}
		if left := &q.groups[b.Spans[i].Resource]; *left > 0 {
			*left--
		} else {
			q.refused[i] = limitRate
		}
	}
}

// compact removes refused spans from the batch and counts them.
func (q *request) compact() (counts [numOutcomes]int) {
	b, n := &q.batch, 0
	for i := range b.Spans {
		if o := q.refused[i]; o != 0 {
			counts[o]++
			continue
		}
		if n != i {
			b.Spans[n] = b.Spans[i]
		}
		n++
	}
	clear(b.Spans[n:])
	b.Spans = b.Spans[:n]
	return counts
}

// write has the spans stored and derived of. It does not end when the sender goes: what
// is stored must be counted, for when it is sent again it is a duplicate.
func (t *Tracing) write(ctx context.Context, q *request, r *Result, count bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	b := &q.batch
	all := b.Spans
	kept := q.sample(t.deps.Unwanted)
	t.derive.Enter()
	defer t.derive.Leave()
	done := spanstore.Appended{}
	if kept > 0 {
		b.Spans = all[:kept]
		var err error
		done, err = t.deps.Store.Append(ctx, b)
		b.Spans = all
		if err != nil {
			return err
		}
	}
	r.Stored, r.Duplicate, r.Dropped = done.Stored, done.Duplicate, len(all)-kept
	isNew := done.New
	if isNew != nil && kept < len(all) { // derived metrics are of all spans
		q.isNew = append(q.isNew[:0], isNew...)
		for len(q.isNew) < len(all) {
			q.isNew = append(q.isNew, true)
		}
		isNew = q.isNew
	}
	t.derive.Take(b, isNew, t.deps.Now())
	if count {
		t.count(b, isNew)
	}
	return nil
}

// sample puts spans of traces that are not wanted behind the others, and returns how
// many are.
func (q *request) sample(unwanted func(span.TraceID) bool) int {
	spans := q.batch.Spans
	if unwanted == nil {
		return len(spans)
	}
	kept := 0
	for i := range spans {
		if !unwanted(spans[i].TraceID) {
			spans[kept], spans[i] = spans[i], spans[kept]
			kept++
		}
	}
	return kept
}

// count adds new spans to the sizes of their traces, a run of one trace at a time.
func (t *Tracing) count(b *span.Batch, isNew []bool) {
	run := uint32(0)
	for i := range b.Spans {
		if isNew == nil || isNew[i] {
			run++
		}
		last := i+1 == len(b.Spans) || b.Spans[i+1].TraceID != b.Spans[i].TraceID
		if last && run > 0 {
			t.sizes.add(&b.Spans[i].TraceID, run)
			run = 0
		}
	}
}

// complaint is what the sender is told of refused spans.
func complaint(counts [numOutcomes]int) string {
	var parts []string
	for o := firstRefusal; o < numOutcomes; o++ {
		if counts[o] == 0 {
			continue
		}
		text := fmt.Sprintf("%d spans: %s", counts[o], refusals[o].says)
		if turn := refusals[o].turn; turn != "" {
			text += " (" + turn + ")"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, "; ")
}
