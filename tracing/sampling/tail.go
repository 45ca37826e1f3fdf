package sampling

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-dev/weir/tracing/span"
)

// numShards is for concurrent batches: with 32, two of them seldom meet.
const numShards = 32

// tail is traces that wait, decisions, and what is to be dropped.
type tail struct {
	seed     maphash.Seed
	policies atomic.Pointer[policies] // nil: all is kept
	shards   [numShards]shard
	metrics  *metrics
	pinned   func(span.TraceID) bool
	waiting  atomic.Int64 // traces

	perShard   int   // traces
	remembered int   // decisions of a shard
	began      int64 // Unix milliseconds

	// horizon is the time, in Unix milliseconds, before which decisions to keep may be
	// forgotten.
	horizon atomic.Int64

	drops drops
}

// shard is the traces of which the hash ends alike. They wait in a ring in the order
// they came, which grows up to the shard's share.
type shard struct {
	mu         sync.Mutex
	numbers    map[span.TraceID]uint64
	ring       []trace // a power of two; trace n is at n & (len-1)
	begin, end uint64  // numbers of the oldest, and after the newest
	decided    decided
}

func (t *tail) shard(id *span.TraceID) (*shard, uint64) {
	hash := maphash.Bytes(t.seed, id[:])
	// The lowest bit is no part of it: it says drop in a decision.
	return &t.shards[hash>>1%numShards], hash
}

// unwanted tells whether the trace was decided against.
func (t *tail) unwanted(id span.TraceID) bool {
	if t.policies.Load() == nil {
		return false
	}
	s, hash := t.shard(&id)
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.decided.find(hash)
	return i >= 0 && s.decided.dropped(i)
}

// take returns which spans are of traces that were decided against, nil: none.
func (t *tail) take(b *span.Batch, now time.Time) []bool {
	p := t.policies.Load()
	if p == nil {
		return nil
	}
	var unwanted []bool
	for from := 0; from < len(b.Spans); {
		to := from + 1
		for to < len(b.Spans) && b.Spans[to].TraceID == b.Spans[from].TraceID {
			to++
		}
		if t.run(p, b, from, to, now) {
			if unwanted == nil {
				unwanted = make([]bool, len(b.Spans))
			}
			for i := from; i < to; i++ {
				unwanted[i] = true
			}
		}
		from = to
	}
	return unwanted
}

// run takes spans of one trace, and tells whether it was decided against.
func (t *tail) run(p *policies, b *span.Batch, from, to int, now time.Time) (unwanted bool) {
	id := &b.Spans[from].TraceID
	s, hash := t.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	number, waits := s.numbers[*id]
	if !waits {
		if i := s.decided.find(hash); i >= 0 {
			dropped := s.decided.dropped(i)
			t.metrics.late[dropped].Add(float64(to - from))
			return dropped
		}
		if int(s.end-s.begin) >= t.perShard {
			t.metrics.evicted.Inc()
			t.settle(s, s.pop(), now, nil)
			t.waiting.Add(-1)
		}
		number = s.push(trace{id: *id, first: now.UnixMilli(), policies: p})
		t.waiting.Add(1)
	}
	tr := s.at(number)
	horizon := uint64(t.horizon.Load()) * 1e6
	for i := from; i < to; i++ {
		tr.see(b, i)
		if b.Spans[i].Start < horizon {
			tr.older = true
		} else if b.Spans[i].Parent.IsZero() {
			tr.rooted = true
		}
	}
	return false
}

func (s *shard) at(number uint64) *trace { return &s.ring[number&uint64(len(s.ring)-1)] }

func (s *shard) push(tr trace) (number uint64) {
	if s.numbers == nil {
		s.numbers = make(map[span.TraceID]uint64)
	}
	if n := int(s.end - s.begin); n == len(s.ring) {
		grown := make([]trace, max(2*n, 64))
		for i := s.begin; i != s.end; i++ {
			grown[i&uint64(len(grown)-1)] = *s.at(i)
		}
		s.ring = grown
	}
	number = s.end
	s.end++
	*s.at(number) = tr
	s.numbers[tr.id] = number
	return number
}

// pop takes the oldest out.
func (s *shard) pop() trace {
	tr := *s.at(s.begin)
	*s.at(s.begin) = trace{}
	s.begin++
	delete(s.numbers, tr.id)
	return tr
}

// due pops the oldest if its wait is over.
func (s *shard) due(now int64, p *policies) (trace, bool) {
	if s.begin == s.end {
		return trace{}, false
	}
	oldest := s.at(s.begin)
	wait := oldest.policies.wait
	if p != nil {
		wait = p.wait // a reload that changes it is for those waiting too
	}
	// A clock that was set back must not make traces wait for it to catch up.
	if gone := now - oldest.first; gone >= 0 && gone < wait || gone < 0 && gone > -wait {
		return trace{}, false
	}
	return s.pop(), true
}

// doubt is a trace to be dropped by a policy, unless it was kept earlier.
type doubt struct {
	trace
	by string
}

// settle decides on a trace that waits no more; the shard is locked. One that is to be
// dropped, but may have been kept earlier, is kept and handed to doubts, if there is.
func (t *tail) settle(s *shard, tr trace, now time.Time, doubts *[]doubt) {
	kept, by := tr.decide()
	if !kept && t.doubtful(&tr, now) {
		t.remember(s, &tr.id, false, now)
		if doubts != nil && len(*doubts) < maxDoubts {
			*doubts = append(*doubts, doubt{tr, by})
			return
		}
		kept, by = true, byDoubt
	}
	if !kept {
		kept, by = t.against(s, &tr, by, now)
	} else {
		t.remember(s, &tr.id, false, now)
	}
	t.metrics.decision(kept, by, tr.spans)
}

// longest is how long a trace is expected to go on at most.
const longest = time.Hour

// doubtful tells that there may have been a decision to keep the trace: it has a span
// from before the horizon, or did not show its beginning, which may lie there.
func (t *tail) doubtful(tr *trace, now time.Time) bool {
	return tr.older || !tr.rooted && now.UnixMilli()-t.horizon.Load() < longest.Milliseconds()
}

// against makes a decision to drop visible, and takes it back if the trace is pinned.
// The shard stays locked, so who pins and then asks unwanted is seen here, or sees.
func (t *tail) against(s *shard, tr *trace, by string, now time.Time) (kept bool, why string) {
	t.remember(s, &tr.id, true, now)
	if t.pinned != nil && t.pinned(tr.id) {
		t.remember(s, &tr.id, false, now)
		return true, byPin
	}
	t.drops.add(tr.id, now)
	return false, by
}

func (t *tail) remember(s *shard, id *span.TraceID, dropped bool, now time.Time) {
	_, hash := t.shard(id)
	// Tenths of a second since the start fill 32 bits in 13 years.
	tenth := uint32(max(now.UnixMilli()-t.began, 0)/100) + 1
	forgot, kept := s.decided.put(hash, dropped, tenth, t.remembered)
	if !forgot {
		return
	}
	t.metrics.forgotten.Inc()
	if kept == 0 {
		return
	}
	made := t.began + int64(kept)*100
	for old := t.horizon.Load(); made > old; old = t.horizon.Load() {
		if t.horizon.CompareAndSwap(old, made) {
			return
		}
	}
}
