package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/query"
	"github.com/weir-dev/weir/internal/store"
)

const (
	minute = int64(60_000)
	hour   = 60 * minute
)

// foreign is what another tool has measured, and how it cut it into blocks.
type foreign struct {
	name string
	lag  int64   // by how much samples lie behind round times
	cuts []int64 // milliseconds since old; blocks lie between two of them
	keep int64   // of five minutes; 0: for ever
	down []int64 // begins and ends of times without samples, since old
}

// foreignHours is how long all of it is.
const foreignHours = 72

func every(step, offset int64) (cuts []int64) {
	for t := offset; t < foreignHours*hour; t += step {
		cuts = append(cuts, max(t, 0))
	}
	return append(cuts, foreignHours*hour)
}

var foreigns = []foreign{
	{name: "promtool", lag: 7_300, cuts: every(2*hour, 0), keep: 30 * hour},
	{name: "round times", cuts: every(2*hour, 0), keep: 30 * hour},
	{name: "in the middle of windows", lag: 7_300, cuts: every(97*minute+13_000, -minute), keep: 30 * hour},
	{name: "in the middle of windows, all kept", lag: 7_300, cuts: every(97*minute+13_000, -minute)},
	{name: "down now and then", lag: 7_300, cuts: every(2*hour, 0), keep: 30 * hour, down: []int64{
		30*hour + 13*minute, 31*hour + 40*minute, 46*hour + 7*minute, 48*hour + 18*minute, 51*hour + 31*minute, 52*hour + 52*minute,
	}},
	{name: "shorter than windows", lag: 1_000, cuts: every(41*minute+1, 0), keep: 30 * hour},
}

// measured is a series; its samples are functions of their times.
type measured struct {
	name   string
	every  int64
	after  int64 // by how much later than the lag
	value  func(t int64) float64
	counts bool

	ts []int64
	vs []float64
}

func (f foreign) measure() []*measured {
	counter := func(t int64) float64 { // begins anew every 433 minutes
		s := float64(t%(433*minute)) / 1000
		return math.Floor(20*s + 900*math.Sin(s/700))
	}
	gauge := func(t int64) float64 {
		return math.Floor(1000 * math.Sin(float64(t)/float64(5*hour)) * math.Cos(float64(t)/191_000))
	}
	all := []*measured{
		{name: "fast_total", every: 15_000, value: counter, counts: true},
		{name: "fast_level", every: 15_000, value: gauge},
		{name: "slow_total", every: minute, after: 29_000, value: counter, counts: true},
		{name: "sparse_level", every: 4 * minute, after: 100_000, value: gauge},
	}
	for _, m := range all {
		for t := old + f.lag + m.after; t < old+foreignHours*hour; t += m.every {
			if i, _ := slices.BinarySearch(f.down, t-old); i%2 == 1 {
				continue
			}
			m.ts, m.vs = append(m.ts, t), append(m.vs, m.value(t))
		}
	}
	return all
}

