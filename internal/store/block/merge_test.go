package block_test

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/weir-dev/weir/internal/rollup"
	"github.com/weir-dev/weir/internal/store/block"
)

// TestMerge merges twelve blocks and rolls their samples up at once.
func TestMerge(t *testing.T) {
	dir, in := t.TempDir(), data(24*hour)
	const parts = 12
	for _, r := range []int64{5 * minute, hour} {
		var blocks []*block.Block
		chunks, sources := uint64(0), []ulid.ULID{}
		for i := range int64(parts) {
			raw := rawBlock(t, dir, in, base+i*2*hour, base+(i+1)*2*hour)
			m := roll(t, raw, dir, block.Rung{Resolution: r})[0]
			blocks = append(blocks, openBlock(t, at(dir, m)))
			chunks += m.Stats.NumChunks
			sources = append(sources, m.Compaction.Sources...)
		}
		got, err := block.Merge(context.Background(), blocks, dir, block.Options{Hashes: true})
		check(t, err)
		verified(t, at(dir, got))
		want := roll(t, rawBlock(t, dir, in, base, base+24*hour), dir, block.Rung{Resolution: r})[0]
		same(t, "merged", windows(readTier(t, at(dir, got)), r), windows(readTier(t, at(dir, want)), r))
		increases(t, at(dir, got), at(dir, want), r)
		if got.Stats.NumChunks*3 > chunks {
			t.Errorf("got %d chunks of %d", got.Stats.NumChunks, chunks)
		}
		slices.SortFunc(sources, ulid.ULID.Compare)
		if !slices.Equal(got.Compaction.Sources, sources) || len(got.Compaction.Parents) != parts || got.Weir().Samples != want.Weir().Samples {
			t.Errorf("got %+v, %d samples", got.Compaction, got.Weir().Samples)
		}
	}
}

// columns reads a series as the query room does.
func columns(tb testing.TB, dir string, resolution int64, name string) *rollup.Columns {
	tb.Helper()
	b := openBlock(tb, dir)
	c := &rollup.Columns{}
	c.Reset(rollup.NeedCount | rollup.NeedSum | rollup.NeedMin | rollup.NeedMax | rollup.NeedInc)
	s, err := b.Select(context.Background(), labels.MustNewMatcher(labels.MatchEqual, "__name__", name))
	check(tb, err)
	for s.Next() {
		for _, m := range s.Chunks() {
			_, data, err := b.Chunk(m.Ref, nil)
			check(tb, err)
			check(tb, c.AppendAggr(data, resolution, math.MinInt64, math.MaxInt64))
		}
	}
	check(tb, s.Err())
	return c
}

// increases compares the rises of the counter, window by window.
func increases(tb testing.TB, got, want string, resolution int64) {
	tb.Helper()
	rises := func(dir string) map[int64]float64 {
		c, m := columns(tb, dir, resolution, "counter_total"), map[int64]float64{}
		for i, v := range c.Inc {
			m[windowEnd(c.End[i], resolution)] += v
		}
		return m
	}
	g, w := rises(got), rises(want)
	if len(w) == 0 || len(g) != len(w) {
		tb.Fatalf("got increases of %d windows, want %d", len(g), len(w))
	}
	for end, v := range w {
		if math.Abs(g[end]-v) > 1e-9*math.Abs(v) {
			tb.Errorf("window to %d: got an increase of %v, want %v", end, g[end], v)
		}
	}
}

// TestMergeShadow has late samples, which the TSDB compacted into a block that was
// rolled again.
func TestMergeShadow(t *testing.T) {
	dir, in := t.TempDir(), data(6*hour)
	late := series{}
	for name, samples := range in {
		late[name] = samples
	}
	early := series{"gauge job=a pod=x-1": in["gauge job=a pod=x-1"][:100], "counter_total job=a": in["counter_total job=a"]}
	a := roll(t, rawBlock(t, dir, early, base, base+2*hour), dir, block.Rung{Resolution: 5 * minute})[0]
	b := roll(t, rawBlock(t, dir, late, base+2*hour, base+4*hour), dir, block.Rung{Resolution: 5 * minute})[0]
	raw := rawBlock(t, dir, late, base, base+2*hour)
	m, err := block.ReadMeta(raw)
	check(t, err)
	m.Compaction.Sources = append(m.Compaction.Sources, a.Compaction.Sources...)
	m.Compaction.Parents = append(m.Compaction.Parents, tsdb.BlockDesc{ULID: a.ULID, MinTime: a.MinTime, MaxTime: a.MaxTime})
	check(t, m.Write(raw))
	c := roll(t, raw, dir, block.Rung{Resolution: 5 * minute})[0]
	merged, err := block.Merge(context.Background(), []*block.Block{openBlock(t, at(dir, a)), openBlock(t, at(dir, b)), openBlock(t, at(dir, c))}, dir, block.Options{})
	check(t, err)
	same(t, "shadowed", windows(readTier(t, at(dir, merged)), 5*minute), fold(t, late, 5*minute, base, base+4*hour))
}

