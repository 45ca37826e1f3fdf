package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weir-dev/weir/tracing/internal/pack"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

const (
	// droppedShare of a partition's fragments are dropped when it is worth to be
	// rewritten: that costs as much as compacting it once more.
	droppedShare = 0.2
	// relieveAfter is how long tail sampling may take to decide.
	relieveAfter = 2 * time.Minute
	// rewriteBatch bounds a Pebble batch of rewriting.
	rewriteBatch = 1 << 20
)

// keeper is a kind of trace that is kept longer.
type keeper struct {
	m   *spanstore.Matcher
	age time.Duration
}

// newKeepers, that with the shortest time first.
func newKeepers(r Retention) ([]keeper, error) {
	var out []keeper
	for _, k := range r.Keep {
		m, err := spanstore.NewMatcher(k.Where.query())
		if err != nil {
			return nil, err
		}
		out = append(out, keeper{m, k.Time.Std()})
	}
	slices.SortStableFunc(out, func(a, b keeper) int { return int(min(max(a.age-b.age, -1), 1)) })
	return out, nil
}

// retain deletes what expired by age, or rewrites it to what is kept for longer, and
// then deletes by size, the oldest first.
func (s *Store) retain(ctx context.Context) {
	now := s.now()
	for _, p := range s.partitions() {
		if ctx.Err() != nil {
			return
		}
		if p.closed.Load() == 0 || s.cfg.Retention.Time == 0 {
			continue
		}
		age := now.Sub(p.arrived())
		passed, left := s.stage(age)
		switch {
		case passed == 0:
		case len(left) == 0:
			s.expire(p, "age")
		case uint64(passed.Seconds()) > p.kept.Load():
			if err := s.rewrite(ctx, p, left, passed); err != nil && ctx.Err() == nil {
				s.log.Error("expired span partition cannot be rewritten, it is tried again", "partition", p.name, "reason", err)
			}
		}
	}
	size := int64(s.cfg.Retention.Size)
	if size == 0 {
		return
	}
	parts := s.partitions()
	total := int64(0)
	for _, p := range parts {
		total += p.measure()
	}
	for _, p := range parts {
		if total <= size || p == s.current.Load() {
			return
		}
		total -= p.bytes.Load()
		s.expire(p, "size")
	}
}

// stage is the longest of the times that a partition of this age has passed, and the
// kinds of traces that are still kept; 0 if it has passed none.
func (s *Store) stage(age time.Duration) (passed time.Duration, left []keeper) {
	if age <= s.cfg.Retention.Time.Std() {
		return 0, nil
	}
	passed = s.cfg.Retention.Time.Std()
	for i, k := range s.keepers {
		if age <= k.age {
			return passed, s.keepers[i:]
		}
		passed = k.age
	}
	return passed, nil
}

func (s *Store) expire(p *partition, why string) {
	s.upkeep.Lock()
	defer s.upkeep.Unlock()
	if s.current.Load() == nil {
		return
	}
	s.mu.Lock()
	s.parts = slices.DeleteFunc(slices.Clone(s.parts), func(o *partition) bool { return o == p })
	s.mu.Unlock()
	s.log.Info("span partition expired", "partition", p.name, "by", why, "bytes", p.bytes.Load())
	s.metrics.dropped.Inc()
	p.drop()
}

// relieve rewrites, once, closed partitions of which much was dropped. Tail sampling
// decides within minutes, and what is to be replayed is settled first.
func (s *Store) relieve(ctx context.Context) {
	for _, p := range s.partitions() {
		last := p.closed.Load()
		if ctx.Err() != nil || last == 0 || p.gen > 0 || s.now().Sub(p.arrived()) < relieveAfter ||
			s.deps.Replay != nil && s.settled.Load() < last || !s.mostlyDropped(p) {
			continue
		}
		if err := s.rewrite(ctx, p, nil, 0); err != nil && ctx.Err() == nil {
			s.log.Error("span partition cannot be rewritten, it is tried again", "partition", p.name, "reason", err)
		}
	}
}

// mostlyDropped tells whether a closed partition has enough dropped traces to be
// rewritten without them.
func (s *Store) mostlyDropped(p *partition) bool {
	var fragments uint64
	p.segMu.RLock()
	for i := range p.segs {
		fragments += p.segs[i].fragments
	}
	p.segMu.RUnlock()
	return float64(p.drops.Load()) > droppedShare*float64(fragments)
}

