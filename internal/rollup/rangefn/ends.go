package rangefn

import (
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/weir-dev/weir/internal/rollup"
)

// value returns the last value of point i.
func (e *eval) value(i int) (float64, *histogram.FloatHistogram, bool) {
	if e.ofHist(i) {
		return 0, e.cols.HistLast[i], true
	}
	return e.cols.Last[i], nil, true
}

func (e *eval) ofHist(i int) bool { return len(e.cols.OfHist) > 0 && e.cols.OfHist[i] }

// plainPoint is the plain selector. A point that ended with the series is seen
// until the stale marker, or as long as that may not have come yet; a point that
// has not ended is seen where there is nothing else, for its samples may be there.
func plainPoint(e *eval) (float64, *histogram.FloatHistogram, bool) {
	if i := e.hi - 1; e.lo < e.hi && !(e.cols.Ended[i] && e.to >= e.cols.Gone[i]) {
		return e.value(i)
	}
	if e.hi < e.over {
		return e.value(e.hi)
	}
	return 0, nil, false
}

func newestPoint(e *eval) (float64, *histogram.FloatHistogram, bool) { return e.value(e.newest()) }

func oldestPoint(e *eval) (float64, *histogram.FloatHistogram, bool) {
	if e.ofHist(e.lo) {
		return e.value(e.lo)
	}
	return e.first(e.lo), nil, true
}

// first estimates the first sample of point i: of one that rose all along, which
// is known of counters, the least, of one that fell, the greatest.
func (e *eval) first(i int) float64 {
	switch last := e.cols.Last[i]; last {
	case e.cols.Max[i]:
		return e.cols.Min[i]
	case e.cols.Min[i]:
		return e.cols.Max[i]
	default:
		return last
	}
}

// base returns the point whose last value is the one at the range's start, or -1
// when there is none near.
func (e *eval) base() int {
	if i := e.lo - 1; i >= 0 && e.start[e.lo]-e.end[i] <= e.call.Range {
		return i
	}
	return -1
}

func delta(e *eval) (float64, bool) {
	i, from := e.newest(), e.base()
	switch {
	case from >= 0 && !e.ofHist(from):
		return e.cols.Last[i] - e.cols.Last[from], true
	case i == e.lo && e.sample(i):
		return 0, false
	}
	return e.cols.Last[i] - e.first(e.lo), true
}

func deltaHist(e *eval) (float64, *histogram.FloatHistogram, bool) {
	i, from := e.newest(), e.base()
	if from < 0 || !e.ofHist(from) {
		if from = e.lo; i == from && e.sample(i) {
			return 0, nil, false
		}
	}
	return histDifference(e.cols.HistLast[from], e.cols.HistLast[i])
}

func histDifference(from, to *histogram.FloatHistogram) (float64, *histogram.FloatHistogram, bool) {
	h := to.Copy()
	if _, _, _, err := h.Sub(from); err != nil {
		return 0, nil, false
	}
	h.CounterResetHint = histogram.GaugeType
	return 0, h.Compact(0), true
}

// latest returns the points [first, last] whose rise is the newest rate, and the
// seconds it took. It is one point, and the one before it too where the newest is
// the shorter: a block's border can leave a point of one sample behind.
func (e *eval) latest() (first, last int, seconds float64, ok bool) {
	last = e.newest()
	first = last
	width := e.end[last] - e.start[last]
	switch {
	case e.sample(last):
		// Samples stand alone, and both must be in the range, as in PromQL.
		if last == 0 || e.sample(last-1) && last-1 < e.lo {
			return 0, 0, 0, false
		}
		return last, last, float64(e.end[last]-e.end[last-1]) / 1000, true
	case last > 0 && !e.sample(last-1) && width < e.end[last-1]-e.start[last-1] && e.ofHist(last) == e.ofHist(last-1):
		first--
	}
	from := e.start[first]
	if prev := e.prevEnd(first); prev != rollup.NoTime {
		from = prev
	}
	return first, last, float64(e.end[last]-from) / 1000, true
}

func irate(e *eval) (float64, bool) {
	first, last, seconds, ok := e.latest()
	if !ok {
		return 0, false
	}
	return total(foldAll(adding, 0, 0, e.cols.Inc[first:last+1])) / seconds, true
}

func irateHist(e *eval) (float64, *histogram.FloatHistogram, bool) {
	first, last, seconds, ok := e.latest()
	if !ok {
		return 0, nil, false
	}
	h := e.cols.HistInc[last].Copy()
	if first < last {
		if _, _, _, err := h.Add(e.cols.HistInc[first]); err != nil {
			return 0, nil, false
		}
	}
	return 0, h.Div(seconds), true
}

// neighbour returns the newest point and the one before it, or -1 for that when
// there is none to take a difference from.
func (e *eval) neighbour() (i, prev int, ok bool) {
	i = e.newest()
	prev = i - 1
	switch {
	case e.sample(i):
		return i, prev, i > 0 && !(e.sample(prev) && prev < e.lo) && e.ofHist(i) == e.ofHist(prev)
	case i == 0 || e.start[i]-e.end[prev] > e.call.Range || e.ofHist(i) != e.ofHist(prev):
		return i, -1, e.cols.Count[i] > 1
	}
	return i, prev, true
}

func idelta(e *eval) (float64, bool) {
	i, prev, ok := e.neighbour()
	switch {
	case !ok:
		return 0, false
	case prev < 0:
		return (e.cols.Last[i] - e.first(i)) / (e.cols.Count[i] - 1), true
	}
	return (e.cols.Last[i] - e.cols.Last[prev]) / e.cols.Count[i], true
}

func ideltaHist(e *eval) (float64, *histogram.FloatHistogram, bool) {
	i, prev, ok := e.neighbour()
	if !ok {
		return 0, nil, false
	}
	if prev < 0 {
		prev = i
	}
	v, h, ok := histDifference(e.cols.HistLast[prev], e.cols.HistLast[i])
	if ok {
		h.Div(e.cols.Count[i])
	}
	return v, h, ok
}

// inRange returns a time in Unix seconds, moved into the range where it is not.
func (e *eval) inRange(ms float64) float64 {
	return min(max(ms, float64(e.from)), float64(e.to)) / 1000
}

func tsOfFirst(e *eval) (float64, bool) {
	i := e.lo
	if e.sample(i) {
		return float64(e.end[i]) / 1000, true
	}
	// Samples at an even pace: the first is one pace after the start.
	pace := float64(e.end[i]-e.start[i]) / e.cols.Count[i]
	return e.inRange(float64(max(e.start[i], e.from)) + pace), true
}

func tsOfLast(e *eval) (float64, bool) { return e.inRange(float64(e.end[e.newest()])), true }

func tsOfMax(e *eval) (float64, bool) {
	col, at := e.cols.Max, e.lo
	for i := e.lo; i < e.over; i++ {
		if col[i] >= col[at] || col[at] != col[at] {
			at = i
		}
	}
	return e.middle(at) / 1000, true
}

func tsOfMin(e *eval) (float64, bool) {
	col, at := e.cols.Min, e.lo
	for i := e.lo; i < e.over; i++ {
		if col[i] <= col[at] || col[at] != col[at] {
			at = i
		}
	}
	return e.middle(at) / 1000, true
}

// middle returns the middle of the part of point i that lies in the range.
func (e *eval) middle(i int) float64 {
	return float64(max(e.start[i], e.from))/2 + float64(min(e.end[i], e.to))/2
}
