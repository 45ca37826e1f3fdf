package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/tsdb/fileutil"
	"golang.org/x/sys/unix"

	"github.com/weir-dev/weir/internal/conf"
)

const (
	// guardAge bounds how stale the free space may be when a write is let through.
	// One statfs takes about 1 us, so the age is for the sake of many small
	// requests; at 500 MB/s, more than a server disk writes, 50 ms let 25 MB
	// through, a tenth of the default store.min_free_disk.
	guardAge = 50 * time.Millisecond
	// guardNear bounds how near to the bound free space may be for a measurement to
	// be used again. In guardAge a file system in memory was filled by about 100 MB.
	guardNear = 256 << 20
	// headRoom is twice what the TSDB writes of head chunks at once: its buffer of
	// 4 MiB and a new file of 128 KiB. So much is reserved on the disk; twice as much
	// has to be free for writes, so that a commit, which takes about 1 ms, ends before
	// a file system in memory that somebody fills with 1 GB/s is full.
	headRoom = 8 << 20
	// reserveFile, in the directory of the database, holds headRoom bytes of nothing.
	reserveFile = "reserve"
	// watchInterval bounds how long an idle store takes to see that space is back
	// and to mend its WAL; senders wait for seconds between tries.
	watchInterval = time.Second
)

// guard refuses writes before the disk does. It has to come first: the TSDB
// panics when it cannot write a head chunk, which it does in commits of late
// samples, in compactions and in replay, and only logs when it cannot write an
// out-of-order sample to its log. After such a panic it cannot go on: its map of
// head chunk files no longer agrees with the files, and locks may be held.
//
// Head chunks that are written by what has begun already, or by the TSDB in its own
// time, find the room of the reserve, a file that is deleted when the disk is all
// but full and made again when there is space.
type guard struct {
	room int64 // headRoom, but for tests of what is below it

	mu    sync.Mutex
	held  bool         // the reserve is on the disk; guarded by mu
	at    atomic.Int64 // when space was measured, in Unix nanoseconds
	free  atomic.Int64 // bytes, -1 unknown
	short atomic.Pointer[error]
}

// check returns nil, or why writes are refused. It measures anew when the last
// measurement is older than guardAge or found little more than is needed, or now
// is set.
func (g *guard) check(c *Config, now bool) error {
	if now || time.Now().UnixNano()-g.at.Load() > int64(guardAge) || g.free.Load() < g.need(c)+guardNear {
		g.measure(c)
	}
	if p := g.short.Load(); p != nil {
		return *p
	}
	return nil
}

// need is how many bytes have to be free for writes.
func (g *guard) need(c *Config) int64 { return max(int64(c.MinFreeDisk), 2*g.room) }

func (g *guard) measure(c *Config) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.at.Store(time.Now().UnixNano())
	free, err := freeBytes(c.Dir)
	if err != nil { // the next write will tell
		g.free.Store(-1)
		g.short.Store(nil)
		return
	}
	switch {
	case free < g.room:
		g.release(c)
	case free >= g.need(c)+g.room:
		g.reserve(c)
	}
	g.free.Store(free)
	if free >= g.need(c) {
		g.short.Store(nil)
		return
	}
	refusal := wrapRefusal(ErrDiskFull, "%s free on the file system of %s, writes wait for %s (store.min_free_disk)", conf.Bytes(free), c.Dir, conf.Bytes(g.need(c)))
	g.short.Store(&refusal)
}

// reserve makes the reserve. That it cannot be had is no fault: it may be possible
// at the next measurement, and there is space now. g.mu is held.
func (g *guard) reserve(c *Config) {
	if g.held || g.room == 0 {
		return
	}
	path := filepath.Join(c.Dir, reserveFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return
	}
	if err = errors.Join(fileutil.Preallocate(f, g.room, true), f.Close()); err != nil {
		_ = os.Remove(path) // else the next start does
		return
	}
	g.held = true
}

// release deletes the reserve. g.mu is held.
func (g *guard) release(c *Config) {
	if g.held {
		g.held = os.Remove(filepath.Join(c.Dir, reserveFile)) != nil
	}
}

// open gives the space of the reserve to replay, which writes head chunks.
func (g *guard) open(c *Config) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := os.Remove(filepath.Join(c.Dir, reserveFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	g.held = false
	return nil
}

// block returns nil, or why no block is written: a block reserves its first chunk
// file before it is known how much will be in it, and what is left meanwhile has to
// do for the head chunks of the samples that arrive.
func (g *guard) block(c *Config) error {
	free, err := freeBytes(c.Dir)
	if need := chunkSegment + 2*g.room; err == nil && free < need {
		return wrapRefusal(ErrDiskFull, "%s free on the file system of %s, a block takes %s while it is written", conf.Bytes(free), c.Dir, conf.Bytes(need))
	}
	return nil
}

// freeBytes returns the space that a process without privileges may fill.
func freeBytes(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	return int64(fs.Bavail) * fs.Bsize, nil
}

// watchDisk logs when writes begin and cease to be refused, and mends the WAL
// after a failure. It returns when ctx ends.
func (s *Store) watchDisk(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	told := "" // the last reason logged
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := s.guard.check(s.cfg.Load(), true)
		if err == nil {
			err = s.mend(ctx)
		}
		switch {
		case err == nil && told != "":
			told = ""
			s.log.Info("writes accepted again", "free", conf.Bytes(s.guard.free.Load()))
		case err != nil && (told == "" || s.wal.broken() != nil && err.Error() != told):
			told = err.Error()
			s.log.Error("writes refused", "reason", err)
		}
	}
}
