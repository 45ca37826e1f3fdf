package rollup

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
)

// Columns are the points and samples of one series in time order, one slice a
// column. A point covers (Start, End]; a raw sample has Start == End. Times are
// Unix milliseconds. Only the columns that [Columns.Reset] was asked for are filled.
//
// Fill it with AppendAggr and AppendRaw, oldest first. A border between two
// resolutions must lie where a window of the coarser one ends, or its points and
// the other's samples are both counted.
//
// Owns:  the slices, which Reset empties and Append reuses. Histograms are made
// anew each time, so that a result may go on using them; they are not to be changed.
// Holds: Inc is exact across chunks, blocks and resolutions; what is appended last
// may still be corrected by the next Append, when a chunk was left in its middle.
// Cost:  no allocation once the slices have grown, histograms excepted;
// BenchmarkColumns has the time a point.
type Columns struct {
	Start, End []int64
	// Count of samples, their sum, least and greatest value. Min and Max pass over
	// NaN unless all samples are NaN; both are NaN for points of histograms.
	Count, Sum, Min, Max []float64
	// Inc is what a counter rose between the last sample of the point before and
	// the last sample of this one, a fall counting from zero. For the first point,
	// the one before is the one that ended at Before; without it, Inc is the rise
	// within the point.
	Inc []float64
	// Last is the point's last value where that can be known, else its mean.
	Last []float64
	// The same of native histograms. An entry is nil where the point is of floats;
	// the slices are empty when no point is of histograms.
	Hist, HistInc, HistLast []*histogram.FloatHistogram
	// OfHist tells which points are of histograms; empty when none is.
	OfHist []bool
	// Ended tells that the series went stale after End, which is then the time of its
	// last sample; and Gone, when it was gone. Gone is the marker's own time for
	// samples. For points it is the end of the window or, where the samples are so far
	// apart that the next was due after that, when that one was overdue.
	// Filled with NeedLast.
	Ended []bool
	Gone  []int64
	// Before is when the point or sample ended that the first Inc counts from, which
	// is not itself in the columns; [NoTime] when there is none.
	Before int64
	// Skipped counts chunks that overlap what had been appended before them and
	// were left out, in whole or in part.
	Skipped int
	// BlockEnd is the last millisecond of the block that the chunks appended next are
	// of, which the caller sets; [NoTime], as Reset leaves it, when it is not known.
	BlockEnd int64

	need Need
	// The counter's last true value, of samples seen or in points decoded.
	last    float64
	hasLast bool
	histPre *histogram.FloatHistogram
	owed    debt
	cut     cutOff
	lapped  bool // the chunk at hand has points before those wanted

	xor     XOR
	ts      []int64
	passed  []int64 // times read only to be passed over
	scratch [numAggregates][]float64
	readers histReaders
	batchT  []int64
	batchV  []float64
}

// NoTime is the [Columns.Before] of a series nothing came before.
const NoTime = math.MinInt64

// debt is a rise that is known only as a part of a longer one: a chunk was left in
// its middle, at a point whose last value is not written in it. The points that
// follow, up to the time by, rise together as the chunk says; the first of them has
// what the others do not.
type debt struct {
	open bool
	by   int64
	rise float64
	at   int // index of the first of them
	cut  int // index of the one among them that ends later: with its window
}

// cutOff is a newest point that its block's end cut off: it stands for the rest of its
// window too, as long as nothing follows that lies there.
type cutOff struct {
	at    int // its index
	stamp int64
	end   int64 // of the window, and as long as nothing follows End[at]
}

// Reset empties the columns and says which ones to fill.
func (c *Columns) Reset(need Need) {
	c.need = need
	c.Start, c.End, c.Gone = c.Start[:0], c.End[:0], c.Gone[:0]
	for _, col := range []*[]float64{&c.Count, &c.Sum, &c.Min, &c.Max, &c.Inc, &c.Last} {
		*col = (*col)[:0]
	}
	for _, col := range []*[]*histogram.FloatHistogram{&c.Hist, &c.HistInc, &c.HistLast} {
		clear(*col)
		*col = (*col)[:0]
	}
	c.OfHist, c.Ended = c.OfHist[:0], c.Ended[:0]
	c.Before, c.Skipped, c.BlockEnd, c.cut = NoTime, 0, NoTime, cutOff{at: -1}
	c.last, c.hasLast, c.histPre, c.owed = 0, false, nil, debt{}
}

// Len returns the number of points and samples.
func (c *Columns) Len() int { return len(c.End) }

// newest returns the last appended time or stamp, [NoTime] when there is none.
func (c *Columns) newest() int64 {
	n := len(c.End)
	switch {
	case n == 0:
		return NoTime
	case c.isCut():
		return c.cut.stamp
	}
	return c.End[n-1]
}

// isCut tells whether the newest point is the one of [Columns.cut].
func (c *Columns) isCut() bool {
	n := len(c.End)
	return n > 0 && c.cut.at == n-1 && c.cut.end == c.End[n-1]
}

// meet ends the newest point where its block ended if what comes at t lies in the
// same window.
func (c *Columns) meet(t int64) {
	if c.isCut() && t <= c.cut.end {
		c.End[c.cut.at] = c.cut.stamp
	}
}

// rise is what a counter gained from one value to the next.
func rise(from, to float64) float64 {
	if to < from {
		return to
	}
	return to - from
}

// settle pays what [Columns.owed] says once the columns reach far enough.
func (c *Columns) settle() {
	d := &c.owed
	if !d.open || len(c.End) <= d.at || c.newest() < d.by {
		return
	}
	d.open = false
	if c.End[d.at] > d.by && d.at != d.cut {
		return
	}
	rest := d.rise
	for i := d.at + 1; i < len(c.End) && (c.End[i] <= d.by || i == d.cut); i++ {
		rest -= c.Inc[i]
	}
	// Rounding can take a rise of nothing below it. Much less than nothing means
	// that the two resolutions do not tell of the same samples.
	if tolerance := 1e-9 * math.Abs(d.rise); rest >= -tolerance {
		c.Inc[d.at] = max(rest, 0)
	}
}

// stale marks the newest point as the last before a stale marker at t.
func (c *Columns) stale(t int64) {
	c.meet(t)
	if n := len(c.Ended); c.need&NeedLast != 0 && n > 0 && !c.Ended[n-1] {
		c.Ended[n-1], c.Gone[n-1] = true, t
	}
}

// extend returns s with n more entries, which hold anything.
func extend[T any](s []T, n int) []T { return slices.Grow(s, n)[:len(s)+n] }
