package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	promconfig "github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/weir-dev/weir/internal/store/bucket"
	"github.com/weir-dev/weir/internal/store/tiers"
)

// Store is the local database. Its life is New, Run, Close, in that order; all
// other methods may be called at any time from any goroutine, and answer
// [tsdb.ErrNotReady] before the WAL is replayed and after Close.
type Store struct {
	cfg     atomic.Pointer[Config] // replaced by Apply
	log     *slog.Logger
	reg     prometheus.Registerer
	hooks   *gatedHooks
	metrics *metrics
	stats   *tsdb.DBStats
	stripes int // the constant, but for tests that open many stores

	guard guard
	wal   walHealth

	lookups lookups

	tiers  *tiers.Tiers
	bucket atomic.Pointer[bucket.Bucket] // nil until opened, and when there is none

	db     atomic.Pointer[tsdb.DB] // nil until ready and after Close
	lock   *tsdbutil.DirLocker     // held while db is set
	mu     sync.Mutex              // held by opening, Apply and Close
	opened bool
	closed bool
}

var (
	_ storage.Storage           = (*Store)(nil)
	_ storage.ExemplarQueryable = (*Store)(nil)
)

// New checks cfg and prepares a store; the directory is not touched. hooks may be
// nil. Its PreCreation is asked only about series that arrive, never about those
// that replay finds in the WAL; PostCreation and PostDeletion are told of both.
// The TSDB's own metrics are registered with reg beside the store's.
func New(cfg Config, hooks tsdb.SeriesLifecycleCallback, log *slog.Logger, reg prometheus.Registerer) (*Store, error) {
	if log == nil {
		return nil, errors.New("new store: no logger given")
	}
	s := &Store{log: log, reg: reg, stripes: stripes, stats: tsdb.NewDBStats(), hooks: &gatedHooks{next: hooks}}
	s.cfg.Store(&cfg)
	s.metrics = newMetrics(s, reg)
	s.wal.log = log
	s.guard.room = headRoom
	var err error
	s.tiers, err = tiers.New(cfg.tiers(), tiers.Deps{
		Log: log, Reg: reg, Now: time.Now, DB: s.db.Load, Remote: s.remote,
		Short: func() error { return s.guard.check(s.cfg.Load(), false) },
	})
	if err != nil {
		return nil, fmt.Errorf("new store: %w", err)
	}
	return s, nil
}

// Tiers are the rollups of the store.
func (s *Store) Tiers() *tiers.Tiers { return s.tiers }

// Run opens the database, which replays the WAL, then watches the disk, makes
// rollups and ships blocks until ctx ends. Replay cannot be interrupted: Run returns after it when ctx ends meanwhile.
// The database stays open, for the doors that drain, until Close.
func (s *Store) Run(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	var parts sync.WaitGroup
	parts.Go(func() { s.watchDisk(ctx) })
	errs := make(chan error, 2)
	parts.Go(func() { errs <- s.tiers.Run(ctx) })
	if b := s.bucket.Load(); b != nil {
		parts.Go(func() { errs <- b.Run(ctx) })
		parts.Go(func() { s.watchBucket(ctx, b) })
	}
	parts.Wait()
	close(errs)
	var err error
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

func (s *Store) open(ctx context.Context) error {
	s.mu.Lock()
	if s.opened || s.closed {
		s.mu.Unlock()
		return fmt.Errorf("open store %s: opened or closed before", s.cfg.Load().Dir)
	}
	s.opened = true
	s.mu.Unlock()

	cfg := s.cfg.Load()
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return fmt.Errorf("open store (store.dir: %s): %w", cfg.Dir, err)
	}
	began := time.Now()
	db, lock, err := s.replay(ctx, cfg)
	if err != nil {
		return fmt.Errorf("open store (store.dir: %s): %w", cfg.Dir, err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.Join(db.Close(), s.closeTiers(), lock.Release())
	}
	s.lock = lock
	s.hooks.ready.Store(true)
	_ = s.guard.check(cfg, true) // looked at again before each write
	s.metrics.replaySeconds.Set(time.Since(began).Seconds())
	s.db.Store(db)
	s.log.Info("store ready", "dir", cfg.Dir, "series", db.Head().NumSeries(), "blocks", len(db.Blocks()), "replay", time.Since(began).Round(time.Millisecond))
	return nil
}

// replay opens the TSDB. The lock is ours rather than its own, so that it is held
// while torn logs are mended, before the TSDB sees them.
func (s *Store) replay(ctx context.Context, cfg *Config) (_ *tsdb.DB, _ *tsdbutil.DirLocker, err error) {
	lock, err := tsdbutil.NewDirLocker(cfg.Dir, "tsdb", s.log, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := lock.Lock(); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeTiers(), lock.Release())
		}
	}()
	if err := s.guard.open(cfg); err != nil {
		return nil, nil, err
	}
	for _, log := range []string{"wal", wlog.WblDirName} {
		if err := s.closeKilledTears(filepath.Join(cfg.Dir, log)); err != nil {
			return nil, nil, err
		}
	}
	if err := s.forgetMarkers(filepath.Join(cfg.Dir, wlog.WblDirName)); err != nil {
		return nil, nil, err
	}
	if err := errors.Join(s.tiers.QuarantineRaw(), s.tiers.Open()); err != nil {
		return nil, nil, err
	}
	if err := s.openBucket(cfg); err != nil {
		return nil, nil, err
	}
	defer s.watchReplay(ctx)()
	db, err := tsdb.Open(cfg.Dir, s.log, s.wal.capture(s.reg), s.options(cfg), s.stats)
	debug.FreeOSMemory() // what replay left: 140 of 1105 MiB at 1M series
	return db, lock, err
}

