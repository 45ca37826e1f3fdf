package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/rollup"
)

// TestSuiteOfPrometheus runs Prometheus' own acceptance tests through the resolver,
// which plans every query of them.
func TestSuiteOfPrometheus(t *testing.T) {
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	promqltest.RunBuiltinTests(t, testResolver(engine, samplesOnly{}))
}

// broken is tiers of which one method fails.
type broken struct {
	Tiers
	holdings, columns error
}

func (b broken) Holdings(ctx context.Context, mint, maxt int64, ms ...*labels.Matcher) ([]rollup.Holding, error) {
	if b.holdings != nil {
		return nil, b.holdings
	}
	return b.Tiers.Holdings(ctx, mint, maxt, ms...)
}

func (b broken) Columns(ctx context.Context, s rollup.Selection) (rollup.SeriesSet, error) {
	if b.columns != nil {
		return nil, b.columns
	}
	return b.Tiers.Columns(ctx, s)
}

// onlyHours holds nothing but hours, so that every selector is answered from them.
func onlyHours(t *testing.T) *memTiers {
	t.Helper()
	tiers := newMemTiers(t, history(t), historyStart, historyEnd)
	tiers.held = []rollup.Holding{held(rollup.Raw, historyEnd-msHour*2, math.MaxInt64), held(msHour, historyStart, historyEnd-2*msHour-1)}
	return tiers
}

func TestRolledAnswersAsTheEngine(t *testing.T) {
	tiers, engine := onlyHours(t), testEngine(t)
	at := moment{start: historyStart + 50*msHour}
	ask := func(r *resolver, text string) (notes []string, err error) {
		res := at.ask(t, r, tiers, text)
		warnings, infos := res.Warnings.AsStrings(text, 0, 0)
		require.Zero(t, tiers.opened, "series sets left open")
		return append(warnings, infos...), res.Err
	}
	original := func(text string) error { return at.ask(t, engine, tiers.db, text).Err }

	t.Run("annotations", func(t *testing.T) {
		for text, want := range map[string]string{
			"rate(temp[1h])":                       `PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "temp" (1:6)`,
			"quantile_over_time(2, temp[1h])":      `PromQL warning: quantile value should be between 0 and 1, got 2 (1:20)`,
			"rate(requests_total[6h])":             `PromQL info: rate(requests_total[6h]): 1h rollups; bound: The exact rise from the last sample at or before the range's start to the last in it, without extrapolation`,
			"deriv(temp[5m])":                      `PromQL info: deriv(temp[5m]): 1h rollups; looks back 1h where windows are wider than 5m; bound: The regression line through the points' means, each at the middle of its point and as heavy as it has samples`,
			"max_over_time(temp[12h] offset -44h)": `PromQL info: max_over_time(temp[12h] offset -1d20h): 1h rollups until 2025-01-04T22:00:00Z, raw after; bound: Exact on an aligned grid`,
		} {
			notes, err := ask(testResolver(engine, tiers), text)
			require.NoError(t, err)
			require.Contains(t, notes, want, text)
		}
	})
	t.Run("same labelset", func(t *testing.T) {
		const text = `max_over_time({__name__=~"temp|limit"}[1h])`
		_, err := ask(testResolver(engine, tiers), text)
		require.Error(t, original(text))
		require.Equal(t, original(text), err)
	})
	t.Run("too many samples", func(t *testing.T) {
		r := testResolver(engine, tiers)
		r.maxSamples = 11
		_, err := ask(r, "rate(requests_total[6h])") // 8 series
		require.NoError(t, err)
		_, err = ask(r, "rate(requests_total[6h]) + rate(requests_total[12h])")
		require.Equal(t, promql.ErrTooManySamples("query execution"), err)
	})
	t.Run("canceled", func(t *testing.T) {
		q, err := testResolver(engine, tiers).NewInstantQuery(t.Context(), tiers, nil, "rate(requests_total[6h])", time.UnixMilli(at.start))
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var canceled promql.ErrQueryCanceled
		require.ErrorAs(t, q.Exec(ctx).Err, &canceled)
	})
	t.Run("broken tiers", func(t *testing.T) {
		fault := errors.New("block is gone")
		_, err := ask(testResolver(engine, broken{tiers, fault, nil}), "temp")
		require.ErrorIs(t, err, fault)
		require.ErrorContains(t, err, "look up what is held of temp")
		_, err = ask(testResolver(engine, broken{tiers, nil, fault}), "temp")
		require.ErrorIs(t, err, fault)
	})
	t.Run("text", func(t *testing.T) {
		_, err := testResolver(engine, tiers).NewInstantQuery(t.Context(), tiers, nil, "rate(", time.Now())
		require.ErrorContains(t, err, "parse error")
		_, err = testResolver(engine, tiers).NewRangeQuery(t.Context(), tiers, nil, "x[5m]", time.Now(), time.Now(), time.Second)
		require.ErrorContains(t, err, "invalid expression type")
	})
}

