//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"

	"github.com/weir-dev/weir/e2e"
)

const (
	hour   = int64(time.Hour / time.Millisecond)
	minute = int64(time.Minute / time.Millisecond)
)

// TestE2EYears asks for four months that lie in the head, in raw blocks and in two
// rungs, in one graph each, and compares every value with what was measured; then
// once more after a restart.
func TestE2EYears(t *testing.T) {
	y := newYears(t)
	y.askAll()
	if err := y.weir.Stop(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	y.start()
	y.askAll()
}

type years struct {
	*e2e.History
	t     *testing.T
	weir  *e2e.Program
	until int64 // the last full hour that is stored
	turns func(t int64) float64
}

func newYears(t *testing.T) *years {
	dir := t.TempDir()
	if err := e2e.Build(t.Context(), dir, e2e.WeirCommand); err != nil {
		t.Fatal(err)
	}
	listen, err := e2e.FreeAddresses(1)
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	weir, err := e2e.NewWeir(dir, dir, listen[0], fmt.Sprintf(`
server: {listen: "%s"}
ingest: {otlp: {grpc: {endpoint: ""}, http: {endpoint: ""}}}
tracing: {enabled: false}
self_scrape: {interval: 0s}
store: {dir: "%s", %s}
`, listen[0], data, e2e.HistoryStore))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		weir.Kill()
		if t.Failed() {
			t.Logf("log of weir ends with:\n%s", weir.LogTail())
		}
	})
	now := time.Now()
	y := &years{t: t, weir: weir, History: e2e.NewHistory(now, 120), until: now.UnixMilli() / hour * hour}
	y.turns = y.series(wheel).Float
	if err := y.Backfill(t.Context(), filepath.Join(dir, "weir"), filepath.Join(dir, "prometheus"), data); err != nil {
		t.Fatal(err)
	}
	y.start()
	if err := y.Send(t.Context(), weir.URL, y.Cut-1, y.until); err != nil {
		t.Fatal(err)
	}
	return y
}

func (y *years) start() {
	y.t.Helper()
	ctx, cancel := context.WithTimeout(y.t.Context(), 30*time.Second)
	defer cancel()
	if err := y.weir.Start(ctx); err != nil {
		y.t.Fatal(err)
	}
}

// wheel and level are the series that are compared.
const (
	wheel = `mill_turns_total{wheel="2"}`
	level = `mill_water_level_metres{gauge="upper"}`
)

// inquiry is a graph and what is true of its values.
type inquiry struct {
	expr    string
	tiers   string // that it must cross
	judge   func(y *years, t, resolution int64, v float64) string
	through bool // it may have no seam
}

var inquiries = []inquiry{
	{expr: level, tiers: "1h 5m raw head", through: true, judge: (*years).judgeLevel},
	{expr: `rate(` + wheel + `[2m])`, tiers: "1h 5m raw head", through: true, judge: func(y *years, t, r int64, v float64) string {
		width := max(r, 2*minute)
		return near(v, y.rise(t-width, t, y.turns)/float64(width/1000))
	}},
	{expr: `avg_over_time(` + level + `[1h])`, tiers: "1h head", through: true, judge: func(y *years, t, _ int64, v float64) string {
		sum, n, _, _ := y.levels(t-hour, t)
		return near(v, sum/n)
	}},
	{expr: `max_over_time(` + level + `[2h])`, tiers: "1h head", judge: func(y *years, t, _ int64, v float64) string {
		_, _, _, highest := y.levels(t-2*hour, t)
		return near(v, highest)
	}},
	{expr: `increase(` + wheel + `[1d])`, tiers: "1h head", judge: func(y *years, t, _ int64, v float64) string {
		return near(v, y.rise(t-24*hour, t, y.turns))
	}},
	{expr: `histogram_quantile(0.9, sum by (le) (rate(mill_grind_seconds_bucket[5m])))`, tiers: "1h 5m head", judge: func(y *years, t, r int64, v float64) string {
		return near(v, y.quantile(0.9, t-max(r, 5*minute), t))
	}},
	{expr: `histogram_quantile(0.9, rate(mill_grind_native_seconds[5m]))`, tiers: "1h 5m head", judge: func(y *years, t, r int64, v float64) string {
		if want := y.quantile(0.9, t-max(r, 5*minute), t); v < want*0.9 || v > want*1.1 { // another interpolation
			return fmt.Sprintf("got %v, want about %v", v, want)
		}
		return ""
	}},
}

func (y *years) askAll() {
	y.t.Helper()
	for _, q := range inquiries {
		y.ask(q)
	}
}

