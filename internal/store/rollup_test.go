package store_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/store"
	"github.com/weir-dev/weir/internal/store/bucket"
)

const day = int64(24 * 60 * 60 * 1000)

// old is a whole day long ago.
const old = 19_676 * day

// fillDay writes a sample a minute for a day, in steps that let the TSDB cut blocks.
func fillDay(t *testing.T, s *store.Store, from int64) {
	t.Helper()
	ls := labels.FromStrings(model.MetricNameLabel, "m", "of", "day")
	for h := range int64(24) {
		app := s.AppenderV2(context.Background())
		for m := range int64(60) {
			at := from + (h*60+m)*60_000 + 30_000
			if _, err := app.Append(0, ls, 0, at, float64(h), nil, nil, storage.AOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DB().Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in 30 s: %s", what)
		}
	}
}

func rollupConfig(t *testing.T) store.Config {
	cfg := config(filepath.Join(t.TempDir(), "data"))
	cfg.Rolling.CheckInterval = conf.Duration(20 * time.Millisecond)
	cfg.Rollups[0].Keep, cfg.Rollups[1].Keep = 0, 0
	return cfg
}

// reload makes the TSDB look at its blocks, which deletes what may go.
func reload(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.DB().CompactOOOHead(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestRollups(t *testing.T) {
	s, closing := open(t, rollupConfig(t), nil)
	fillDay(t, s, old)
	eventually(t, "all blocks are rolled up", func() bool { return s.Tiers().Status().Waiting == 0 })
	cfg := rollupConfig(t)
	cfg.Dir = s.DB().Dir()
	cfg.Retention.Time = conf.Duration(4 * time.Hour)
	if err := s.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	reload(t, s)
	oldest := s.DB().Blocks()[0].MinTime()
	if oldest < old+day/2 {
		t.Fatalf("raw data is there from %d h on", (oldest-old)*24/day)
	}
	check := func() {
		t.Helper()
		readDay(t, s, oldest)
	}
	check()
	if at, err := s.StartTime(); err != nil || at > old+60_000 {
		t.Errorf("start time %d, %v", at, err)
	}
	var status struct {
		Status string
		Data   struct {
			Rungs []struct {
				Resolution string
				Blocks     int
			}
		}
	}
	get(t, s.Tiers().StatusHandler(), &status)
	if status.Status != "success" || len(status.Data.Rungs) != 2 || status.Data.Rungs[0].Resolution != "5m" || status.Data.Rungs[0].Blocks == 0 {
		t.Errorf("status %+v", status)
	}
	var dry struct {
		Status string
		Data   struct{ Removals []any }
	}
	get(t, s.Tiers().RetentionHandler(), &dry)
	if dry.Status != "success" || dry.Data.Removals == nil {
		t.Errorf("dry run %+v", dry)
	}
	closing()
	s, _ = open(t, cfg, nil)
	check()
}

// readDay reads the day through every door of the querier: before oldest there are
// points of five minutes, then samples.
func readDay(t *testing.T, s *store.Store, oldest int64) {
	t.Helper()
	name := labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, "m")
	q, err := s.Querier(old, old+day)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	values, _, err := q.LabelValues(context.Background(), "of", nil, name)
	if err != nil || !slices.Equal(values, []string{"day"}) {
		t.Errorf("label values %v, %v", values, err)
	}
	set := q.Select(context.Background(), true, nil, name)
	if !set.Next() {
		t.Fatalf("no series: %v", set.Err())
	}
	points, samples, last := 0, 0, int64(0)
	for it := set.At().Iterator(nil); it.Next() == chunkenc.ValFloat; {
		at, v := it.At()
		if at <= last {
			t.Errorf("time goes from %d to %d", last, at)
		}
		last = at
		if want := float64((at - 1 - old) * 24 / day); v != want && at < oldest { // a gauge that rises by the hour
			t.Errorf("at %d minutes: %g, want %g", (at-old)/60_000, v, want)
		}
		if at < oldest {
			points++
		} else {
			samples++
		}
	}
	if points != int((oldest-old)/300_000) || samples != 24*60-int((oldest-old)/60_000) {
		t.Errorf("%d points, %d samples", points, samples)
	}
	if set.Next() {
		t.Errorf("a second series: %s", set.At().Labels())
	}
	series := q.Select(context.Background(), true, &storage.SelectHints{Start: old, End: old + day, Func: "series"}, name)
	n := 0
	for series.Next() {
		n++
	}
	if n != 1 || series.Err() != nil {
		t.Errorf("%d series, %v", n, series.Err())
	}
	cq, err := s.ChunkQuerier(old, old+day)
	if err != nil {
		t.Fatal(err)
	}
	defer cq.Close()
	chunked, n := cq.Select(context.Background(), true, nil, name), 0
	for chunked.Next() {
		for it := chunked.At().Iterator(nil); it.Next(); {
			n += it.At().Chunk.NumSamples()
		}
	}
	if n != points+samples || chunked.Err() != nil {
		t.Errorf("%d samples in chunks, want %d; %v", n, points+samples, chunked.Err())
	}
}

func get(t *testing.T, h http.Handler, into any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?dry_run=1", nil))
	if err := json.Unmarshal(w.Body.Bytes(), into); err != nil || w.Code != http.StatusOK {
		t.Errorf("%d %s: %v", w.Code, w.Body, err)
	}
}

// TestBucket ships a day, lets raw data leave the disk, and reads it back.
func TestBucket(t *testing.T) {
	cfg := rollupConfig(t)
	cfg.Bucket.Type, cfg.Bucket.Config = "filesystem", bucket.Provider{"directory": t.TempDir()}
	cfg.Bucket.ExternalLabels = map[string]string{"cluster": "test"}
	cfg.Bucket.After = conf.Duration(6 * time.Hour)
	cfg.Bucket.Refresh = conf.Duration(time.Second)
	s, closing := open(t, cfg, nil)
	fillDay(t, s, old)
	eventually(t, "all blocks are rolled up", func() bool { return s.Tiers().Status().Waiting == 0 })
	eventually(t, "raw data has left the disk", func() bool {
		reload(t, s)
		return s.DB().Blocks()[0].MinTime() > old+day/3
	})
	count := func() (n int) {
		q, err := s.Querier(old, old+day)
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, "m"))
		for set.Next() {
			for it := set.At().Iterator(nil); it.Next() != chunkenc.ValNone; {
				n++
			}
		}
		if set.Err() != nil {
			t.Fatal(set.Err())
		}
		return n
	}
	eventually(t, "all raw samples are read, from the bucket too", func() bool { return count() == 24*60 })
	closing()
	s, _ = open(t, cfg, nil)
	eventually(t, "all raw samples are read after a restart", func() bool { return count() == 24*60 })
	// What is deleted is hidden in the bucket, too.
	all := labels.MustNewMatcher(labels.MatchEqual, "of", "day")
	if err := s.Delete(context.Background(), 0, old+day/2-1, all); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 12*60 {
		t.Errorf("%d samples are read after half was deleted", n)
	}
	eventually(t, "the deletion is done", func() bool { return s.Tiers().Status().Deletions == 0 })
	if n := count(); n != 12*60 {
		t.Errorf("%d samples are read when the deletion is done", n)
	}
}
