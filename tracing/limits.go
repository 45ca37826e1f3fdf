package tracing

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-dev/weir/tracing/span"
)

// maxServices bounds the services whose rate is known, 100 bytes each; spans of further
// ones share one allowance until an idle one is forgotten.
const maxServices = 10_000

// rates holds a token bucket for each service.
type rates struct {
	mu      sync.Mutex
	buckets map[string]*bucket
	shared  bucket
}

type bucket struct {
	tokens float64
	at     time.Time // tokens are those of this moment; zero: the bucket is full
}

func newRates() *rates { return &rates{buckets: map[string]*bucket{}} }

// take returns how many of n spans a service may send now.
func (r *rates) take(service string, n int, l *Limits, now time.Time) int {
	if l.MaxSpansPerSecond <= 0 {
		return n
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.bucket(service, l, now)
	b.fill(l, now)
	n = min(n, int(b.tokens))
	b.tokens -= float64(n)
	return n
}

func (r *rates) bucket(service string, l *Limits, now time.Time) *bucket {
	if b, ok := r.buckets[service]; ok {
		return b
	}
	if len(r.buckets) >= maxServices {
		r.forget(l, now)
	}
	if len(r.buckets) >= maxServices {
		return &r.shared
	}
	b := &bucket{}
	r.buckets[string([]byte(service))] = b // the key must not keep a body alive
	return b
}

// forget drops buckets that are full, which is what a new one is.
func (r *rates) forget(l *Limits, now time.Time) {
	for service, b := range r.buckets {
		if b.fill(l, now); b.tokens >= float64(l.SpansBurst) {
			delete(r.buckets, service)
		}
	}
}

func (b *bucket) fill(l *Limits, now time.Time) {
	if b.at.IsZero() {
		b.tokens = float64(l.SpansBurst)
	} else if d := now.Sub(b.at); d > 0 {
		b.tokens = min(float64(l.SpansBurst), b.tokens+d.Seconds()*l.MaxSpansPerSecond)
	}
	b.at = now
}

// traceSizes counts the spans of traces in an hour, in two tables of counters that many
// traces share (count-min): a trace is refused for others only if it meets one with as
// many spans as the limit in both, one in 10^11 for each of these.
type traceSizes struct {
	seed   [2]maphash.Seed
	counts [2][sizeSlots]atomic.Uint32
	since  atomic.Int64 // Unix nanoseconds
}

const (
	// sizeSlots makes 4 MiB. 20k spans a second are 72M an hour, 140 to a counter.
	sizeSlots = 1 << 19
	sizeHour  = int64(time.Hour)
)

func newTraceSizes() *traceSizes {
	return &traceSizes{seed: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

// add counts n spans of a trace; 0 only looks. It returns how many there are.
func (t *traceSizes) add(id *span.TraceID, n uint32) uint32 {
	least := ^uint32(0)
	for k := range t.counts {
		c := &t.counts[k][maphash.Bytes(t.seed[k], id[:])%sizeSlots]
		if n > 0 {
			least = min(least, c.Add(n))
		} else {
			least = min(least, c.Load())
		}
	}
	return least
}

// turn begins a new hour when the last is over.
func (t *traceSizes) turn(now time.Time) {
	since := t.since.Load()
	if now.UnixNano()-since < sizeHour || !t.since.CompareAndSwap(since, now.UnixNano()) {
		return
	}
	for k := range t.counts {
		for i := range t.counts[k] {
			t.counts[k][i].Store(0)
		}
	}
}

// flight bounds the bytes that requests hold.
type flight struct {
	max  int64
	held atomic.Int64
}

// enter takes n bytes, or none and says so.
func (f *flight) enter(n int) error {
	if total := f.held.Add(int64(n)); total > f.max {
		f.held.Add(-int64(n))
		return &busyError{total, f.max}
	}
	return nil
}

func (f *flight) leave(n int) { f.held.Add(-int64(n)) }
