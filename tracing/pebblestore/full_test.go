package pebblestore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// small mounts a file system of 48 MiB.
func small(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small tmpfs takes root; the full disk is tested in CI, which is")
	}
	dir := t.TempDir()
	if err := syscall.Mount("weir-test", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Skip("mounting a small tmpfs is not allowed here: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func retryable(err error) bool {
	var r interface{ Retryable() bool }
	return errors.As(err, &r) && r.Retryable()
}

// TestFullDisk fills the disk twice under a store that has no guard. Spans are refused
// with an error that says to try again, questions are answered, and once there is
// space again the same process takes spans; nothing that was acknowledged is lost, and
// what is sent again is stored once.
func TestFullDisk(t *testing.T) {
	dir := small(t)
	cfg := config(filepath.Join(dir, "store"))
	cfg.Memory.Memtable = 1 << 20
	cfg.Index.SegmentSpans = 4000
	s := open(t, cfg, pebblestore.Deps{})
	run, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(run) }()
	g := newShop(30, time.Now())
	var acked []*span.Batch
	ballast := filepath.Join(dir, "ballast")
	for round := range 2 {
		fill(t, ballast)
		var refused *span.Batch
		for i := 0; refused == nil; i++ {
			b := g.batch(50)
			switch _, err := s.Append(ctx, b); {
			case err == nil:
				acked = append(acked, b)
			case retryable(err):
				refused = b
			default:
				t.Fatalf("round %d: %v, want an error that says to try again", round, err)
			}
			if i > 10_000 {
				t.Fatal("the disk does not become full")
			}
		}
		if _, err := s.Append(ctx, refused); !retryable(err) {
			t.Errorf("round %d: sent again to a full disk: %v", round, err)
		}
		wantTraces(t, s, acked[0])
		wantTraces(t, s, acked[len(acked)-1])
		if s.Status().Refuses == "" {
			t.Error("status does not tell that spans are refused")
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			_, err := s.Append(ctx, refused)
			if err == nil {
				break
			}
			if !retryable(err) || time.Now().After(deadline) {
				t.Fatalf("round %d: there is space again: %v", round, err)
			}
		}
		acked = append(acked, refused)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	check := func() {
		t.Helper()
		n := 0
		for i, b := range acked {
			n += 50
			if i%50 == 0 || i == len(acked)-1 {
				wantTraces(t, s, b)
			}
		}
		found, notes, err := s.FindIDs(ctx, spanstore.Query{Service: "cart", Limit: 1 << 20})
		if err != nil || notes.Partial != "" || len(found) != n {
			t.Errorf("search found %d traces, %v, %v, want %d", len(found), notes, err, n)
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = open(t, cfg, pebblestore.Deps{})
	check()
}

// fill writes a file that leaves 3 MiB.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(name), &fs); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, int64(fs.Bavail)*fs.Bsize-3<<20)); err != nil {
		t.Fatal(err)
	}
}

// TestCloseOnFullDisk ends while a write waits for space.
func TestCloseOnFullDisk(t *testing.T) {
	dir := small(t)
	cfg := config(filepath.Join(dir, "store"))
	cfg.Memory.Memtable = 1 << 20
	s := open(t, cfg, pebblestore.Deps{})
	fill(t, filepath.Join(dir, "ballast"))
	g := newShop(31, time.Now())
	var acked []*span.Batch
	for {
		b := g.batch(50)
		if _, err := s.Append(ctx, b); err != nil {
			break
		}
		acked = append(acked, b)
	}
	began := time.Now()
	_ = s.Close() // it may tell that it could not write
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("closing took %v", took)
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg, pebblestore.Deps{})
	for _, b := range acked {
		if _, err := s.Trace(ctx, b.Spans[0].TraceID, spanstore.Window{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestGuard(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MinFree = 1 << 60
	s := open(t, cfg, pebblestore.Deps{})
	_, err := s.Append(ctx, newShop(32, noon).batch(1))
	if !errors.Is(err, pebblestore.ErrDiskFull) || !retryable(err) {
		t.Errorf("got %v", err)
	}
	t.Logf("%v (want at least %v)", err, conf.Bytes(1<<60))
}

// TestBrokenDisk lets the partition fail beneath the store at work: it is opened anew,
// what was acknowledged is there, and what was not can be sent again.
func TestBrokenDisk(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Index.SegmentSpans = 700
	s := open(t, cfg, pebblestore.Deps{})
	g := newShop(33, time.Now())
	var acked []*span.Batch
	for round := range 3 {
		for range 10 {
			b := g.batch(20)
			put(t, s, b)
			acked = append(acked, b)
		}
		s.Break(syscall.EIO)
		b := g.batch(20)
		if _, err := s.Append(ctx, b); !errors.Is(err, pebblestore.ErrBroken) || !retryable(err) {
			t.Fatalf("round %d: %v", round, err)
		}
		wantTraces(t, s, acked[len(acked)-1])
		s.Maintain()
		if got := put(t, s, b); got.Stored != len(b.Spans) {
			t.Errorf("round %d: sent again: %+v", round, got)
		}
		acked = append(acked, b)
		if got := put(t, s, acked[len(acked)-3]); got.Stored != 0 {
			t.Errorf("round %d: what was stored before is stored again: %+v", round, got)
		}
	}
	for _, b := range acked {
		wantTraces(t, s, b)
	}
	found, _, err := s.FindIDs(ctx, spanstore.Query{Service: "cart", Limit: 10_000})
	if err != nil || len(found) != 20*len(acked) {
		t.Errorf("search found %d traces, %v, want %d", len(found), err, 20*len(acked))
	}
}

// TestBrokenUnderLoad lets the disk fail under many Appends at once, whose senders try
// again: in the end everything is there once.
func TestBrokenUnderLoad(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Index.SegmentSpans = 900
	cfg.Memory.Memtable = 1 << 20
	s := open(t, cfg, pebblestore.Deps{})
	const sides, requests = 4, 40
	start := time.Now()
	var wg sync.WaitGroup
	for side := range uint64(sides) {
		wg.Go(func() {
			for i := range uint64(requests) {
				b := newShop(side<<32|i, start).batch(5)
				for try := 0; ; try++ {
					_, err := s.Append(ctx, b)
					if err == nil {
						break
					}
					if !retryable(err) || try > 2000 {
						t.Errorf("side %d, request %d: %v", side, i, err)
						return
					}
					time.Sleep(2 * time.Millisecond)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 5 {
			time.Sleep(15 * time.Millisecond)
			s.Break(syscall.EIO)
			time.Sleep(5 * time.Millisecond)
			s.Maintain()
		}
	}()
	wg.Wait()
	<-done
	check := func() {
		t.Helper()
		for side := range uint64(sides) {
			for i := range uint64(requests) {
				b := newShop(side<<32|i, start).batch(5)
				for _, id := range ids(b) {
					if got, err := s.Trace(ctx, id, spanstore.Window{}); err != nil || len(got.Spans) != 10 {
						t.Fatalf("side %d, request %d: %v", side, i, err)
					}
				}
			}
		}
		found, notes, err := s.FindIDs(ctx, spanstore.Query{Service: "cart", Limit: 10_000})
		if err != nil || notes.Partial != "" || len(found) != sides*requests*5 {
			t.Errorf("search found %d traces, %v, %v, want %d", len(found), notes, err, sides*requests*5)
		}
		var spans uint64
		for _, p := range s.Status().Partitions {
			spans += p.Spans
		}
		if spans != sides*requests*50 {
			t.Errorf("%d spans stored, want %d", spans, sides*requests*50)
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = open(t, cfg, pebblestore.Deps{})
	check()
}
