package bucket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-dev/weir/internal/store/block"
)

// Durable is a block on disk that is complete, synced and in its place.
type Durable struct {
	Meta *block.Meta
	Dir  string
}

// Deps are what a Bucket is given.
type Deps struct {
	// Durable lists the blocks to ship, raw and rolled up, in any order.
	Durable func() []Durable
	// Changed is sent to when that list may have changed.
	Changed <-chan struct{}
	// Keep is how long blocks of a resolution (milliseconds, 0: raw) stay in the
	// bucket after their newest sample; 0 is for ever.
	Keep func(resolution int64) time.Duration
	// Newest is the time that ages are counted from, in Unix milliseconds, if not
	// the clock's; blocks do not expire because a clock jumps.
	Newest func() int64
	// Dir is the store's directory.
	Dir        string
	Log        *slog.Logger
	Registerer prometheus.Registerer // may be nil
	Now        func() time.Time
}

// Bucket ships the store's blocks and reads them back. Its life is New, Run, Close,
// in that order; the other methods may be called at any time from any goroutine.
type Bucket struct {
	cfg     Config
	deps    Deps
	objects *Objects
	owner   owner
	state   state
	pages   *pages
	metas   metaDir
	metrics *metrics
	cache   string // directory

	retiring sync.WaitGroup
	grace    time.Duration // the constant, but for tests

	mu      sync.Mutex
	listed  time.Time
	blocks  map[ulid.ULID]*entry // with our labels
	foreign int                  // blocks with others'
	begun   []ulid.ULID          // uploads and deletions begun before the bucket was listed
	open    *clock[ulid.ULID, *openBlock]
	opening map[ulid.ULID]chan struct{}
	indexes map[ulid.ULID]*remoteIndex // of blocks in open, and of those whose last readers are still there
	failing map[ulid.ULID]string       // blocks whose upload failed, to log each error once
	changed chan struct{}
}

// entry is a block of ours in the bucket.
type entry struct {
	*Remote
	checked bool      // the sizes were compared by this process
	fresh   bool      // marked for deletion since the last listing: somebody may be reading it
	badAt   time.Time // when Bad was set
}

// openBlocks bounds the blocks of the bucket that are kept open. An open one takes
// memory for a 32nd of its symbols and label values, some MiB in a large block.
const openBlocks = 128

// badFor is how long a quarantined block is left alone before it is tried again.
const badFor = time.Hour

// New checks that there is a bucket to talk to and opens the page cache.
func New(cfg Config, deps Deps) (_ *Bucket, err error) {
	if deps.Log == nil || deps.Now == nil || deps.Durable == nil {
		return nil, errors.New("new bucket: log, clock and list of blocks must be given")
	}
	if deps.Keep == nil {
		deps.Keep = func(int64) time.Duration { return 0 }
	}
	m := newMetrics(deps.Registerer)
	c, err := newClient(cfg.Location, cfg.Timeout.Std(), cfg.Retries, cfg.Concurrency, deps.Log, m)
	if err != nil {
		return nil, err
	}
	cache := cfg.CacheDir
	if cache == "" {
		cache = filepath.Join(deps.Dir, "bucket-cache")
	}
	b := &Bucket{
		cfg: cfg, deps: deps, objects: &Objects{c: c, verify: cfg.Verify}, metrics: m,
		metas: metaDir(filepath.Join(cache, "meta")), blocks: make(map[ulid.ULID]*entry),
		open: newClock[ulid.ULID, *openBlock](openBlocks), failing: make(map[ulid.ULID]string),
		opening: make(map[ulid.ULID]chan struct{}), indexes: make(map[ulid.ULID]*remoteIndex), changed: make(chan struct{}, 1), cache: cache, grace: grace,
	}
	if b.pages, err = openPages(cache, int64(cfg.CacheSize)/2, c, deps.Log); err != nil {
		return nil, errors.Join(err, c.raw.Close())
	}
	if b.state, err = readState(filepath.Join(deps.Dir, "bucket.json")); err != nil {
		return nil, errors.Join(err, b.pages.Close(), c.raw.Close())
	}
	b.owner = newOwner(b.objects, cfg.ExternalLabels, b.state.Instance, deps.Now)
	return b, nil
}

