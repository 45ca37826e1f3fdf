package rangefn

import (
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/rollup"
)

// every makes samples of a function of the seconds since origin, 15 s apart.
func every(hours int64, v func(seconds float64) float64) []sample {
	return paced(hours, 7*second, 15*second, v)
}

func paced(hours, first, pace int64, v func(seconds float64) float64) (out []sample) {
	for t := first; t < hours*hour; t += pace {
		out = append(out, sample{t: origin + t, v: v(float64(t) / 1000)})
	}
	return out
}

// TestStraightLine asks for what the engine's answers over a steady series are
// known without the engine: they are the same whatever is read, also just after
// blocks end, where a point of one sample may stand alone.
func TestStraightLine(t *testing.T) {
	s := roll(t, every(12, func(x float64) float64 { return 2*x + 100 }))
	for name, spans := range readings(12) {
		for _, c := range []struct {
			fn       string
			params   []float64
			want     func(seconds float64) float64
			accuracy float64
		}{
			// A point may have one sample more or less than its width says.
			{"irate", nil, func(float64) float64 { return 2 }, 0.11},
			{"idelta", nil, func(float64) float64 { return 30 }, 1e-6},
			{"rate", nil, func(float64) float64 { return 2 }, 1e-6},
			{"increase", nil, func(float64) float64 { return 7200 }, 1e-6},
			{"delta", nil, func(float64) float64 { return 7200 }, 1e-6},
			{"deriv", nil, func(float64) float64 { return 2 }, 1e-3},
			// The middle of a point is half a pace off that of its samples.
			{"predict_linear", []float64{600}, func(x float64) float64 { return 2*(x+600) + 100 }, 2*7.5 + 1},
			{"last_over_time", nil, func(x float64) float64 { return 2*(x-8) + 100 }, 1e-6},
			{"first_over_time", nil, func(x float64) float64 { return 2*(x-3600+7) + 100 }, 1e-6},
			{"", nil, func(x float64) float64 { return 2*(x-8) + 100 }, 1e-6},
			{"resets", nil, func(float64) float64 { return 0 }, 0},
		} {
			need, _, _, _ := Describe(c.fn)
			cols := s.columns(t, need, spans)
			got := evalCall(t, Call{c.fn, c.params, hour}, cols, Grid{origin + 2*hour, origin + 12*hour, hour})
			require.Len(t, got, 11)
			for ts, p := range got {
				require.InDelta(t, c.want(float64(ts-origin)/1000), p.v, c.accuracy, "%s of %s at %d", c.fn, name, ts)
			}
		}
	}
}

// TestAloneAtABlocksEnd has a sample on each edge of a window: of the last window of
// a block it is in the next block, and there a point of its own.
func TestAloneAtABlocksEnd(t *testing.T) {
	s := roll(t, paced(12, 0, 15*second, func(x float64) float64 { return 2 * x }))
	for name, spans := range readings(12) {
		for fn, want := range map[string]float64{"irate": 2, "idelta": 30, "rate": 2, "delta": 7200, "deriv": 2} {
			need, _, _, _ := Describe(fn)
			got := evalCall(t, Call{fn, nil, hour}, s.columns(t, need, spans), Grid{origin + hour, origin + 11*hour, hour})
			require.Len(t, got, 11)
			for ts, p := range got {
				require.InDelta(t, want, p.v, 1e-2, "%s of %s at %d", fn, name, ts)
			}
		}
	}
}

// TestFewSamplesAreExact has at most three samples a point, whose least, greatest
// and sum are all there is to know.
func TestFewSamplesAreExact(t *testing.T) {
	raw := paced(8, 7*second, 110*second, func(x float64) float64 { return math.Sin(x) * x })
	s, e := roll(t, raw), newEngine(t, raw)
	g := Grid{origin + hour, origin + 8*hour, hour}
	cols := s.columns(t, needEverything, readings(8)["5m"])
	for _, c := range calls(2 * hour) {
		switch c.Func {
		case "quantile_over_time", "mad_over_time", "stddev_over_time", "stdvar_over_time":
			want, got := e.eval(t, c, g), evalCall(t, c, cols, g)
			require.Len(t, got, len(want))
			for ts, w := range want {
				if w.v != got[ts].v {
					require.InEpsilon(t, w.v, got[ts].v, 1e-9, "%s at %d", expr(c), ts)
				}
			}
		}
	}
}

