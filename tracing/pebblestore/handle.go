package pebblestore

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable/block"
)

const (
	// blockSize is what one read of a trace uncompresses, 30 us of zstd. Unmeasured
	// beside 64 KiB, which saves about 3% of the disk.
	blockSize = 32 << 10
	// filterBits a key give a false answer once in a hundred, 1.25 bytes a trace.
	filterBits = 10
	// compactFrom is how many flushed memtables lie over another before they are
	// compacted while the partition still grows. A lookup of a trace asks as many
	// filters, at 0.3 us each; compacting twice costs twice the CPU.
	compactFrom = 48
	// closePatience bounds how long Close waits for a database that has failed.
	closePatience = 2 * time.Second
)

// handle is an open Pebble. Readers hold it by a reference, so that it may be replaced
// or its folder removed beneath them.
type handle struct {
	p    *partition
	db   *pebble.DB
	fs   *patientFS
	dict reading
	w    *writing // nil: only read

	// Under the partition's mutex.
	refs    int
	retired bool // closed by the last reader

	failOnce sync.Once
	failed   chan struct{}
	failure  error // once failed is closed
}

func (h *handle) options(s *Store, readOnly bool) *pebble.Options {
	o := &pebble.Options{
		Cache: s.cache, FileCache: s.files, Comparer: comparer(), FS: h.fs,
		FormatMajorVersion: pebble.FormatTableFormatV6, // written into ../FORMAT.md
		Logger:             pebbleLog{h, s.log},
		ReadOnly:           readOnly, ErrorIfNotExists: readOnly,
		MemTableSize: uint64(s.cfg.Memory.Memtable), MemTableStopWritesThreshold: 4,
		L0CompactionThreshold: compactFrom, L0CompactionFileThreshold: 1 << 20,
		L0StopWritesThreshold: 1 << 20,
		// With one level below the flushed tables, a compaction is the only one.
		LBaseMaxBytes: 1 << 40,
		EventListener: &pebble.EventListener{
			BackgroundError: h.backgroundError,
			DataCorruption:  func(i pebble.DataCorruptionInfo) { h.p.damage(i.Details) },
		},
	}
	o.TargetFileSizes[0] = 64 << 20
	o.Experimental.ReadSamplingMultiplier = -1
	o.Experimental.FileCacheShards = 1
	for i := range o.Levels {
		o.Levels[i].BlockSize = blockSize
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(filterBits)
		o.Levels[i].Compression = func() *block.CompressionProfile { return block.SnappyCompression }
	}
	last := len(o.Levels) - 1
	o.Levels[last].Compression = func() *block.CompressionProfile { return block.ZstdCompression }
	return o
}

// openHandle opens the folder of a partition. What Pebble panics with is an error.
func (s *Store) openHandle(p *partition, readOnly bool) (h *handle, err error) {
	h = &handle{p: p, failed: make(chan struct{})}
	h.fs = newPatientFS(h.fail)
	defer func() {
		if r := recover(); r != nil {
			h, err = nil, fmt.Errorf("open partition %s: %v", p.name, r)
		}
	}()
	h.db, err = pebble.Open(filepath.Join(s.cfg.Dir, p.name), h.options(s, readOnly))
	if err != nil {
		return nil, fmt.Errorf("open partition %s: %w", p.name, err)
	}
	if readOnly {
		h.dict = newReadDict(h.db)
	}
	return h, nil
}

// fail gives the database up: it cannot write any more, and the store opens another.
func (h *handle) fail(err error) {
	h.failOnce.Do(func() {
		h.fs.abandon()
		h.failure = fmt.Errorf("%w: %w", ErrBroken, err)
		close(h.failed)
		h.p.s.log.Error("span partition failed, it is opened anew", "partition", h.p.name, "reason", err)
		h.p.s.wakeUp()
	})
}

// broken returns why the database was given up, or nil.
func (h *handle) broken() error {
	select {
	case <-h.failed:
		return h.failure
	default:
		return nil
	}
}

// backgroundError is called for each try of Pebble to flush or compact, which it
// makes at once again.
func (h *handle) backgroundError(err error) {
	if h.broken() != nil || errors.Is(err, errAbandoned) {
		time.Sleep(time.Second)
		return
	}
	h.p.s.log.Warn("span partition: background work failed", "partition", h.p.name, "reason", err)
	time.Sleep(100 * time.Millisecond)
}

// apply commits a batch. It releases order, if any, once the batch has its place in
// the log, and returns once it is durable if sync is set.
func (h *handle) apply(b *pebble.Batch, sync bool, order chan struct{}) (err error) {
	var once bool
	release := func() {
		if order != nil && !once {
			once = true
			<-order
		}
	}
	defer func() {
		release()
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
		if err != nil {
			h.fail(err)
		}
		if f := h.broken(); f != nil {
			err = f
		}
	}()
	if h.broken() != nil {
		return nil
	}
	if !sync {
		err = h.db.Apply(b, pebble.NoSync)
		release()
		if err == nil {
			err = b.Close()
		}
		return err
	}
	if err = h.db.ApplyNoSyncWait(b, pebble.Sync); err != nil {
		return err
	}
	release()
	if err = b.SyncWait(); err != nil {
		return err
	}
	return b.Close()
}

// close waits for the database to end, but not for one that has failed: that may hold
// locks for good, and cannot write any more.
func (h *handle) close() error {
	done := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("%v", r)
			}
		}()
		done <- h.db.Close()
	}()
	select {
	case err := <-done:
		if err != nil && h.broken() == nil {
			return fmt.Errorf("close partition %s: %w", h.p.name, err)
		}
	case <-h.failed:
		select {
		case <-done: //nolint:errcheck // it has failed
		case <-time.After(closePatience):
		}
	}
	return nil
}

// pebbleLog passes on what Pebble says.
type pebbleLog struct {
	h   *handle
	log *slog.Logger
}

func (l pebbleLog) Infof(string, ...any) {}

func (l pebbleLog) Errorf(format string, args ...any) {
	l.log.Debug("pebble", "partition", l.h.p.name, "says", fmt.Sprintf(format, args...))
}

// Fatalf must not return to Pebble, which would go on as if nothing had happened, nor
// end the process. A commit is another matter: apply looks for the failure.
func (l pebbleLog) Fatalf(format string, args ...any) {
	l.h.fail(fmt.Errorf(format, args...))
	if !strings.Contains(format, "fatal commit error") {
		runtime.Goexit()
	}
}