// ask waits for the tiers that a graph is to cross, and judges it.
func (y *years) ask(q inquiry) {
	y.t.Helper()
	var g *e2e.Graph
	for begun := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		var err error
		if g, err = e2e.Ask(y.t.Context(), y.weir.URL, q.expr, y.Begin+26*hour, y.until, hour, y.Cut); err != nil {
			y.t.Fatal(err)
		}
		if strings.Join(g.Crossed(), " ") == q.tiers {
			break
		}
		if time.Since(begun) > 90*time.Second {
			y.t.Fatalf("%s: crosses %v, want %s; %v", q.expr, g.Crossed(), q.tiers, g.Spans)
		}
	}
	if n := g.Empty(); n > 0 {
		y.t.Errorf("%s: %d of %d steps are empty", q.expr, n, len(g.Values))
	}
	across, within := g.Seams()
	if b := g.Seam(); q.through && b != nil {
		y.t.Errorf("%s: a seam: neighbours differ by %s, within one tier by at most %v", q.expr, b, within)
	}
	wrong := 0
	for i, v := range g.Values {
		if why := y.judge(q, g, i, v); why != "" {
			if wrong++; wrong <= 5 {
				y.t.Errorf("%s at %s from %s: %s", q.expr, time.UnixMilli(g.Start+int64(i)*hour).UTC(), g.Tiers[i], why)
			}
		}
	}
	y.t.Logf("%s: %d values across %s, %d wrong; neighbours differ by %.4g at most within a tier, by %v", q.expr, len(g.Values), q.tiers, wrong, within, across)
}

// judge looks at a value in the light of its tier's resolution, and just after a
// border also of that before, into which it may look back.
func (y *years) judge(q inquiry, g *e2e.Graph, i int, v float64) (why string) {
	t := g.Start + int64(i)*hour
	for _, tier := range g.Tiers[max(0, i-1) : i+1] {
		r := map[string]int64{"1h": hour, "5m": 5 * minute}[tier]
		if why = q.judge(y, t, r, v); why == "" {
			return ""
		}
	}
	return why
}

// near is content with what rounding does.
func near(got, want float64) string {
	if math.Abs(got-want) <= 1e-9*math.Abs(want) {
		return ""
	}
	return fmt.Sprintf("got %v, want %v", got, want)
}

// judgeLevel: a sample is the last; a point is between the lowest and the highest of
// its window.
func (y *years) judgeLevel(t, r int64, v float64) string {
	if r == 0 {
		return near(v, y.series(level).Float(e2e.LastTime(t)))
	}
	if _, _, lowest, highest := y.levels(t-r, t); v < lowest || v > highest {
		return fmt.Sprintf("got %v, want %v to %v", v, lowest, highest)
	}
	return ""
}

// levels is what is true of the level in (after, until].
func (y *years) levels(after, until int64) (sum, n, lowest, highest float64) {
	f := y.series(level).Float
	lowest, highest = math.Inf(1), math.Inf(-1)
	for _, at := range e2e.Times(after, until) {
		v := f(at)
		sum, n, lowest, highest = sum+v, n+1, min(lowest, v), max(highest, v)
	}
	return sum, n, lowest, highest
}

// rise is by how much a counter rises from the last sample at or before a time to
// the last at or before another.
func (y *years) rise(after, until int64, counter func(int64) float64) (sum float64) {
	last := counter(e2e.LastTime(after))
	for _, at := range e2e.Times(after, until) {
		v := counter(at)
		if v < last {
			last = 0
		}
		sum, last = sum+v-last, v
	}
	return sum
}

func (y *years) quantile(q float64, after, until int64) float64 {
	var buckets promql.Buckets
	for _, s := range y.Series() {
		if s.Labels.Get("__name__") != "mill_grind_seconds_bucket" {
			continue
		}
		var bound float64
		if _, err := fmt.Sscan(s.Labels.Get("le"), &bound); err != nil {
			y.t.Fatal(err)
		}
		buckets = append(buckets, promql.Bucket{UpperBound: bound, Count: y.rise(after, until, s.Float)})
	}
	v, _, _, _, _, _ := promql.BucketQuantile(q, buckets)
	return v
}

// series finds the one that a selector, as it is written here, selects.
func (y *years) series(selector string) e2e.HistorySeries {
	for _, s := range y.Series() {
		name, value := s.Labels.Get("__name__"), s.Labels.Get("wheel")+s.Labels.Get("gauge")
		if strings.HasPrefix(selector, name+"{") && strings.Contains(selector, `"`+value+`"`) {
			return s
		}
	}
	y.t.Fatalf("no series %s", selector)
	return e2e.HistorySeries{}
}
