package query

import (
	"context"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/rollup"
)

func testEngine(t testing.TB) *promql.Engine {
	t.Helper()
	return promql.NewEngine(promql.EngineOpts{
		MaxSamples: 50_000_000, Timeout: time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return subqueryStep.Milliseconds() },
		EnableAtModifier:         true, EnableNegativeOffset: true,
		Parser: parser.NewParser(parser.Options{ExperimentalDurationExpr: true}),
	})
}

func testResolver(engine promql.QueryEngine, tiers Tiers) *resolver {
	return &resolver{
		QueryEngine: engine, tiers: tiers, timeout: time.Minute, maxSamples: 50_000_000,
		metrics: newRollupMetrics(prometheus.NewRegistry()),
	}
}

// moment is how a query is asked: at one time if step is 0.
type moment struct {
	name       string
	start, end int64
	step       time.Duration
	aligned    int64 // coarsest windows that all its times are ends of
}

func (m moment) ask(t testing.TB, e promql.QueryEngine, s storage.Queryable, text string) *promql.Result {
	t.Helper()
	start, end := time.UnixMilli(m.start), time.UnixMilli(m.end)
	var q promql.Query
	var err error
	if m.step == 0 {
		q, err = e.NewInstantQuery(context.Background(), s, nil, text, start)
	} else {
		q, err = e.NewRangeQuery(context.Background(), s, nil, text, start, end, m.step)
	}
	require.NoError(t, err, text)
	require.Equal(t, text, q.String())
	return q.Exec(context.Background())
}

// point is one value of an answer.
type point struct {
	f float64
	h *histogram.FloatHistogram
}

// answerOf is an answer as a map from series to time to value.
func answerOf(t testing.TB, v parser.Value) map[string]map[int64]point {
	t.Helper()
	out := map[string]map[int64]point{}
	put := func(series string, ts int64, f float64, h *histogram.FloatHistogram) {
		if out[series] == nil {
			out[series] = map[int64]point{}
		}
		out[series][ts] = point{f, h}
	}
	switch v := v.(type) {
	case promql.Matrix:
		for _, s := range v {
			for _, p := range s.Floats {
				put(s.Metric.String(), p.T, p.F, nil)
			}
			for _, p := range s.Histograms {
				put(s.Metric.String(), p.T, 0, p.H)
			}
		}
	case promql.Vector:
		for _, s := range v {
			put(s.Metric.String(), s.T, s.F, s.H)
		}
	case promql.Scalar:
		put("scalar", v.T, v.V, nil)
	default:
		t.Fatalf("answer is a %T", v)
	}
	return out
}

// apart is how far got is from want, as a part of it or of scale.
func apart(want, got point, scale float64) float64 {
	if (want.h == nil) != (got.h == nil) {
		return math.Inf(1)
	}
	if want.h != nil {
		return max(apart(point{f: want.h.Count}, point{f: got.h.Count}, scale), apart(point{f: want.h.Sum}, point{f: got.h.Sum}, scale))
	}
	switch {
	case math.IsNaN(want.f) && math.IsNaN(got.f), want.f == got.f:
		return 0
	case math.IsNaN(want.f) || math.IsNaN(got.f) || math.IsInf(want.f, 0) || math.IsInf(got.f, 0):
		return math.Inf(1)
	}
	return math.Abs(want.f-got.f) / max(math.Abs(want.f), scale)
}

func scaleOf(values map[int64]point) float64 {
	var sum float64
	for _, v := range values {
		if v.h != nil {
			sum += v.h.Count / float64(len(values))
		} else if !math.IsNaN(v.f) && !math.IsInf(v.f, 0) {
			sum += math.Abs(v.f) / float64(len(values))
		}
	}
	return sum
}

// compare returns the greatest distance, and what is missing or too much.
func compare(want, got map[string]map[int64]point) (worst float64, at string, missing, extra []string) {
	for _, series := range slices.Sorted(maps.Keys(want)) {
		scale := scaleOf(want[series])
		for _, ts := range slices.Sorted(maps.Keys(want[series])) {
			g, ok := got[series][ts]
			if !ok {
				missing = append(missing, fmt.Sprintf("%s at %s", series, time.UnixMilli(ts).UTC()))
				continue
			}
			if d := apart(want[series][ts], g, scale); d > worst {
				worst, at = d, fmt.Sprintf("%s at %s: want %v %v, got %v %v", series, time.UnixMilli(ts).UTC(), want[series][ts].f, want[series][ts].h, g.f, g.h)
			}
		}
	}
	for series, values := range got {
		for ts := range values {
			if _, ok := want[series][ts]; !ok {
				extra = append(extra, fmt.Sprintf("%s at %s", series, time.UnixMilli(ts).UTC()))
			}
		}
	}
	slices.Sort(extra)
	return worst, at, missing, extra
}

