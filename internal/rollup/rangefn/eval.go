package rangefn

import (
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/weir-dev/weir/internal/rollup"
)

// Grid is the evaluation times Start, Start+Step, ... up to End, in Unix
// milliseconds, with offset and @ applied. Step 0 stands for Start alone.
type Grid struct{ Start, End, Step int64 }

// Call is one function with its arguments.
type Call struct {
	// Func is the PromQL name; "" is a plain selector.
	Func string
	// Params are the scalars: the quantile; the factors of smoothing, 0 to 1; the
	// seconds predict_linear looks ahead of the evaluation time, to which a caller
	// that has applied an offset must add it.
	Params []float64
	// Range in milliseconds, more than 0; for a plain selector, the lookback.
	Range int64
}

// Result has an entry for each evaluation time that has a value. It can be used
// for one call after the other, which overwrites it.
type Result struct {
	T []int64 // Unix milliseconds
	V []float64
	// H has the histograms, nil where the value is a float; it is empty when all
	// are. They may be the columns' own and are not to be changed.
	H []*histogram.FloatHistogram
	// Mixed counts evaluation times without a value because floats and histograms
	// met in their range.
	Mixed int

	eval eval
}

// Eval evaluates the call over one series at the grid's times. An error is one of
// the call, the same for every series.
func (c Call) Eval(cols *rollup.Columns, g Grid, out *Result) error {
	f, err := c.check(g)
	if err != nil {
		return err
	}
	out.T, out.V, out.Mixed = out.T[:0], out.V[:0], 0
	clear(out.H)
	out.H = out.H[:0]
	e := &out.eval
	e.begin(c, g, cols, f)
	if len(e.end) == 0 {
		return nil
	}
	out.T, out.V = slices.Grow(out.T, g.steps()), slices.Grow(out.V, g.steps())
	perSecond := 1.0
	if c.Func == "rate" {
		perSecond = e.seconds()
	}
	rises := (c.Func == "rate" || c.Func == "increase") && len(cols.OfHist) == 0
	for t := g.Start; t <= g.End || t == g.Start; t += g.Step {
		e.move(t)
		if rises && e.wholePoint() {
			out.T, out.V = append(out.T, t), append(out.V, cols.Inc[e.lo]/perSecond)
		} else if e.lo < e.over {
			e.step(&f, out)
		} else if e.lo == len(e.end) {
			break
		}
		if g.Step == 0 {
			break
		}
	}
	e.cols = nil
	return nil
}

// steps is the number of evaluation times, or 1 if there are more than a result
// should be made for beforehand.
func (g Grid) steps() int {
	const most = 1 << 20
	if g.Step <= 0 || g.End < g.Start || (g.End-g.Start)/g.Step >= most {
		return 1
	}
	return int((g.End-g.Start)/g.Step) + 1
}

// wholePoint tells that the range at hand is one point, all of it and no other, and
// follows the one before at once: as in rate(x[5m]) over 5m windows. What it rose by
// is then the answer.
func (e *eval) wholePoint() bool {
	i := e.lo
	return e.over == i+1 && e.hi == e.over && e.start[i] == e.from && i > 0 && e.end[i-1] == e.from
}

func (c Call) check(g Grid) (function, error) {
	f, ok := lookup(c.Func)
	switch {
	case !ok:
		return f, fmt.Errorf("evaluate over rollups: %q is no function of a range vector", c.Func)
	case len(c.Params) != f.params:
		return f, fmt.Errorf("evaluate %s over rollups: got %d parameters, want %d", c.Func, len(c.Params), f.params)
	case c.Range <= 0:
		return f, fmt.Errorf("evaluate %q over rollups: range is %d ms, want more than 0", c.Func, c.Range)
	case g.Step < 0:
		return f, fmt.Errorf("evaluate %q over rollups: step is %d ms, want 0 or more", c.Func, g.Step)
	}
	if c.Func == "double_exponential_smoothing" {
		for i, name := range [...]string{"smoothing", "trend"} {
			if v := c.Params[i]; !(v > 0 && v < 1) {
				return f, fmt.Errorf("evaluate %s: %s factor is %g, want more than 0 and less than 1", c.Func, name, v)
			}
		}
	}
	return f, nil
}

// eval is the state of one call: the columns and the range at hand.
//
// Holds: points with End in (from, to] are [lo, hi). Those that overlap the range
// are [lo, over): a point that reaches past to, at hi, is among them. The first of
// them may have begun before from.
// Cost:  lo and hi only move forward, so a call is one pass over the columns.
type eval struct {
	call Call
	cols *rollup.Columns
	kept rollup.Columns // of the floats only, when there are histograms

	start, end   []int64
	before       int64
	from, to     int64
	lo, hi, over int
	loBy, hiBy   int // by how much the last step moved them

	rolls  [2]roller
	sorted []weighed
}

