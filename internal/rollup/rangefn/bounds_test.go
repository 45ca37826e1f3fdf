package rangefn

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// check compares answers on an aligned grid.
type check struct {
	t       *testing.T
	w       walk
	s       rolled
	c       Call
	reading string
	at      string
}

func (k check) against(want, got map[int64]point) {
	k.t.Helper()
	for ts, g := range got {
		w, ok := want[ts]
		switch {
		case !ok:
			k.extra(ts, g)
		case k.c.Func == "irate" && k.w.na > 0:
			// NaN is passed over.
		case k.reading == "raw" && !rises[k.c.Func]:
			k.near(w.v, g.v, 1e-8, ts)
		default:
			k.one(ts, w.v, g.v)
		}
	}
}

// rises are the functions that do not extrapolate and the engine does.
var rises = map[string]bool{"rate": true, "increase": true, "delta": true}

// extra judges a value where the engine has none.
func (k check) extra(ts int64, g point) {
	k.t.Helper()
	in := alive(k.s.raw, ts-k.c.Range, ts)
	switch k.c.Func {
	case "":
		// The lookback was widened, or begins at the end of a point.
		all := k.s.raw
		i := len(alive(all, 0, ts))
		require.NotZero(k.t, i, "%s: %g at %d before the first sample", k.at, g.v, ts)
		require.NotEqual(k.t, "raw", k.reading, "%s: %g at %d", k.at, g.v, ts)
	case "rate", "increase", "delta":
		require.Len(k.t, in, 1, "%s: %g at %d, where the engine has nothing", k.at, g.v, ts)
	case "irate", "idelta":
		require.NotEqual(k.t, "raw", k.reading, "%s: %g at %d", k.at, g.v, ts)
		require.Len(k.t, in, 1, "%s: %g at %d, where the engine has nothing", k.at, g.v, ts)
	default:
		require.Fail(k.t, "extra", "%s: %g at %d, where the engine has nothing", k.at, g.v, ts)
	}
}

func (k check) near(want, got, rel float64, ts int64) {
	k.t.Helper()
	if want == got || want != want && got != got || math.Abs(want-got) <= rel*(1+math.Abs(want)) {
		return
	}
	require.Fail(k.t, "not equal", "%s at %d: got %g, want %g", k.at, ts, got, want)
}

func (k check) within(lo, hi, got float64, ts int64) {
	k.t.Helper()
	if slack := 1e-8 * (1 + math.Abs(lo) + math.Abs(hi)); got >= lo-slack && got <= hi+slack {
		return
	}
	require.Fail(k.t, "out of bounds", "%s at %d: got %g, want %g to %g", k.at, ts, got, lo, hi)
}

// one judges one value by its function's bound.
func (k check) one(ts int64, want, got float64) {
	k.t.Helper()
	if math.IsNaN(want) || k.w.na > 0 && !isExact(k.c.Func) {
		return // the bounds are for numbers; that there is a value has been seen
	}
	in := alive(k.s.raw, ts-k.c.Range, ts)
	switch fn := k.c.Func; fn {
	case "rate":
		k.rise(ts, in, got*float64(k.c.Range)/1000, want*float64(k.c.Range)/1000)
	case "increase":
		k.rise(ts, in, got, want)
	case "":
		k.likeOf(ts, alive(k.s.raw, ts-fine, ts), want, got, -1)
	case "last_over_time":
		k.likeOf(ts, in, want, got, -1)
	case "first_over_time":
		k.likeOf(ts, in, want, got, 0)
	case "irate", "idelta", "deriv", "predict_linear", "double_exponential_smoothing":
		// Their bounds are those of other tests.
	case "delta":
		k.delta(ts, in, got)
	case "resets", "changes":
		k.within(0, want, got, ts)
	case "quantile_over_time":
		if q := k.c.Params[0]; q == 0 || q == 1 || q < 0 {
			k.near(want, got, 0, ts)
			return
		}
		r := k.widest(ts)
		k.within(want-r, want+r, got, ts)
	case "mad_over_time":
		r := 2 * k.widest(ts)
		k.within(want-r, want+r, got, ts)
	case "stdvar_over_time", "stddev_over_time":
		lo, hi := k.variances(ts)
		if fn == "stddev_over_time" {
			lo, hi = math.Sqrt(lo), math.Sqrt(hi)
		}
		k.within(lo, hi, want, ts)
		k.within(lo, hi, got, ts)
	case "ts_of_first_over_time", "ts_of_last_over_time":
		k.within(want-k.resolution(), want+k.resolution(), got, ts)
	case "ts_of_max_over_time", "ts_of_min_over_time":
		k.within(want-k.resolution()/2, want+k.resolution()/2, got, ts)
	default:
		k.near(want, got, 1e-9, ts)
	}
}