type expression struct {
	fine, coarse string
	text         string
}

func (e expression) bound(coarse bool) float64 {
	b := e.fine
	if coarse {
		b = e.coarse
	}
	switch b {
	case "=":
		return 1e-9 // rounding: sums of a window are added up in another order
	case "-":
		return math.Inf(1)
	}
	v, err := strconv.ParseFloat(b, 64)
	if err != nil {
		panic(err)
	}
	return v
}

func expressions(t testing.TB) (es []expression) {
	t.Helper()
	text, err := os.ReadFile("testdata/rollups.txt")
	require.NoError(t, err)
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		f := strings.SplitN(line, "\t", 3)
		require.Len(t, f, 3, line)
		es = append(es, expression{f[0], f[1], f[2]})
	}
	return es
}

func held(resolution, from, until int64) rollup.Holding {
	return rollup.Holding{Resolution: resolution, Held: []rollup.Interval{{MinT: from, MaxT: until}}}
}

// TestRollupsAgainstSamples asks rollups and samples the same and compares.
func TestRollupsAgainstSamples(t *testing.T) {
	const (
		fine, hour = 5 * msMinute, msHour
		rolled     = historyEnd - 2*msHour
		forever    = math.MaxInt64
	)
	db := history(t)
	tiers := newMemTiers(t, db, historyStart, rolled+blockMillis)
	engine := testEngine(t)
	moments := []moment{
		{"aligned range", historyStart + 24*msHour, historyEnd - 6*msHour, time.Hour, msHour},
		{"dense range", historyEnd - 20*msHour, historyEnd - 14*msHour, 5 * time.Minute, 5 * msMinute},
		{"range between windows", historyStart + 24*msHour + 433_000, historyEnd - 6*msHour, 97 * time.Minute, 0},
		{"instant", historyEnd - 7*msHour + 127_000, 0, 0, 0},
	}
	holdings := []struct {
		name   string
		coarse bool
		held   []rollup.Holding
	}{
		{"raw", false, []rollup.Holding{held(rollup.Raw, 0, forever)}},
		{"5m", false, []rollup.Holding{held(rollup.Raw, rolled, forever), held(fine, historyStart, rolled-1)}},
		{"1h", true, []rollup.Holding{held(rollup.Raw, rolled, forever), held(hour, historyStart, rolled-1)}},
		{"mixed", true, []rollup.Holding{
			held(rollup.Raw, historyStart+70*msHour, forever),
			held(fine, historyStart+48*msHour, rolled-1), held(hour, historyStart, rolled-1),
		}},
	}
	es := expressions(t)
	require.GreaterOrEqual(t, len(es), 200)
	for _, m := range moments {
		for _, e := range es {
			raw := m.ask(t, engine, db, e.text)
			require.NoError(t, raw.Err, e.text)
			want := answerOf(t, raw.Value)
			for _, h := range holdings {
				tiers.held = h.held
				res := m.ask(t, testResolver(engine, tiers), tiers, e.text)
				name := fmt.Sprintf("%s from %s, %s", e.text, h.name, m.name)
				if !assertNoError(t, name, res.Err) {
					continue
				}
				far, at, missing, extra := compare(want, answerOf(t, res.Value))
				bound := e.bound(h.coarse)
				switch {
				case h.name == "raw":
					bound = 0
				case m.aligned == 0, m.aligned < msHour && (h.coarse || bound > 1e-9):
					bound = math.Inf(1) // but there must be a value
				}
				if len(missing) > 0 {
					t.Errorf("%s: %d values are missing, first %s", name, len(missing), missing[0])
				}
				if len(extra) > 0 && bound <= 1e-9 {
					t.Errorf("%s: %d values too many, first %s", name, len(extra), extra[0])
				}
				if far > bound {
					t.Errorf("%s: %g apart, want at most %g: %s", name, far, bound, at)
				}
				if tiers.opened != 0 {
					t.Fatalf("%s: %d sets left open", name, tiers.opened)
				}
			}
		}
	}
}

func assertNoError(t *testing.T, name string, err error) bool {
	if err != nil {
		t.Errorf("%s: %v", name, err)
	}
	return err == nil
}
