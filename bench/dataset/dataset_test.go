package dataset

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

func write(t *testing.T, s Spec) (dir string, metas []tsdb.BlockMeta) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "set")
	err := Write(t.Context(), dir, s, func(m tsdb.BlockMeta) { metas = append(metas, m) })
	if err != nil {
		t.Fatal(err)
	}
	return dir, metas
}

// TestBlocksHoldTheSeries reads blocks back with the TSDB and compares every
// sample with those that the series give when read another way.
func TestBlocksHoldTheSeries(t *testing.T) {
	for _, s := range []Spec{
		{Mix: "mix", Series: 40, Days: 1, Seed: 1},
		{Mix: "counters", Series: 20, Days: 2, Seed: 7, Block: 7 * time.Hour},
	} {
		t.Run(s.String(), func(t *testing.T) {
			dir, metas := write(t, s)
			got, dirs, err := Open(dir)
			if err != nil || got != s || len(dirs) != len(metas) {
				t.Fatalf("Open: got %v, %d blocks, %v, want %v and %d blocks", got, len(dirs), err, s, len(metas))
			}
			if err := os.Mkdir(filepath.Join(dir, "wal"), 0o777); err != nil { // or there is no database to open
				t.Fatal(err)
			}
			db, err := tsdb.OpenDBReadOnly(dir, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			q, err := db.Querier(math.MinInt64, math.MaxInt64)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = q.Close() }()
			checkSamples(t, s, q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".+")))
			checkMetas(t, s, metas)
		})
	}
}

func checkSamples(t *testing.T, s Spec, set storage.SeriesSet) {
	t.Helper()
	var (
		total int64
		ts    [77]int64
		vs    [77]float64
		it    chunkenc.Iterator
	)
	for _, x := range s.NewSeries() {
		if !set.Next() || !labels.Equal(set.At().Labels(), x.Labels) {
			t.Fatalf("next series is not %s: %v", x.Labels, set.Err())
		}
		it = set.At().Iterator(it)
		for n := x.Read(ts[:], vs[:], s.End()); n > 0; n = x.Read(ts[:], vs[:], s.End()) {
			for i := range n {
				if it.Next() != chunkenc.ValFloat {
					t.Fatalf("%s ends early, want a sample at %d: %v", x.Labels, ts[i], it.Err())
				}
				if gt, gv := it.At(); gt != ts[i] || gv != vs[i] {
					t.Fatalf("%s: got %v at %d, want %v at %d", x.Labels, gv, gt, vs[i], ts[i])
				}
				total++
			}
		}
		if it.Next() != chunkenc.ValNone {
			t.Fatalf("%s has more samples than made", x.Labels)
		}
	}
	if set.Next() || total != s.Samples() {
		t.Fatalf("got %d samples and more series %v, want %d and none", total, set.Next(), s.Samples())
	}
}

func checkMetas(t *testing.T, s Spec, metas []tsdb.BlockMeta) {
	t.Helper()
	var samples uint64
	at := s.Start()
	for _, m := range metas {
		if m.MinTime != at || m.Stats.NumSeries != uint64(s.Series) {
			t.Errorf("block %s: got start %d and %d series, want %d and %d", m.ULID, m.MinTime, m.Stats.NumSeries, at, s.Series)
		}
		if ms := s.Block.Milliseconds(); ms > 0 && m.MinTime/ms != (m.MaxTime-1)/ms {
			t.Errorf("block %s: [%d, %d) crosses a multiple of %s", m.ULID, m.MinTime, m.MaxTime, s.Block)
		}
		at = m.MaxTime
		samples += m.Stats.NumSamples
	}
	if at != s.End() || samples != uint64(s.Samples()) {
		t.Errorf("blocks end at %d with %d samples, want %d and %d", at, samples, s.End(), s.Samples())
	}
}

