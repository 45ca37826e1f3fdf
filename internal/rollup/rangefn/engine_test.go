package rangefn

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/rollup"
)

const (
	second = int64(1000)
	minute = 60 * second
	hour   = 60 * minute
	fine   = 5 * minute
)

// sample is a raw sample, of a histogram if h is set.
type sample struct {
	t int64
	v float64
	h *histogram.FloatHistogram
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.v }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return s.h }
func (s sample) Copy() chunks.Sample           { return s }
func (s sample) Type() chunkenc.ValueType {
	if s.h != nil {
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

func (s sample) stale() bool {
	return s.h == nil && value.IsStaleNaN(s.v) || s.h != nil && value.IsStaleNaN(s.h.Sum)
}

// iter reads samples as a storage does.
func iter(s []sample) chunkenc.Iterator {
	list := make([]chunks.Sample, len(s))
	for i := range s {
		list[i] = s[i]
	}
	return storage.NewListSeries(labels.EmptyLabels(), list).Iterator(nil)
}

// rolled is a series and its two rungs.
type rolled struct {
	raw    []sample
	chunks [2][]rollup.AggrChunk
}

// roll rolls a series up in blocks of two hours, less those borders that merge
// says are gone.
func roll(t testing.TB, s []sample) rolled {
	out := rolled{raw: s}
	f, err := rollup.NewFolder([]int64{fine, hour}, func(rung int, _, _ int64, c rollup.AggrChunk) error {
		out.chunks[rung] = append(out.chunks[rung], slices.Clone(c))
		return nil
	})
	require.NoError(t, err)
	for i := 0; i < len(s); {
		mint := s[i].t / (2 * hour) * 2 * hour
		n := i
		for n < len(s) && s[n].t < mint+2*hour {
			n++
		}
		f.Begin(mint, mint+2*hour, 3)
		for ; i < n; i++ {
			var c chunkenc.Chunk = chunkenc.NewXORChunk()
			if s[i].h != nil {
				c = chunkenc.NewFloatHistogramChunk()
			}
			app, err := c.Appender()
			require.NoError(t, err)
			if s[i].h == nil {
				for ; i < n && s[i].h == nil; i++ {
					app.Append(0, s[i].t, s[i].v)
				}
				i--
			} else {
				fresh, _, _, err := app.AppendFloatHistogram(nil, 0, s[i].t, s[i].h.Copy(), false)
				require.NoError(t, err)
				if fresh != nil {
					c = fresh
				}
			}
			require.NoError(t, f.Fold(c.Encoding(), c.Bytes(), nil))
		}
		require.NoError(t, f.End())
	}
	return out
}

// columns reads spans.
func (r rolled) columns(t testing.TB, need rollup.Need, spans []rollup.Span) *rollup.Columns {
	var c rollup.Columns
	c.Reset(need)
	for _, s := range spans {
		switch s.Resolution {
		case rollup.Raw:
			require.NoError(t, c.AppendRaw(iter(r.raw), s.After, s.Until))
			continue
		}
		for _, chunk := range r.chunks[map[int64]int{fine: 0, hour: 1}[s.Resolution]] {
			require.NoError(t, c.AppendAggr(chunk, s.Resolution, s.After, s.Until))
		}
	}
	return &c
}

// engine asks the real engine about one series.
type engine struct {
	*promql.Engine
	store storage.Queryable
}

func newEngine(t testing.TB, s []sample) engine {
	e := promql.NewEngine(promql.EngineOpts{
		Logger: slog.New(slog.DiscardHandler), MaxSamples: 1e8, Timeout: time.Minute, LookbackDelta: 5 * time.Minute,
		Parser: parser.NewParser(parser.Options{EnableExperimentalFunctions: true}),
	})
	t.Cleanup(func() { _ = e.Close() })
	list := make([]chunks.Sample, len(s))
	for i := range s {
		list[i] = s[i]
	}
	series := storage.NewListSeries(labels.FromStrings("__name__", "x"), list)
	return engine{e, &storage.MockQueryable{MockQuerier: &storage.MockQuerier{
		SelectMockFunction: func(bool, *storage.SelectHints, ...*labels.Matcher) storage.SeriesSet {
			return &oneSeries{series: series}
		},
	}}}
}

type oneSeries struct {
	series storage.Series
	done   bool
}

func (s *oneSeries) Next() bool                      { d := s.done; s.done = true; return !d }
func (s *oneSeries) At() storage.Series              { return s.series }
func (*oneSeries) Err() error                        { return nil }
func (*oneSeries) Warnings() annotations.Annotations { return nil }

// expr writes a call the way PromQL does.
func expr(c Call) string {
	r := fmt.Sprintf("x[%dms]", c.Range)
	switch c.Func {
	case "":
		return "x"
	case "quantile_over_time":
		return fmt.Sprintf("quantile_over_time(%g, %s)", c.Params[0], r)
	case "predict_linear":
		return fmt.Sprintf("predict_linear(%s, %g)", r, c.Params[0])
	case "double_exponential_smoothing":
		return fmt.Sprintf("double_exponential_smoothing(%s, %g, %g)", r, c.Params[0], c.Params[1])
	case "absent_over_time":
		return fmt.Sprintf("present_over_time(%s)", r)
	}
	return fmt.Sprintf("%s(%s)", c.Func, r)
}

// point is a value at a time.
type point struct {
	v float64
	h *histogram.FloatHistogram
}

func (e engine) eval(t testing.TB, c Call, g Grid) map[int64]point {
	t.Helper()
	q, err := e.NewRangeQuery(context.Background(), e.store, nil, expr(c),
		time.UnixMilli(g.Start), time.UnixMilli(g.End), time.Duration(g.Step)*time.Millisecond)
	require.NoError(t, err)
	defer q.Close()
	m, err := q.Exec(context.Background()).Matrix()
	require.NoError(t, err, expr(c))
	out := map[int64]point{}
	for _, s := range m {
		for _, p := range s.Floats {
			out[p.T] = point{v: p.F}
		}
		for _, p := range s.Histograms {
			out[p.T] = point{h: p.H.Copy()}
		}
	}
	return out
}

func evalCall(t testing.TB, c Call, cols *rollup.Columns, g Grid) map[int64]point {
	t.Helper()
	var r Result
	require.NoError(t, c.Eval(cols, g, &r))
	out := map[int64]point{}
	for i, at := range r.T {
		p := point{v: r.V[i]}
		if len(r.H) > 0 {
			p.h = r.H[i]
		}
		out[at] = p
	}
	require.Len(t, out, len(r.T))
	return out
}

// walk makes a series; the fields are chances a sample.
type walk struct {
	name                  string
	gauge                 bool
	reset, gap, stale, na float64
}

var walks = []walk{
	{name: "counter"},
	{name: "counter with resets", reset: 0.01},
	{name: "counter with gaps", reset: 0.01, gap: 0.02},
	{name: "counter with all", reset: 0.02, gap: 0.01, stale: 0.01},
	{name: "gauge", gauge: true},
	{name: "gauge with all", gauge: true, gap: 0.01, stale: 0.005, na: 0.01},
	{name: "sparse", gap: 0.6, reset: 0.02},
	{name: "steps", gauge: true, gap: 0.01},
}

const origin = 472_222 * hour // of the tests' time

func (w walk) series(r *rand.Rand, hours int64) (out []sample) {
	v := float64(r.IntN(1000))
	phase := r.Int64N(15 * second)
	for t := origin + phase; t < origin+hours*hour; t += 15 * second {
		switch p := r.Float64(); {
		case p < w.stale:
			out = append(out, sample{t: t, v: math.Float64frombits(value.StaleNaN)})
			t += r.Int64N(hour/15000) * 15000
			continue
		case p < w.stale+w.gap:
			t += r.Int64N(20*minute/15000) * 15000
		case p < w.stale+w.gap+w.reset:
			v = 0
		}
		switch {
		case w.name == "steps":
			if r.IntN(30) == 0 {
				v = float64(r.IntN(5))
			}
		case w.gauge:
			v += r.NormFloat64()
		default:
			v += math.Floor(r.ExpFloat64() * 10)
		}
		s := sample{t: t + r.Int64N(20), v: v}
		if r.Float64() < w.na {
			s.v = math.NaN()
		}
		out = append(out, s)
	}
	return out
}

// alive returns the samples in (after, until], stale markers left out.
func alive(s []sample, after, until int64) (out []sample) {
	i, _ := slices.BinarySearchFunc(s, after+1, func(s sample, t int64) int { return int(s.t - t) })
	for ; i < len(s) && s[i].t <= until; i++ {
		if !s[i].stale() {
			out = append(out, s[i])
		}
	}
	return out
}

// readings are the ways to read a series of some hours.
func readings(hours int64) map[string][]rollup.Span {
	a, b, end := origin+hours/3*hour, origin+hours*2/3*hour, origin+hours*hour
	return map[string][]rollup.Span{
		"5m":    {{After: origin - 1, Until: end, Resolution: fine}},
		"1h":    {{After: origin - 1, Until: end, Resolution: hour}},
		"raw":   {{After: origin - 1, Until: end, Resolution: rollup.Raw}},
		"mixed": {{After: origin - 1, Until: a, Resolution: hour}, {After: a, Until: b, Resolution: fine}, {After: b, Until: end, Resolution: rollup.Raw}},
	}
}

func calls(r int64) []Call {
	out := []Call{
		{Func: ""},
		{Func: "quantile_over_time", Params: []float64{0}},
		{Func: "quantile_over_time", Params: []float64{0.3}},
		{Func: "quantile_over_time", Params: []float64{0.99}},
		{Func: "quantile_over_time", Params: []float64{1}},
		{Func: "quantile_over_time", Params: []float64{-1}},
		{Func: "predict_linear", Params: []float64{3600}},
		{Func: "double_exponential_smoothing", Params: []float64{0.4, 0.3}},
	}
	for _, fn := range []string{
		"rate", "increase", "irate", "idelta", "delta", "resets", "changes", "deriv",
		"avg_over_time", "min_over_time", "max_over_time", "sum_over_time", "count_over_time",
		"stddev_over_time", "stdvar_over_time", "last_over_time", "first_over_time", "present_over_time",
		"absent_over_time", "mad_over_time", "ts_of_first_over_time", "ts_of_last_over_time",
		"ts_of_max_over_time", "ts_of_min_over_time",
	} {
		out = append(out, Call{Func: fn})
	}
	for i := range out {
		out[i].Range = r
		if out[i].Func == "" {
			out[i].Range = fine
		}
	}
	return out
}

// TestEveryFunctionAgainstTheEngine asks the engine over samples and Eval over each
// reading the same, on grids that are aligned and grids that are not. No answer may
// be missing; each must be equal, or within the bound of its function.
func TestEveryFunctionAgainstTheEngine(t *testing.T) {
	const hours = 12
	for i, w := range walks {
		t.Run(w.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(uint64(i), 11))
			s := roll(t, w.series(r, hours))
			e := newEngine(t, s.raw)
			for _, g := range []struct {
				name        string
				grid        Grid
				r           int64
				fine, large bool // aligned with 5m, 1h
			}{
				{"aligned with 1h", Grid{origin + hour, origin + hours*hour, hour}, hour, true, true},
				{"two hours each hour", Grid{origin + hour, origin + hours*hour, hour}, 2 * hour, true, true},
				{"five hours each hour", Grid{origin + hour, origin + hours*hour, hour}, 5 * hour, true, true},
				{"aligned with 5m", Grid{origin + hour, origin + hours*hour, fine}, fine, true, false},
				{"long and aligned with 5m", Grid{origin + hour, origin + hours*hour, 2 * fine}, 3 * hour, true, false},
				{"not aligned", Grid{origin + hour + 7123, origin + hours*hour, 431 * second}, 47*minute + 17, false, false},
			} {
				for _, asked := range calls(g.r) {
					want := e.eval(t, asked, g.grid)
					for name, spans := range readings(hours) {
						c, coarse := asked, name == "1h" || name == "mixed"
						if coarse && (!g.large || c.Func == "") {
							c.Range = max(c.Range, hour) // widened, as a caller does
						}
						need, _, _, ok := Describe(c.Func)
						require.True(t, ok)
						got := evalCall(t, c, s.columns(t, need, spans), g.grid)
						at := fmt.Sprintf("%s, %s, %s", g.name, name, expr(asked))
						for ts := range want {
							if _, ok := got[ts]; !ok {
								t.Fatalf("%s: nothing at %d", at, ts)
							}
						}
						if g.large || g.fine && name == "5m" || name == "raw" {
							check{t, w, s, asked, name, at}.against(want, got)
						}
					}
				}
			}
		})
	}
}
