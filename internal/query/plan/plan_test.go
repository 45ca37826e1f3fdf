package plan

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/rollup"
)

const (
	minute = int64(60_000)
	hour   = 60 * minute
	day    = 24 * hour
)

// query is one evaluation: an instant query if step is 0.
type query struct {
	text             string
	start, end, step int64
}

func find(t *testing.T, q query) (*parser.Expr, []*Selector) {
	t.Helper()
	p := parser.NewParser(parser.Options{ExperimentalDurationExpr: true, EnableExperimentalFunctions: true})
	expr, err := p.ParseExpr(q.text)
	require.NoError(t, err)
	expr, err = promql.PreprocessExpr(expr, time.UnixMilli(q.start), time.UnixMilli(q.end), time.Duration(q.step)*time.Millisecond)
	require.NoError(t, err)
	found := Find(&expr, Env{
		Grid: Grid{q.start, q.end, max(q.step, 1)}, Lookback: 5 * minute,
		SubqueryStep: func(int64) int64 { return minute },
		Answers:      func(fn string) bool { return fn != "double_exponential_smoothing" },
	})
	return &expr, found
}

// ms reads what dur prints.
func ms(t *testing.T, text string) int64 {
	t.Helper()
	text, early := strings.CutSuffix(text, "-")
	text, negative := strings.CutPrefix(text, "-")
	var v int64
	if text != "0" {
		d, err := model.ParseDuration(text)
		require.NoError(t, err)
		v = time.Duration(d).Milliseconds()
	}
	if negative {
		v = -v
	}
	if early {
		v--
	}
	return v
}

// dur prints milliseconds; a "-" behind it is the millisecond before.
func dur(v int64) string {
	if v%1000 == 999 || v%1000 == -1 {
		return dur(v+1) + "-"
	}
	switch {
	case v == 0:
		return "0"
	case v < 0:
		return "-" + dur(-v)
	case v%day == 0:
		return fmt.Sprintf("%dd", v/day) // not in weeks
	}
	return Duration(v)
}

// show prints what Find knows: "rate[5m] 1h..2h/1m -30m".
func (s *Selector) show() string {
	text := fmt.Sprintf("%s[%s] %s", s.Func, dur(s.Range), dur(s.Grid.Start))
	if !s.Grid.single() {
		text += fmt.Sprintf("..%s/%s", dur(s.Grid.Last()), dur(s.Grid.Step))
	}
	if s.Shift != 0 {
		text += " -" + dur(s.Shift)
	}
	if s.Params != nil {
		text += fmt.Sprintf(" %v", s.Params)
	}
	if s.Why != "" {
		text += " " + s.Why
	}
	return text
}

