package tiers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb"
)

// rollupDir, below the store's directory, holds a folder for each rung.
const rollupDir = "rollup"

// Deps are what the store gives its tiers. All but Reg are needed.
type Deps struct {
	Log *slog.Logger
	Reg prometheus.Registerer
	Now func() time.Time
	// DB is nil until the store is ready and after it is closed.
	DB func() *tsdb.DB
	// Remote is the bucket; nil, or nil returned: there is none.
	Remote func() Remote
	// Short says why nothing may be written for want of disk space, or nil.
	Short func() error
}

// Tiers are the rungs of the ladder beside the raw data of one store. Their life is
// New, Open, Run, Close, in that order. After Open all other methods may be called
// from any goroutine.
type Tiers struct {
	cfg     Config // but for retention, which Apply changes
	dir     string // rollup/
	deps    Deps
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics

	retention atomic.Pointer[retention]
	changed   chan struct{} // see Changed

	mu       sync.RWMutex // guards what follows; held briefly, never over I/O but for state
	rungs    []*rung      // finest first
	far      []*entry     // raw blocks of the bucket, by time
	farKnown bool         // SetRemote was called
	state    state
	seen     rawView // the raw blocks as last seen

	progress progress
	retry    retries
	wake     chan struct{}
	checked  map[string]bool // block and rule that were looked at; the worker's own
	closers  sync.WaitGroup  // closing blocks that readers still hold
}

// retention is [Retention] read.
type retention struct {
	time, size int64
	keeps      []keep
}

// New checks cfg; nothing is touched or started.
func New(cfg Config, deps Deps) (*Tiers, error) {
	if cfg.Check <= 0 {
		return nil, fmt.Errorf("new tiers: store.rolling.check_interval is %s, want more than 0s", cfg.Check)
	}
	t := &Tiers{
		cfg: cfg, deps: deps, log: deps.Log, now: deps.Now, dir: filepath.Join(cfg.Dir, rollupDir),
		wake: make(chan struct{}, 1), changed: make(chan struct{}, 1), checked: map[string]bool{},
	}
	for _, r := range cfg.Rungs {
		x := &rung{Rung: r, res: r.Resolution.Std().Milliseconds(), keep: r.Keep.Std().Milliseconds(), dir: filepath.Join(t.dir, r.Name())}
		if r.Selector != "" {
			ms, err := parseSelector(r.Selector)
			if err != nil {
				return nil, fmt.Errorf("read store.rollups selector %q: %w", r.Selector, err)
			}
			x.ms = ms
		}
		t.rungs = append(t.rungs, x)
	}
	if err := t.Apply(cfg.Retention); err != nil {
		return nil, err
	}
	t.metrics = newMetrics(t, deps.Reg)
	return t, nil
}

// Apply takes other bounds of retention.
func (t *Tiers) Apply(r Retention) error {
	keeps, err := readKeeps(r.Selectors)
	if err != nil {
		return err
	}
	t.retention.Store(&retention{r.Time.Milliseconds(), int64(r.Size), keeps})
	t.Wake()
	return nil
}

// Wake lets the worker look for work now.
func (t *Tiers) Wake() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Changed is sent to whenever the answer of [Tiers.Durable] may be another.
func (t *Tiers) Changed() <-chan struct{} { return t.changed }

func (t *Tiers) tellChange() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

// Close closes all blocks, and waits for their readers until ctx ends. Run must have
// returned.
func (t *Tiers) Close(ctx context.Context) error {
	t.mu.Lock()
	var all []*entry
	for _, r := range t.rungs {
		all = append(all, r.blocks...)
		r.set(nil, nil)
	}
	t.far = nil
	t.mu.Unlock()
	for _, e := range all {
		t.closeBlock(e)
	}
	done := make(chan struct{})
	go func() { t.closers.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("close rollups: a query still reads")
	}
}