func TestRisesAddUp(t *testing.T) {
	// Ranges side by side, and not aligned with anything, must have it all once.
	r := every(12, func(x float64) float64 { return math.Mod(3*math.Floor(x/15), 500) })
	s := roll(t, r)
	want := 0.0
	for i := range r[1:] {
		want += risen(r[i].v, r[i+1].v)
	}
	for name, spans := range readings(12) {
		for _, step := range []int64{hour, 12 * minute, 3 * hour, 7 * hour, 67*minute + 123} {
			got := evalCall(t, Call{"increase", nil, step}, s.columns(t, rollup.NeedInc, spans), Grid{origin + step, origin + 12*hour + step, step})
			total := 0.0
			for _, p := range got {
				total += p.v
			}
			require.InDelta(t, want, total, 1e-6, "%s, step %d", name, step)
		}
	}
}

func TestAHoleDoesNotCountAsABurst(t *testing.T) {
	var s []sample
	for _, p := range every(12, func(x float64) float64 { return x }) {
		if p.t < origin+3*hour || p.t > origin+9*hour+2*minute {
			s = append(s, p)
		}
	}
	for name, spans := range readings(12) {
		for _, p := range evalCall(t, Call{"rate", nil, hour}, roll(t, s).columns(t, rollup.NeedInc, spans), Grid{origin + 2*hour, origin + 12*hour, hour}) {
			require.InDelta(t, 1, p.v, 0.1, name)
		}
		// In a range longer than the hole, all of the rise is there.
		got := evalCall(t, Call{"increase", nil, 8 * hour}, roll(t, s).columns(t, rollup.NeedInc, spans), Grid{origin + 10*hour, 0, 0})
		require.InDelta(t, float64(8*hour/1000), got[origin+10*hour].v, 20, name)
	}
}

func TestPlainSelectorEndsWithTheSeries(t *testing.T) {
	stale := math.Float64frombits(value.StaleNaN)
	var s []sample
	for _, p := range every(6, func(x float64) float64 { return 5 }) {
		switch {
		case p.t < origin+3*hour-22*minute:
			s = append(s, p)
		case s[len(s)-1].v == 5 && p.t < origin+3*hour:
			s = append(s, sample{t: p.t, v: stale})
		case p.t > origin+5*hour:
			s = append(s, p)
		}
	}
	for name, spans := range readings(6) {
		cols := roll(t, s).columns(t, rollup.NeedLast, spans)
		lookback := fine
		if name == "1h" || name == "mixed" {
			lookback = hour
		}
		got := evalCall(t, Call{"", nil, lookback}, cols, Grid{origin + hour, origin + 6*hour, hour})
		require.Len(t, got, 3, name) // hours 1, 2 and 6
		require.NotContains(t, got, origin+3*hour, name)
		at := origin + 3*hour - 20*minute
		// By a point it is known at the end of the window, if not to which sample.
		require.Equal(t, name == "1h", len(evalCall(t, Call{"", nil, lookback}, cols, Grid{at, at, 0})) == 1, name)
	}
}

// TestPlainSelectorAroundTheMarker lets a series go at each second around the edges of
// windows: until its marker it is seen wherever the engine sees it, and soon after the
// marker it is not.
func TestPlainSelectorAroundTheMarker(t *testing.T) {
	const pace = 15 * second
	for last := int64(0); last < 20*minute; last += second {
		var s []sample
		end := origin + hour + last
		for at := origin + 7*second + (last-7*second)%pace; at <= end; at += pace {
			s = append(s, sample{t: at, v: 5})
		}
		end = s[len(s)-1].t
		s = append(s, sample{t: end + pace, v: math.Float64frombits(value.StaleNaN)})
		if end%fine == 0 {
			continue // on the edge: nothing tells that it went
		}
		cols := roll(t, s).columns(t, rollup.NeedLast, []rollup.Span{{After: origin - 1, Until: origin + 4*hour, Resolution: fine}})
		edge := (end + fine - 1) / fine * fine
		for at := (end - 2*fine) / (5 * second) * 5 * second; at <= end+2*fine; at += 5 * second {
			n := len(evalCall(t, Call{"", nil, fine}, cols, Grid{at, at, 0}))
			switch {
			case at < end+pace:
				require.Equal(t, 1, n, "last sample at %d, asked at %d", end-origin, at-origin)
			case at >= max(end+2*pace, edge):
				require.Zero(t, n, "last sample at %d, asked at %d", end-origin, at-origin)
			}
		}
	}
}