// rewrite puts another partition in the place of a closed one, with the traces that a
// keeper wants (nil: all) and that were not dropped. It is made in a folder of its own,
// which is renamed when it is whole.
func (s *Store) rewrite(ctx context.Context, p *partition, keep []keeper, age time.Duration) (err error) {
	final := partitionName(p.start, p.gen+1)
	next := s.newPartition(final)
	next.name = final + suffixTmp
	if err := os.RemoveAll(next.path()); err != nil {
		return err
	}
	h, err := s.openWriting(next, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close(), os.RemoveAll(filepath.Join(s.cfg.Dir, final+suffixTmp)))
		}
	}()
	v := s.viewAround(p)
	defer v.close()
	rw := &rewriting{s: s, v: v, to: h, keep: keep}
	if err := rw.run(ctx); err != nil {
		return fmt.Errorf("rewrite partition %s: %w", p.name, err)
	}
	p.opsMu.RLock()
	empty := rw.n == 0 && !p.calls.any
	p.opsMu.RUnlock()
	if empty {
		s.expire(p, "age")
		return errors.Join(h.close(), os.RemoveAll(next.path()))
	}
	if err := s.endRewrite(next, h, p, age); err != nil {
		return fmt.Errorf("rewrite partition %s: %w", p.name, err)
	}
	return s.replace(p, next, final)
}

// viewAround is p and its neighbours in time, which may have other spans of its
// traces, and what came after, which may say that they were dropped.
func (s *Store) viewAround(p *partition) *view {
	v := s.view()
	for i, c := range v.cursors {
		if c.p == p && i+2 < len(v.cursors) {
			v.cursors = v.cursors[:i+2]
			break
		}
	}
	return v
}

func (s *Store) endRewrite(next *partition, h *handle, p *partition, age time.Duration) error {
	for l := next.unsealed(); l != nil; l = next.unsealed() {
		if err := s.seal(h, l); err != nil {
			return err
		}
	}
	batch := h.db.NewBatch()
	if err := h.w.dict.take(batch); err != nil {
		return err
	}
	kept := max(uint64(age.Seconds()), p.kept.Load())
	if err := batch.Set(metaKept, numberedKey(0, kept)[1:], nil); err != nil {
		return err
	}
	if err := batch.Set(metaClosed, numberedKey(0, p.closed.Load())[1:], nil); err != nil {
		return err
	}
	if err := h.apply(batch, true, nil); err != nil {
		return err
	}
	if err := s.compact(h); err != nil { // which flushes
		return err
	}
	return h.close()
}

