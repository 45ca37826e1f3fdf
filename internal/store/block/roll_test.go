package block_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/weir-dev/weir/internal/store/block"
)

func TestRoll(t *testing.T) {
	dir, in := t.TempDir(), data(6*hour)
	raw := rawBlock(t, dir, in, base, base+6*hour)
	ms := roll(t, raw, dir, block.Rung{Resolution: 5 * minute}, block.Rung{Resolution: hour},
		block.Rung{Resolution: 24 * hour, Selectors: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "job", "b")}})
	for i, r := range []int64{5 * minute, hour} {
		same(t, time.Duration(r*1e6).String(), windows(readTier(t, at(dir, ms[i])), r), fold(t, in, r, base, base+6*hour))
		if ms[i].Weir().Replaces || ms[i].Stats.NumHistogramSamples == 0 || ms[i].Stats.NumFloatSamples == 0 {
			t.Errorf("got meta %+v", ms[i])
		}
	}
	b := series{"latency job=b": in["latency job=b"], "gaps job=b": in["gaps job=b"]}
	same(t, "selected", windows(readTier(t, at(dir, ms[2])), 24*hour), fold(t, b, 24*hour, base, base+6*hour))
	if idx, err := os.ReadFile(filepath.Join(at(dir, ms[2]), block.IndexFile)); err != nil || strings.Contains(string(idx), "counter_total") {
		t.Errorf("the symbols of series that the selector does not take are in the index, or: %v", err)
	}
	if got, want := ms[2].Weir().Selector, `{job="b"}`; got != want {
		t.Errorf("got selector %s, want %s", got, want)
	}
	last := base + 6*hour - 1
	for name, ps := range readTier(t, at(dir, ms[1])) {
		if end := ps[len(ps)-1].end; end > last {
			t.Errorf("%s: a point is at %d, beyond the block's end %d", name, end, last)
		}
	}
}

// TestRollProgress has as many series as take two calls, half of which no rung wants.
func TestRollProgress(t *testing.T) {
	dir, in, n := t.TempDir(), series{}, uint64(400)
	for i := range n {
		for k := range int64(3) {
			name := fmt.Sprintf("m env=%d i=%d", i%2, i)
			in[name] = append(in[name], sample{t: base + k*minute, v: 1})
		}
	}
	type call struct{ series, samples uint64 }
	for _, x := range []struct {
		rung block.Rung
		want []call
	}{
		{block.Rung{Resolution: hour}, []call{{256, 3 * 256}, {n, 3 * n}}},
		{block.Rung{Resolution: hour, Selectors: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "env", "0")}}, []call{{256, 3 * 200}, {n, 3 * 200}}},
	} {
		x.rung.Dir = t.TempDir()
		var got []call
		_, err := block.Roll(t.Context(), rawBlock(t, dir, in, base, base+2*hour), []block.Rung{x.rung}, block.Options{
			Progress: func(series, samples uint64) { got = append(got, call{series, samples}) },
		})
		check(t, err)
		if !slices.Equal(got, x.want) {
			t.Errorf("selector %v: got %v, want %v", x.rung.Selectors, got, x.want)
		}
	}
}

// TestRollDeleted has tombstones and a block that the TSDB compacted.
func TestRollDeleted(t *testing.T) {
	dir, in := t.TempDir(), data(4*hour)
	a, b := rawBlock(t, dir, in, base, base+2*hour), rawBlock(t, dir, in, base+2*hour, base+4*hour)
	c, err := tsdb.NewLeveledCompactor(context.Background(), nil, nil, []int64{2 * hour, 4 * hour}, chunkenc.NewPool(), nil)
	check(t, err)
	ids, err := c.Compact(dir, []string{a, b}, nil)
	check(t, err)
	raw := filepath.Join(dir, ids[0].String())
	tb, err := tsdb.OpenBlock(nil, raw, nil, nil)
	check(t, err)
	from, to := base+30*minute, base+150*minute
	check(t, tb.Delete(context.Background(), from, to, labels.MustNewMatcher(labels.MatchEqual, "job", "a")))
	check(t, tb.Close())
	for _, name := range []string{"counter_total job=a", "gauge job=a pod=x-1"} {
		in[name] = slices.DeleteFunc(in[name], func(s sample) bool { return from <= s.t && s.t <= to })
	}
	ms := roll(t, raw, dir, block.Rung{Resolution: 5 * minute})
	same(t, "deleted", windows(readTier(t, at(dir, ms[0])), 5*minute), fold(t, in, 5*minute, base, base+4*hour))
	if w := ms[0].Weir(); !w.Replaces || !slices.Equal(w.RolledFrom, ids) || len(ms[0].Compaction.Sources) != 2 {
		t.Errorf("got %+v of sources %v", w, ms[0].Compaction.Sources)
	}
}

func TestRollEmptyRung(t *testing.T) {
	dir := t.TempDir()
	raw := rawBlock(t, dir, data(hour), base, base+2*hour)
	ms := roll(t, raw, dir, block.Rung{Resolution: 5 * minute, Selectors: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "job", "none")}})
	b := openBlock(t, at(dir, ms[0]))
	s, err := b.Select(context.Background())
	check(t, err)
	if s.Next() || s.Err() != nil || ms[0].Stats.NumSeries != 0 {
		t.Errorf("got a series %s, or: %v", s.Labels(), s.Err())
	}
	q, err := tsdb.NewBlockQuerier(b, 0, base*2)
	check(t, err)
	if vs, _, err := q.LabelNames(context.Background(), nil); len(vs) > 0 || err != nil {
		t.Errorf("got label names %v and error %v", vs, err)
	}
	check(t, q.Close())
}

