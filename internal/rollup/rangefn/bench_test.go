package rangefn

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/rollup"
)

const needEverything = rollup.NeedLast<<1 - 1

// quarter is 90 days of points of 5m.
func quarter() *rollup.Columns {
	const n = 90 * 24 * 12
	r := rand.New(rand.NewPCG(1, 2))
	var c rollup.Columns
	c.Reset(needEverything)
	for i := range int64(n) {
		v := r.Float64() * 100
		c.Start, c.End = append(c.Start, origin+i*fine), append(c.End, origin+(i+1)*fine)
		c.Count, c.Sum = append(c.Count, 20), append(c.Sum, 20*v)
		c.Min, c.Max = append(c.Min, v-1), append(c.Max, v+1)
		c.Inc, c.Last = append(c.Inc, v), append(c.Last, v)
		c.Ended, c.Gone = append(c.Ended, false), append(c.Gone, 0)
	}
	return &c
}

func TestEvalDoesNotAllocate(t *testing.T) {
	cols := quarter()
	for _, c := range calls(hour) {
		for _, r := range []int64{hour, 48 * hour} {
			c.Range = r
			g := Grid{origin + hour, origin + 5*24*hour, hour}
			var out Result
			require.NoError(t, c.Eval(cols, g, &out))
			require.Zero(t, testing.AllocsPerRun(2, func() {
				if err := c.Eval(cols, g, &out); err != nil {
					t.Fatal(err)
				}
			}), "%s over %d ms", c.Func, r)
		}
	}
}

// TestLongRangesAreFoldedRight compares the roller, which takes over when ranges
// are long and overlap, to ranges evaluated one by one.
func TestLongRangesAreFoldedRight(t *testing.T) {
	cols := quarter()
	for _, fn := range []string{"increase", "sum_over_time", "count_over_time", "avg_over_time", "min_over_time", "max_over_time"} {
		for _, g := range []Grid{{origin, origin + 20*24*hour, hour}, {origin + 12345, origin + 10*24*hour, 37 * minute}} {
			c := Call{Func: fn, Range: 30*hour + g.Start%fine}
			var all, one Result
			require.NoError(t, c.Eval(cols, g, &all))
			require.NotEmpty(t, all.T)
			for i, ts := range all.T {
				require.NoError(t, c.Eval(cols, Grid{ts, ts, 0}, &one))
				require.InEpsilon(t, one.V[0], all.V[i], 1e-12, "%s at %d", fn, ts)
			}
		}
	}
}

func BenchmarkEval(b *testing.B) {
	cols := quarter()
	for _, v := range []struct {
		name string
		call Call
		step int64
	}{
		{"rate 1h step 1h", Call{Func: "rate", Range: hour}, hour},
		{"rate 2h step 1h", Call{Func: "rate", Range: 2 * hour}, hour},
		{"rate 1d step 1h", Call{Func: "rate", Range: 24 * hour}, hour},
		{"rate 5m step 5m", Call{Func: "rate", Range: fine}, fine},
		{"max 1h step 1h", Call{Func: "max_over_time", Range: hour}, hour},
		{"avg 1h step 1h", Call{Func: "avg_over_time", Range: hour}, hour},
		{"max 30d step 1h", Call{Func: "max_over_time", Range: 30 * 24 * hour}, hour},
		{"plain step 1h", Call{Func: "", Range: hour}, hour},
		{"quantile 1h step 1h", Call{Func: "quantile_over_time", Params: []float64{0.9}, Range: hour}, hour},
		{"deriv 1h step 1h", Call{Func: "deriv", Range: hour}, hour},
	} {
		b.Run(v.name, func(b *testing.B) {
			var out Result
			g := Grid{origin + hour, origin + 90*24*hour, v.step}
			b.ReportAllocs()
			for b.Loop() {
				if err := v.call.Eval(cols, g, &out); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(cols.End)), "ns/point")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(out.T)), "ns/step")
		})
	}
}