// TestSumsAreThoseOfTheEngine has sums that depend on the order of samples, over ranges
// that are evaluated alone and such that are rolled on.
func TestSumsAreThoseOfTheEngine(t *testing.T) {
	s := every(24, func(x float64) float64 {
		switch int64(x) % 3600 {
		case 22:
			return 1e16
		case 3007:
			return -1e16
		}
		return 0.1
	})
	e, rolled := newEngine(t, s), roll(t, s)
	for _, r := range []int64{hour, 10 * hour} {
		for _, fn := range []string{"sum_over_time", "avg_over_time"} {
			c, g := Call{fn, nil, r}, Grid{origin + 10*hour, origin + 24*hour, hour}
			want := e.eval(t, c, g)
			require.NotEmpty(t, want)
			got := evalCall(t, c, rolled.columns(t, rollup.NeedSum|rollup.NeedCount, readings(24)["1h"]), g)
			for at, w := range want {
				require.InEpsilon(t, w.v, got[at].v, 1e-12, "%s over %d ms at %d", fn, r, at)
			}
		}
	}
}

func TestEvalRefusesBadCalls(t *testing.T) {
	for _, c := range []struct {
		call Call
		grid Grid
		want string
	}{
		{Call{Func: "sort", Range: 1}, Grid{}, `"sort" is no function of a range vector`},
		{Call{Func: "rate"}, Grid{}, "range is 0 ms"},
		{Call{Func: "rate", Range: 1, Params: []float64{1}}, Grid{}, "got 1 parameters, want 0"},
		{Call{Func: "quantile_over_time", Range: 1}, Grid{}, "got 0 parameters, want 1"},
		{Call{Func: "rate", Range: 1}, Grid{Step: -1}, "step is -1 ms"},
		{Call{Func: "double_exponential_smoothing", Range: 1, Params: []float64{0.1, 1}}, Grid{}, "trend factor is 1"},
		{Call{Func: "double_exponential_smoothing", Range: 1, Params: []float64{math.NaN(), 0.5}}, Grid{}, "smoothing factor is NaN"},
	} {
		require.ErrorContains(t, c.call.Eval(&rollup.Columns{}, c.grid, &Result{}), c.want)
	}
}

func TestDescribe(t *testing.T) {
	for _, c := range calls(hour) {
		need, kind, bound, ok := Describe(c.Func)
		require.True(t, ok, c.Func)
		require.NotEmpty(t, bound, c.Func)
		require.Contains(t, []string{"exact", "estimated"}, kind.String())
		require.Equal(t, kind == Exact, map[string]bool{
			"rate": true, "increase": true, "count_over_time": true, "sum_over_time": true, "avg_over_time": true,
			"min_over_time": true, "max_over_time": true, "present_over_time": true, "absent_over_time": true,
		}[c.Func], c.Func)
		require.Less(t, need, rollup.NeedLast<<1)
	}
	_, _, _, ok := Describe("histogram_quantile")
	require.False(t, ok)
}

// hists is a native histogram that grows, and falls at the given samples.
func hists(hours int64, resets ...int) (out []sample) {
	h := &histogram.FloatHistogram{Schema: 1, ZeroThreshold: 0.001, PositiveSpans: []histogram.Span{{Offset: 0, Length: 3}}, PositiveBuckets: make([]float64, 3)}
	for i, s := range every(hours, func(float64) float64 { return 0 }) {
		for _, at := range resets {
			if at == i {
				h.Mul(0)
			}
		}
		h.ZeroCount++
		h.PositiveBuckets[i%3] += float64(i % 5)
		h.Sum += float64(i%5) * 1.5
		h.Count += 1 + float64(i%5)
		s.h = h.Copy()
		out = append(out, s)
	}
	return out
}

