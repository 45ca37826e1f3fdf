package tiers

import (
	"cmp"
	"math"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
)

// rawBlock is a block of the TSDB as it was when it was looked at.
type rawBlock struct {
	tsdb.BlockMeta
	span
	dir  string
	size int64
}

// rawView are the raw blocks by time, without those that others replace.
type rawView []rawBlock

func (v rawView) byID(id ulid.ULID) (rawBlock, bool) {
	i := slices.IndexFunc(v, func(b rawBlock) bool { return b.ULID == id })
	if i < 0 {
		return rawBlock{}, false
	}
	return v[i], true
}

// class tells apart blocks that the TSDB never compacts together.
func (b rawBlock) class() int {
	switch {
	case b.Compaction.FromStaleSeries():
		return 1
	case b.Compaction.FromSelectedSeries():
		return 2
	}
	return 0
}

// view are the raw blocks as the TSDB last loaded them.
func (t *Tiers) view() rawView {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.seen
}

func viewOf(blocks []*tsdb.Block) (v rawView) {
	replaced := map[ulid.ULID]bool{}
	for _, b := range blocks {
		m := b.Meta()
		v = append(v, rawBlock{m, span{m.MinTime, m.MaxTime}, b.Dir(), b.Size()})
		for _, p := range m.Compaction.Parents {
			replaced[p.ULID] = true
		}
	}
	v = slices.DeleteFunc(v, func(b rawBlock) bool { return replaced[b.ULID] || b.Compaction.Deletable })
	slices.SortFunc(v, func(a, b rawBlock) int {
		return cmp.Or(cmp.Compare(a.from, b.from), a.ULID.Compare(b.ULID))
	})
	return v
}

// inherit notes what blocks take over from those they were made of: that series are
// missing, and, when tombstones were cleaned, what their new source stands for.
func (t *Tiers) inherit(blocks []*tsdb.Block) {
	t.mu.Lock()
	defer t.mu.Unlock()
	metas := map[ulid.ULID]tsdb.BlockMeta{}
	for _, b := range blocks {
		metas[b.Meta().ULID] = b.Meta()
	}
	changed := false
	for _, b := range metas {
		for _, p := range b.Compaction.Parents {
			if t.state.settled(p.ULID) {
				changed = t.state.settle(b.ULID) || changed
			}
		}
		parents, src := b.Compaction.Parents, b.Compaction.Sources
		if len(parents) != 1 || len(src) != 1 || src[0] != b.ULID {
			continue
		}
		if old, ok := metas[parents[0].ULID]; ok {
			changed = t.state.derive(b.ULID, t.expand(old.Compaction.Sources)) || changed
		}
	}
	if changed {
		_ = t.save("note what blocks were rewritten")
	}
}

// expand adds to sources what they stand for.
func (t *Tiers) expand(sources []ulid.ULID) []ulid.ULID {
	out := slices.Clone(sources)
	for _, s := range sources {
		out = append(out, t.state.Derived[s]...)
	}
	return out
}

// save writes the state; [Tiers.mu] is held. When the disk refuses, the state lives
// on in memory and the next save tries again.
func (t *Tiers) save(doing string) error {
	err := t.state.write(t.dir)
	if err != nil {
		t.metrics.failures.WithLabelValues("state").Inc()
		t.log.Error("state of the rollups not written", "doing", doing, "reason", err)
	}
	return err
}

// forget drops from the state what no block refers to any more.
func (t *Tiers) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	used := map[ulid.ULID]bool{}
	for _, b := range t.seen {
		used[b.ULID] = true
		for _, s := range b.Compaction.Sources {
			used[s] = true
		}
	}
	for _, r := range t.rungs {
		for _, e := range r.blocks {
			for _, s := range e.meta.Compaction.Sources {
				used[s] = true
			}
		}
	}
	for id, of := range t.state.Derived {
		if used[id] {
			for _, s := range of {
				used[s] = true
			}
		}
	}
	changed := t.state.forget(used)
	if changed = t.forgetDeletions() || changed; changed {
		_ = t.save("forget blocks that are gone") // told by save, and done again
	}
}

