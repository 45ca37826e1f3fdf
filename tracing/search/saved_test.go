package search

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/span"
)

func TestValidateSaved(t *testing.T) {
	var f conf.Faults
	ValidateSaved([]SavedSearch{
		{Name: "good", Query: "root"}, {Name: "good", Query: "a=", Interval: conf.Duration(time.Second)}, {Name: "a b", Delay: -1},
	}, f.At("tracing.saved_searches"))
	const want = `tracing.saved_searches[1].name: got "good", want a name that no other search has
tracing.saved_searches[1].query: got "a=", want a query of traces: query, column 3: got the end, want a value
tracing.saved_searches[1].interval: got 1s, want 0s (1m), or 10s to 1h
tracing.saved_searches[2].name: got "a b", want 1 to 100 letters, digits, dots, dashes and underscores
tracing.saved_searches[2].delay: got -1ns, want 0s (30s) to 1h`
	if err := f.Err(); err == nil || err.Error() != want {
		t.Errorf("got\n%v", err)
	}
	if _, err := NewSaved([]SavedSearch{{}}, deps(nil)); err == nil {
		t.Error("a search without a name is taken")
	}
}

// Each trace is counted once, whatever windows its spans lie in.
func TestSavedSearches(t *testing.T) {
	all := newShop(5).traces(400, 0, 20*time.Minute)
	all = append(all, newShop(6).traces(50, 40*time.Minute, 10*time.Minute)...)
	now := noon.Add(-time.Minute)
	d := deps(stored(t, all))
	d.Now = func() time.Time { return now }
	reg := prometheus.NewRegistry()
	d.Registerer = reg
	s, err := NewSaved([]SavedSearch{
		{Name: "all"}, {Name: "deep", Query: "{root} ->> {service=cart && status=error}"}, {Name: "none", Query: "service=nobody"},
	}, d)
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]float64{}
	for now.Before(noon.Add(time.Hour)) {
		now = now.Add(7 * time.Second) // windows that cut traces in two
		for _, one := range s.searches {
			s.evaluate(context.Background(), one, now)
			counted[one.Name] += testutil.ToFloat64(s.metrics.traces.WithLabelValues(one.Name))
		}
		s.metrics.traces.Reset()
	}
	deep, _ := Parse("{root} ->> {service=cart && status=error}")
	want := 0.
	for _, b := range all {
		if deep.match(b, bounds{0, 1 << 63}) != nil {
			want++
		}
	}
	if counted["all"] != 450 || counted["deep"] != want || counted["none"] != 0 || want == 0 {
		t.Errorf("got %v, want 450, %v and none", counted, want)
	}
	// One window of all.
	for _, one := range s.searches {
		one.done = noon
		s.evaluate(context.Background(), one, noon.Add(time.Hour))
	}
	err = testutil.GatherAndCompare(reg, strings.NewReader(`# HELP weir_trace_search_traces Traces that a saved search found since the evaluation before.
# TYPE weir_trace_search_traces gauge
weir_trace_search_traces{search="all"} 450
weir_trace_search_traces{search="deep"} 61
weir_trace_search_traces{search="none"} 0
# HELP weir_trace_search_error_ratio Part of these that has a span whose status is error; NaN of none.
# TYPE weir_trace_search_error_ratio gauge
weir_trace_search_error_ratio{search="all"} 0.1511111111111111
weir_trace_search_error_ratio{search="deep"} 1
weir_trace_search_error_ratio{search="none"} NaN
`), "weir_trace_search_traces", "weir_trace_search_error_ratio")
	if err != nil {
		t.Error(err)
	}
	p50 := testutil.ToFloat64(s.metrics.duration.WithLabelValues("all", "0.5"))
	if p99 := testutil.ToFloat64(s.metrics.duration.WithLabelValues("all", "0.99")); p50 < .01 || p99 < p50 || p99 > .2 {
		t.Errorf("got %f and %f", p50, p99)
	}
}

// What fails is made up for.
func TestSavedFailure(t *testing.T) {
	d := deps(nil)
	d.Reader = failing{err: errors.New("disk gone")}
	now := noon
	d.Now = func() time.Time { return now }
	s, err := NewSaved([]SavedSearch{{Name: "a"}}, d)
	if err != nil {
		t.Fatal(err)
	}
	now = noon.Add(time.Minute)
	s.evaluate(context.Background(), s.searches[0], now)
	if testutil.ToFloat64(s.metrics.failures.WithLabelValues("a")) != 1 || !s.searches[0].done.Equal(noon.Add(-30*time.Second)) {
		t.Errorf("%+v", s.searches[0])
	}
	s.deps.Reader = stored(t, []*span.Batch{newShop(1).trace(0), newShop(2).trace(time.Minute)})
	s.evaluate(context.Background(), s.searches[0], noon.Add(2*time.Minute))
	if n := testutil.ToFloat64(s.metrics.traces.WithLabelValues("a")); n != 2 {
		t.Errorf("got %v traces", n)
	}
}

func TestSavedRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := deps(nil)
		d.Reader = failing{err: errors.New("disk gone")}
		d.Now = nil
		s, err := NewSaved([]SavedSearch{{Name: "a", Interval: conf.Duration(time.Minute)}, {Name: "b", Interval: conf.Duration(90 * time.Second)}}, d)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute+time.Second)
		defer cancel()
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
		a, b := testutil.ToFloat64(s.metrics.failures.WithLabelValues("a")), testutil.ToFloat64(s.metrics.failures.WithLabelValues("b"))
		if a != 10 || b != 6 {
			t.Errorf("evaluated %v and %v times in 10 minutes, want 10 and 6", a, b)
		}
	})
}
