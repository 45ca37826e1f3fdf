package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

var (
	_ spanstore.Reader = (*Store)(nil)
	_ spanstore.Writer = (*Store)(nil)
)

// Deps are what the store is given.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
	// Replay, if set, is called by Open with the spans of each commit after Since, in
	// their order; the batch is borrowed. It is for state that is derived of spans and
	// saved with [Store.Seq]: what came after comes again. Commits are remembered until
	// [Store.Settle] says that nobody asks for them.
	Replay func(b *span.Batch, at time.Time)
	Since  uint64
}

// Store is the embedded store of spans.
type Store struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics

	lock    io.Closer
	cache   *pebble.Cache
	files   *pebble.FileCache
	guard   guard
	recent  *recent
	seq     atomic.Uint64 // the last number given
	settled atomic.Uint64

	mu      sync.RWMutex
	parts   []*partition // by start
	current atomic.Pointer[partition]
	lost    []string // quarantined

	keepers []keeper

	life   context.Context // ends with Close
	end    context.CancelFunc
	wake   chan struct{}
	upkeep sync.Mutex // one of maintain, tidy or Close changes partitions at a time
}

// New checks the configuration and takes memory for the caches.
func New(cfg Config, deps Deps) (*Store, error) {
	var faults conf.Faults
	cfg.Validate(&faults)
	if err := faults.Err(); err != nil {
		return nil, fmt.Errorf("span store: %w", err)
	}
	if deps.Logger == nil {
		return nil, errors.New("span store: no logger given")
	}
	s := &Store{
		cfg: cfg, deps: deps, log: deps.Logger, now: deps.Now,
		recent: newRecent(cfg.Memory.RecentSpans), wake: make(chan struct{}, 1),
	}
	if s.now == nil {
		s.now = time.Now
	}
	keepers, err := newKeepers(cfg.Retention)
	if err != nil {
		return nil, fmt.Errorf("span store: retention.keep: %w", err)
	}
	s.keepers = keepers
	s.metrics, err = newMetrics(deps.Registerer, s)
	if err != nil {
		return nil, fmt.Errorf("span store: %w", err)
	}
	return s, nil
}

// next gives a number greater than all before, which is the time in Unix nanoseconds.
func (s *Store) next() uint64 {
	for {
		last := s.seq.Load()
		n := max(last+1, uint64(s.now().UnixNano()))
		if s.seq.CompareAndSwap(last, n) {
			return n
		}
	}
}

// Seq is a position: with [Deps.Since], a later Open calls Replay with the commits
// after it. Who derives state of spans saves the two together while no Append is
// under way, or else a commit may count in neither or in both.
func (s *Store) Seq() uint64 { return s.seq.Load() }

// Settle says that commits at or before seq need not be replayed.
func (s *Store) Settle(seq uint64) {
	for {
		was := s.settled.Load()
		if seq <= was || s.settled.CompareAndSwap(was, seq) {
			return
		}
	}
}

// openFiles bounds the tables kept open, of all partitions together: 64 partitions of
// 64 tables. Each is a file descriptor and its index block's place in the cache.
const openFiles = 4096

// Open takes the directory, opens its partitions and replays what a crash left. A
// partition that cannot be opened is renamed, named in the log and by Status, and the
// others are served.
func (s *Store) Open(ctx context.Context) (err error) {
	if err := os.MkdirAll(s.cfg.Dir, 0o777); err != nil {
		return fmt.Errorf("open span store: %w", err)
	}
	s.lock, err = vfs.Default.Lock(filepath.Join(s.cfg.Dir, "LOCK"))
	if err != nil {
		return fmt.Errorf("open span store: lock %s, which another process may have: %w", s.cfg.Dir, err)
	}
	s.guard = guard{dir: s.cfg.Dir, minFree: int64(s.cfg.MinFree)}
	s.cache = pebble.NewCache(int64(s.cfg.Memory.Cache))
	s.files = pebble.NewFileCache(1, openFiles)
	s.life, s.end = context.WithCancel(context.Background())
	s.settled.Store(s.deps.Since)
	s.seq.Store(s.deps.Since)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open span store: %w", err), s.Close())
		}
	}()
	if err := s.sweep(); err != nil {
		return err
	}
	if err := s.replay(ctx); err != nil {
		return err
	}
	return s.resume()
}

// sweep removes what a crash left half done, and finds the partitions.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	newest := map[time.Time]int{}
	for _, e := range entries {
		if start, gen, ok := parsePartitionName(e.Name()); ok && e.IsDir() {
			newest[start] = max(newest[start], gen)
		}
	}
	for _, e := range entries {
		name := e.Name()
		start, gen, ok := parsePartitionName(name)
		switch {
		case !e.IsDir():
		case strings.HasSuffix(name, suffixDoomed), strings.HasSuffix(name, suffixTmp), ok && gen < newest[start]:
			if err := os.RemoveAll(filepath.Join(s.cfg.Dir, name)); err != nil {
				return err
			}
		case strings.HasSuffix(name, suffixQuarantined):
			s.lost = append(s.lost, name)
		case ok:
			s.parts = append(s.parts, s.newPartition(name))
		}
	}
	slices.SortFunc(s.parts, func(a, b *partition) int { return a.start.Compare(b.start) })
	return nil
}