// write makes the blocks as promtool does.
func (f foreign) write(t *testing.T, dir string, all []*measured) {
	t.Helper()
	for i := range len(f.cuts) - 1 {
		from, to := old+f.cuts[i], old+f.cuts[i+1]
		w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, 4*hour)
		if err != nil {
			t.Fatal(err)
		}
		app := w.Appender(context.Background())
		for _, m := range all {
			ls := labels.FromStrings(model.MetricNameLabel, m.name)
			lo, _ := slices.BinarySearch(m.ts, from)
			hi, _ := slices.BinarySearch(m.ts, to)
			for k := lo; k < hi; k++ {
				if _, err := app.Append(0, ls, m.ts[k], m.vs[k]); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
		_, err = w.Flush(context.Background())
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// within returns the samples in (after, until].
func (m *measured) within(after, until int64) []float64 {
	lo, _ := slices.BinarySearch(m.ts, after+1)
	hi, _ := slices.BinarySearch(m.ts, until+1)
	return m.vs[lo:hi]
}

// rise is that of the last sample at after to the last at until.
func (m *measured) rise(after, until int64) (sum float64) {
	lo, _ := slices.BinarySearch(m.ts, after+1)
	vs := m.within(after, until)
	if lo == 0 {
		lo = 1
		vs = vs[1:]
	}
	last := m.vs[lo-1]
	for _, v := range vs {
		if v < last {
			last = 0
		}
		sum, last = sum+v-last, v
	}
	return sum
}

// TestForeignBlocks reads rollups of blocks that begin with their first sample and end
// with their last, as promtool and tsdb.BlockWriter make them, and compares each value
// with what the samples say.
func TestForeignBlocks(t *testing.T) {
	for _, f := range foreigns {
		t.Run(f.name, func(t *testing.T) {
			all := f.measure()
			cfg := rollupConfig(t)
			f.write(t, cfg.Dir, all)
			cfg.Rollups[0].Keep = conf.Duration(time.Duration(f.keep) * time.Millisecond)
			cfg.Retention.Time = conf.Duration(10 * time.Hour)
			s, _ := open(t, cfg, nil)
			blocks, calm := "", 0
			eventually(t, "raw data has left, and rollups are merged", func() bool {
				reload(t, s)
				status := s.Tiers().Status()
				if now := fmt.Sprint(status.Rungs, status.Waiting); now != blocks {
					blocks, calm = now, 0
				}
				calm++
				return calm > 10 && status.Waiting == 0 && s.DB().Blocks()[0].MinTime() > old+(foreignHours-20)*hour
			})
			readForeign(t, s, all)
			a := asker{t, f, s, engineOf(t, s)}
			for _, m := range all {
				a.ask(m)
			}
		})
	}
}

// readForeign reads without the query room: where samples are held they are what they
// were, and no point gets among them.
func readForeign(t *testing.T, s *store.Store, all []*measured) {
	t.Helper()
	from := s.DB().Blocks()[0].MinTime()
	q, err := s.Querier(old, old+foreignHours*hour)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	for _, m := range all {
		set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, m.name))
		if !set.Next() {
			t.Fatalf("no %s: %v", m.name, set.Err())
		}
		i, _ := slices.BinarySearch(m.ts, from)
		last, points := int64(0), 0
		for it := set.At().Iterator(nil); it.Next() == chunkenc.ValFloat; {
			at, v := it.At()
			if at <= last {
				t.Errorf("%s: time goes from %d to %d", m.name, last, at)
			}
			if last = at; at < from {
				points++
				continue
			}
			if i == len(m.ts) || at != m.ts[i] || v != m.vs[i] {
				t.Errorf("%s: sample %d of %d at %s is %v", m.name, i, len(m.ts), ms(at-old), v)
				break
			}
			i++
		}
		if i < len(m.ts) || points < foreignHours/2 {
			t.Errorf("%s: %d samples of %d, %d points before", m.name, i, len(m.ts), points)
		}
	}
}

func engineOf(t *testing.T, s *store.Store) promql.QueryEngine {
	t.Helper()
	api, err := query.New(query.DefaultConfig(), query.Deps{
		Storage: s, Tiers: s.Tiers(), Exemplars: s, TSDB: s, Ready: s.Ready, Dir: t.TempDir(),
		ConfigYAML: func() string { return "" }, Runtime: func() query.Runtime { return query.Runtime{} },
		Gatherer: prometheus.NewRegistry(), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := api.Close(); err != nil {
			t.Error(err)
		}
	})
	return api.Engine()
}

// asker asks for all of the time and judges the answers.
type asker struct {
	t      *testing.T
	f      foreign
	s      *store.Store
	engine promql.QueryEngine
}

// truths is what a function is to give for the samples in (after, until], of which
// there is one at least.
var truths = []struct {
	fn   string
	of   func(m *measured, after, until int64) float64
	rise bool // for counters only
}{
	{fn: "count_over_time", of: func(m *measured, a, u int64) float64 { return float64(len(m.within(a, u))) }},
	{fn: "sum_over_time", of: func(m *measured, a, u int64) float64 { return total(m.within(a, u)) }},
	{fn: "avg_over_time", of: func(m *measured, a, u int64) float64 { return total(m.within(a, u)) / float64(len(m.within(a, u))) }},
	{fn: "max_over_time", of: func(m *measured, a, u int64) float64 { return slices.Max(m.within(a, u)) }},
	{fn: "min_over_time", of: func(m *measured, a, u int64) float64 { return slices.Min(m.within(a, u)) }},
	{fn: "increase", of: (*measured).rise, rise: true},
	{fn: "rate", of: func(m *measured, a, u int64) float64 { return m.rise(a, u) / float64(u-a) * 1000 }, rise: true},
}

func total(vs []float64) (sum float64) {
	for _, v := range vs {
		sum += v
	}
	return sum
}

func (a asker) ask(m *measured) {
	a.t.Helper()
	for _, r := range []int64{5 * minute, hour, 6 * hour} {
		for _, step := range []int64{5 * minute, hour} {
			for _, x := range truths {
				if x.rise && !m.counts {
					continue
				}
				a.compare(fmt.Sprintf("%s(%s[%s])", x.fn, m.name, model.Duration(ms(r))), step, func(at int64, v float64, ok bool) string {
					switch {
					case len(m.within(at-r, at)) == 0:
						return ""
					case !ok:
						return "empty"
					case at-r < a.coarse() && (r < hour || at%hour != 0): // no whole windows
						return ""
					case x.rise && len(m.within(at-r-5*minute, at-r)) == 0: // nobody knows when it rose
						return ""
					}
					return near(v, x.of(m, at-r, at))
				})
			}
		}
	}
	for _, step := range []int64{5 * minute, 7*minute + 13_000, hour} {
		a.compare(m.name, step, func(at int64, v float64, ok bool) string { return a.plain(m, at, v, ok) })
	}
	if m.counts && a.f.lag > 0 && len(a.f.down) == 0 && a.f.cuts[1]%hour == 0 { // no window is two blocks'
		a.compare("rate("+m.name+"[2m])", hour, func(at int64, v float64, ok bool) string {
			width := 5 * minute
			switch {
			case !ok && at > old+hour:
				return "empty"
			case at <= old+hour || at >= old+(foreignHours-20)*hour || at > a.coarse()-6*hour && at < a.coarse():
				return ""
			case at < a.coarse():
				width = hour
			}
			return near(v, m.rise(at-width, at)/float64(width)*1000)
		})
	}
}

// plain judges a plain selector: it is seen where a sample is, and has a value of the
// window that has begun or of the one before.
func (a asker) plain(m *measured, at int64, v float64, ok bool) string {
	if len(m.within(at-5*minute, at)) == 0 {
		return ""
	}
	if !ok {
		return "empty"
	}
	width := 5 * minute
	if at < a.coarse() {
		width = hour
	}
	begun := at / width * width
	vs := m.within(begun-width, begun+width)
	if v < slices.Min(vs) || v > slices.Max(vs) {
		return fmt.Sprintf("got %v, want %v to %v", v, slices.Min(vs), slices.Max(vs))
	}
	return ""
}

// coarse is until when there may be nothing but hours.
func (a asker) coarse() int64 {
	if a.f.keep == 0 {
		return 0
	}
	return old + foreignHours*hour - a.f.keep + 3*hour
}

func near(got, want float64) string {
	if math.Abs(got-want) <= 1e-9*max(1, math.Abs(want)) {
		return ""
	}
	return fmt.Sprintf("got %v, want %v", got, want)
}

// compare asks for a graph and has each of its times judged.
func (a asker) compare(text string, step int64, judge func(at int64, v float64, ok bool) string) {
	a.t.Helper()
	end := old + foreignHours*hour - 1
	q, err := a.engine.NewRangeQuery(context.Background(), a.s, nil, text, time.UnixMilli(old), time.UnixMilli(end), ms(step))
	if err != nil {
		a.t.Fatal(err)
	}
	defer q.Close()
	matrix, err := q.Exec(context.Background()).Matrix()
	if err != nil || len(matrix) != 1 {
		a.t.Fatalf("%s: %d series, %v", text, len(matrix), err)
	}
	got := map[int64]float64{}
	for _, p := range matrix[0].Floats {
		got[p.T] = p.F
	}
	wrong, first := 0, ""
	for at := old; at <= end; at += step {
		v, ok := got[at]
		if why := judge(at, v, ok); why != "" {
			if wrong++; wrong == 1 {
				first = fmt.Sprintf("at %s: %s", ms(at-old), why)
			}
		}
	}
	if wrong > 0 {
		a.t.Errorf("%s, step %s: %d of %d wrong; %s", text, ms(step), wrong, (end-old)/step+1, first)
	}
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