func TestRollupDoors(t *testing.T) {
	tiers := onlyHours(t)
	reg := prometheus.NewRegistry()
	with := func(_ *Config, d *Deps) { d.Tiers, d.Storage, d.Registerer = tiers, tiers, reg }
	a := serve(t, database{tiers.db, prometheus.NewRegistry()}, with)
	span := fmt.Sprintf("&start=%d&end=%d&step=1h", historyStart/1000+24*3600, historyEnd/1000-24*3600)
	at := fmt.Sprintf("&time=%d", historyStart/1000+48*3600)

	t.Run("max_source_resolution", func(t *testing.T) {
		for _, bad := range []string{"x", "-5m", "1e99", "NaN"} {
			for _, p := range []string{"/query?query=temp", "/query_range?query=temp" + span, "/query/explain?query=temp"} {
				got := get(t, a.url, "/api/v1"+p+"&max_source_resolution="+bad)
				require.Equal(t, 400, got.Status)
				require.JSONEq(t, strings.Replace(`{"status":"error","errorType":"bad_data","error":"invalid parameter \"max_source_resolution\": got \"BAD\", want auto, 0s, or a duration such as 5m or 1h"}`, "BAD", bad, 1), got.Body)
			}
		}
		for _, good := range []string{"auto", "0s", "0", "5m", "3600", "1h", ""} {
			require.Equal(t, 200, get(t, a.url, "/api/v1/query_range?query=temp"+span+"&max_source_resolution="+good).Status)
		}
	})
	t.Run("stats and infos", func(t *testing.T) {
		var body struct {
			Infos []string
			Data  struct {
				Stats struct {
					Samples struct{ TotalQueryableSamples int }
					Rollups []SelectorReport
				}
			}
		}
		got := call{method: "POST", path: "/api/v1/query_range", form: "query=sum(rate(requests_total[1h]))+%2B+vector(1)&stats=all" + span}.to(t, a.url)
		require.Equal(t, 200, got.Status, got.Body)
		require.NoError(t, json.Unmarshal([]byte(got.Body), &body))
		require.Len(t, body.Infos, 1)
		require.Equal(t, 8*49, body.Data.Stats.Samples.TotalQueryableSamples)
		require.Len(t, body.Data.Stats.Rollups, 1)
		r := body.Data.Stats.Rollups[0]
		require.Equal(t, "rate(requests_total[1h])", r.Expr)
		require.True(t, r.Exact)
		require.Equal(t, []SpanReport{{"1h", float64(historyStart/1000 + 23*3600), float64(historyEnd/1000 - 24*3600)}}, r.Spans)
		require.Equal(t, 8, r.Read.Series)
		require.Equal(t, 8*50, r.Read.Points, "one window before the first, for its last sample")
		require.Zero(t, r.Read.Samples)
		require.Equal(t, 8*49, r.Read.Values)

		plain := get(t, a.url, fmt.Sprintf("/api/v1/query?query=temp&stats=all&time=%d", historyEnd/1000))
		require.NotContains(t, plain.Body, "rollups", "samples are held: nothing to tell")
		require.Contains(t, get(t, a.url, "/api/v1/query?query=temp&stats=odd"+at).Body, "is deprecated")
	})
	t.Run("metrics", func(t *testing.T) {
		a.queries.(*resolver).metrics.points.Add(0)
		n, err := testutil.GatherAndCount(reg, "weir_query_rollup_points_read_total", "weir_query_rollup_samples_read_total", "weir_query_rollup_read_bytes_total")
		require.NoError(t, err)
		require.Equal(t, 3, n)
		require.Greater(t, testutil.ToFloat64(a.queries.(*resolver).metrics.selectors.WithLabelValues("1h")), 0.0)
	})
	t.Run("not ready", func(t *testing.T) {
		a.ready.Store(false)
		defer a.ready.Store(true)
		require.Equal(t, 503, get(t, a.url, "/api/v1/query/explain?query=temp").Status)
	})
	t.Run("off", func(t *testing.T) {
		off := serve(t, database{tiers.db, prometheus.NewRegistry()}, func(c *Config, d *Deps) {
			with(c, d)
			d.Registerer, c.Rollups.Enabled = prometheus.NewRegistry(), false
		})
		got := get(t, off.url, "/api/v1/query_range?query=temp&stats=all"+span)
		require.Equal(t, 200, got.Status)
		require.NotContains(t, got.Body, "rollups")
		require.Contains(t, get(t, off.url, "/api/v1/query/explain?query=temp"+at).Body, `"rollups":false`)
	})
}