func TestFind(t *testing.T) {
	for _, c := range []struct {
		query
		want []string
	}{
		{query{"x", hour, hour, 0}, []string{"[5m] 1h"}},
		{query{"x", 0, hour, 7 * minute}, []string{"[5m] 0..56m/7m"}},
		{query{"rate(x[5m] offset 1h)", day, 2 * day, hour}, []string{"rate[5m] 1d..2d/1h -1h"}},
		{query{"rate(x[5m] offset -1h)", day, 2 * day, hour}, []string{"rate[5m] 1d..2d/1h --1h"}},
		{query{"x @ 3600 + x", day, 2 * day, hour}, []string{"[5m] 1d -23h", "[5m] 1d..2d/1h"}},
		{query{"x @ start()", day, 2 * day, hour}, []string{"[5m] 1d"}},
		{query{"rate(x[5m] @ end() offset 1h)", day, 2 * day, hour}, []string{"rate[5m] 1d --23h"}},
		{query{"x[5m]", day, day, 0}, []string{"[5m] 1d a range of samples is asked for as it is"}},
		// Subqueries have multiples of their own step, and begin after the begin of
		// the first range.
		{query{"max_over_time(rate(x[5m])[1h:10m])", day, 2 * day, hour}, []string{"rate[5m] 23h10m..2d/10m"}},
		{query{"max_over_time(rate(x[5m])[1h:])", day, day, 0}, []string{"rate[5m] 23h1m..1d/1m"}},
		{query{"max_over_time(x[1h:7m] offset 3m)", day, day, 0}, []string{"[5m] 22h59m..23h55m/7m"}},
		{query{"max_over_time(x[1h:10m] @ 7200)", day, 2 * day, hour}, []string{"[5m] 1h10m..2h/10m"}},
		{query{"max_over_time(max_over_time(x[30m:5m])[1h:20m])", day, day, 0}, []string{"[5m] 22h55m..1d/5m"}},
		{query{"max_over_time((x @ 60)[1h:10m])", day, day, 0}, []string{"[5m] 23h10m -23h9m"}},
		{query{"max_over_time(x[1h:10m] offset 100d)", day, day, 0}, []string{"[5m] -99d50m..-99d/10m"}}, // negative times round towards zero
		// Parameters.
		{query{"quantile_over_time(1 - 0.1, x[1h])", day, day, 0}, []string{"quantile_over_time[1h] 1d [0.9]"}},
		{query{"predict_linear(x[1h] offset 10s, 2 * 60)", day, day, 0}, []string{"predict_linear[1h] 1d -10s [130]"}},
		{
			query{"quantile_over_time(scalar(y), x[1h])", day, day, 0},
			[]string{"[5m] 1d", "quantile_over_time[1h] 1d an argument of quantile_over_time changes from step to step"},
		},
		{query{"predict_linear(x[1h] @ 60, 5)", 0, day, hour}, []string{"predict_linear[1h] 0..1d/1h --1m [-55] @ outside of what is evaluated once"}},
		{query{"double_exponential_smoothing(x[1h], 0.1, 0.1)", day, day, 0}, []string{"double_exponential_smoothing[1h] 1d [0.1 0.1] double_exponential_smoothing is answered from samples only"}},
		// What the engine treats in ways of its own.
		{query{"timestamp(x)", day, day, 0}, []string{"timestamp[5m] 1d"}},
		{query{"timestamp(-x)", day, day, 0}, []string{"[5m] 1d"}},
		{query{"absent_over_time(x[1h])", day, day, 0}, []string{"present_over_time[1h] 1d"}},
		{query{"info(rate(x[5m]), {a=\"b\"})", day, day, 0}, []string{"rate[5m] 1d info() reads the modifiers of its selectors"}},
		{query{"topk(scalar(k), x) / on() group_left histogram_quantile(0.9, sum by (le) (rate(h[5m])))", day, day, 0}, []string{"[5m] 1d", "[5m] 1d", "rate[5m] 1d"}},
		{query{"label_replace(-(x), \"a\", \"b\", \"c\", \"d\")", day, day, 0}, []string{"[5m] 1d"}},
		{query{"1 + vector(2)", day, day, 0}, nil},
	} {
		t.Run(c.text, func(t *testing.T) {
			var got []string
			_, found := find(t, c.query)
			for _, s := range found {
				got = append(got, s.show())
			}
			require.Equal(t, c.want, got)
		})
	}
}

func TestReplace(t *testing.T) {
	for _, c := range []struct{ query, want string }{
		{`sum(rate(x{a="b"}[5m] offset 1h))`, `sum((x{a="b"}))`},
		{`absent(rate(x{a="b"}[5m]))`, `absent((x{a="b"}))`},
		{`absent(x{a="b"} offset 1m)`, `absent(x{a="b"})`},
		{`absent_over_time({a="b"}[5m]) + 1`, `absent({a="b"}) + 1`},
		{`timestamp(x)`, `(x)`},
		{`max_over_time(rate(x[5m] @ 7)[1h:5m])`, `max_over_time((x)[1h:5m])`},
		{`x @ 1 + on() y`, `x + on () y`},
	} {
		expr, found := find(t, query{c.query, 0, day, hour})
		keys := map[any]bool{}
		for _, s := range found {
			require.Empty(t, s.Why)
			keys[s.Replace()] = true
		}
		require.Len(t, keys, len(found))
		require.Equal(t, c.want, (*expr).String())
	}
}

// holdings reads "raw 10d-12d; 1h 0-11d; 5m? 1d-2d,3d-4d", each with its first and
// its last millisecond; "?" is for a tier that may lack series.
func holdings(t *testing.T, text string) (hs []rollup.Holding) {
	t.Helper()
	for tier := range strings.SplitSeq(text, ";") {
		name, times, _ := strings.Cut(strings.TrimSpace(tier), " ")
		name, partial := strings.CutSuffix(name, "?")
		h := rollup.Holding{Partial: partial}
		if name != "raw" {
			h.Resolution = ms(t, name)
		}
		for interval := range strings.SplitSeq(times, ",") {
			from, to, _ := strings.Cut(interval, "..")
			held := rollup.Interval{MinT: math.MinInt64, MaxT: math.MaxInt64}
			if from != "" {
				held.MinT = ms(t, from)
			}
			if to != "" {
				held.MaxT = ms(t, to)
			}
			h.Held = append(h.Held, held)
		}
		hs = append(hs, h)
	}
	return hs
}

