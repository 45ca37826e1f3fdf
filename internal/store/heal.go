package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// walHealth knows whether the write-ahead logs can be replayed as they are. After
// a failed write they may not:
//
//   - A record that spans pages can be left without its end. Replay takes that for
//     corruption and drops all that follows, acknowledged or not.
//   - Series made by the failed transaction stay in the head without a series
//     record. Samples appended to them later would be written, acknowledged and
//     dropped by replay, which does not know whose they are.
//   - Out-of-order samples are in the head before they are logged, and a failure
//     to log them is not reported; sent again they count as duplicates and are not
//     logged either.
//
// Hence from the first failed write on no transaction is begun or committed, and a
// transaction that committed after the failure is not acknowledged. When all have
// ended and there is space, Store.mend repairs the three, and writing goes on.
type walHealth struct {
	log      *slog.Logger
	failures [2]prometheus.Collector // of WAL and out-of-order log, set by capture
	counted  [2]float64              // failures that were mended; guarded by mu

	open  atomic.Int64          // transactions begun and not ended
	fault atomic.Pointer[error] // why writes are refused, nil when they are not

	mu      sync.Mutex
	orphans []storage.SeriesRef // series whose records may be missing
	wbl     bool                // the out-of-order log failed too
}

// enter counts a transaction in, or refuses it. The count goes up before the fault
// is looked at, so that mend, which looks in the other order, never runs beside a
// transaction.
func (w *walHealth) enter() error {
	w.open.Add(1)
	if err := w.broken(); err != nil {
		w.open.Add(-1)
		return err
	}
	return nil
}

func (w *walHealth) broken() error {
	if p := w.fault.Load(); p != nil {
		return *p
	}
	return nil
}

// leave counts a transaction out and returns what its caller is told: err, or the
// fault when the WAL failed before or while it committed.
func (w *walHealth) leave(err error, met []storage.SeriesRef) error {
	defer w.open.Add(-1)
	failed := err != nil && !errors.Is(err, tsdb.ErrAppenderClosed)
	if !failed && !w.newFailures() && w.broken() == nil {
		return err
	}
	return w.wound(err, met)
}

func (w *walHealth) wound(cause error, met []storage.SeriesRef) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.orphans = append(w.orphans, met...)
	if fault := w.broken(); fault != nil {
		return fault
	}
	sentinel := ErrWAL
	switch {
	case cause == nil:
		cause = errors.New("a sample could not be logged")
		sentinel = ErrDiskFull
	case errors.Is(cause, syscall.ENOSPC), errors.Is(cause, syscall.EDQUOT), errors.Is(cause, syscall.EFBIG):
		sentinel = ErrDiskFull
	}
	fault := wrapRefusal(sentinel, "%w; writes wait until the log is mended", cause)
	w.fault.Store(&fault)
	return fault
}

// capture returns a registerer that passes everything to reg and keeps the two
// counters of failed log writes. They are the only way to learn of a failure in
// the out-of-order log, and, as they change under the log's own lock, the only
// exact way to tell a record written before a failure from one written after.
func (w *walHealth) capture(reg prometheus.Registerer) prometheus.Registerer {
	if reg == nil {
		reg = prometheus.NewRegistry()
	}
	return &capturing{Registerer: reg, w: w}
}

type capturing struct {
	prometheus.Registerer
	w *walHealth
}

var failureCounters = [2]string{"prometheus_tsdb_wal_writes_failed_total", "prometheus_tsdb_out_of_order_wbl_writes_failed_total"}

func (c *capturing) Register(m prometheus.Collector) error {
	if err := c.Registerer.Register(m); err != nil {
		return err
	}
	descs := make(chan *prometheus.Desc, 64) // more than any collector of the TSDB describes
	go func() { m.Describe(descs); close(descs) }()
	for d := range descs {
		for i, name := range failureCounters {
			if strings.Contains(d.String(), `"`+name+`"`) {
				c.w.mu.Lock()
				c.w.failures[i] = m
				c.w.mu.Unlock()
			}
		}
	}
	return nil
}

func (c *capturing) MustRegister(ms ...prometheus.Collector) {
	for _, m := range ms {
		if err := c.Register(m); err != nil {
			panic(err)
		}
	}
}

// count returns how often writing log i has failed. 0 when it has no counter,
// which is so for the out-of-order log before it is first needed.
func (w *walHealth) count(i int) float64 {
	w.mu.Lock()
	c := w.failures[i]
	w.mu.Unlock()
	if c == nil {
		return 0
	}
	out := make(chan prometheus.Metric, 1)
	c.Collect(out)
	var m dto.Metric
	if err := (<-out).Write(&m); err != nil {
		return 0
	}
	return m.GetCounter().GetValue()
}

func (w *walHealth) newFailures() bool {
	n := [2]float64{w.count(0), w.count(1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wbl = w.wbl || n[1] > w.counted[1]
	return n[0] > w.counted[0] || n[1] > w.counted[1]
}

// mend makes the logs replayable after a failure, see [walHealth], and lets writes
// in again. It returns why they are still refused. One caller at a time.
func (s *Store) mend(ctx context.Context) error {
	w := &s.wal
	fault := w.broken()
	db := s.db.Load()
	if fault == nil || db == nil {
		return fault
	}
	if n := w.open.Load(); n > 0 {
		return fmt.Errorf("%w (%d transactions still open)", fault, n)
	}
	if err := s.mendLogs(ctx, db); err != nil {
		return errors.Join(fault, fmt.Errorf("mend the write-ahead log: %w", err))
	}
	failed := [2]float64{w.count(0), w.count(1)}
	w.mu.Lock()
	w.counted, w.orphans, w.wbl = failed, nil, false
	w.mu.Unlock()
	s.metrics.mended.Inc()
	w.fault.Store(nil)
	return nil
}

// mendLogs is in this order, because each step needs the ones before: writing
// what the WAL still holds in its page, so that the tear is on disk; closing the
// tear; moving what was never logged out of the head into blocks.
func (s *Store) mendLogs(ctx context.Context, db *tsdb.DB) error {
	w := &s.wal
	nobody := labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, "weir:no_such_series")
	if err := db.Head().Delete(ctx, math.MinInt64, math.MaxInt64, nobody); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	dir := filepath.Join(db.Dir(), "wal")
	first, last, err := wlog.Segments(dir)
	if err != nil {
		return fmt.Errorf("list segments: %w", err)
	}
	for i := first; i >= 0 && i <= last; i++ {
		n, err := closeTears(wlog.SegmentName(dir, i), false)
		if err != nil {
			return fmt.Errorf("segment %d: %w", i, err)
		}
		if n > 0 {
			w.log.Warn("torn WAL record blanked", "segment", i, "fragments", n)
		}
	}
	w.mu.Lock()
	orphans, wbl := slices.Clone(w.orphans), w.wbl
	w.mu.Unlock()
	if wbl || len(orphans) > 0 {
		// First: it writes head chunks before it asks for the room of a block.
		if err := s.guard.block(s.cfg.Load()); err != nil {
			return err
		}
		// Ends the out-of-order log as well: what it held is in blocks then.
		if err := db.CompactOOOHead(ctx); err != nil {
			return fmt.Errorf("write out-of-order samples: %w", err)
		}
	}
	if err := db.CompactSelectedSeries(orphans); err != nil {
		return fmt.Errorf("write %d series: %w", len(orphans), err)
	}
	return nil
}
