package sampling

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-dev/weir/tracing/span"
)

// Deps is what a Sampling is given. Log is required.
type Deps struct {
	// Drop has the store forget traces that it has; spans that come after it returns
	// are none of its matter. It may be called again with the same ids. nil: the store
	// cannot, and there must be no tail policies.
	Drop func(ctx context.Context, ids []span.TraceID) error
	// Pinned tells that an exemplar points to a trace, which must be kept. It may be
	// called while a lock is held that Unwanted takes. nil: there are none.
	Pinned func(span.TraceID) bool
	// Stored is how many spans of a trace the store has. nil: not known, and traces of
	// which an earlier decision may be forgotten are kept.
	Stored     func(ctx context.Context, id span.TraceID) (int, error)
	Log        *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // nil: time.Now
}

// Sampling decides. Its life is New, Run; all methods may be called by many at once.
type Sampling struct {
	deps     Deps
	head     atomic.Pointer[Head]
	rates    rates
	tail     tail
	interval time.Duration
	metrics  *metrics

	sweeping sync.Mutex
	swept    time.Time
	applying sync.Mutex
	applied  Tail
}

// New checks what it is given and starts nothing.
func New(cfg Config, deps Deps) (*Sampling, error) {
	if deps.Log == nil {
		return nil, errors.New("new sampling: a logger is required")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if cfg.Head.Adaptive.Interval <= 0 {
		return nil, fmt.Errorf("new sampling: interval is %s (tracing.sampling.head.adaptive.interval)", cfg.Head.Adaptive.Interval)
	}
	s := &Sampling{deps: deps, interval: cfg.Head.Adaptive.Interval.Std()}
	s.metrics = newMetrics(s, deps.Registerer)
	t := &s.tail
	t.seed, t.metrics, t.pinned = maphash.MakeSeed(), s.metrics, deps.Pinned
	t.perShard, t.remembered = max(cfg.Tail.MaxTraces/numShards, 1), cfg.Tail.Remembered/numShards
	t.drops.most = cfg.Tail.MaxTraces
	t.began = deps.Now().UnixMilli()
	t.horizon.Store(t.began)
	s.rates.services = make(map[string]*serviceRates)
	if err := s.Apply(cfg); err != nil {
		return nil, fmt.Errorf("new sampling: %w", err)
	}
	return s, nil
}

// Apply takes over what can be reloaded. Traces that wait are decided by the policies
// under which they came. After an error nothing is taken over.
func (s *Sampling) Apply(cfg Config) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	if len(cfg.Tail.Policies) > 0 && s.deps.Drop == nil {
		return errors.New("this store of spans cannot drop traces, so tracing.sampling.tail.policies must be empty")
	}
	if s.head.Load() == nil || !sameTail(&s.applied, &cfg.Tail) {
		p, err := newPolicies(&cfg.Tail)
		if err != nil {
			return err
		}
		s.tail.policies.Store(p)
		s.applied = cfg.Tail
	}
	s.head.Store(&cfg.Head)
	return nil
}

// Observe learns from root spans how many traces there are of operations of adaptive
// services. It should be given each span once.
func (s *Sampling) Observe(b *span.Batch) { s.rates.observe(s.head.Load(), b) }

// Adjust sets the probabilities of adaptive strategies by what was observed since it
// was last called. Run calls it every interval.
func (s *Sampling) Adjust(now time.Time) { s.rates.adjust(&s.head.Load().Adaptive, now) }

// Take notes spans for the decision on their traces, and returns which are of traces
// that were decided against, by index; nil: none. These must not be stored, or not
// have been (see Unwanted). It may be called before the store, or with what it took.
//
// Owns: nothing; b is borrowed until Take returns.
func (s *Sampling) Take(b *span.Batch, now time.Time) []bool { return s.tail.take(b, now) }

// Unwanted tells that a trace was decided against, so that its spans are not to be
// stored and no exemplar may point to it.
func (s *Sampling) Unwanted(id span.TraceID) bool { return s.tail.unwanted(id) }