// showChoice prints "1h(0,10d] raw(10d,11d] | 5m+7 1h+3": the spans, and if any
// part has a range of its own, the ranges with the number of times.
func showChoice(s *Selector, c Choice) string {
	var text []string
	for _, sp := range c.Spans {
		name := "raw"
		if sp.Resolution > 0 {
			name = Duration(sp.Resolution)
		}
		text = append(text, fmt.Sprintf("%s(%s,%s]", name, dur(sp.After), dur(sp.Until)))
	}
	if len(c.Parts) != 1 || c.Parts[0].Range != s.Range {
		text = append(text, "|")
		for _, p := range c.Parts {
			text = append(text, fmt.Sprintf("%s+%d", dur(p.Range), p.Grid.Steps()))
		}
	}
	return strings.Join(text, " ")
}

func TestChoose(t *testing.T) {
	const (
		// All tiers as they are in a store that runs for years.
		years = "raw 985d..; 5m 910d..999d22h-; 1h 0..999d22h-"
		fresh = "raw 985d..; 5m 985d..999d22h-; 1h 985d..999d22h-"
		coldR = "1h 0..950d-"
	)
	none := Rules{MinStretch: day, MaxSource: Unset}
	exact := Rules{Exact: true, MinStretch: day, MaxSource: Unset}
	lead := Rules{Exact: true, MinStretch: day, MaxSource: Unset, Lead: 5 * minute}
	up := func(r Rules, source int64) Rules { r.MaxSource = source; return r }
	now := 1000 * day
	for name, c := range map[string]struct {
		held  string
		rules Rules
		query
		want string
	}{
		// Rule 1: exact functions take the coarsest rung that fits, also where raw is held.
		"exact, aligned":               {fresh, exact, query{"rate(x[5m])", now - 10*day, now, hour}, "5m(989d23h55m,999d22h-] raw(999d22h-,1000d]"},
		"exact, aligned, long range":   {fresh, exact, query{"rate(x[2h])", now - 10*day, now, hour}, "1h(989d22h,999d22h-] raw(999d22h-,1000d]"},
		"range not of windows":         {fresh, exact, query{"rate(x[7m])", now - 10*day, now, hour}, "raw(989d23h53m,1000d]"},
		"range shorter than windows":   {fresh, exact, query{"rate(x[1m])", now - 10*day, now, hour}, "raw(989d23h59m,1000d]"},
		"step shorter than windows":    {fresh, exact, query{"rate(x[1h])", now - 10*day, now, 15 * minute}, "5m(989d23h,999d22h-] raw(999d22h-,1000d]"},
		"step not of windows":          {fresh, exact, query{"rate(x[1h])", now - 10*day, now, 61 * minute}, "raw(989d23h,999d23h56m]"},
		"start not of windows":         {fresh, exact, query{"rate(x[1h])", now - 10*day + 1, now, hour}, "raw(989d23h1ms,999d23h1ms]"},
		"offset not of windows":        {fresh, exact, query{"rate(x[1h] offset 1m)", now - 10*day, now, hour}, "raw(989d22h59m,999d23h59m]"},
		"offset of windows":            {fresh, exact, query{"rate(x[1h] offset 1d)", now - 10*day, now, hour}, "1h(988d23h,999d]"},
		"short graph":                  {fresh, exact, query{"rate(x[5m])", now - 3*hour, now, hour}, "raw(999d20h55m,1000d]"},
		"short graph, min_range 0":     {fresh, Rules{Exact: true, MaxSource: Unset}, query{"rate(x[5m])", now - 3*hour, now, hour}, "5m(999d20h55m,999d22h-] raw(999d22h-,1000d]"},
		"lead":                         {fresh, lead, query{"rate(x[5m])", now - 10*day, now, hour}, "5m(989d23h50m,999d22h-] raw(999d22h-,1000d]"},
		"lead before what is held":     {"5m 500d..", lead, query{"rate(x[5m])", 500 * day, 502 * day, hour}, "5m(500d-,502d]"},
		"exact over all tiers":         {years, exact, query{"rate(x[5m])", now - 200*day, now, hour}, "1h(799d23h55m,910d] 5m(910d,999d22h-] raw(999d22h-,1000d]"},
		"exact, coarse over all tiers": {years, exact, query{"rate(x[1h])", now - 200*day, now, hour}, "1h(799d23h,999d22h-] raw(999d22h-,1000d]"},
		"held from within a window":    {"raw 0..; 1h 990d0h7m..", exact, query{"rate(x[1h])", now - 20*day, now, hour}, "raw(979d23h,990d1h] 1h(990d1h,1000d]"},
		"the same, nothing else held":  {"1h 990d0h7m..", exact, query{"rate(x[1h])", now - 20*day, now, hour}, "1h(990d7m-,1000d]"},
		// Rule 1, single evaluations: finer tiers at the edges.
		"single, aligned":          {fresh, exact, query{"increase(x[5d])", now, now, 0}, "1h(995d,999d22h-] raw(999d22h-,1000d]"},
		"single, not aligned":      {fresh, exact, query{"increase(x[5d] offset 1d7m3s)", now, now, 0}, "raw(993d23h52m57s,993d23h55m] 5m(993d23h55m,994d] 1h(994d,998d23h] 5m(998d23h,998d23h50m] raw(998d23h50m,998d23h52m57s]"},
		"single, older than raw":   {years, exact, query{"increase(x[30d] offset 7m3s)", now, now, 0}, "5m(969d23h52m57s,970d] 1h(970d,999d22h-] raw(999d22h-,999d23h52m57s]"},
		"single, oldest edge hour": {years, exact, query{"increase(x[130d] offset 7m3s)", now, now, 0}, "1h(869d23h52m57s,999d22h-] raw(999d22h-,999d23h52m57s]"},
		// Rule 2: raw where it is held, then the finest that fits.
		"estimated":             {years, none, query{"quantile_over_time(0.5, x[1h])", now - 200*day, now, hour}, "1h(799d23h,910d] 5m(910d,985d] raw(985d,1000d]"},
		"plain":                 {years, none, query{"x", now - 200*day, now, hour}, "1h(799d23h55m,910d] 5m(910d,985d] raw(985d,1000d] | 1h+2641 5m+2160"},
		"not aligned over all":  {years, exact, query{"rate(x[10m])", now - 200*day, now, 7 * minute}, "1h(799d23h50m,910d] 5m(910d,985d] raw(985d,999d23h54m]"},
		"raw begins in windows": {"raw 985d0h7m3s..; 5m 985d0h7m3s..; 1h 0..999d-", none, query{"last_over_time(x[1h])", 980 * day, now, hour}, "1h(979d23h,985d1h] raw(985d1h,1000d]"},
		"nothing before raw":    {"raw 985d0h7m3s..", none, query{"last_over_time(x[1h])", 980 * day, now, hour}, "raw(985d7m3s-,1000d]"},
		"rung ends before raw":  {"raw 985d0h7m3s..; 1h 0..985d-", none, query{"last_over_time(x[1h])", 980 * day, now, hour}, "1h(979d23h,985d-] raw(985d7m3s-,1000d]"},
		"5m begins within hour": {"5m 985d0h5m..; 1h 0..999d-", none, query{"last_over_time(x[1h])", 980 * day, now, hour}, "1h(979d23h,985d1h] 5m(985d1h,1000d]"},
		"hole in raw":           {"raw 0..985d-,990d0h3m..; 1h 0..999d-", none, query{"last_over_time(x[1h])", 980 * day, now, hour}, "raw(979d23h,984d23h] 1h(984d23h,990d1h] raw(990d1h,1000d]"},
		// Rule 3: only coarser is left.
		"only coarse":          {coldR, exact, query{"rate(x[5m])", 940 * day, now, day}, "1h(939d23h55m,950d-]"},
		"only coarse, widened": {coldR, none, query{"deriv(x[5m])", 940 * day, now, day}, "1h(939d23h55m,950d-] | 1h+11 5m+50"},
		"only coarse, in hour": {"1h 0..", none, query{"x", 940*day + 7*minute, 940*day + 20*minute, minute}, "1h(940d2m,940d1h] | 1h+14"},
		"too old":              {"raw 985d..", none, query{"x", 940 * day, 941 * day, hour}, ""},
		"partial comes last":   {"raw 985d..; 5m? 910d..; 1h 0..", exact, query{"rate(x[1h])", now - 50*day, now, 2 * hour}, "1h(949d23h,1000d]"},
		"partial alone":        {"raw 985d..; 5m? 910d..", exact, query{"rate(x[1h])", now - 50*day, now, 2 * hour}, "5m(949d23h,985d] raw(985d,1000d]"},
		// Rule 4: max_source_resolution.
		"0s":                      {fresh, up(exact, 0), query{"rate(x[5m])", now - 10*day, now, hour}, "raw(989d23h55m,1000d]"},
		"0s, raw gone":            {years, up(exact, 0), query{"rate(x[1h])", now - 200*day, now, hour}, "1h(799d23h,985d] raw(985d,1000d]"},
		"1h, estimated":           {fresh, up(none, hour), query{"quantile_over_time(0.5, x[6h])", now - 10*day, now, hour}, "1h(989d18h,999d22h-] raw(999d22h-,1000d]"},
		"5m, estimated":           {fresh, up(none, 5*minute), query{"quantile_over_time(0.5, x[6h])", now - 10*day, now, hour}, "5m(989d18h,999d22h-] raw(999d22h-,1000d]"},
		"1h, plain":               {fresh, up(none, hour), query{"x", now - 10*day, now, hour}, "1h(989d23h55m,999d22h-] raw(999d22h-,1000d] | 1h+239 5m+2"},
		"1h, short graph":         {fresh, up(exact, hour), query{"rate(x[5m])", now - 3*hour, now - 2*hour, minute}, "5m(999d20h55m,999d22h-] raw(999d22h-,999d22h]"},
		"1h, exact":               {fresh, up(exact, hour), query{"rate(x[5m])", now - 3*hour, now - 2*hour, 5 * minute}, "5m(999d20h55m,999d22h-] raw(999d22h-,999d22h]"},
		"1h, range below windows": {fresh, up(exact, hour), query{"rate(x[1m])", now - 10*day, now - 9*day, hour}, "5m(989d23h59m,991d]"},
		"1m":                      {fresh, up(none, minute), query{"x", now - 10*day, now, hour}, "raw(989d23h55m,1000d]"},
	} {
		t.Run(name, func(t *testing.T) {
			_, found := find(t, c.query)
			require.Len(t, found, 1)
			got := Choose(found[0], holdings(t, c.held), c.rules)
			require.Equal(t, c.want, showChoice(found[0], got))
			require.NotEmpty(t, got.Why)
			var steps int64
			for _, p := range got.Parts {
				steps += p.Grid.Steps()
			}
			require.Equal(t, found[0].Data().Steps(), steps)
		})
	}
}