func TestHistogramsAgainstTheEngine(t *testing.T) {
	raw := hists(12, 1000, 1001, 2400)
	s, e := roll(t, raw), newEngine(t, raw)
	g := Grid{origin + hour, origin + 12*hour, hour}
	for _, r := range []int64{hour, 3 * hour} {
		for _, fn := range []string{
			"", "sum_over_time", "count_over_time", "avg_over_time", "last_over_time", "present_over_time",
			"first_over_time", "delta", "irate", "idelta", "rate", "increase", "resets", "changes",
			"min_over_time", "max_over_time", "stddev_over_time", "deriv",
		} {
			c := Call{Func: fn, Range: r}
			want := e.eval(t, c, g)
			for name, spans := range readings(12) {
				need, kind, _, _ := Describe(fn)
				got := evalCall(t, c, s.columns(t, need, spans), g)
				at := fn + " of " + name
				require.Len(t, got, len(want), at)
				for ts, w := range want {
					p, ok := got[ts]
					require.True(t, ok, at)
					require.Equal(t, w.h == nil, p.h == nil, at)
					switch {
					case fn == "resets":
						require.LessOrEqual(t, p.v, w.v, at)
						if ts == origin+5*hour {
							require.Positive(t, p.v, at)
						}
					case fn == "changes":
						require.LessOrEqual(t, p.v, w.v, at)
					case w.h == nil:
						require.Equal(t, w.v, p.v, at)
					case rises[fn] && fn != "delta":
						requireHistRise(t, raw, ts, c, p.h, at)
					case kind == Exact || fn == "" || fn == "last_over_time":
						requireSameHist(t, w.h, p.h, at)
					}
				}
			}
		}
	}
}

// requireHistRise wants the exact rise from the last sample before the range on.
func requireHistRise(t *testing.T, raw []sample, ts int64, c Call, got *histogram.FloatHistogram, at string) {
	t.Helper()
	want := raw[0].h.Copy().Mul(0)
	for i := range raw[1:] {
		a, b := raw[i], raw[i+1]
		if b.t <= ts-c.Range || b.t > ts {
			continue
		}
		d := b.h.Copy()
		if !b.h.DetectReset(a.h) {
			_, _, _, err := d.Sub(a.h)
			require.NoError(t, err)
		}
		_, _, _, err := want.Add(d)
		require.NoError(t, err)
	}
	if c.Func == "rate" {
		want.Div(float64(c.Range) / 1000)
	}
	requireSameHist(t, want, got, at)
}

func requireSameHist(t *testing.T, want, got *histogram.FloatHistogram, at string) {
	t.Helper()
	require.InEpsilon(t, 1+want.Count, 1+got.Count, 1e-9, at)
	require.InEpsilon(t, 1+want.Sum, 1+got.Sum, 1e-9, at)
	require.InEpsilon(t, 1+want.ZeroCount, 1+got.ZeroCount, 1e-9, at)
	w, g := want.Copy().Compact(0), got.Copy().Compact(0)
	require.Equal(t, w.PositiveSpans, g.PositiveSpans, at)
	require.InDeltaSlice(t, w.PositiveBuckets, g.PositiveBuckets, 1e-6, at)
}

func TestFloatsAndHistogramsTogether(t *testing.T) {
	raw := hists(8)
	for i := range raw {
		if at := raw[i].t - origin; at > 3*hour && at < 5*hour+30*minute {
			raw[i] = sample{t: raw[i].t, v: float64(i)}
		}
	}
	s, e := roll(t, raw), newEngine(t, raw)
	g := Grid{origin + hour, origin + 8*hour, hour}
	for _, fn := range []string{
		"", "sum_over_time", "count_over_time", "avg_over_time", "last_over_time", "rate", "increase",
		"min_over_time", "max_over_time", "quantile_over_time", "stddev_over_time", "mad_over_time",
	} {
		c := Call{Func: fn, Range: hour}
		if fn == "quantile_over_time" {
			c.Params = []float64{1}
		}
		want := e.eval(t, c, g)
		for _, reading := range []string{"5m", "1h", "raw", "mixed"} {
			need, kind, _, _ := Describe(fn)
			got := evalCall(t, c, s.columns(t, need, readings(8)[reading]), g)
			at := fn + " of " + reading
			require.Len(t, got, len(want), at)
			for ts, w := range want {
				p, ok := got[ts]
				require.True(t, ok, "%s at %d", at, ts)
				require.Equal(t, w.h == nil, p.h == nil, at)
				if w.h == nil && kind == Exact && !rises[fn] {
					require.InDelta(t, w.v, p.v, 1e-6, at)
				}
			}
		}
	}
}