// replace renames the finished folder and lets the old partition go. Should the
// process end between the two, Open prefers the later.
func (s *Store) replace(p, tmp *partition, final string) error {
	s.upkeep.Lock()
	defer s.upkeep.Unlock()
	if s.current.Load() == nil {
		return ErrClosed
	}
	next := s.newPartition(final)
	tmp.closed.Store(p.closed.Load())
	tmp.removeLogs()
	if err := os.Rename(tmp.path(), next.path()); err != nil {
		return err
	}
	if err := syncDir(s.cfg.Dir); err != nil {
		return err
	}
	h, err := s.openHandle(next, true)
	if err != nil {
		return err
	}
	if err := next.load(h.db); err != nil {
		return errors.Join(err, h.close())
	}
	next.h = h
	s.mu.Lock()
	s.parts = slices.Clone(s.parts)
	if i := slices.Index(s.parts, p); i >= 0 {
		s.parts[i] = next
	}
	s.mu.Unlock()
	s.metrics.rewritten.Inc()
	s.log.Info("span partition rewritten", "partition", p.name, "bytes", p.measure(), "left", next.measure())
	p.drop()
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// rewriting copies traces from one partition to another.
type rewriting struct {
	s    *Store
	v    *view // its last but one cursor, or its last, is the old partition
	to   *handle
	keep []keeper

	batch   *pebble.Batch
	packing packing
	packer  pack.Appender
	n       uint64
}

// from is the cursor of the partition that is rewritten.
func (rw *rewriting) from() int {
	for i := range rw.v.cursors {
		c := &rw.v.cursors[i]
		if c.p.start.Equal(rw.to.p.start) {
			return i
		}
	}
	return -1
}

func (rw *rewriting) run(ctx context.Context) error {
	at := rw.from()
	c := rw.v.open(at)
	if c == nil {
		return fmt.Errorf("it cannot be read: %w", rw.v.damage)
	}
	rw.batch = rw.to.db.NewBatch()
	err := rw.traces(ctx, c, at)
	if err != nil {
		return err
	}
	for _, kind := range []byte{keyDropped, keyCalls} {
		err := each(c.h.db, ofKind(kind), func(key, value []byte) error {
			if err := rw.batch.Set(key, value, nil); err != nil {
				return err
			}
			return rw.flush(rewriteBatch)
		})
		if err != nil {
			return err
		}
	}
	return rw.flush(0)
}

// traces goes through the fragments of the old partition, which lie trace by trace.
func (rw *rewriting) traces(ctx context.Context, c *cursor, at int) (err error) {
	it, err := c.h.db.NewIter(ofKind(keyTrace))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	ok := it.First()
	for ok {
		if err := ctx.Err(); err != nil {
			return err
		}
		id, first, is := parseTraceKey(it.Key())
		if !is {
			ok = it.Next()
			continue
		}
		var b span.Batch
		dropped := rw.dropped(id, at)
		for ok {
			same, seq, _ := parseTraceKey(it.Key())
			if same != id {
				break
			}
			value, err := it.ValueAndErr()
			if err != nil {
				return err
			}
			if seq > dropped {
				if err := pack.Decode(unpacking{c.h.dict}, id, value, &b); err != nil {
					c.p.damage(err)
				}
			}
			ok = it.Next()
		}
		if len(b.Spans) == 0 || !rw.wanted(id, &b) {
			continue
		}
		rw.s.recent.once(&b)
		if err := rw.store(id, first, &b); err != nil {
			return err
		}
	}
	return it.Error()
}

// dropped is when a trace was, by this partition or those after it.
func (rw *rewriting) dropped(id span.TraceID, at int) (seq uint64) {
	for i := 0; i <= at; i++ {
		if rw.v.cursors[i].p.drops.Load() == 0 {
			continue
		}
		if c := rw.v.open(i); c != nil {
			seq = max(seq, c.dropped(id))
		}
	}
	return seq
}

// wanted tells whether a keeper wants the trace, for its spans here or next to here.
func (rw *rewriting) wanted(id span.TraceID, b *span.Batch) bool {
	if rw.keep == nil || rw.matches(b) {
		return true
	}
	whole := &span.Batch{}
	if err := rw.v.trace(id, whole); err != nil || len(whole.Spans) <= len(b.Spans) {
		return false
	}
	return rw.matches(whole)
}

func (rw *rewriting) matches(b *span.Batch) bool {
	for _, k := range rw.keep {
		for i := range b.Spans {
			if k.m.Match(b, i) {
				return true
			}
		}
	}
	return false
}

// store writes a trace as one fragment. No journal is kept: an interrupted rewriting
// begins anew.
func (rw *rewriting) store(id span.TraceID, seq uint64, b *span.Batch) error {
	s, h := rw.s, rw.to
	r := requests.Get().(*request)
	defer requests.Put(r)
	r.isNew = make([]bool, len(b.Spans))
	for i := range r.isNew {
		r.isNew[i] = true
	}
	r.group(b)
	rw.n++
	rw.packing.begin(h.w.dict, rw.n)
	rw.packer.Begin(&rw.packing, b)
	value := rw.packer.Append(nil, r.groups[0].spans)
	rw.packing.end()
	if err := rw.batch.Set(appendTraceKey(nil, id, seq), value, nil); err != nil {
		return err
	}
	s.operations(h, r, b)
	l := h.p.filling()
	l.add(id, b, r.groups[0].spans)
	l.commit(seq)
	if l.b.Len() >= s.cfg.Index.SegmentSpans {
		if err := rw.flush(0); err != nil {
			return err
		}
		h.p.segMu.Lock()
		l.sealing = true
		h.p.lives = append(h.p.lives, s.newLive())
		h.p.segMu.Unlock()
		return s.seal(h, l)
	}
	return rw.flush(rewriteBatch)
}

// flush commits the batch once it is larger than size.
func (rw *rewriting) flush(size int) error {
	if rw.batch.Len() <= size {
		return nil
	}
	if err := rw.to.w.dict.take(rw.batch); err != nil {
		return err
	}
	if err := rw.to.apply(rw.batch, false, nil); err != nil {
		return err
	}
	rw.batch = rw.to.db.NewBatch()
	return nil
}
