package ingest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// Limits counts the store's series and refuses new ones over a limit. It
// implements tsdb.SeriesLifecycleCallback, so that every way into the store
// passes it, and is built before the store is.
//
// A limit concerns new series only: the samples of a known series are never
// refused for it. Counts may overshoot by the number of requests in flight,
// because counting happens when the store has created the series.
type Limits struct {
	cfg          atomic.Pointer[LimitsConfig]
	clusterLabel string

	total      atomic.Int64
	perMetric  counter
	perCluster counter

	mu   sync.Mutex
	gone map[storage.SeriesRef]struct{} // deleted since takeGone

	// Hashes of the series that the store had before ingest made any; sorted and
	// constant once sealed. Asking the store whether it has a series costs a tenth
	// of making one, and on these alone it need be asked.
	inherited []uint64
	sealed    sync.Once
	open      atomic.Bool
}

// limitError refuses a series; reason says which limit.
type limitError struct {
	reason outcome
	what   string
	limit  int
}

func (e *limitError) Error() string {
	r := refusals[e.reason]
	return fmt.Sprintf("%s%s: %d; raise %s or send fewer series", r.says, e.what, e.limit, r.turn)
}

// NewLimits returns the counters for a store that is not open yet. clusterLabel
// names the label whose values max_series_per_cluster counts by.
func NewLimits(cfg LimitsConfig, clusterLabel string) *Limits {
	l := &Limits{clusterLabel: clusterLabel, perMetric: newCounter(), perCluster: newCounter()}
	l.cfg.Store(&cfg)
	l.open.Store(true)
	return l
}

// seal ends the time in which series count as inherited. The store must be
// ready.
func (l *Limits) seal() {
	l.sealed.Do(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open.Store(false)
		slices.Sort(l.inherited)
	})
}

// mayInherit is false for a series that the store cannot have unless ingest made
// it.
func (l *Limits) mayInherit(ls labels.Labels) bool {
	if len(l.inherited) == 0 {
		return false
	}
	_, ok := slices.BinarySearch(l.inherited, ls.Hash())
	return ok
}

// answerable fails if app cannot say which series the store has and it may have
// inherited some: an appender that refuses everything. A series taken for new
// then would never be asked about again.
func (l *Limits) answerable(app storage.AppenderV2) error {
	if _, ok := app.(storage.GetRef); ok || len(l.inherited) == 0 {
		return nil
	}
	_, err := app.Append(0, labels.EmptyLabels(), 0, 0, 0, nil, nil, storage.AOptions{})
	return err
}

// check returns the limit that a new series would break, or nil.
func (l *Limits) check(ls labels.Labels) error {
	cfg := l.cfg.Load()
	if cfg.MaxSeries > 0 && l.total.Load() >= int64(cfg.MaxSeries) {
		return &limitError{limitSeries, "", cfg.MaxSeries}
	}
	if cfg.MaxSeriesPerMetric > 0 {
		if name := ls.Get(model.MetricNameLabel); l.perMetric.get(name) >= cfg.MaxSeriesPerMetric {
			return &limitError{limitMetricSeries, fmt.Sprintf(" (%q)", name), cfg.MaxSeriesPerMetric}
		}
	}
	if cfg.MaxSeriesPerCluster > 0 {
		if name := ls.Get(l.clusterLabel); l.perCluster.get(name) >= cfg.MaxSeriesPerCluster {
			return &limitError{limitClusterSeries, fmt.Sprintf(" (%q)", name), cfg.MaxSeriesPerCluster}
		}
	}
	return nil
}

// PreCreation implements tsdb.SeriesLifecycleCallback.
func (l *Limits) PreCreation(ls labels.Labels) error { return l.check(ls) }

// PostCreation implements tsdb.SeriesLifecycleCallback.
func (l *Limits) PostCreation(ls labels.Labels) {
	l.total.Add(1)
	l.perMetric.add(ls.Get(model.MetricNameLabel), 1)
	l.perCluster.add(ls.Get(l.clusterLabel), 1)
	if !l.open.Load() {
		return // most often, and without a lock
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open.Load() {
		l.inherited = append(l.inherited, ls.Hash())
	}
}

// PostDeletion implements tsdb.SeriesLifecycleCallback.
func (l *Limits) PostDeletion(gone map[chunks.HeadSeriesRef]labels.Labels) {
	l.total.Add(-int64(len(gone)))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone == nil {
		l.gone = make(map[storage.SeriesRef]struct{}, len(gone))
	}
	for ref, ls := range gone {
		l.perMetric.add(ls.Get(model.MetricNameLabel), -1)
		l.perCluster.add(ls.Get(l.clusterLabel), -1)
		l.gone[storage.SeriesRef(ref)] = struct{}{}
	}
}

// putBack returns to the list what the next takeGone should give again.
func (l *Limits) putBack(ref storage.SeriesRef) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone == nil {
		l.gone = map[storage.SeriesRef]struct{}{}
	}
	l.gone[ref] = struct{}{}
}

// takeGone returns the series that the store has deleted since the last call.
func (l *Limits) takeGone() map[storage.SeriesRef]struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	gone := l.gone
	l.gone = nil
	return gone
}

// counter counts by name. It holds one entry a name with a count above zero, so
// the store's series bound it.
type counter struct {
	mu *sync.Mutex
	n  map[string]int
}

func newCounter() counter { return counter{&sync.Mutex{}, map[string]int{}} }

func (c counter) get(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}

func (c counter) add(name string, d int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.n[name]
	switch {
	case n+d <= 0:
		delete(c.n, name)
	case ok:
		c.n[name] = n + d
	default:
		// The key must not keep the whole label set alive.
		c.n[string([]byte(name))] = d
	}
}