func TestEqualSpecsAreEqualBytes(t *testing.T) {
	s := Spec{Mix: "mix", Series: 20, Days: 1, Seed: 3}
	a, metas := write(t, s)
	b, _ := write(t, s)
	other := s
	other.Seed = 4
	c, others := write(t, other)
	if metas[0].ULID == others[0].ULID {
		t.Errorf("two seeds, one ULID %s", metas[0].ULID)
	}
	for _, name := range []string{"index", "chunks/000001", "meta.json"} {
		id := metas[0].ULID.String()
		x, y := read(t, filepath.Join(a, id, name)), read(t, filepath.Join(b, id, name))
		if !bytes.Equal(x, y) {
			t.Errorf("%s: equal specs differ", name)
		}
		if bytes.Equal(x, read(t, filepath.Join(c, others[0].ULID.String(), name))) {
			t.Errorf("%s: two seeds are equal", name)
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestShape holds the data to what makes it like real data: counters that fall
// only at restarts, buckets in order, scrapes at their interval, values that
// compress like those of the baseline figures.
func TestShape(t *testing.T) {
	s := Spec{Mix: "mix", Series: 400, Days: 14, Seed: 1}
	resets := 0
	names := map[string]int{}
	for _, x := range s.NewSeries() {
		names[x.t.name]++
		ts, vs := make([]int64, s.scrapes()), make([]float64, s.scrapes())
		if n := x.Read(ts, vs, s.End()); n != len(ts) {
			t.Fatalf("%s: got %d samples, want %d", x.Labels, n, len(ts))
		}
		if ts[0] < s.Start() || ts[len(ts)-1] >= s.End() {
			t.Errorf("%s: samples from %d to %d, want within %d to %d", x.Labels, ts[0], ts[len(ts)-1], s.Start(), s.End())
		}
		for i := 1; i < len(ts); i++ {
			if d := ts[i] - ts[i-1]; d < 14_980 || d > 15_020 {
				t.Fatalf("%s: %d ms between scrapes", x.Labels, d)
			}
			if vs[i] < vs[i-1] && x.t.kind < memory {
				resets++
			}
		}
	}
	counters := 400 / seriesPerPod * 18
	if mean := float64(resets) / float64(counters); mean < 2 || mean > 8 {
		t.Errorf("got %.1f resets a counter, want some 4.7", mean)
	}
	for name, want := range map[string]int{
		"http_requests_total": 60, "http_request_duration_seconds_bucket": 240, "container_memory_working_set_bytes": 20,
	} {
		if names[name] != want {
			t.Errorf("%s: got %d series of 400, want %d", name, names[name], want)
		}
	}
}

func TestBucketsNeverCross(t *testing.T) {
	s := Spec{Mix: "mix", Series: 20, Days: 7, Seed: 2}
	var columns [][]float64
	p := newPod(s.Seed, 0)
	for i := range templates["mix"] {
		tpl := &templates["mix"][i]
		if tpl.kind != bucket && tpl.name != "http_request_duration_seconds_count" {
			continue
		}
		x := newSeries(s, p, tpl, labels.EmptyLabels())
		vs := make([]float64, s.scrapes())
		x.Read(make([]int64, s.scrapes()), vs, s.End())
		columns = append(columns, vs)
	}
	count, buckets := columns[0], columns[1:]
	for n := range count {
		for b := 1; b < len(buckets); b++ {
			if buckets[b][n] < buckets[b-1][n] {
				t.Fatalf("scrape %d: bucket %v has %v, the one below %v", n, bounds[b], buckets[b][n], buckets[b-1][n])
			}
		}
		if got := buckets[len(buckets)-1][n]; got != count[n] {
			t.Fatalf("scrape %d: +Inf has %v, count is %v", n, got, count[n])
		}
	}
}

func TestBadSpecs(t *testing.T) {
	for _, tt := range []struct {
		change func(*Spec)
		want   string
	}{
		{func(s *Spec) { s.Mix = "salad" }, `mix: got "salad"`},
		{func(s *Spec) { s.Series = 30 }, "series: got 30"},
		{func(s *Spec) { s.Days = 0 }, "days: got 0"},
		{func(s *Spec) { s.Block = time.Second }, "block: got 1s"},
	} {
		s := Sets["small"]
		tt.change(&s)
		err := Write(t.Context(), t.TempDir(), s, nil)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(t.Context(), full, Sets["small"], nil); err == nil || !strings.Contains(err.Error(), "want an empty directory") {
		t.Errorf("full directory: got %v", err)
	}
}
