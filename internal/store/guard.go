package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-dev/weir/internal/conf"
)

const (
	// guardAge bounds how stale the free space may be when a write is let through.
	// One statfs takes about 1 us, so the age is for the sake of many small
	// requests; at 500 MB/s, more than a server disk writes, 50 ms let 25 MB
	// through, a tenth of the default store.min_free_disk.
	guardAge = 50 * time.Millisecond
	// watchInterval bounds how long an idle store takes to see that space is back
	// and to mend its WAL; senders wait for seconds between tries.
	watchInterval = time.Second
)

// guard refuses writes before the disk does. It has to come first: the TSDB
// panics when it cannot write a head chunk, and only logs when it cannot write an
// out-of-order sample to its log.
type guard struct {
	mu    sync.Mutex
	at    atomic.Int64 // when space was measured, in Unix nanoseconds
	free  atomic.Int64 // bytes, -1 unknown
	short atomic.Pointer[error]
}

// check returns nil, or why writes are refused. It measures anew when the last
// measurement is older than guardAge, or now is set.
func (g *guard) check(c *Config, now bool) error {
	if time.Now().UnixNano()-g.at.Load() > int64(guardAge) || now {
		g.measure(c)
	}
	if p := g.short.Load(); p != nil {
		return *p
	}
	return nil
}

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
	g.free.Store(free)
	if free >= int64(c.MinFreeDisk) {
		g.short.Store(nil)
		return
	}
	refusal := wrapRefusal(ErrDiskFull, "%s free on the file system of %s, writes wait for %s (store.min_free_disk)", conf.Bytes(free), c.Dir, c.MinFreeDisk)
	g.short.Store(&refusal)
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
