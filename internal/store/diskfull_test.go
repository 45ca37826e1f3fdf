package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/store"
	"github.com/weir-dev/weir/internal/store/storetest"
)

func isRetryable(err error) bool {
	var r interface{ Retryable() bool }
	return errors.As(err, &r) && r.Retryable()
}

func TestDiskGuard(t *testing.T) {
	disk := storetest.SmallDisk(t, 64<<20, "")
	cfg := config(filepath.Join(disk, "data"))
	cfg.MinFreeDisk = 24 << 20
	s, _ := open(t, cfg, nil)
	ls := labels.FromStrings("a", "1")
	add(t, s, ls, storetest.Base, 1, 2)
	write := func() error {
		app := s.AppenderV2(context.Background())
		_, err := app.Append(0, ls, 0, storetest.Base+5000, 3, nil, nil, storage.AOptions{})
		return errors.Join(err, app.Commit())
	}

	free := storetest.FillDisk(t, disk, 20<<20)
	time.Sleep(100 * time.Millisecond) // the guard's measurement may be that old
	err := write()
	if !errors.Is(err, store.ErrDiskFull) || !isRetryable(err) || !strings.Contains(err.Error(), "store.min_free_disk") {
		t.Errorf("on a full disk: got error %v", err)
	}
	if got := storetest.Read(t, s, ls); len(got) != 2 {
		t.Errorf("on a full disk: read %v", got)
	}
	free()
	time.Sleep(100 * time.Millisecond)
	if err := write(); err != nil {
		t.Errorf("with space again: %v", err)
	}
	cfg.MinFreeDisk = conf.Bytes(1 << 40)
	if err := s.Apply(cfg); err != nil {
		t.Fatal(err)
	}
	if err := write(); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("after the bound was raised: got error %v", err)
	}
}

// TestDiskFull lets the disk itself refuse, in the middle of records, and looks for
// every acknowledged sample in what a kill would leave behind.
func TestDiskFull(t *testing.T) {
	disk := storetest.SmallDisk(t, 192<<20, "") // mending writes blocks, which reserve 64 MiB a file
	cfg := config(filepath.Join(disk, "data"))
	s, closing := openUnreserved(t, cfg)
	w := &fullDiskWriter{t: t, s: s, rnd: rand.New(rand.NewPCG(7, 0)), acked: map[string][]storetest.Sample{}}
	for round := range 4 {
		free := storetest.FillDisk(t, disk, int64(w.rnd.IntN(200<<10)))
		failed := 0
		for failed < 3 {
			if err := w.write(1+w.rnd.IntN(3000), w.rnd.IntN(50)); err != nil {
				failed++
				if !errors.Is(err, store.ErrDiskFull) || !isRetryable(err) {
					t.Fatalf("round %d: got error %v", round, err)
				}
			}
		}
		if len(storetest.Read(t, s, w.series("known"))) == 0 {
			t.Fatal("a full disk stopped queries")
		}
		w.checkKilled(cfg) // before it is mended
		free()
		w.recover(func() error { return w.write(0, 1) })
		w.check(s, "running")
		w.checkKilled(cfg)
	}
	closing()
	s, _ = open(t, cfg, nil)
	w.check(s, "reopened")
}

