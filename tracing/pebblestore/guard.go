package pebblestore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-dev/weir/internal/conf"
)

// guardAge bounds how stale the free space may be when spans are let through. At
// 500 MB/s, more than a server disk writes, 50 ms let 25 MB through, a tenth of the
// default min_free.
const guardAge = 50 * time.Millisecond

// ErrDiskFull answers Append while the file system is short of space, by the guard's
// measure (min_free) or the disk's own.
var ErrDiskFull error = refusal("disk is full")

// ErrBroken answers Append after the disk failed in another way, until the partition
// is open again.
var ErrBroken error = refusal("span store failed")

// ErrClosed answers what comes before Open or after Close.
var ErrClosed error = refusal("span store is not open")

// refusal is an error that a later try may not meet.
type refusal string

func (r refusal) Error() string { return string(r) }

// Retryable tells the doors to answer 503.
func (refusal) Retryable() bool { return true }

// guard refuses spans before the disk does.
type guard struct {
	dir     string
	minFree int64
	mu      sync.Mutex
	at      atomic.Int64 // when space was measured, in Unix nanoseconds
	free    atomic.Int64 // bytes, -1 unknown
	short   atomic.Pointer[error]
}

// check returns nil, or why spans are refused. It measures anew when the last
// measurement is older than guardAge.
func (g *guard) check() error {
	if time.Now().UnixNano()-g.at.Load() > int64(guardAge) {
		g.measure()
	}
	if p := g.short.Load(); p != nil {
		return *p
	}
	return nil
}

func (g *guard) measure() {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.at.Store(time.Now().UnixNano())
	var fs unix.Statfs_t
	if err := unix.Statfs(g.dir, &fs); err != nil { // the next write will tell
		g.free.Store(-1)
		g.short.Store(nil)
		return
	}
	free := int64(fs.Bavail) * fs.Bsize
	g.free.Store(free)
	if free >= g.minFree {
		g.short.Store(nil)
		return
	}
	err := fmt.Errorf("%w: %s free on the file system of %s, spans wait for %s (min_free)", ErrDiskFull, conf.Bytes(free), g.dir, conf.Bytes(g.minFree))
	g.short.Store(&err)
}