func (e *eval) begin(c Call, g Grid, cols *rollup.Columns, f function) {
	e.call, e.cols = c, cols
	if f.takes == floats && len(cols.OfHist) > 0 {
		e.keepFloats(cols, f.need)
	}
	e.start, e.end, e.before = e.cols.Start, e.cols.End, e.cols.Before
	e.lo, e.hi, e.over, e.loBy, e.hiBy = 0, 0, 0, 0, 0
	// Where ranges overlap by half or less, adding each up is as cheap as any way.
	roll := g.Step > 0 && c.Range > 2*g.Step
	for i := range e.rolls {
		e.rolls[i].reset(roll)
	}
}

// keepFloats makes e.cols a copy of cols without the points of histograms.
func (e *eval) keepFloats(cols *rollup.Columns, need rollup.Need) {
	k := &e.kept
	k.Reset(0)
	k.Before = cols.Before
	for i, hist := range cols.OfHist {
		if hist {
			continue
		}
		k.Start, k.End = append(k.Start, cols.Start[i]), append(k.End, cols.End[i])
		if need&needCount != 0 {
			k.Count = append(k.Count, cols.Count[i])
		}
		if need&needSum != 0 {
			k.Sum = append(k.Sum, cols.Sum[i])
		}
		if need&needMin != 0 {
			k.Min = append(k.Min, cols.Min[i])
		}
		if need&needMax != 0 {
			k.Max = append(k.Max, cols.Max[i])
		}
		if need&needLast != 0 {
			k.Last = append(k.Last, cols.Last[i])
		}
	}
	e.cols = k
}

// move makes (t-range, t] the range at hand.
func (e *eval) move(t int64) {
	e.from, e.to = t-e.call.Range, t
	end := e.end
	lo := advance(end, e.lo, e.loBy, e.from)
	hi := max(e.hi, lo)
	hi = advance(end, hi, e.hiBy-(hi-e.hi), t)
	e.loBy, e.hiBy = lo-e.lo, hi-e.hi
	e.lo, e.hi, e.over = lo, hi, hi
	if hi < len(end) && e.start[hi] < t {
		e.over = hi + 1
	}
}

// advance returns the first index from i on whose end is after t. Steps over points
// of one width move on by the same number of them, so that is tried first.
func advance(end []int64, i, by int, t int64) int {
	if j := i + by; by > 0 && j < len(end) && end[j-1] <= t && end[j] > t {
		return j
	}
	for i < len(end) && end[i] <= t {
		i++
	}
	return i
}

// step evaluates the range at hand.
func (e *eval) step(f *function, out *Result) {
	hist := false
	if len(e.cols.OfHist) > 0 && f.takes == alike {
		kinds := e.cols.OfHist[e.lo:e.over]
		hist = kinds[0]
		if slices.Contains(kinds, !hist) {
			out.Mixed++
			return
		}
	}
	if f.at != nil && !hist {
		if v, ok := f.at(e); ok {
			out.add(e.to, v, nil)
		}
		return
	}
	if v, h, ok := f.histAt(e); ok {
		out.add(e.to, v, h)
	}
}

func (r *Result) add(t int64, v float64, h *histogram.FloatHistogram) {
	r.T, r.V = append(r.T, t), append(r.V, v)
	if h == nil && len(r.H) == 0 {
		return
	}
	for len(r.H) < len(r.T)-1 {
		r.H = append(r.H, nil)
	}
	r.H = append(r.H, h)
}

// sample tells whether point i is a sample.
func (e *eval) sample(i int) bool { return e.start[i] == e.end[i] }

// prevEnd returns the end of the point before i, or rollup.NoTime.
func (e *eval) prevEnd(i int) int64 {
	if i > 0 {
		return e.end[i-1]
	}
	return e.before
}

// newest returns the point to take the range's newest value from: the last that
// ends in it, or else the one that reaches past it.
func (e *eval) newest() int {
	if e.lo < e.hi {
		return e.hi - 1
	}
	return e.hi
}

// share returns the part of point i that lies in the range.
func (e *eval) share(i int) float64 { return e.part(e.start[i], e.end[i]) }

// part returns the part of (start, end] that lies in the range.
func (e *eval) part(start, end int64) float64 {
	if start >= e.from && end <= e.to {
		return 1
	}
	return float64(min(end, e.to)-max(start, e.from)) / float64(end-start)
}