// TestMergeAdds has blocks of the same time that know nothing of each other.
func TestMergeAdds(t *testing.T) {
	dir, in := t.TempDir(), data(6*hour)
	even, odd := series{}, series{}
	for name, samples := range in {
		for i, s := range samples {
			if i%3 == 1 && s.h == nil || i%3 == 2 && s.h != nil {
				odd[name] = append(odd[name], s)
			} else {
				even[name] = append(even[name], s)
			}
		}
	}
	var blocks []*block.Block
	for _, part := range []series{even, odd} {
		m := roll(t, rawBlock(t, dir, part, base, base+6*hour), dir, block.Rung{Resolution: 5 * minute})[0]
		blocks = append(blocks, openBlock(t, at(dir, m)))
	}
	m, err := block.Merge(context.Background(), blocks, dir, block.Options{})
	check(t, err)
	verified(t, at(dir, m))
	same(t, "added", windows(readTier(t, at(dir, m)), 5*minute), fold(t, in, 5*minute, base, base+6*hour))
	increases(t, at(dir, m), blocks[0].Dir(), 5*minute)
}

func TestMergeRefuses(t *testing.T) {
	dir := t.TempDir()
	raw := rawBlock(t, dir, data(hour), base, base+2*hour)
	ms := roll(t, raw, dir, block.Rung{Resolution: 5 * minute}, block.Rung{Resolution: hour})
	a, b := openBlock(t, at(dir, ms[0])), openBlock(t, at(dir, ms[1]))
	for _, blocks := range [][]*block.Block{nil, {a, b}, {openBlock(t, raw)}} {
		if m, err := block.Merge(context.Background(), blocks, dir, block.Options{}); err == nil {
			t.Errorf("merged %d blocks into %s", len(blocks), m.ULID)
		}
	}
}

func TestRewrite(t *testing.T) {
	dir, in := t.TempDir(), data(6*hour)
	raw := rawBlock(t, dir, in, base, base+6*hour)
	r := 5 * minute
	tier := at(dir, roll(t, raw, dir, block.Rung{Resolution: r})[0])
	match := func(name, value string) block.Matchers {
		return block.Matchers{labels.MustNewMatcher(labels.MatchEqual, name, value)}
	}
	whole := block.Deletion{Matchers: match("pod", "x-1"), RequestID: "whole"}
	hole := tombstones.Intervals{{Mint: base + 61*minute, Maxt: base + 122*minute}}
	part := block.Deletion{Matchers: match("__name__", "counter_total"), Intervals: hole}
	hist := block.Deletion{Matchers: match("__name__", "latency"), Intervals: hole}

	want := series{}
	for name, samples := range in {
		want[name] = samples
		if name == "gauge job=a pod=x-1" {
			delete(want, name)
		}
	}
	// A point that covers a part of the hole goes: windows (60m, 65m] to (120m, 125m].
	from, to := base+60*minute+1, base+125*minute
	for _, name := range []string{"counter_total job=a", "latency job=b"} {
		want[name] = slices.DeleteFunc(slices.Clone(in[name]), func(s sample) bool { return from <= s.t && s.t <= to })
	}
	m, err := block.Rewrite(context.Background(), tier, dir, []block.Deletion{whole, part, hist}, block.Options{Hashes: true})
	check(t, err)
	verified(t, at(dir, m))
	same(t, "tier", windows(readTier(t, at(dir, m)), r), fold(t, want, r, base, base+6*hour))
	if n := len(m.Thanos.Rewrites); n != 1 || m.Thanos.Rewrites[0].Deletions[0].RequestID != "whole" {
		t.Errorf("got rewrites %+v", m.Thanos.Rewrites)
	}
	// What the counter rose by in all, but within the points next to the hole, is what it was.
	was, is := columns(t, tier, r, "counter_total"), columns(t, at(dir, m), r, "counter_total")
	if a, b := sum(was.Inc), sum(is.Inc); math.Abs(a-b) > 1e-9*a {
		t.Errorf("got a total increase of %v, want %v", b, a)
	}

	// The same of the raw block, rolled up: it loses no more than the samples.
	for _, name := range []string{"counter_total job=a", "latency job=b"} {
		want[name] = slices.DeleteFunc(slices.Clone(in[name]), func(s sample) bool { return hole[0].InBounds(s.t) })
	}
	m, err = block.Rewrite(context.Background(), raw, dir, []block.Deletion{whole, part, hist}, block.Options{})
	check(t, err)
	verified(t, at(dir, m))
	again := roll(t, at(dir, m), dir, block.Rung{Resolution: r})[0]
	same(t, "raw", windows(readTier(t, at(dir, again)), r), fold(t, want, r, base, base+6*hour))

	m, err = block.Rewrite(context.Background(), tier, dir, []block.Deletion{{Matchers: match("job", "none")}}, block.Options{})
	if m != nil || err != nil {
		t.Errorf("with nothing to delete: got %v and error %v", m, err)
	}
	if _, err = block.Rewrite(context.Background(), tier, dir, []block.Deletion{{}}, block.Options{}); err == nil {
		t.Error("a deletion without matchers was done")
	}
	m, err = block.Rewrite(context.Background(), tier, dir, []block.Deletion{{Matchers: block.Matchers{labels.MustNewMatcher(labels.MatchRegexp, "job", ".+")}}}, block.Options{})
	check(t, err)
	if r := verified(t, at(dir, m)); r.Series != 0 {
		t.Errorf("with all deleted: %d series are left", r.Series)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*tmp*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func sum(vs []float64) (s float64) {
	for _, v := range vs {
		s += v
	}
	return s
}