func isExact(fn string) bool {
	_, kind, _, _ := Describe(fn)
	return kind == Exact && !rises[fn]
}

// resolution in seconds.
func (k check) resolution() float64 {
	if k.reading == "5m" {
		return float64(fine) / 1000
	}
	return float64(hour) / 1000
}

// rise judges an increase: it is the exact one, from the last sample before the
// range, unless that is farther than a range away; and it differs from the engine's
// by no more than that edge, or what the engine makes up.
func (k check) rise(ts int64, in []sample, got, want float64) {
	k.t.Helper()
	inside := 0.0
	for i := range in[1:] {
		inside += risen(in[i].v, in[i+1].v)
	}
	edge := 0.0
	before := alive(k.s.raw, 0, ts-k.c.Range)
	if n := len(before); n > 0 {
		edge = risen(before[n-1].v, in[0].v)
		if in[0].t-before[n-1].t > k.c.Range {
			k.within(0, inside+edge, got, ts)
			return
		}
	}
	k.near(inside+edge, got, 1e-9, ts)
	if math.Abs(got-want) > max(edge, math.Abs(want-inside))*(1+1e-9)+1e-9 {
		require.Fail(k.t, "far from the engine", "%s at %d: got %g, engine %g, edge %g, inside %g", k.at, ts, got, want, edge, inside)
	}
}

func risen(from, to float64) float64 {
	if to < from {
		return to
	}
	return to - from
}

// window is the samples of the point that a sample is in.
func (k check) window(t int64) []sample {
	r := int64(k.resolution()) * 1000
	if k.reading == "mixed" {
		r = hour
	}
	end := (t + r - 1) / r * r
	return alive(k.s.raw, end-r, end)
}

func extremes(s []sample) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, p := range s {
		lo, hi = min(lo, p.v), max(hi, p.v)
	}
	return lo, hi
}

// likeOf judges a value that stands for a sample of the range, the first or last.
func (k check) likeOf(ts int64, in []sample, want, got float64, which int) {
	k.t.Helper()
	if len(in) == 0 {
		return
	}
	p := in[0]
	if which < 0 {
		p = in[len(in)-1]
	}
	lo, hi := extremes(k.window(p.t))
	k.within(lo, hi, want, ts)
	k.within(lo, hi, got, ts)
	if k.w.name == "counter" && (which < 0 || k.c.Range >= hour) {
		k.near(want, got, 1e-12, ts)
	}
}

func (k check) delta(ts int64, in []sample, got float64) {
	k.t.Helper()
	lo, hi := extremes(k.window(in[len(in)-1].t))
	from := k.window(in[0].t)
	// Where the sample before is about a range away, whether it is near enough is
	// told by the points, not the samples.
	r := int64(k.resolution()) * 1000
	if before := alive(k.s.raw, 0, ts-k.c.Range); len(before) > 0 && in[0].t-before[len(before)-1].t < k.c.Range+2*r {
		from = append(from, k.window(before[len(before)-1].t)...)
	}
	flo, fhi := extremes(from)
	k.within(lo-fhi, hi-flo, got, ts)
}

// widest is the greatest range of a point in the evaluated range.
func (k check) widest(ts int64) (w float64) {
	for t := ts - k.c.Range + 1; t <= ts; t += fine {
		lo, hi := extremes(k.window(t))
		w = max(w, hi-lo)
	}
	return w
}

// variances bounds the variance of the range's samples by what points know of them.
func (k check) variances(ts int64) (lo, hi float64) {
	r := int64(k.resolution()) * 1000
	var n, sum float64
	in := alive(k.s.raw, ts-k.c.Range, ts)
	for _, p := range in {
		n, sum = n+1, sum+p.v
	}
	for t := ts - k.c.Range + r; t <= ts; t += r {
		in := alive(k.s.raw, t-r, t)
		if len(in) == 0 {
			continue
		}
		m, total := float64(len(in)), 0.0
		for _, p := range in {
			total += p.v
		}
		a, d := total/m, total/m-sum/n
		least, most := extremes(in)
		lo += m * d * d
		hi += m * (d*d + (most-a)*(a-least))
	}
	return lo / n, hi / n
}
