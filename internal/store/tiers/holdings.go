package tiers

import (
	"context"
	"math"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/weir-dev/weir/internal/rollup"
)

// Holdings says which tier can answer when for a selector, raw first, then from the
// finest rung to the coarsest; stretches that do not touch [mint, maxt] are left out.
// A tier reaches back for ever when no other has anything older than its oldest
// block. The error is [tsdb.ErrNotReady].
func (t *Tiers) Holdings(_ context.Context, mint, maxt int64, ms ...*labels.Matcher) ([]rollup.Holding, error) {
	db := t.deps.DB()
	if db == nil {
		return nil, tsdb.ErrNotReady
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	raw := t.seen
	held := t.held(db.Head(), raw, ms)
	t.holdBack(held, t.newest(raw), ms)
	var out []rollup.Holding
	for i, spans := range held {
		h := rollup.Holding{Resolution: rollup.Raw}
		if i > 0 {
			r := t.rungs[i-1]
			h.Resolution = r.res
			h.Partial = slices.ContainsFunc(r.takes, func(of []*labels.Matcher) bool { return !implies(ms, of) })
		}
		touching := slices.DeleteFunc(spans, func(s span) bool { return s.from > maxt || s.to <= mint })
		h.Held = intervals(touching)
		out = append(out, h)
	}
	return out, nil
}

// held are the stretches of raw and of each rung. [Tiers.mu] is held.
func (t *Tiers) held(head *tsdb.Head, raw rawView, ms []*labels.Matcher) [][]span {
	rawFrom := t.rawStart(head, raw)
	first := rawFrom
	for _, r := range t.rungs {
		if len(r.segs) > 0 {
			first = min(first, r.segs[0].from)
		}
	}
	back := func(from int64) int64 {
		if from <= first {
			return math.MinInt64
		}
		return from
	}
	held := [][]span{always.minus(t.rawless(head, raw))}
	for _, r := range t.rungs {
		if len(r.segs) == 0 {
			held = append(held, nil)
			continue
		}
		all := span{r.segs[0].from, r.segs[len(r.segs)-1].to}
		holes := t.holes(r, all, head, raw, ms)
		all.from = back(all.from)
		held = append(held, all.minus(holes))
	}
	return held
}

// holes are the stretches within all in which a rung does not know what others do.
func (t *Tiers) holes(r *rung, all span, head *tsdb.Head, raw rawView, ms []*labels.Matcher) []span {
	holes := slices.Clone(r.lost)
	newest := t.newest(raw)
	var known, old []span
	for _, s := range r.segs {
		known = append(known, s.span)
		if !r.wants(s.span, newest) {
			old = append(old, s.span)
		}
	}
	for i := range holes { // what was rolled anew is not lost
		if len(holes[i].minus(known)) == 0 {
			holes[i] = span{}
		}
	}
	for _, gap := range all.minus(known) {
		if gap.to-gap.from < t.rungs[0].res {
			continue // blocks of other makers end with their last sample
		}
		for _, o := range t.rungs {
			for _, s := range o.cutSegments(gap) {
				for _, e := range s.by {
					holes = append(holes, t.unknown(r, e, s.span)...)
				}
			}
		}
		for _, e := range t.far {
			holes = append(holes, e.cut(gap))
		}
	}
	// What is about to leave a rung is not rolled anew when late data comes.
	for _, s := range old {
		for _, o := range t.rungs[slices.Index(t.rungs, r)+1:] {
			for _, g := range o.cutSegments(s) {
				holes = append(holes, g.span)
			}
		}
	}
	holes = append(holes, span{head.MinTime(), math.MaxInt64}) // late samples may be rolled before the others
	// Where raw data is gone nobody knows better, and a deletion is heeded on reading.
	there := span{max(localStart(head, raw), t.wholeFrom()), math.MaxInt64}
	for _, b := range raw {
		if r.wants(b.span, newest) && !t.covered(r, b.Compaction.Sources) && !t.again(b) {
			holes = append(holes, b.cut(there))
		}
	}
	// These bounds are wide: after a compaction the TSDB says from the out-of-order
	// window on, though there may be nothing, and it never takes back the end.
	if from, to := head.MinOOOTime(), head.MaxOOOTime(); from <= to {
		holes = append(holes, windows(from, to, r.res).cut(there))
	}
	for _, d := range t.state.Deletions {
		if d.Done.IsZero() && !disjoint(ms, d.Matchers) {
			holes = append(holes, windows(d.MinT, d.MaxT, r.res).cut(there))
		}
	}
	return holes
}

// unknown is what of s another rung's block may know and r does not. A merged block
// reaches over gaps between its parts, in which there is nothing: a store that was
// down, or another tool's blocks, which end with their last sample.
func (t *Tiers) unknown(r *rung, e *entry, s span) (out []span) {
	lacks := func(id ulid.ULID) bool {
		return !t.hasSource(r, id) && !slices.ContainsFunc(r.far, func(x *entry) bool { return x.sources[id] })
	}
	if !slices.ContainsFunc(e.meta.Compaction.Sources, lacks) {
		return nil
	}
	parents := e.meta.Compaction.Parents
	if len(parents) == 0 {
		return []span{s}
	}
	for _, p := range parents {
		if c := s.cut(span{p.MinTime, p.MaxTime}); !c.empty() {
			out = append(out, c)
		}
	}
	return out
}

// windows is the time that a tier does not answer for when it does not know all of
// [mint, maxt]: that of all windows they touch, which another tier must answer whole.
func windows(mint, maxt, r int64) span {
	return span{plus(windowEnd(mint, r), 1-r), plus(windowEnd(maxt, r), 1)}
}

// holdBack takes from held what a tier lacks because store.retention.selectors keeps
// some of the series for a shorter time there, as far as another tier has them.
func (t *Tiers) holdBack(held [][]span, newest int64, ms []*labels.Matcher) {
	names := []string{Raw}
	for _, r := range t.rungs {
		names = append(names, r.Name())
	}
	whole := make([][]span, len(held))
	for i := range held {
		whole[i] = slices.Clone(held[i])
	}
	for _, k := range t.retention.Load().keeps {
		if disjoint(ms, k.ms) {
			continue
		}
		old := span{math.MinInt64, plus(newest, -k.keep)}
		var elsewhere []span
		for i, name := range names {
			if k.covers(name) {
				continue
			}
			for _, s := range whole[i] {
				if c := s.cut(old); !c.empty() {
					elsewhere = append(elsewhere, c)
				}
			}
		}
		for i, name := range names {
			if !k.covers(name) {
				continue
			}
			var left []span
			for _, s := range held[i] {
				left = append(left, s.minus(elsewhere)...)
			}
			held[i] = left
		}
	}
}

// always is all of time.
var always = span{math.MinInt64, math.MaxInt64}

// rawStart is the time of the oldest raw sample there may be.
func (t *Tiers) rawStart(head *tsdb.Head, raw rawView) int64 {
	from := max(localStart(head, raw), t.wholeFrom())
	for _, e := range t.far {
		from = min(from, e.from)
	}
	return from
}

// gaps are the stretches without raw data on disk or in memory, or not all of it:
// before it begins, and between blocks, where one was quarantined.
func (t *Tiers) gaps(head *tsdb.Head, raw rawView) []span {
	var known []span
	whole := span{t.wholeFrom(), math.MaxInt64}
	for _, b := range raw {
		known = append(known, b.cut(whole))
	}
	return span{math.MinInt64, min(head.MinTime(), math.MaxInt64-1)}.minus(known)
}

// wholeFrom is the end of what retention has taken from raw data.
func (t *Tiers) wholeFrom() int64 {
	if t.state.RawFrom == 0 {
		return math.MinInt64
	}
	return t.state.RawFrom
}

// rawless are the stretches that raw data, the bucket's too, leaves to the rungs: all
// that is older, if they have any of it, and what they have of the gaps.
func (t *Tiers) rawless(head *tsdb.Head, raw rawView) (out []span) {
	for _, gap := range t.gaps(head, raw) {
		for _, s := range gap.minus(spansOf(t.far)) {
			known := t.finest(s)
			switch {
			case len(known) == 0:
			case s.from == math.MinInt64:
				out = append(out, s)
			default:
				for _, g := range known {
					out = append(out, g.span)
				}
			}
		}
	}
	return out
}

// localStart is where raw data on disk and in memory begins. Without any, it is
// [math.MaxInt64]. Out-of-order samples older than all blocks are seen when they are
// a block: the TSDB's word on when they begin is too wide.
func localStart(head *tsdb.Head, raw rawView) int64 {
	from := head.MinTime()
	if len(raw) == 0 {
		from = min(from, head.MinOOOTime())
	}
	for _, b := range raw {
		from = min(from, b.from)
	}
	return from
}

func spansOf(es []*entry) (out []span) {
	for _, e := range es {
		out = append(out, e.span)
	}
	return out
}