// Close ends reading. The blocks handed out must have been released.
func (b *Bucket) Close() error {
	b.pages.close() // readers that wait for a page go away with an error
	b.mu.Lock()
	for _, e := range b.open.ring {
		if e.held {
			b.retire(e.value, true)
		}
	}
	b.open = newClock[ulid.ULID, *openBlock](openBlocks)
	b.mu.Unlock()
	b.retiring.Wait()
	return errors.Join(b.pages.Close(), b.objects.Close())
}

// Run lists the bucket, ships what is new, marks what is superseded or too old and
// deletes what has been marked long enough, until ctx ends. What the bucket refuses
// is logged and tried again; an upload under way when ctx ends is cut off, and
// resumed by the next process.
func (b *Bucket) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := b.round(ctx)
		if err != nil && ctx.Err() == nil {
			b.deps.Log.Error("bucket not in step, trying again", "bucket", b.objects.String(), "err", err)
		}
		t := time.NewTimer(b.pause())
		select {
		case <-ctx.Done():
		case <-b.deps.Changed:
		case <-t.C:
		}
		t.Stop()
	}
	return nil
}

// pause is the time to the next round: until the next listing, or until a block that
// is held back by store.bucket.delay may go.
func (b *Bucket) pause() time.Duration {
	least := b.cfg.Refresh.Std()
	now := b.deps.Now()
	for _, d := range b.deps.Durable() {
		if wait := b.due(d.Meta).Sub(now); wait > 0 && wait < least {
			least = wait
		}
	}
	return max(least, 10*time.Millisecond)
}

func (b *Bucket) round(ctx context.Context) error {
	b.mu.Lock()
	stale := b.deps.Now().Sub(b.listed) >= b.cfg.Refresh.Std()
	b.mu.Unlock()
	if stale {
		if err := b.refresh(ctx); err != nil {
			return err
		}
		if err := b.owner.claim(ctx); err != nil {
			b.metrics.conflict.Set(1)
			return fmt.Errorf("nothing is shipped: %w", err)
		}
		b.metrics.conflict.Set(0)
		b.check(ctx)
	} else if !b.owner.held {
		return nil // said already
	}
	errs := []error{b.ship(ctx)}
	if stale {
		errs = append(errs, b.mark(ctx), b.sweep(ctx))
	}
	return errors.Join(errs...)
}

// refresh lists the bucket.
func (b *Bucket) refresh(ctx context.Context) error {
	begun := b.state.all()
	all, err := b.objects.list(ctx, b.metas)
	if err != nil {
		return err
	}
	now := b.deps.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begun = begun
	before := b.blocks
	b.blocks, b.foreign, b.listed = make(map[ulid.ULID]*entry, len(all)), 0, now
	for id, r := range all {
		old := before[id]
		if r.Meta != nil && !maps.Equal(r.Meta.Thanos.Labels, b.cfg.ExternalLabels) {
			b.foreign++
			continue
		}
		e := &entry{Remote: r}
		if old != nil {
			e.checked = old.checked && r.Complete()
			if r.Bad == nil && old.Bad != nil && now.Sub(old.badAt) < badFor {
				r.Bad, e.badAt = old.Bad, old.badAt
			}
		}
		if r.Bad != nil && (old == nil || old.Bad == nil) {
			e.badAt = now
			b.deps.Log.Error("block in the bucket quarantined", "block", id.String(), "err", r.Bad)
		}
		b.blocks[id] = e
	}
	b.metrics.listed.Set(float64(now.Unix()))
	b.count()
	b.tell()
	return nil
}

// count sets the gauges of blocks. b.mu is held.
func (b *Bucket) count() {
	states := map[string]int{"complete": 0, "marked": 0, "partial": 0, "bad": 0}
	for _, e := range b.blocks {
		states[e.State()]++
	}
	states["foreign"] = b.foreign
	for s, n := range states {
		b.metrics.blocks.WithLabelValues(s).Set(float64(n))
	}
}