// quarantine puts a partition aside that cannot be opened.
func (s *Store) quarantine(p *partition, why error) {
	name := p.name + suffixQuarantined
	if err := os.Rename(p.path(), filepath.Join(s.cfg.Dir, name)); err != nil {
		why = errors.Join(why, err)
	}
	p.mu.Lock()
	p.gone = why
	p.mu.Unlock()
	s.log.Error("span partition cannot be opened, it is put aside", "partition", p.name, "folder", name, "reason", why)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = append(s.lost, name)
	s.parts = slices.DeleteFunc(slices.Clone(s.parts), func(o *partition) bool { return o == p })
}

// partitions, the oldest first.
func (s *Store) partitions() []*partition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.parts
}

// resume goes on with the newest partition if its time is not over, or begins one.
func (s *Store) resume() error {
	parts := s.partitions()
	if n := len(parts); n > 0 {
		p := parts[n-1]
		if p.closed.Load() == 0 && !s.due(p) {
			s.current.Store(p)
			return nil
		}
	}
	_, err := s.begin()
	return err
}

// due tells whether a partition's time is over or it has grown too large.
func (s *Store) due(p *partition) bool {
	end := p.start.Truncate(s.cfg.Partition.Std()).Add(s.cfg.Partition.Std())
	return !s.now().Before(end) || s.cfg.PartitionSize > 0 && p.bytes.Load() >= int64(s.cfg.PartitionSize)
}

// begin makes a new partition the one that takes spans, and returns the one before.
func (s *Store) begin() (*partition, error) {
	start := s.now().UTC().Truncate(time.Second)
	if parts := s.partitions(); len(parts) > 0 {
		if last := parts[len(parts)-1].start; !start.After(last) {
			start = last.Add(time.Second)
		}
	}
	p := s.newPartition(partitionName(start, 0))
	h, err := s.openWriting(p, nil)
	if err != nil {
		return nil, err
	}
	p.h = h
	s.mu.Lock()
	s.parts = append(slices.Clone(s.parts), p)
	s.mu.Unlock()
	return s.current.Swap(p), nil
}

// Close is called when Run has returned; the store cannot be opened again. It waits for what is under way and closes
// every partition. What is only in the
// live index is in the journal too.
func (s *Store) Close() error {
	if s.end == nil {
		return nil
	}
	s.end()
	s.upkeep.Lock()
	defer s.upkeep.Unlock()
	s.current.Store(nil)
	var errs []error
	for _, p := range s.partitions() {
		p.mu.Lock()
		h := p.h
		if p.gone == nil {
			p.gone = ErrClosed
		}
		p.mu.Unlock()
		if h == nil {
			continue
		}
		h.fs.hurry() // a commit that waits for space ends
		if h.w != nil {
			h.stopWrites()
		}
		p.retire(nil)
	}
	if s.files != nil {
		s.files.Unref()
		s.cache.Unref()
		s.files, s.cache = nil, nil
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	s.metrics.close()
	return errors.Join(errs...)
}

func (s *Store) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Status is how the store is.
type Status struct {
	Partitions  []PartitionStatus `json:"partitions"`
	Quarantined []string          `json:"quarantined"`
	Refuses     string            `json:"refuses,omitempty"` // why spans are refused
	Seq         uint64            `json:"seq"`
}

// PartitionStatus is how a partition is.
type PartitionStatus struct {
	Name    string    `json:"name"`
	Start   time.Time `json:"start"` // of arrival
	End     time.Time `json:"end"`   // of arrival; zero while it takes spans
	Bytes   int64     `json:"bytes"` // when last measured
	Spans   uint64    `json:"spans"`
	Kept    bool      `json:"kept"` // only what retention.keep names is left
	Dropped int64     `json:"dropped_traces"`
	Damage  string    `json:"damage,omitempty"`
}

// Status tells how the store is.
func (s *Store) Status() Status {
	st := Status{Seq: s.Seq()}
	for _, p := range s.partitions() {
		ps := PartitionStatus{Name: p.name, Start: p.start, Bytes: p.bytes.Load(), Spans: p.spans(), Kept: p.kept.Load() > 0, Dropped: p.drops.Load()}
		if last := p.closed.Load(); last > 0 {
			ps.End = time.Unix(0, int64(last))
		}
		if err := p.hurt.Load(); err != nil {
			ps.Damage = (*err).Error()
		}
		st.Partitions = append(st.Partitions, ps)
	}
	s.mu.RLock()
	st.Quarantined = slices.Clone(s.lost)
	s.mu.RUnlock()
	if err := s.refuses(); err != nil {
		st.Refuses = err.Error()
	}
	return st
}

// refuses tells why spans are refused now, or nil.
func (s *Store) refuses() error {
	if err := s.guard.check(); err != nil {
		return err
	}
	h, err := s.writer()
	if err != nil {
		return err
	}
	defer s.letGo(h)
	if h.fs.isStalled() {
		return ErrDiskFull
	}
	return nil
}

func (p *partition) spans() uint64 {
	var n uint64
	p.segMu.RLock()
	defer p.segMu.RUnlock()
	for i := range p.segs {
		n += p.segs[i].spans
	}
	for _, l := range p.lives {
		n += l.spans.Load()
	}
	return n
}
