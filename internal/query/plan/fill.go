package plan

import (
	"cmp"
	"math"
	"slices"

	"github.com/weir-dev/weir/internal/rollup"
)

// filling divides the time (after, until] among tiers. The segments are sorted and
// disjoint.
type filling struct {
	after, until int64
	segments     []segment
}

// segment is time in (after, until], given to a tier that holds held around it.
type segment struct {
	after, until int64
	resolution   int64
	held         rollup.Interval
}

// take gives the tier p what it holds of the time that is not given yet.
func (f *filling) take(p preferred) {
	for _, held := range p.Held {
		held.MinT = max(held.MinT, math.MinInt64+1) // one before it must exist
		for _, gap := range f.gaps() {
			g := segment{
				after: max(gap.after, held.MinT-1), until: min(gap.until, held.MaxT),
				resolution: p.Resolution, held: held,
			}
			if p.whole {
				g.wholeWindows()
			}
			if g.after < g.until {
				f.add(g)
			}
		}
	}
}

// gaps are the stretches not given yet.
func (f *filling) gaps() (gaps []segment) {
	t := f.after
	for _, g := range f.segments {
		if t < g.after {
			gaps = append(gaps, segment{after: t, until: g.after})
		}
		t = g.until
	}
	if t < f.until {
		gaps = append(gaps, segment{after: t, until: f.until})
	}
	return gaps
}

// wholeWindows leaves out what is in a window that the segment has only a part of.
// Blocks cut windows where they end, and where they begin the sample on the window's
// edge is the first of theirs.
func (g *segment) wholeWindows() {
	if begins := g.after == g.held.MinT-1 && g.held.MinT%g.resolution == 0; !begins {
		g.after = ceil(g.after, g.resolution)
	}
	if g.until != g.held.MaxT {
		g.until = floor(g.until, g.resolution)
	}
}

// add puts g, which fills a gap, among the segments. Where it meets one of a finer
// tier within a window of its own, that tier yields: a window cannot be cut, and
// the finer tier's part of it would be counted twice or not at all.
func (f *filling) add(g segment) {
	i, _ := slices.BinarySearchFunc(f.segments, g.after, func(s segment, t int64) int { return cmp.Compare(s.after, t) })
	r := g.resolution
	if i > 0 && f.segments[i-1].until == g.after && f.segments[i-1].resolution < r && g.after != g.held.MinT-1 {
		before := &f.segments[i-1]
		g.after = max(floor(g.after, r), g.held.MinT-1)
		if g.after <= before.after { // nothing would be left of it: enter a window later
			g.after = ceil(before.until, r)
		} else {
			before.until = g.after
		}
	}
	if i < len(f.segments) && f.segments[i].after == g.until && f.segments[i].resolution < r && g.until != g.held.MaxT {
		next := &f.segments[i]
		g.until = min(ceil(g.until, r), g.held.MaxT)
		if g.until >= next.until { // the last window reaches over all of it
			f.segments = slices.Delete(f.segments, i, i+1)
		} else {
			next.after = g.until
		}
	}
	if g.after < g.until {
		f.segments = slices.Insert(f.segments, i, g)
	}
}

// finish takes the last window, if it is cut, as a whole, and adds the lead.
func (f *filling) finish(lead int64) {
	if len(f.segments) == 0 {
		return
	}
	f.segments = joined(f.segments)
	if last := &f.segments[len(f.segments)-1]; last.resolution > 0 && last.until == f.until {
		last.until = min(ceil(last.until, last.resolution), last.held.MaxT)
	}
	if first := &f.segments[0]; lead > 0 {
		first.after = max(first.after-max(lead, first.resolution), first.held.MinT-1)
	}
}

// joined makes one of neighbours that the same tier answers.
func joined(segments []segment) []segment {
	out := segments[:1]
	for _, g := range segments[1:] {
		if last := &out[len(out)-1]; last.resolution == g.resolution && last.until == g.after {
			last.until, last.held.MaxT = g.until, max(last.held.MaxT, g.held.MaxT)
			continue
		}
		out = append(out, g)
	}
	return out
}

// floor and ceil bring t to a multiple of r, which may be 0 for none.
func floor(t, r int64) int64 {
	if r == 0 {
		return t
	}
	q := t / r
	if t%r < 0 {
		q--
	}
	return q * r
}

func ceil(t, r int64) int64 { return -floor(-t, r) }
