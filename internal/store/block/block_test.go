package block_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"

	"github.com/weir-dev/weir/internal/rollup"
	"github.com/weir-dev/weir/internal/store/block"
)

const (
	second = int64(1000)
	minute = 60 * second
	hour   = 60 * minute
)

// sample is a float, or a histogram if h is set.
type sample struct {
	t int64
	v float64
	h *histogram.Histogram
}

// series by their labels.
type series map[string][]sample

func lbls(tb testing.TB, s string) labels.Labels {
	tb.Helper()
	ls, err := parseLabels(s)
	check(tb, err)
	return ls
}

// parseLabels reads "name a=1 b=2".
func parseLabels(s string) (labels.Labels, error) {
	b := labels.NewBuilder(labels.EmptyLabels())
	for i, f := range slices.Collect(fields(s)) {
		if i == 0 {
			b.Set("__name__", f)
			continue
		}
		var k, v string
		for j := range f {
			if f[j] == '=' {
				k, v = f[:j], f[j+1:]
			}
		}
		if k == "" {
			return labels.EmptyLabels(), fmt.Errorf("label %q", f)
		}
		b.Set(k, v)
	}
	return b.Labels(), nil
}

func fields(s string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for from, i := 0, 0; i <= len(s); i++ {
			if i == len(s) || s[i] == ' ' {
				if !yield(s[from:i]) {
					return
				}
				from = i + 1
			}
		}
	}
}

// rawBlock has the TSDB write a block of what of data lies in [mint, maxt).
func rawBlock(tb testing.TB, dir string, data series, mint, maxt int64) string {
	tb.Helper()
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, 4*(maxt-mint))
	check(tb, err)
	defer w.Close()
	app := w.Appender(context.Background())
	for name, samples := range data {
		ls := lbls(tb, name)
		for _, s := range samples {
			if s.t < mint || s.t >= maxt {
				continue
			}
			if s.h != nil {
				_, err = app.AppendHistogram(0, ls, s.t, s.h, nil)
			} else {
				_, err = app.Append(0, ls, s.t, s.v)
			}
			check(tb, err)
		}
	}
	check(tb, app.Commit())
	id, err := w.Flush(context.Background())
	check(tb, err)
	dir = filepath.Join(dir, id.String())
	m, err := block.ReadMeta(dir)
	check(tb, err)
	m.MinTime, m.MaxTime = mint, maxt // the TSDB's head would have cut it there
	check(tb, m.Write(dir))
	return dir
}

// data is what tests roll up: two days would be long, six hours have borders enough.
func data(span int64) series {
	out := series{}
	counter, gauge := 0.0, 100.0
	for i := int64(0); i*15*second < span; i++ {
		t := base + i*15*second
		if counter += float64(i%7) / 4; i%500 == 499 {
			counter = 1
		}
		gauge += float64(i%13-6) / 8
		out["counter_total job=a"] = append(out["counter_total job=a"], sample{t: t, v: counter})
		out["gauge job=a pod=x-1"] = append(out["gauge job=a pod=x-1"], sample{t: t + 7, v: gauge})
		if i%4 == 0 {
			h := tsdbutil.GenerateTestHistogram(i % 1000)
			out["latency job=b"] = append(out["latency job=b"], sample{t: t, h: h})
		}
		if i%100 < 40 {
			out["gaps job=b"] = append(out["gaps job=b"], sample{t: t, v: float64(i)})
		} else if i%100 == 40 {
			out["gaps job=b"] = append(out["gaps job=b"], sample{t: t, v: math.Float64frombits(value.StaleNaN)})
		}
		if i%200 == 0 {
			out["stale_only job=c"] = append(out["stale_only job=c"], sample{t: t, v: math.Float64frombits(value.StaleNaN)})
		}
	}
	return out
}

// pt is a point as a test reads it; windows add up to what the naive fold says.
type pt struct {
	end        int64
	count, sum float64
	min, max   float64
	hcount     uint64
	isHist     bool
}

// readTier reads all points with the TSDB's own reader of blocks, and checks that
// the counter's parts are there.
func readTier(tb testing.TB, dir string) map[string][]pt {
	tb.Helper()
	b, err := tsdb.OpenBlock(nil, dir, rollup.NewPool(), nil)
	check(tb, err)
	defer b.Close()
	q, err := tsdb.NewBlockChunkQuerier(b, math.MinInt64, math.MaxInt64)
	check(tb, err)
	defer q.Close()
	out := map[string][]pt{}
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".*"))
	for set.Next() {
		name := set.At().Labels().String()
		for it := set.At().Iterator(nil); it.Next(); {
			c := rollup.AggrChunk(it.At().Chunk.Bytes())
			out[name] = append(out[name], readPoints(tb, c)...)
		}
	}
	check(tb, set.Err())
	return out
}

