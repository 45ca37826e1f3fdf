package rangefn

import (
	"github.com/prometheus/prometheus/model/histogram"

	"github.com/weir-dev/weir/internal/rollup"
)

// additive adds a column up over the range: whole points, and those at the edges
// by their share.
func (e *eval) additive(r *roller, op fold, col []float64) float64 {
	a, v := e.lo, 0.0
	if a < e.hi && e.start[a] < e.from {
		v = e.share(a) * col[a]
		a++
	}
	if a < e.hi {
		v += r.of(op, col, a, e.hi)
	}
	if e.hi < e.over {
		v += e.share(e.hi) * col[e.hi]
	}
	return v
}

func sum(e *eval) (float64, bool) { return e.additive(&e.rolls[0], summing, e.cols.Sum), true }

func count(e *eval) (float64, bool) { return e.additive(&e.rolls[0], adding, e.cols.Count), true }

func avg(e *eval) (float64, bool) {
	return e.additive(&e.rolls[0], summing, e.cols.Sum) / e.additive(&e.rolls[1], adding, e.cols.Count), true
}

func present(*eval) (float64, bool) { return 1, true }

func least(e *eval) (float64, bool) { return e.rolls[0].of(leastOf, e.cols.Min, e.lo, e.over), true }

func most(e *eval) (float64, bool) { return e.rolls[0].of(mostOf, e.cols.Max, e.lo, e.over), true }

// riseShare returns the part of what a counter rose by at point i that lies in the
// range. The rise is since the last sample before the point. Where that is farther
// away than a range is long, nothing says when it rose: it is spread over the hole.
func (e *eval) riseShare(i int) float64 {
	start := e.start[i]
	if prev := e.prevEnd(i); prev != rollup.NoTime && start-prev > e.call.Range {
		start = prev
	}
	return e.part(start, e.end[i])
}

// unrisen tells that there is no rise in the range because there is one sample and
// none before it.
func (e *eval) unrisen() bool {
	return e.lo == 0 && e.over == 1 && e.before == rollup.NoTime && e.sample(0)
}

func increase(e *eval) (float64, bool) {
	if e.unrisen() {
		return 0, false
	}
	col, a, v := e.cols.Inc, e.lo, 0.0
	if a < e.hi && (e.start[a] < e.from || e.start[a]-e.call.Range > e.prevEnd(a)) {
		v = e.riseShare(a) * col[a]
		a++
	}
	switch {
	case e.hi-a == 1: // a step of one point, as in rate(x[5m]) on 5m windows
		v += col[a]
	case a < e.hi:
		v += e.rolls[0].of(adding, col, a, e.hi)
	}
	if e.hi < e.over {
		v += e.riseShare(e.hi) * col[e.hi]
	}
	return v, true
}

func rate(e *eval) (float64, bool) {
	v, ok := increase(e)
	return v / e.seconds(), ok
}

// seconds is the length of the range.
func (e *eval) seconds() float64 { return float64(e.call.Range) / 1000 }

// histFunc is a function whose value may be a histogram.
type histFunc func(*eval) (float64, *histogram.FloatHistogram, bool)

// addHists adds a column of histograms up over the range. There is no value when
// they cannot be added, as those with custom and those with exponential buckets.
func (e *eval) addHists(col []*histogram.FloatHistogram, share func(int) float64) *histogram.FloatHistogram {
	var total *histogram.FloatHistogram
	for i := e.lo; i < e.over; i++ {
		h := col[i]
		if s := share(i); s != 1 {
			h = h.Copy().Mul(s)
		}
		if total == nil {
			total = h.Copy()
			continue
		}
		if _, _, _, err := total.Add(h); err != nil {
			return nil
		}
	}
	return total
}

func sumHist(e *eval) (float64, *histogram.FloatHistogram, bool) {
	h := e.addHists(e.cols.Hist, e.share)
	return 0, h, h != nil
}

func avgHist(e *eval) (float64, *histogram.FloatHistogram, bool) {
	h := e.addHists(e.cols.Hist, e.share)
	if h == nil {
		return 0, nil, false
	}
	return 0, h.Div(e.additive(&e.rolls[1], adding, e.cols.Count)), true
}

func increaseHist(e *eval) (float64, *histogram.FloatHistogram, bool) {
	if e.unrisen() {
		return 0, nil, false
	}
	h := e.addHists(e.cols.HistInc, e.riseShare)
	if h == nil {
		return 0, nil, false
	}
	h.CounterResetHint = histogram.GaugeType
	return 0, h.Compact(0), true
}

func rateHist(e *eval) (float64, *histogram.FloatHistogram, bool) {
	_, h, ok := increaseHist(e)
	if !ok {
		return 0, nil, false
	}
	return 0, h.Div(e.seconds()), true
}