func TestChoiceSaysWhy(t *testing.T) {
	all := holdings(t, "raw 0..; 5m 0..; 1h 0..")
	for _, c := range []struct {
		query
		exact  bool
		held   []rollup.Holding
		source int64
		want   string
	}{
		{query{"rate(x[1h])", 0, 2 * day, hour}, true, all[:1], Unset, "no rollups are held"},
		{query{"rate(x[1h])", 0, 2 * day, hour}, true, all, Unset, "exact on aligned windows"},
		{query{"rate(x[1h])", 0, 2 * hour, hour}, true, all, Unset, "query.rollups.min_range (1d)"},
		{query{"rate(x[1h])", 1, 2 * day, hour}, true, all, Unset, "do not fit the windows"},
		{query{"deriv(x[1h])", 0, 2 * day, hour}, false, all, Unset, "windows only estimate"},
		{query{"deriv(x[1h])", 0, 2 * day, hour}, false, all, hour, "max_source_resolution asks for it"},
		{query{"rate(x[1h])", 0, 2 * day, hour}, true, all, hour, "max_source_resolution allows them"},
		{query{"rate(x[1h])", 0, 2 * day, hour}, true, all, minute, "max_source_resolution allows no rollup"},
	} {
		_, found := find(t, c.query)
		got := Choose(found[0], c.held, Rules{Exact: c.exact, MinStretch: day, MaxSource: c.source})
		require.Contains(t, got.Why, c.want)
	}
}