func readPoints(tb testing.TB, c rollup.AggrChunk) (out []pt) {
	tb.Helper()
	iter := func(a rollup.Aggregate) chunkenc.Iterator {
		enc, data, err := c.Part(a)
		check(tb, err)
		x, err := chunkenc.FromData(enc, data)
		check(tb, err)
		return x.Iterator(nil)
	}
	count, sum := iter(rollup.Count), iter(rollup.Sum)
	enc, _, err := c.Part(rollup.Sum)
	check(tb, err)
	if enc != chunkenc.EncXOR {
		for count.Next() != chunkenc.ValNone && sum.Next() != chunkenc.ValNone {
			t, n := count.At()
			_, h := sum.AtFloatHistogram(nil)
			out = append(out, pt{end: t, count: n, sum: h.Sum, hcount: uint64(h.Count), isHist: true})
		}
		return out
	}
	low, high := iter(rollup.Min), iter(rollup.Max)
	for count.Next() != chunkenc.ValNone && sum.Next() != chunkenc.ValNone && low.Next() != chunkenc.ValNone && high.Next() != chunkenc.ValNone {
		p := pt{}
		p.end, p.count = count.At()
		_, p.sum = sum.At()
		_, p.min = low.At()
		_, p.max = high.At()
		out = append(out, p)
	}
	return out
}

// fold is the naive rollup: whole windows by their ends. A window that is split over
// points is one here.
func fold(tb testing.TB, in series, resolution, mint, maxt int64) map[string][]pt {
	out := map[string][]pt{}
	for name, samples := range in {
		ps := map[int64]*pt{}
		for _, s := range samples {
			if s.t < mint || s.t >= maxt || s.h == nil && value.IsStaleNaN(s.v) {
				continue
			}
			addTo(ps, windowEnd(s.t, resolution), pointOf(s))
		}
		if len(ps) > 0 {
			out[lbls(tb, name).String()] = sorted(ps)
		}
	}
	return out
}

func pointOf(s sample) pt {
	if s.h != nil {
		return pt{count: 1, sum: s.h.Sum, hcount: s.h.Count, isHist: true}
	}
	return pt{count: 1, sum: s.v, min: s.v, max: s.v}
}

// windows joins points of one window, as fold has them.
func windows(in map[string][]pt, resolution int64) map[string][]pt {
	out := map[string][]pt{}
	for name, points := range in {
		ps := map[int64]*pt{}
		for _, p := range points {
			addTo(ps, windowEnd(p.end, resolution), p)
		}
		out[name] = sorted(ps)
	}
	return out
}

func addTo(ps map[int64]*pt, end int64, p pt) {
	p.end = end
	had := ps[end]
	if had == nil {
		ps[end] = &p
		return
	}
	had.count, had.sum, had.hcount = had.count+p.count, had.sum+p.sum, had.hcount+p.hcount
	had.min, had.max = min(had.min, p.min), max(had.max, p.max)
}

func sorted(ps map[int64]*pt) (out []pt) {
	for _, end := range slices.Sorted(maps.Keys(ps)) {
		out = append(out, *ps[end])
	}
	return out
}

func windowEnd(t, r int64) int64 { return (t + r - 1) / r * r }

func same(tb testing.TB, what string, got, want map[string][]pt) {
	tb.Helper()
	for name := range want {
		if len(got[name]) != len(want[name]) {
			tb.Errorf("%s: %s: got %d points, want %d", what, name, len(got[name]), len(want[name]))
			continue
		}
		for i, w := range want[name] {
			g := got[name][i]
			if d := math.Abs(g.sum - w.sum); d > 1e-9*math.Abs(w.sum) {
				tb.Errorf("%s: %s: point %d: got sum %v, want %v", what, name, i, g.sum, w.sum)
			}
			if g.sum = w.sum; g != w {
				tb.Errorf("%s: %s: point %d: got %+v, want %+v", what, name, i, g, w)
				break
			}
		}
	}
	for name := range got {
		if want[name] == nil {
			tb.Errorf("%s: %s: got %d points of a series that should not be", what, name, len(got[name]))
		}
	}
}

func roll(tb testing.TB, raw, dir string, rungs ...block.Rung) []*block.Meta {
	tb.Helper()
	for i := range rungs {
		rungs[i].Dir = dir
	}
	ms, err := block.Roll(context.Background(), raw, rungs, block.Options{Labels: map[string]string{"cluster": "test"}, Hashes: true})
	check(tb, err)
	for _, m := range ms {
		verified(tb, filepath.Join(dir, m.ULID.String()))
	}
	return ms
}

func verified(tb testing.TB, dir string) block.Report {
	tb.Helper()
	r, err := block.Verify(context.Background(), dir)
	check(tb, err)
	if err := r.Err(); err != nil {
		tb.Fatalf("verify: %v", err)
	}
	return r
}

func at(dir string, m *block.Meta) string { return filepath.Join(dir, m.ULID.String()) }

func openBlock(tb testing.TB, dir string) *block.Block {
	tb.Helper()
	b, err := block.Open(dir)
	check(tb, err)
	tb.Cleanup(func() { check(tb, b.Close()) })
	return b
}
