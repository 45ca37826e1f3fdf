package rangefn

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
)

// whole returns the points that lie in the range as a whole. What happens in the
// others may happen outside.
func (e *eval) whole() (a, b int) {
	if e.lo < e.hi && e.start[e.lo] < e.from {
		return e.lo + 1, e.hi
	}
	return e.lo, e.hi
}

func changes(e *eval) (float64, *histogram.FloatHistogram, bool) {
	a, b := e.whole()
	n := 0
	for i := a; i < b; i++ {
		if !e.ofHist(i) && e.cols.Min[i] < e.cols.Max[i] {
			n++
		}
		if i > a && e.differ(i-1, i) {
			n++
		}
	}
	return float64(n), nil, true
}

// differ tells whether a value must have changed from the last sample of point i
// to the first one of point j. Of histograms it tells whether one changed from the
// last sample of point i to the last one of j.
func (e *eval) differ(i, j int) bool {
	switch hi, hj := e.ofHist(i), e.ofHist(j); {
	case hi != hj:
		return true
	case hi:
		return !e.cols.HistLast[i].Equals(e.cols.HistLast[j])
	}
	lo, hi := e.cols.Min, e.cols.Max
	if math.IsNaN(lo[i]) || math.IsNaN(lo[j]) {
		return math.IsNaN(lo[i]) != math.IsNaN(lo[j])
	}
	return hi[i] < lo[j] || lo[i] > hi[j]
}

func resets(e *eval) (float64, *histogram.FloatHistogram, bool) {
	a, b := e.whole()
	n := 0
	for i := a; i < b; i++ {
		if i > 0 && e.fell(i-1, i, i == a) {
			n++
		}
	}
	return float64(n), nil, true
}

// fell tells whether a counter must have fallen between the last sample of point i
// and that of point j. With within, only a fall between two samples of j counts.
//
// Without a fall, the greatest sample is the last one, so the rise leads to it from
// the value before, which is known to lie within point i.
func (e *eval) fell(i, j int, within bool) bool {
	if e.ofHist(i) != e.ofHist(j) {
		return !within
	}
	if e.ofHist(j) {
		return e.histFell(i, j, within)
	}
	c := e.cols
	if e.sample(j) && within {
		return false
	}
	if e.sample(i) && e.sample(j) {
		return c.Last[j] < c.Last[i]
	}
	tolerance := 1e-9 * max(math.Abs(c.Max[i]), math.Abs(c.Max[j]))
	// A counter that falls before its first sample in j, and not again, rises by its
	// greatest sample there, which is no less than the distance of its extremes.
	if c.Max[j]-c.Min[j] > c.Inc[j]+tolerance {
		return true
	}
	from := c.Max[j] - c.Inc[j]
	if !(from < c.Min[i]-tolerance || from > c.Max[i]+tolerance) {
		return false
	}
	// A rise of just the greatest sample is that of a counter that fell before its
	// first sample in j and not again.
	return !within || math.Abs(from) > tolerance
}

func (e *eval) histFell(i, j int, within bool) bool {
	before := e.cols.HistLast[j].Count - e.cols.HistInc[j].Count
	if math.Abs(before-e.cols.HistLast[i].Count) <= 1e-9*e.cols.HistLast[j].Count {
		return false
	}
	return !within
}