// TestHeadChunksFull leaves room for the records of late samples, but not for a file
// of head chunks, without which the TSDB panics.
func TestHeadChunksFull(t *testing.T) {
	disk := storetest.SmallDisk(t, 192<<20, "")
	cfg := config(filepath.Join(disk, "data"))
	s, closing := open(t, cfg, nil)
	w := &fullDiskWriter{t: t, s: s, rnd: rand.New(rand.NewPCG(7, 0)), acked: map[string][]storetest.Sample{}}
	at := storetest.Base + 1_000_000
	late := func() error {
		at--
		return w.send(map[string]storetest.Sample{"late": {T: at, V: w.rnd.Float64()}})
	}
	if err := late(); err != nil { // in order
		t.Fatal(err)
	}
	free := storetest.FillDisk(t, disk, 100<<10)
	for range 100 { // 32 of them fill a chunk
		if err := late(); !errors.Is(err, store.ErrDiskFull) || !isRetryable(err) {
			t.Fatalf("on a full disk: got error %v", err)
		}
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(disk, &fs); err != nil {
		t.Fatal(err)
	}
	if left := int64(fs.Bavail) * fs.Bsize; left < 4<<20 {
		t.Errorf("on a full disk: %d bytes are left for head chunks, want 4 MiB or more", left)
	}
	free()
	w.recover(late)
	for range 100 {
		if err := late(); err != nil {
			t.Fatalf("with space again: %v", err)
		}
	}
	w.check(s, "running")
	w.checkKilled(cfg)
	free = storetest.FillDisk(t, disk, 100<<10)
	closing()
	s, _ = open(t, cfg, nil) // replay writes head chunks
	w.check(s, "reopened on a full disk")
	free()
}

// TestOutOfOrderLogFull has only the out-of-order log refuse, which the TSDB tells
// nobody but its log.
func TestOutOfOrderLogFull(t *testing.T) {
	cfg := config(t.TempDir())
	wbl := filepath.Join(cfg.Dir, "wbl")
	if err := os.Mkdir(wbl, 0o700); err != nil {
		t.Fatal(err)
	}
	storetest.SmallDisk(t, 64<<20, wbl)
	s, closing := open(t, cfg, nil)
	w := &fullDiskWriter{t: t, s: s, rnd: rand.New(rand.NewPCG(7, 0)), acked: map[string][]storetest.Sample{}}
	at := storetest.Base + 1_000_000
	late := func() error { // a record of several pages, to be torn
		batch := map[string]storetest.Sample{}
		for i := range 5000 {
			batch[fmt.Sprint(i)] = storetest.Sample{T: at, V: w.rnd.Float64()}
		}
		at--
		return w.send(batch)
	}
	if err := late(); err != nil { // in order
		t.Fatal(err)
	}
	free := storetest.FillDisk(t, wbl, 200<<10)
	var err error
	for i := 0; i < 10_000 && err == nil; i++ {
		err = late()
	}
	if !errors.Is(err, store.ErrDiskFull) || !isRetryable(err) {
		t.Fatalf("got error %v", err)
	}
	w.check(s, "full")
	free()
	w.recover(late)
	w.check(s, "running")
	w.checkKilled(cfg)
	closing()
	s, _ = open(t, cfg, nil)
	w.check(s, "reopened")
}

// fullDiskWriter remembers what was acknowledged.
type fullDiskWriter struct {
	t       *testing.T
	s       *store.Store
	rnd     *rand.Rand
	n       int // series made
	lates   int // late samples since mending put them into a block
	at      int64
	acked   map[string][]storetest.Sample
	refused []map[string]storetest.Sample
}

func (*fullDiskWriter) series(n string) labels.Labels {
	return labels.FromStrings(model.MetricNameLabel, "m", "n", n, "padding", strings.Repeat(n, 4))
}

// write commits samples of fresh series and late ones of an old series.
func (w *fullDiskWriter) write(fresh, late int) error {
	w.at++
	now := storetest.Base + w.at*1000
	batch := map[string]storetest.Sample{"known": {T: now, V: float64(w.at)}, "late": {T: now, V: float64(w.at)}}
	for range fresh {
		w.n++
		batch[fmt.Sprint("fresh", w.n)] = storetest.Sample{T: now, V: w.rnd.Float64()}
	}
	err := w.send(batch)
	// One sample a commit: the out-of-order log fails alone, too. Less than 32 of them,
	// with which a chunk is mapped: the TSDB panics if there is no room for its file.
	if err == nil && late > 0 && w.lates < 25 {
		w.lates++
		err = w.send(map[string]storetest.Sample{"late": {T: now - 1 - int64(w.rnd.IntN(900)), V: w.rnd.Float64()}})
	}
	return err
}

func (w *fullDiskWriter) send(batch map[string]storetest.Sample) error {
	app := w.s.AppenderV2(context.Background())
	for n, x := range batch {
		if _, err := app.Append(0, w.series(n), 0, x.T, x.V, nil, nil, storage.AOptions{}); err != nil {
			w.refused = append(w.refused, batch)
			return errors.Join(err, app.Rollback())
		}
	}
	if err := app.Commit(); err != nil {
		w.refused = append(w.refused, batch)
		return err
	}
	for n, x := range batch {
		w.acked[n] = append(w.acked[n], x)
	}
	return nil
}

// recover waits until try succeeds, then sends again what was refused.
func (w *fullDiskWriter) recover(try func() error) {
	w.t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		if err == nil {
			break
		}
		if time.Since(began) > 10*time.Second {
			w.t.Fatalf("no recovery: %v", err)
		}
	}
	w.lates = 1 + len(w.refused)
	for _, batch := range w.refused {
		if err := w.send(batch); err != nil {
			w.t.Fatalf("send again: %v", err)
		}
	}
	w.refused = nil
}

func (w *fullDiskWriter) check(s *store.Store, when string) {
	w.t.Helper()
	q, err := s.Querier(0, 1<<62)
	if err != nil {
		w.t.Fatal(err)
	}
	defer q.Close()
	got := map[string]map[int64]float64{}
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, "m"))
	for set.Next() {
		n := set.At().Labels().Get("n")
		got[n] = map[int64]float64{}
		it := set.At().Iterator(nil)
		for it.Next() != 0 {
			t, v := it.At()
			got[n][t] = v
		}
	}
	lost, of := 0, 0
	for n, samples := range w.acked {
		for _, x := range samples {
			of++
			if v, ok := got[n][x.T]; !ok || v != x.V {
				if lost++; lost < 5 {
					w.t.Errorf("%s: %s of %s: got %g, found %v", when, x, n, v, ok)
				}
			}
		}
	}
	if lost > 0 {
		w.t.Fatalf("%s: %d of %d acknowledged samples lost", when, lost, of)
	}
}

func (w *fullDiskWriter) checkKilled(cfg store.Config) {
	w.t.Helper()
	copied := w.t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(cfg.Dir)); err != nil {
		w.t.Fatal(err)
	}
	os.Remove(filepath.Join(copied, "lock"))
	cfg.Dir = copied
	s, closing := open(w.t, cfg, nil)
	w.check(s, "killed")
	closing()
}