func TestExplain(t *testing.T) {
	tiers := onlyHours(t)
	a := serve(t, database{tiers.db, prometheus.NewRegistry()}, func(_ *Config, d *Deps) { d.Tiers, d.Storage = tiers, tiers })
	type envelope struct {
		Status, ErrorType, Error string
		Infos                    []string
		Data                     Explanation
	}
	explain := func(t *testing.T, status int, form url.Values) (e envelope) {
		t.Helper()
		got := call{method: "POST", path: "/api/v1/query/explain", form: form.Encode()}.to(t, a.url)
		require.Equal(t, got.Body, get(t, a.url, "/api/v1/query/explain?"+form.Encode()).Body[:len(got.Body)], "GET is as POST")
		require.Equal(t, status, got.Status, got.Body)
		require.Equal(t, "application/json", got.Header.Get("Content-Type"))
		require.NoError(t, json.Unmarshal([]byte(got.Body), &e))
		return e
	}
	form := func(kv ...string) url.Values {
		v := url.Values{}
		for i := 0; i < len(kv); i += 2 {
			v.Set(kv[i], kv[i+1])
		}
		return v
	}
	start, end := "2025-01-02T00:00:00Z", "2025-01-03T00:00:00Z"

	t.Run("tree", func(t *testing.T) {
		e := explain(t, 200, form("query", "sum by (job) (rate(requests_total[1h])) / on () group_left () (absent_over_time(nope[5m]) + 1)", "start", start, "end", end, "step", "3600"))
		require.Equal(t, strings.TrimSpace(`
/ on () group_left ()
  sum by (job)
    rate(requests_total[1h]): 1h
  +
    absent_over_time(nope[5m]): 1h`), strings.TrimSpace(outline(e.Data.Root, 0)))
		s := e.Data.Root.Children[0].Children[0].Selector
		require.Equal(t, "1h", s.Range)
		require.Equal(t, 3600.0, s.Step)
		require.Equal(t, s.First+24*3600, s.Last)
		require.Nil(t, s.Read)
		require.Len(t, s.Held, 2)
		require.Equal(t, "raw", s.Held[0].Resolution)
		require.Nil(t, s.Held[0].To)
		require.Nil(t, e.Data.Ran)
		require.Empty(t, e.Infos)
	})
	t.Run("analyze", func(t *testing.T) {
		v := form("query", "sum(rate(requests_total[1h]))", "start", start, "end", end, "step", "1h", "analyze", "1")
		var e envelope
		got := call{method: "POST", path: "/api/v1/query/explain", form: v.Encode()}.to(t, a.url)
		require.NoError(t, json.Unmarshal([]byte(got.Body), &e))
		require.Equal(t, 1, e.Data.Ran.Series)
		require.Equal(t, 25, e.Data.Ran.Samples)
		require.Len(t, e.Infos, 1)
		require.Equal(t, 8*26, e.Data.Root.Children[0].Selector.Read.Points)
	})
	t.Run("only samples", func(t *testing.T) {
		e := explain(t, 200, form("query", "quantile_over_time(scalar(limit), temp[5m])", "time", "2025-01-02T12:00:00Z"))
		require.Equal(t, "an argument of quantile_over_time changes from step to step", e.Data.Root.Selector.Why)
		require.False(t, e.Data.Root.Selector.Rollups)
		require.Equal(t, "limit", e.Data.Root.Children[0].Children[0].Expr)
		require.Nil(t, explain(t, 200, form("query", "1 + 1", "time", start)).Data.Root)
	})
	t.Run("mistakes", func(t *testing.T) {
		for want, v := range map[string]url.Values{
			`invalid parameter "query": 1:6: parse error: unclosed left parenthesis`:                           form("query", "rate(", "time", start),
			`invalid parameter "query": unknown position: parse error: no expression found in input`:           form("time", start),
			`invalid parameter "time": cannot parse "soon" to a valid timestamp`:                               form("query", "x", "time", "soon"),
			`invalid parameter "step": got -1, want more than 0s`:                                              form("query", "x", "start", start, "end", end, "step", "-1"),
			`invalid parameter "start": a range query has start, end and step; for an instant query give time`: form("query", "x", "start", start),
			`invalid parameter "end": end timestamp must not be before start time`:                             form("query", "x", "start", end, "end", start, "step", "60"),
			`exceeded maximum resolution of 11000 points per timeseries: make "step" longer`:                   form("query", "x", "start", start, "end", end, "step", "1"),
		} {
			e := explain(t, 400, v)
			require.Equal(t, "bad_data", e.ErrorType)
			require.Equal(t, want, e.Error)
		}
		got := call{path: "/api/v1/query/explain?analyze=1&query=temp*on()group_left()temp&time=" + start}.to(t, a.url)
		require.Equal(t, 422, got.Status)
		require.Contains(t, got.Body, `"errorType":"execution"`)
	})
}

// outline prints a tree of nodes, with the resolutions of selectors.
func outline(n *ExplanationNode, depth int) string {
	text := strings.Repeat("  ", depth) + n.Expr
	if n.Selector != nil {
		text += ":"
		for _, s := range n.Selector.Spans {
			text += " " + s.Resolution
		}
	}
	text += "\n"
	for _, c := range n.Children {
		text += outline(c, depth+1)
	}
	return text
}