// Close writes what is in flight and closes the database. Appenders and queriers
// must have been closed before; Run must have returned.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	db := s.db.Swap(nil)
	if db == nil {
		return nil
	}
	s.hooks.ready.Store(false)
	if err := errors.Join(db.Close(), s.closeTiers(), s.lock.Release()); err != nil {
		return fmt.Errorf("close store (store.dir: %s): %w", s.cfg.Load().Dir, err)
	}
	return nil
}

// Ready says whether samples and queries are served; when not, the text says what
// is being waited for, as in "replaying WAL: segment 12 of 40 (31%)".
func (s *Store) Ready() (bool, string) {
	if s.db.Load() != nil {
		return true, "ready"
	}
	s.mu.Lock()
	opened, closed := s.opened, s.closed
	s.mu.Unlock()
	switch {
	case closed:
		return false, "store is closed"
	case !opened:
		return false, "store is not opened yet"
	}
	return false, s.replayText()
}

// Apply takes the settings of cfg that can change at run time (see [Config]); the
// others keep the value they had at start.
func (s *Store) Apply(cfg Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := *s.cfg.Load()
	next.Retention = cfg.Retention
	next.OutOfOrderWindow = cfg.OutOfOrderWindow
	next.Exemplars = cfg.Exemplars
	next.MinFreeDisk = cfg.MinFreeDisk
	if db := s.db.Load(); db != nil {
		if err := db.ApplyConfig(runtimeConfig(&next)); err != nil {
			return fmt.Errorf("apply store settings: %w", err)
		}
	}
	if err := s.tiers.Apply(next.retention()); err != nil {
		return fmt.Errorf("apply store settings: %w", err)
	}
	s.cfg.Store(&next)
	_ = s.guard.check(&next, true) // looked at again before each write
	return nil
}

func runtimeConfig(c *Config) *promconfig.Config {
	return &promconfig.Config{StorageConfig: promconfig.StorageConfig{
		TSDBConfig: &promconfig.TSDBConfig{
			OutOfOrderTimeWindow: c.OutOfOrderWindow.Std().Milliseconds(),
			Retention: &promconfig.TSDBRetentionConfig{
				Time: model.Duration(c.Retention.Time),
				Size: units.Base2Bytes(c.Retention.Size),
			},
		},
		ExemplarsConfig: &promconfig.ExemplarsConfig{MaxExemplars: c.Exemplars.Max},
	}}
}

// stripes is the number of maps over which the head spreads its series, a power of
// two. With 1M series, 20 samples each in requests of 2000 on 2 cores, 131072 took
// 12 to 13 CPU-s to write and 12 to 14 to replay, where Prometheus' 16384 took 18 to
// 20 both times: a map of 8 series is one probe. An empty stripe takes about 200
// bytes, 25 MiB in all.
const stripes = 1 << 17

// chunkSegment is the size of a block's chunk files. The TSDB reserves that much of
// the disk before it writes the first chunk of a block, so it bounds the free space
// without which nothing can be compacted, hence nothing freed: a quarter of the
// default store.min_free_disk, where Prometheus' 512 MiB would be twice as much.
const chunkSegment = 64 << 20

func (s *Store) options(c *Config) *tsdb.Options {
	o := tsdb.DefaultOptions()
	o.NoLockfile = true // see replay
	o.RetentionDuration = c.Retention.Time.Std().Milliseconds()
	o.MaxBytes = int64(c.Retention.Size)
	o.MinBlockDuration = c.MinBlockDuration.Std().Milliseconds()
	o.MaxBlockDuration = c.maxBlock().Milliseconds()
	o.OutOfOrderTimeWindow = c.OutOfOrderWindow.Std().Milliseconds()
	o.EnableExemplarStorage = c.Exemplars.Max > 0
	o.MaxExemplars = c.Exemplars.Max
	o.StripeSize = s.stripes
	o.MaxBlockChunkSegmentSize = chunkSegment
	o.WALCompression = c.WALCompression.tsdb()
	o.WALReplayConcurrency = c.ReplayConcurrency
	o.EnableMemorySnapshotOnShutdown = c.SnapshotOnShutdown
	o.EnableMetadataWALRecords = c.MetadataInWAL
	o.SeriesLifecycleCallback = s.hooks
	o.BlocksToDelete = s.tiers.Deletable
	o.BlockCompactionExcludeFunc = s.tiers.Exclude
	o.NewCompactorFunc = s.newCompactor
	switch c.StartTimestamps {
	case StartTimestampsZeroSample:
		o.EnableSTAsZeroSample = true
	case StartTimestampsStored:
		// XOR chunks have no room for a start timestamp; the TSDB refuses the pair.
		o.EnableSTStorage = true
		o.FloatChunkEncoding = chunkenc.EncXOR2
		o.EnableHistogramSTEncoding = true
	}
	return o
}

// StartTime returns the oldest time stored, in milliseconds.
func (s *Store) StartTime() (int64, error) {
	db := s.db.Load()
	if db == nil {
		return math.MaxInt64, tsdb.ErrNotReady
	}
	t, err := db.StartTime()
	return min(t, s.tiers.StartTime()), err
}
