package store_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"go.uber.org/goleak"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/store"
	"github.com/weir-dev/weir/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(dir string) store.Config {
	cfg := store.DefaultConfig()
	cfg.Dir = dir
	cfg.Retention.Time = 0 // the tests' samples are old
	cfg.MinFreeDisk = 0
	return cfg
}

// open runs a store until the returned function, which may be called twice, or the
// test's end closes it.
func open(t testing.TB, cfg store.Config, hooks tsdb.SeriesLifecycleCallback) (*store.Store, func()) {
	t.Helper()
	return openLogged(t, cfg, hooks, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

// openUnreserved opens a store that goes on until the disk itself refuses.
func openUnreserved(t testing.TB, cfg store.Config) (*store.Store, func()) {
	t.Helper()
	s, err := store.New(cfg, nil, slog.New(slog.NewTextHandler(t.Output(), nil)), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	s.SetHeadRoom(0)
	return run(t, s)
}

func openLogged(t testing.TB, cfg store.Config, hooks tsdb.SeriesLifecycleCallback, log *slog.Logger) (*store.Store, func()) {
	t.Helper()
	s, err := store.New(cfg, hooks, log, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return run(t, s)
}

func run(t testing.TB, s *store.Store) (*store.Store, func()) {
	t.Helper()
	if os.Getenv("WEIR_REPLAY_CHILD") == "" { // what measures keeps its stripes
		s.SetStripes(1 << 10)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for ready := false; !ready; ready, _ = s.Ready() {
		select {
		case err := <-ended:
			cancel()
			t.Fatalf("run ended before ready: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
	var once sync.Once
	closing := func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("run: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	t.Cleanup(closing)
	return s, closing
}

func TestContract(t *testing.T) {
	for _, mode := range []string{store.StartTimestampsNone, store.StartTimestampsZeroSample, store.StartTimestampsStored} {
		t.Run(mode, func(t *testing.T) {
			storetest.Run(t, func(t *testing.T, dir string) (storetest.Store, func()) {
				cfg := config(dir)
				cfg.StartTimestamps = mode
				return open(t, cfg, nil)
			})
		})
	}
	t.Run("snapshot on shutdown", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T, dir string) (storetest.Store, func()) {
			cfg := config(dir)
			cfg.SnapshotOnShutdown, cfg.WALCompression = true, store.CompressionZstd
			return open(t, cfg, nil)
		})
	})
}

// closable lets the suite close the store.
type closable struct {
	*store.Store
	closing func()
}

func (c closable) Close() error { c.closing(); return nil }

func TestPromQL(t *testing.T) {
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	promqltest.RunBuiltinTestsWithStorage(t, engine, func(t testing.TB) storage.Storage {
		cfg := config(t.TempDir())
		cfg.OutOfOrderWindow = 0
		cfg.MinBlockDuration = conf.Duration(24 * time.Hour) // some scripts load a day, not in order of time
		cfg.StartTimestamps = store.StartTimestampsStored    // the suite asks for start timestamps
		s, closing := open(t, cfg, nil)
		return closable{s, closing}
	})
}

func add(t testing.TB, s *store.Store, ls labels.Labels, t0 int64, values ...float64) storage.SeriesRef {
	t.Helper()
	app := s.AppenderV2(context.Background())
	var ref storage.SeriesRef
	var err error
	for i, v := range values {
		if ref, err = app.Append(ref, ls, 0, t0+int64(i)*1000, v, nil, nil, storage.AOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestNotReady(t *testing.T) {
	s, err := store.New(config(filepath.Join(t.TempDir(), "none")), nil, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	ready, text := s.Ready()
	if ready || text == "" {
		t.Errorf("ready %v (%q) before run", ready, text)
	}
	ctx := context.Background()
	app := s.AppenderV2(ctx)
	_, appErr := app.Append(0, labels.FromStrings("a", "b"), 0, 1, 1, nil, nil, storage.AOptions{})
	_, v1Err := s.Appender(ctx).Append(0, labels.FromStrings("a", "b"), 1, 1)
	_, qErr := s.Querier(0, 1)
	_, cErr := s.ChunkQuerier(0, 1)
	_, eErr := s.ExemplarQuerier(ctx)
	_, stErr := s.StartTime()
	_, statErr := s.Stats("a", 1)
	_, metaErr := s.BlockMetas()
	for i, err := range []error{appErr, v1Err, app.Commit(), qErr, cErr, eErr, stErr, statErr, metaErr, s.Delete(ctx, 0, 1), s.CleanTombstones(), s.Snapshot("x", true)} {
		if !errors.Is(err, tsdb.ErrNotReady) {
			t.Errorf("door %d: got error %v, want %v", i, err, tsdb.ErrNotReady)
		}
	}
	if _, _, _, ok := s.Last(1); ok {
		t.Error("last sample found")
	}
	if _, _, _, ok := s.SampleAt(1, 1); ok {
		t.Error("sample found")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	open(t, config(dir), nil)
	s, err := store.New(config(dir), nil, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); err == nil {
		t.Error("a second store opened the same directory")
	}
}

// TestCrash copies the files of a running store, as a kill -9 leaves them.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, config(dir), nil)
	want := map[string][]storetest.Sample{}
	series := func(n string) labels.Labels { return labels.FromStrings(model.MetricNameLabel, "m", "n", n) }
	put := func(n string, x storetest.Sample) {
		app := s.AppenderV2(context.Background())
		if _, err := app.Append(0, series(n), 0, x.T, x.V, x.H, x.FH, storage.AOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
		want[n] = append(want[n], x)
	}
	for i := range int64(600) {
		put("in order", storetest.Sample{T: storetest.Base + i*1000, V: float64(i)})
		put("histogram", storetest.Sample{T: storetest.Base + i*1000, H: storetest.Integer(i)})
		if i%3 == 0 {
			put("out of order", storetest.Sample{T: storetest.Base + (600-i)*1000, V: float64(i)})
		}
	}
	// Killed as it is, and before any chunk that was mapped to disk got there: the
	// logs hold all that they say of it.
	for _, unwritten := range []bool{false, true} {
		copied := filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(copied, "lock"))
		if unwritten {
			if err := os.RemoveAll(filepath.Join(copied, "chunks_head")); err != nil {
				t.Fatal(err)
			}
		}
		again, _ := open(t, config(copied), nil)
		for n, samples := range want {
			storetest.Expect(t, again, series(n), samples)
		}
	}
}

// TestBlankMarkers: of the out-of-order log the markers go and the samples stay.
// What it is for, a kill during a compaction, is TestChaosKill's.
func TestBlankMarkers(t *testing.T) {
	for _, c := range []store.Compression{"none", "snappy", "zstd"} {
		t.Run(string(c), func(t *testing.T) {
			cfg := config(t.TempDir())
			cfg.WALCompression = c
			s, _ := open(t, cfg, nil)
			ls := labels.FromStrings(model.MetricNameLabel, "m")
			add(t, s, ls, storetest.Base+1_000_000, 1)
			for i := range int64(100) { // a chunk of late samples is mapped at 32
				add(t, s, ls, storetest.Base+i*1000, float64(i))
			}
			copied := filepath.Join(t.TempDir(), "wbl")
			if err := os.CopyFS(copied, os.DirFS(filepath.Join(cfg.Dir, wlog.WblDirName))); err != nil {
				t.Fatal(err)
			}
			first, err := store.BlankMarkers(wlog.SegmentName(copied, 0))
			if err != nil || first == 0 {
				t.Fatalf("blanked %d, %v; want some", first, err)
			}
			again, err := store.BlankMarkers(wlog.SegmentName(copied, 0))
			if err != nil || again != 0 {
				t.Fatalf("blanked %d more, %v; want none", again, err)
			}
			if markers, samples := countWBL(t, copied); markers != 0 || samples != 100 {
				t.Fatalf("left %d markers and %d samples, want 0 and 100", markers, samples)
			}
		})
	}
}

func countWBL(t *testing.T, dir string) (markers, samples int) {
	sr, err := wlog.NewSegmentsReader(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sr.Close() }() // it only reads
	dec := record.NewDecoder(nil, slog.New(slog.DiscardHandler))
	r := wlog.NewReader(sr)
	for r.Next() {
		switch dec.Type(r.Record()) {
		case record.MmapMarkers:
			markers++
		case record.Samples, record.SamplesV2:
			got, err := dec.Samples(r.Record(), nil)
			if err != nil {
				t.Fatal(err)
			}
			samples += len(got)
		}
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
	return markers, samples
}

type recorder struct {
	mu                    sync.Mutex
	refuse                error
	asked, created, ended int
}

func (r *recorder) PreCreation(labels.Labels) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return r.refuse
}

func (r *recorder) PostCreation(labels.Labels) { r.mu.Lock(); r.created++; r.mu.Unlock() }

func (r *recorder) PostDeletion(m map[chunks.HeadSeriesRef]labels.Labels) {
	r.mu.Lock()
	r.ended += len(m)
	r.mu.Unlock()
}

func TestHooks(t *testing.T) {
	dir, full := t.TempDir(), errors.New("limit reached")
	hooks := &recorder{}
	s, closing := open(t, config(dir), hooks)
	add(t, s, labels.FromStrings("a", "1"), storetest.Base, 1)
	hooks.refuse = full
	app := s.AppenderV2(context.Background())
	if _, err := app.Append(0, labels.FromStrings("a", "2"), 0, storetest.Base, 1, nil, nil, storage.AOptions{}); !errors.Is(err, full) {
		t.Errorf("got error %v, want %v", err, full)
	}
	if _, err := app.Append(0, labels.FromStrings("a", "1"), 0, storetest.Base+1, 1, nil, nil, storage.AOptions{}); err != nil {
		t.Errorf("a known series was refused: %v", err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	closing()

	// A limit that was lowered below what the WAL holds must not end the start.
	hooks = &recorder{refuse: full}
	s, _ = open(t, config(dir), hooks)
	storetest.Expect(t, s, labels.FromStrings("a", "1"), []storetest.Sample{{T: storetest.Base, V: 1}, {T: storetest.Base + 1, V: 1}})
	if hooks.asked != 0 || hooks.created != 1 {
		t.Errorf("replay: %d series asked about, %d told of, want 0 and 1", hooks.asked, hooks.created)
	}
}

func TestApply(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.OutOfOrderWindow = 0
	s, _ := open(t, cfg, nil)
	ls := labels.FromStrings("a", "1")
	add(t, s, ls, storetest.Base, 1, 2, 3)
	late := func() error {
		app := s.AppenderV2(context.Background())
		_, err := app.Append(0, ls, 0, storetest.Base-60_000, 1, nil, nil, storage.AOptions{})
		return errors.Join(err, app.Commit())
	}
	if err := late(); err == nil {
		t.Fatal("an out-of-order sample was accepted with window 0")
	}
	cfg.OutOfOrderWindow = conf.Duration(time.Hour)
	if err := s.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	if err := late(); err != nil {
		t.Fatalf("after Apply: %v", err)
	}
	storetest.Expect(t, s, ls, []storetest.Sample{{T: storetest.Base - 60_000, V: 1}, {T: storetest.Base, V: 1}, {T: storetest.Base + 1000, V: 2}, {T: storetest.Base + 2000, V: 3}})
}

func TestAdmin(t *testing.T) {
	s, _ := open(t, config(t.TempDir()), nil)
	ls := labels.FromStrings(model.MetricNameLabel, "m")
	add(t, s, ls, storetest.Base, 1, 2, 3)
	snap := filepath.Join(t.TempDir(), "snap")
	if err := s.Snapshot(snap, true); err != nil {
		t.Fatal(err)
	}
	copied, _ := open(t, config(snap), nil)
	storetest.Expect(t, copied, ls, storetest.Read(t, s, ls))

	if err := s.Delete(context.Background(), storetest.Base, storetest.Base+1000, labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, "m")); err != nil {
		t.Fatal(err)
	}
	if got := storetest.Read(t, s, ls); len(got) != 1 || got[0].V != 3 {
		t.Errorf("after deletion: %v", got)
	}
	if err := s.CleanTombstones(); err != nil {
		t.Error(err)
	}
	stats, err := s.Stats(model.MetricNameLabel, 10)
	if err != nil || stats.NumSeries != 1 {
		t.Errorf("stats %+v, error %v", stats, err)
	}
}

func TestValidate(t *testing.T) {
	bad := store.Config{StartTimestamps: "x", WALCompression: "lz4", MinFreeDisk: -1, ReplayConcurrency: -1, OutOfOrderWindow: -1,
		Retention: store.Retention{Time: -1, Size: -1}, Exemplars: store.Exemplars{Max: -1}, MaxBlockDuration: -1, Bucket: store.DefaultConfig().Bucket}
	var f conf.Faults
	bad.Validate(f.At("store"))
	want := `store.dir: got "", want a directory
store.retention.time: got -1ns, want 0s (no bound) or more
store.retention.size: got -1, want 0 (no bound) or more
store.rolling.memory: got 0, want 2MiB or more
store.rolling.check_interval: got 0s, want 1ms or more
store.out_of_order_window: got -1ns, want 0s (in order only) or more
store.exemplars.max: got -1, want 0 (none kept) or more
store.wal_compression: got "lz4", want snappy, zstd or none
store.min_block_duration: got 0s, want 1m or more
store.max_block_duration: got -1ns, want 0s (a tenth of the retention) or at least min_block_duration
store.start_timestamps: got "x", want none, zero_sample or stored
store.min_free_disk: got -1, want 0 (no guard) or more
store.replay_concurrency: got -1, want 0 (all CPUs) or more`
	if err := f.Err(); err == nil || err.Error() != want {
		t.Errorf("got faults\n%v\nwant\n%s", err, want)
	}
	var none conf.Faults
	good := store.DefaultConfig()
	good.Validate(&none)
	if err := none.Err(); err != nil {
		t.Errorf("defaults: %v", err)
	}
}

// BenchmarkAppend shows what the store adds to the TSDB's own appender: requests of
// 2000 samples by reference, and of one.
func BenchmarkAppend(b *testing.B) {
	s, _ := open(b, config(b.TempDir()), nil)
	refs := make([]storage.SeriesRef, 2000)
	for i := range refs {
		refs[i] = add(b, s, labels.FromStrings(model.MetricNameLabel, "m", "n", strconv.Itoa(i)), storetest.Base, 1)
	}
	at := storetest.Base
	for name, st := range map[string]storage.AppendableV2{"store": s, "tsdb": s.DB()} {
		for _, n := range []int{1, 2000} {
			b.Run(fmt.Sprint(name, "/", n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					at++ // slowly, or the head is compacted meanwhile
					app := st.AppenderV2(context.Background())
					for _, ref := range refs[:n] {
						if _, err := app.Append(ref, labels.EmptyLabels(), 0, at, float64(at), nil, nil, storage.AOptions{}); err != nil {
							b.Fatal(err)
						}
					}
					if err := app.Commit(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