// TestRollClockBack has a clock that is behind the blocks that are there.
func TestRollClockBack(t *testing.T) {
	dir := t.TempDir()
	raw := rawBlock(t, dir, data(hour), base, base+2*hour)
	after := ulid.MustNew(ulid.Timestamp(time.Now().Add(time.Hour)), nil)
	ms, err := block.Roll(context.Background(), raw, []block.Rung{{Resolution: 5 * minute, Dir: dir}, {Resolution: hour, Dir: dir}},
		block.Options{After: after, Now: func() time.Time { return time.Unix(0, 0) }})
	check(t, err)
	if ms[0].ULID.Compare(after) <= 0 || ms[1].ULID.Compare(ms[0].ULID) <= 0 {
		t.Errorf("got %s and %s, want them after %s", ms[0].ULID, ms[1].ULID, after)
	}
}

func TestRollRefuses(t *testing.T) {
	dir := t.TempDir()
	raw := rawBlock(t, dir, data(hour), base, base+2*hour)
	tier := at(dir, roll(t, raw, dir, block.Rung{Resolution: 5 * minute})[0])
	ended, stop := context.WithCancel(context.Background())
	stop()
	for _, c := range []struct {
		name, raw, want string
		ctx             context.Context
		rungs           []block.Rung
	}{
		{"no division", raw, "no multiple", context.Background(), []block.Rung{{Resolution: 5 * minute}, {Resolution: 7 * minute}}},
		{"no rung", raw, "0 resolutions", context.Background(), nil},
		{"tier", tier, "resolution of 300000 ms", context.Background(), []block.Rung{{Resolution: hour}}},
		{"missing", filepath.Join(dir, "none"), "none", context.Background(), []block.Rung{{Resolution: hour}}},
		{"ended", raw, "canceled", ended, []block.Rung{{Resolution: hour}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := t.TempDir()
			for i := range c.rungs {
				c.rungs[i].Dir = out
			}
			_, err := block.Roll(c.ctx, c.raw, c.rungs, block.Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want one about %q", err, c.want)
			}
			if left, _ := os.ReadDir(out); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// TestOpen reads through the TSDB's querier, from mapped files and from elsewhere.
func TestOpen(t *testing.T) {
	dir, in := t.TempDir(), data(2*hour)
	raw := rawBlock(t, dir, in, base, base+2*hour)
	b := openBlock(t, raw)
	idx, err := os.ReadFile(filepath.Join(raw, block.IndexFile))
	check(t, err)
	seg, err := os.Open(filepath.Join(raw, block.SegmentName(0)))
	check(t, err)
	defer seg.Close()
	far, err := block.OpenAt(b.FullMeta(), bytesIndex(idx), []io.ReaderAt{seg}, b.Size())
	check(t, err)
	defer far.Close()
	for _, b := range []*block.Block{b, far} {
		q, err := tsdb.NewBlockQuerier(b, 0, base*2)
		check(t, err)
		set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "counter_total"))
		if !set.Next() {
			t.Fatalf("no series: %v", set.Err())
		}
		n := 0
		for it := set.At().Iterator(nil); it.Next() != chunkenc.ValNone; n++ {
			ts, v := it.At()
			if want := in["counter_total job=a"][n]; ts != want.t || v != want.v {
				t.Fatalf("sample %d: got %v at %d, want %v", n, v, ts, want)
			}
		}
		if n != len(in["counter_total job=a"]) {
			t.Errorf("got %d samples", n)
		}
		jobA := labels.MustNewMatcher(labels.MatchEqual, "job", "a")
		vs, _, err := q.LabelValues(context.Background(), "__name__", &storage.LabelHints{}, jobA)
		if want := []string{"counter_total", "gauge"}; err != nil || !slices.Equal(vs, want) {
			t.Errorf("got values %v and error %v, want %v", vs, err, want)
		}
		ns, _, err := q.LabelNames(context.Background(), nil, jobA)
		if want := []string{"__name__", "job", "pod"}; err != nil || !slices.Equal(ns, want) {
			t.Errorf("got names %v and error %v, want %v", ns, err, want)
		}
		check(t, q.Close())
	}
	if !b.Acquire() {
		t.Fatal("an open block cannot be acquired")
	}
	closed := make(chan error)
	go func() { closed <- b.Close() }()
	select {
	case <-closed:
		t.Error("Close did not wait for a reader")
	case <-time.After(20 * time.Millisecond):
	}
	b.Release()
	check(t, <-closed)
	if b.Acquire() {
		t.Error("a closed block can be acquired")
	}
	if _, err := b.Index(); !errors.Is(err, tsdb.ErrClosing) {
		t.Errorf("got error %v", err)
	}
}

type bytesIndex []byte

func (b bytesIndex) Len() int                    { return len(b) }
func (b bytesIndex) Range(start, end int) []byte { return b[start:end] }
