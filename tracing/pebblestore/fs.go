package pebblestore

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fullRetry bounds how long after space is back Pebble goes on. A try is a system
// call of a microsecond by each waiting writer, which are three at most.
const fullRetry = 200 * time.Millisecond

// errAbandoned is what Pebble reads of its files after the store gave it up.
var errAbandoned = errors.New("database was given up after a failure")

// patientFS is what a partition's Pebble sees of the disk. Pebble cannot live on
// after its log or its manifest failed to be written, so where the disk is full a
// write waits here, and goes on where it stopped once space is back; meanwhile the
// store refuses spans. Any other failure of a write gives the database up: from then
// on it cannot change a byte, so that another may be opened in its place.
type patientFS struct {
	vfs.FS
	fail func(error) // called once at the first failure

	dead    atomic.Bool
	closing chan struct{}

	mu      sync.Mutex
	waiting int
	stalled chan struct{} // closed while somebody waits
}

func newPatientFS(fail func(error)) *patientFS {
	return &patientFS{FS: vfs.Default, fail: fail, closing: make(chan struct{}), stalled: make(chan struct{})}
}

// stall returns a channel that is closed while a write waits for space.
func (f *patientFS) stall() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stalled
}

func (f *patientFS) isStalled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.waiting > 0
}

func (f *patientFS) wait(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if on {
		if f.waiting++; f.waiting == 1 {
			close(f.stalled)
		}
		return
	}
	if f.waiting--; f.waiting == 0 {
		f.stalled = make(chan struct{})
	}
}

// abandon takes the disk away.
func (f *patientFS) abandon() { f.dead.Store(true) }

// hurry lets those that wait for space fail. It is for closing.
func (f *patientFS) hurry() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.closing:
	default:
		close(f.closing)
	}
}

// try does something that needs space.
func (f *patientFS) try(do func() error) error {
	waits := false
	defer func() {
		if waits {
			f.wait(false)
		}
	}()
	for {
		if f.dead.Load() {
			return errAbandoned
		}
		err := do()
		switch {
		case err == nil || errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrExist):
			return err
		case !isFull(err):
			f.broken(err)
			return err
		}
		if !waits {
			waits = true
			f.wait(true)
		}
		select {
		case <-f.closing:
			f.broken(err)
			return err
		case <-time.After(fullRetry):
		}
	}
}

func (f *patientFS) broken(err error) {
	if f.dead.CompareAndSwap(false, true) {
		f.fail(err)
	}
}

func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func (f *patientFS) file(open func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	err := f.try(func() (err error) {
		file, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &patientFile{File: file, fs: f}, nil
}

func (f *patientFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.Create(name, c) })
}

func (f *patientFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.OpenReadWrite(name, c, opts...) })
}

func (f *patientFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(func() (vfs.File, error) { return f.FS.ReuseForWrite(old, name, c) })
}

func (f *patientFS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &patientFile{File: file, fs: f}, nil
}

func (f *patientFS) Link(old, name string) error {
	return f.try(func() error { return f.FS.Link(old, name) })
}

func (f *patientFS) Rename(old, name string) error {
	return f.try(func() error { return f.FS.Rename(old, name) })
}

func (f *patientFS) MkdirAll(dir string, perm os.FileMode) error {
	return f.try(func() error { return f.FS.MkdirAll(dir, perm) })
}

func (f *patientFS) Remove(name string) error {
	if f.dead.Load() {
		return errAbandoned
	}
	return f.FS.Remove(name)
}

func (f *patientFS) RemoveAll(name string) error {
	if f.dead.Load() {
		return errAbandoned
	}
	return f.FS.RemoveAll(name)
}

// Lock is the store's own matter, which holds its whole folder: an abandoned database
// may never let go of a lock.
func (f *patientFS) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

func (f *patientFS) Unwrap() vfs.FS { return f.FS }

// patientFile is a file that is written to.
type patientFile struct {
	vfs.File
	fs *patientFS
}

func (p *patientFile) Write(b []byte) (int, error) {
	done := 0
	err := p.fs.try(func() error {
		for done < len(b) {
			n, err := p.File.Write(b[done:])
			done += max(n, 0)
			if err != nil {
				return err
			}
			if n == 0 {
				return io.ErrShortWrite
			}
		}
		return nil
	})
	return done, err
}

func (p *patientFile) WriteAt(b []byte, at int64) (n int, err error) {
	err = p.fs.try(func() error {
		n, err = p.File.WriteAt(b, at)
		return err
	})
	return n, err
}

// Preallocate is only for speed.
func (p *patientFile) Preallocate(offset, length int64) error {
	if p.fs.dead.Load() {
		return errAbandoned
	}
	if err := p.File.Preallocate(offset, length); err != nil && !isFull(err) {
		return err
	}
	return nil
}

func (p *patientFile) Sync() error { return p.sync(p.File.Sync) }

func (p *patientFile) SyncData() error { return p.sync(p.File.SyncData) }

func (p *patientFile) SyncTo(length int64) (full bool, err error) {
	err = p.sync(func() error {
		full, err = p.File.SyncTo(length)
		return err
	})
	return full, err
}

// sync does not try again: what the kernel could not write it may have forgotten, and
// a second call would say that all is well.
func (p *patientFile) sync(do func() error) error {
	if p.fs.dead.Load() {
		return errAbandoned
	}
	err := do()
	if err != nil {
		p.fs.broken(err)
	}
	return err
}