// newest is the end of the newest data at rest: what ages are counted from. The
// clock may only make it smaller: jumping ahead deletes nothing, nor does jumping
// back, and one sample from the future does not make all the rest old.
func (t *Tiers) newest(raw rawView) int64 {
	end := int64(math.MinInt64)
	for _, b := range raw {
		end = max(end, b.to)
	}
	for _, r := range t.rungs {
		for _, e := range r.blocks {
			end = max(end, e.to)
		}
	}
	return min(end, t.now().UnixMilli())
}

// Newest is the end of the newest data at rest, or the clock's time if that is less:
// what all ages are counted from, in Unix milliseconds. Without data it is
// [math.MinInt64].
func (t *Tiers) Newest() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.newest(t.seen)
}

// RawFrom is the end of the raw data that retention has taken, in Unix milliseconds.
// The store takes no sample before it: it would miss its rollups. It is
// [math.MinInt64] while nothing was taken, and without rungs.
func (t *Tiers) RawFrom() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if len(t.rungs) == 0 {
		return math.MinInt64
	}
	return t.wholeFrom()
}

// again says whether b has late samples that the rollups have: raw data does not go
// while late samples of its time are not rolled up, and none are taken after that, so
// that replay has brought them once more. It reads chunks that are in blocks long
// since, for these leave the disk by the file.
func (t *Tiers) again(b rawBlock) bool {
	return b.Compaction.FromOutOfOrder() && b.to <= t.wholeFrom()
}

// lacking are the rungs that want b and have not rolled it. [Tiers.mu] is held.
func (t *Tiers) lacking(b rawBlock, newest int64) (out []*rung) {
	if t.again(b) {
		return nil
	}
	for _, r := range t.rungs {
		if r.wants(b.span, newest) && !t.covered(r, b.Compaction.Sources) {
			out = append(out, r)
		}
	}
	return out
}

// wants says whether a rung keeps data of that age.
func (r *rung) wants(s span, newest int64) bool {
	return r.keep == 0 || s.to > plus(newest, -r.keep)
}

// covered says whether a rung has rolled all of sources.
func (t *Tiers) covered(r *rung, sources []ulid.ULID) bool {
	for _, s := range sources {
		if !t.hasSource(r, s) {
			return false
		}
	}
	return true
}

func (t *Tiers) hasSource(r *rung, s ulid.ULID) bool {
	if r.has[s] {
		return true
	}
	of := t.state.Derived[s]
	return len(of) > 0 && t.state.settled(s) && t.covered(r, of)
}

// waits says whether b is about to be compacted with a block it overlaps, so that
// rolling it now would be rolling it twice: one that is there, or one that the head
// is cut into. Blocks that the TSDB never merges are not waited for, nor are those
// that lack series: these add up.
func (t *Tiers) waits(b rawBlock, raw rawView) bool {
	if db := t.deps.DB(); db != nil && b.to > db.Head().MinTime() {
		return true // late samples, cut before the others of their time
	}
	if t.state.settled(b.ULID) {
		return false
	}
	for _, o := range raw {
		if o.ULID != b.ULID && o.overlaps(b.span) && o.class() == b.class() && !t.state.settled(o.ULID) {
			return true
		}
	}
	return false
}

// Exclude keeps a raw block from compaction. It is the TSDB's
// BlockCompactionExcludeFunc; the TSDB plans nothing behind a block that is excluded.
//
// Blocks of late samples of a time that the head still has are not compacted: merged
// with others, the block counts as one that was cut from the head, and replay after
// a kill passes over all of the write-ahead log that is older than its end (found by
// TestHistory, in Prometheus 0.315 itself too).
//
// Blocks that lack series are not compacted while another is about to be rolled:
// mixed, they could not be told apart. Such as cannot be rolled are not waited for.
func (t *Tiers) Exclude(meta *tsdb.BlockMeta) bool {
	if db := t.deps.DB(); db != nil && meta.MaxTime > db.Head().MinTime() {
		return true
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.state.settled(meta.ULID) {
		return false
	}
	newest := t.newest(t.seen)
	return slices.ContainsFunc(t.seen, func(b rawBlock) bool {
		return !t.retry.failing(b.ULID.String()) && !t.waits(b, t.seen) && len(t.lacking(b, newest)) > 0
	})
}
