package sampling

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/weir-dev/weir/tracing/span"
)

const (
	// settling is how long after the decision the store is told to forget a trace. Until
	// then all requests have ended that were under way at the decision (30s, by intake),
	// and stored spans of it; those after it were kept out.
	settling = 35 * time.Second
	// dropBatch is the ids of one call: some hundred KB in the store's log.
	dropBatch = 4096
	// maxDoubts bounds the traces of a sweep that are looked up in the store, and
	// doubtTime the time for it, a third of a core at worst; beyond them they are kept.
	maxDoubts = 4096
	doubtTime = 300 * time.Millisecond
	// lastDrops bounds how long a shutdown waits for the store.
	lastDrops = 10 * time.Second
)

// drops is ids to be dropped, in the order of decisions.
type drops struct {
	mu    sync.Mutex
	most  int
	queue []pendingDrop
	lost  int // for want of room, since told
}

type pendingDrop struct {
	id span.TraceID
	at int64 // Unix milliseconds
}

func (d *drops) add(id span.TraceID, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) >= d.most { // the store does not answer: the trace stays stored
		d.lost++
		return
	}
	d.queue = append(d.queue, pendingDrop{id, now.UnixMilli()})
}

// due returns the ids that were decided before a time, at most a batch; they stay in
// the queue until they are done.
func (d *drops) due(before time.Time) []span.TraceID {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ids []span.TraceID
	for i := range d.queue {
		if len(ids) == dropBatch || d.queue[i].at > before.UnixMilli() {
			break
		}
		ids = append(ids, d.queue[i].id)
	}
	return ids
}

func (d *drops) done(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	// Moved, not sliced: the array must not grow behind the queue.
	d.queue = d.queue[:copy(d.queue, d.queue[n:])]
	if cap(d.queue) > 1024 && len(d.queue) < cap(d.queue)/8 {
		d.queue = append([]pendingDrop(nil), d.queue...)
	}
}

func (d *drops) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queue)
}

func (d *drops) takeLost() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.lost
	d.lost = 0
	return n
}

// flushDrops tells the store of what was decided before a time.
func (s *Sampling) flushDrops(ctx context.Context, before time.Time) error {
	t := &s.tail
	if n := t.drops.takeLost(); n > 0 {
		t.metrics.lost.Add(float64(n))
		s.deps.Log.Warn("traces stay stored that sampling decided against, for the store does not take drops", "traces", n)
	}
	for {
		ids := t.drops.due(before)
		if len(ids) == 0 {
			return nil
		}
		n := len(ids)
		ids = s.stillUnwanted(ids)
		if len(ids) > 0 {
			if err := s.deps.Drop(ctx, ids); err != nil {
				t.metrics.dropFailures.Inc()
				return err
			}
		}
		t.drops.done(n)
		t.metrics.dropped.Add(float64(len(ids)))
	}
}

// stillUnwanted leaves out what was pinned since the decision, or decided anew.
func (s *Sampling) stillUnwanted(ids []span.TraceID) []span.TraceID {
	if s.tail.pinned == nil {
		return ids
	}
	kept, now := ids[:0], s.deps.Now()
	for _, id := range ids {
		if !s.tail.pinned(id) {
			kept = append(kept, id)
			continue
		}
		sh, _ := s.tail.shard(&id)
		sh.mu.Lock()
		s.tail.remember(sh, &id, false, now)
		sh.mu.Unlock()
		s.tail.metrics.rescued.Inc()
	}
	return kept
}

// Sweep decides the traces whose wait is over and tells the store which to forget. Run
// calls it every second. An error is the store's: what it did not take is told again.
func (s *Sampling) Sweep(ctx context.Context, now time.Time) error {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	t := &s.tail
	var doubts []doubt
	for i := range t.shards {
		t.sweep(&t.shards[i], now, &doubts)
	}
	begin := time.Now()
	for i := range doubts {
		s.resolve(ctx, &doubts[i], now, time.Since(begin) < doubtTime)
	}
	if p := t.policies.Load(); p != nil {
		if !s.swept.IsZero() {
			p.adapt(now.Sub(s.swept))
		}
		s.swept = now
	}
	return s.flushDrops(ctx, now.Add(-settling))
}

// sweepRun is the traces decided while a shard is locked: some 100us.
const sweepRun = 256

func (t *tail) sweep(s *shard, now time.Time, doubts *[]doubt) {
	p := t.policies.Load()
	for more := true; more; {
		s.mu.Lock()
		for range sweepRun {
			var tr trace
			if tr, more = s.due(now.UnixMilli(), p); !more {
				break
			}
			t.waiting.Add(-1)
			t.settle(s, tr, now, doubts)
		}
		s.mu.Unlock()
	}
}

// resolve drops a trace whose earlier decision may be forgotten, unless the store has
// more of it than came since: then it was kept.
func (s *Sampling) resolve(ctx context.Context, tr *doubt, now time.Time, ask bool) {
	t := &s.tail
	kept, by := true, byDoubt
	if ask && s.deps.Stored != nil {
		n, err := s.deps.Stored(ctx, tr.id)
		if err != nil {
			s.deps.Log.Debug("trace kept, for the store does not say whether it was", "trace_id", tr.id.String(), "err", err)
		} else if n <= int(tr.spans) {
			sh, _ := t.shard(&tr.id)
			sh.mu.Lock()
			kept, by = t.against(sh, &tr.trace, tr.by, now)
			sh.mu.Unlock()
		}
	}
	t.metrics.decision(kept, by, tr.spans)
}

// Run decides, adapts and drops until ctx ends; then the store is told of all that was
// decided. Traces that wait are kept.
func (s *Sampling) Run(ctx context.Context) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	adjust := time.NewTicker(s.interval)
	defer adjust.Stop()
	failed := false
	for {
		select {
		case <-second.C:
			err := s.Sweep(ctx, s.deps.Now())
			if err != nil && !failed && ctx.Err() == nil { // once, not every second
				s.deps.Log.Warn("traces not dropped yet", "err", err)
			}
			failed = err != nil
		case <-adjust.C:
			s.Adjust(s.deps.Now())
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastDrops)
			defer cancel()
			if err := s.flushDrops(last, s.deps.Now()); err != nil {
				s.deps.Log.Warn("traces stay stored that sampling decided against", "traces", s.tail.drops.len(), slog.Any("err", err))
			}
			return nil
		}
	}
}
