package tiers

import (
	"math"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

func selector(t *testing.T, text string) []*labels.Matcher {
	t.Helper()
	ms, err := parser.NewParser(parser.Options{}).ParseMetricSelector(text)
	if err != nil {
		t.Fatal(err)
	}
	return ms
}

func TestImplies(t *testing.T) {
	for _, c := range []struct {
		query, selector   string
		implies, disjoint bool
	}{
		{`up{env="dev"}`, `{env="dev"}`, true, false},
		{`up{env="dev"}`, `{env="prod"}`, false, true},
		{`up`, `{env="prod"}`, false, false},
		{`up{env="dev"}`, `{env=~"dev|test"}`, true, false},
		{`up{env=~"dev|test"}`, `{env=~"dev|test|int"}`, true, false},
		{`up{env=~"dev|prod"}`, `{env=~"dev|test"}`, false, false},
		{`up{env=~"dev|prod"}`, `{env="test"}`, false, true},
		{`up{env=~"d.*"}`, `{env=~"d.*"}`, true, false},
		{`up{env=~"de.*"}`, `{env=~"d.*"}`, false, false}, // true, but not known to be
		{`up{env!="prod"}`, `{env!="prod",env!=""}`, false, false},
		{`up{env!="prod"}`, `{env="prod"}`, false, true},
		{`up{env="dev"}`, `{env!="prod",env!=""}`, true, false},
		{`up`, `{__name__="up"}`, true, false},
		{`up`, `{__name__!="up",job="x"}`, false, true},
	} {
		q, s := selector(t, c.query), selector(t, c.selector)
		if got := implies(q, s); got != c.implies {
			t.Errorf("%s implies %s: %t", c.query, c.selector, got)
		}
		if got := disjoint(q, s); got != c.disjoint {
			t.Errorf("%s and %s are disjoint: %t", c.query, c.selector, got)
		}
	}
	if !implies(nil, nil) || implies(nil, selector(t, "up")) {
		t.Error("no matchers at all")
	}
}

func TestSpans(t *testing.T) {
	for _, c := range []struct {
		s     span
		holes []span
		want  []span
	}{
		{span{0, 10}, nil, []span{{0, 10}}},
		{span{0, 10}, []span{{3, 5}}, []span{{0, 3}, {5, 10}}},
		{span{0, 10}, []span{{7, 12}, {-5, 2}}, []span{{2, 7}}},
		{span{0, 10}, []span{{2, 6}, {4, 8}, {5, 5}}, []span{{0, 2}, {8, 10}}},
		{span{0, 10}, []span{{-1, 11}}, nil},
		{span{math.MinInt64, math.MaxInt64}, []span{{0, 1}}, []span{{math.MinInt64, 0}, {1, math.MaxInt64}}},
	} {
		if got := c.s.minus(c.holes); !slices.Equal(got, c.want) {
			t.Errorf("[%d, %d) minus %d holes: %d stretches", c.s.from, c.s.to, len(c.holes), len(got))
		}
	}
	for _, c := range []struct{ t, want int64 }{
		{0, 0}, {1, 10}, {10, 10}, {11, 20}, {-1, 0}, {-10, -10}, {-11, -10},
		{math.MinInt64, math.MinInt64}, {math.MaxInt64, math.MaxInt64},
	} {
		if got := windowEnd(c.t, 10); got != c.want {
			t.Errorf("end of the window of %d: %d, want %d", c.t, got, c.want)
		}
	}
}

func TestRetries(t *testing.T) {
	var r retries
	now := timeAt(0)
	for i, want := range []int64{5, 10, 20, 40, 80, 160, 320, 600, 600} {
		if got := r.failed("x", now, errTest); got.Milliseconds() != want*1000 {
			t.Errorf("failure %d: wait %s, want %ds", i, got, want)
		}
	}
	if r.ready("x", timeAt(599)) || !r.ready("x", timeAt(600)) || !r.ready("y", now) {
		t.Error("wrong times to try again")
	}
	if !r.ready("x", timeAt(-1000)) {
		t.Error("a clock that jumped back makes a step wait")
	}
	r.done("x")
	if !r.ready("x", now) {
		t.Error("done, and waits still")
	}
}