// tell says that the blocks in the bucket have changed.
func (b *Bucket) tell() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// RemoteChanged is sent to when [Bucket.Remote] may have changed.
func (b *Bucket) RemoteChanged() <-chan struct{} { return b.changed }

// supersedes says whether newer holds all that older does: it was compacted, merged
// or rewritten from it, or rolled from all that older was rolled from.
func supersedes(newer, older *block.Meta) bool {
	if newer.ULID == older.ULID || newer.Resolution() != older.Resolution() {
		return false
	}
	for _, p := range newer.Compaction.Parents {
		if p.ULID == older.ULID {
			return true
		}
	}
	if newer.MinTime > older.MinTime || newer.MaxTime < older.MaxTime || len(older.Compaction.Sources) == 0 {
		return false
	}
	has := make(map[ulid.ULID]bool, len(newer.Compaction.Sources))
	for _, s := range newer.Compaction.Sources {
		has[s] = true
	}
	for _, s := range older.Compaction.Sources {
		if !has[s] {
			return false
		}
	}
	return newer.ULID.Compare(older.ULID) > 0
}

// successor returns a complete, unmarked block of ours that supersedes m, or nil.
// b.mu is held.
func (b *Bucket) successor(m *block.Meta) *entry {
	for _, e := range b.blocks {
		if e.State() == "complete" && supersedes(e.Meta, m) {
			return e
		}
	}
	return nil
}

// Shipped says whether the bucket has the data of a block on disk, in a block of the
// same ULID or in one that supersedes it, whose objects have been checked by this
// process. It is false until the bucket has been listed.
func (b *Bucket) Shipped(id ulid.ULID) bool {
	b.mu.Lock()
	e := b.blocks[id]
	if e != nil && e.checked && e.Complete() {
		b.mu.Unlock()
		return true
	}
	listed := !b.listed.IsZero()
	b.mu.Unlock()
	if !listed {
		return false
	}
	for _, d := range b.deps.Durable() {
		if d.Meta.ULID != id {
			continue
		}
		if b.expired(d.Meta) || d.Meta.Stats.NumSeries == 0 {
			return true // nobody would keep it there, or there is nothing to keep
		}
		b.mu.Lock()
		s := b.successor(d.Meta)
		ok := s != nil && s.checked
		b.mu.Unlock()
		return ok
	}
	return false
}

func (b *Bucket) expired(m *block.Meta) bool {
	keep := b.deps.Keep(m.Resolution()).Milliseconds()
	newest := b.deps.Now().UnixMilli()
	if b.deps.Newest != nil {
		newest = min(newest, b.deps.Newest())
	}
	return keep > 0 && newest > keep && m.MaxTime < newest-keep
}

// due is when a block may be uploaded.
func (b *Bucket) due(m *block.Meta) time.Time {
	return time.UnixMilli(m.MaxTime).Add(b.cfg.Delay.Std())
}

// Quarantine takes a block that was found to be damaged out of [Bucket.Remote] for
// an hour, and forgets what was cached of it. It does nothing when the bucket did not
// answer, which looks like damage to who reads an index: that passes by itself.
func (b *Bucket) Quarantine(id ulid.ULID, reason error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.blocks[id]
	if e == nil || e.Bad != nil {
		return
	}
	o, _, open := b.open.get(id)
	if open {
		if err := o.index.failed.Load(); err != nil && *err != nil {
			return
		}
		b.open.remove(id)
		b.retire(o, false) // waits for its readers, of whom the caller may be one
	}
	e.Bad, e.badAt, e.checked = fmt.Errorf("read: %w", reason), b.deps.Now(), false
	b.count()
	b.tell()
	b.deps.Log.Error("block in the bucket quarantined", "block", id.String(), "bucket", b.objects.String(), "err", reason)
	b.pages.forget(id)
}
