package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// AppenderV2 returns an appender, which one goroutine uses and ends with Commit or
// Rollback; the store's repair after a full disk waits for that. Samples are
// durable once Commit returns nil, up to what the operating system still holds of
// the WAL file (Prometheus does not fsync a commit).
//
// Before the store is ready each call answers [tsdb.ErrNotReady]; while the disk
// is short, [ErrDiskFull]; both at the first Append already.
func (s *Store) AppenderV2(ctx context.Context) storage.AppenderV2 {
	tx, err := s.begin()
	if err != nil {
		return refusing{err}
	}
	return &appenderV2{app: tx.db.AppenderV2(ctx), tx: tx}
}

// Appender is AppenderV2 for callers of Prometheus' older interface.
func (s *Store) Appender(ctx context.Context) storage.Appender {
	tx, err := s.begin()
	if err != nil {
		return refusingV1{refusing{err}}
	}
	return &appenderV1{Appender: tx.db.Appender(ctx), tx: tx}
}

// transaction is what an appender of either version adds to the TSDB's own.
type transaction struct {
	s  *Store
	db *tsdb.DB
	// Series this appender made or looked up by labels. Were the WAL to refuse
	// their series records, samples appended to them later could not be replayed.
	met   []storage.SeriesRef
	ended bool
	// from is where samples begin to be taken, see [tiers.Tiers.RawFrom].
	from int64
}

func (s *Store) begin() (transaction, error) {
	db := s.db.Load()
	if db == nil {
		return transaction{}, tsdb.ErrNotReady
	}
	if err := s.guard.check(s.cfg.Load(), false); err != nil {
		s.metrics.refused.Inc()
		return transaction{}, err
	}
	if err := s.wal.enter(); err != nil {
		s.metrics.refused.Inc()
		return transaction{}, err
	}
	return transaction{s: s, db: db, from: s.tiers.RawFrom()}, nil
}

func (tx *transaction) meet(given, got storage.SeriesRef) {
	if given != got && got != 0 {
		tx.met = append(tx.met, got)
	}
}

// commit ends the transaction with commit, unless the WAL failed since it began:
// what is written after a torn record cannot be replayed before it is mended. Nor
// does it when the disk has become short since: the TSDB needs room, see guard.
func (tx *transaction) commit(commit, rollback func() error) error {
	if tx.ended {
		return commit()
	}
	defer tx.s.endOnPanic()
	tx.ended = true
	err, short := tx.s.wal.broken(), error(nil)
	if err != nil {
		err = errors.Join(err, rollback())
	} else if short = tx.s.guard.check(tx.s.cfg.Load(), false); short != nil {
		err = rollback() // writes the records of its series, so that none is an orphan
	} else {
		err = commit()
	}
	if err = cmp.Or(tx.s.wal.leave(err, tx.met), short); err != nil {
		tx.s.metrics.refused.Inc()
	}
	return err
}

// endOnPanic, deferred, ends the process when the TSDB panics. It holds locks then,
// for which all writers and the mending would wait for ever, were the panic caught
// by the HTTP server; a new process replays what was acknowledged.
func (s *Store) endOnPanic() {
	p := recover()
	if p == nil {
		return
	}
	s.log.Error("the database panicked and cannot go on, ending the process", "reason", p)
	stack := debug.Stack()
	go func() { panic(fmt.Sprintf("store: the database panicked: %v\n%s", p, stack)) }()
	select {} // the process ends meanwhile
}

func (tx *transaction) rollback(rollback func() error) error {
	if tx.ended {
		return rollback()
	}
	defer tx.s.endOnPanic()
	tx.ended = true
	return tx.s.wal.leave(rollback(), tx.met)
}

type appenderV2 struct {
	app storage.AppenderV2
	tx  transaction
}

func (a *appenderV2) Append(ref storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, opts storage.AOptions) (storage.SeriesRef, error) {
	if t < a.tx.from {
		return ref, storage.ErrTooOldSample
	}
	got, err := a.app.Append(ref, ls, st, t, v, h, fh, opts)
	a.tx.meet(ref, got)
	return got, err
}

func (a *appenderV2) Commit() error   { return a.tx.commit(a.app.Commit, a.app.Rollback) }
func (a *appenderV2) Rollback() error { return a.tx.rollback(a.app.Rollback) }

// GetRef implements [storage.GetRef].
func (a *appenderV2) GetRef(ls labels.Labels, hash uint64) (storage.SeriesRef, labels.Labels) {
	if g, ok := a.app.(storage.GetRef); ok {
		return g.GetRef(ls, hash)
	}
	return 0, labels.EmptyLabels()
}

type appenderV1 struct {
	storage.Appender
	tx transaction
}

func (a *appenderV1) Append(ref storage.SeriesRef, ls labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	if t < a.tx.from {
		return ref, storage.ErrTooOldSample
	}
	got, err := a.Appender.Append(ref, ls, t, v)
	a.tx.meet(ref, got)
	return got, err
}

func (a *appenderV1) AppendHistogram(ref storage.SeriesRef, ls labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	if t < a.tx.from {
		return ref, storage.ErrTooOldSample
	}
	got, err := a.Appender.AppendHistogram(ref, ls, t, h, fh)
	a.tx.meet(ref, got)
	return got, err
}

func (a *appenderV1) AppendSTZeroSample(ref storage.SeriesRef, ls labels.Labels, t, st int64) (storage.SeriesRef, error) {
	got, err := a.Appender.AppendSTZeroSample(ref, ls, t, st)
	a.tx.meet(ref, got)
	return got, err
}

func (a *appenderV1) AppendHistogramSTZeroSample(ref storage.SeriesRef, ls labels.Labels, t, st int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	got, err := a.Appender.AppendHistogramSTZeroSample(ref, ls, t, st, h, fh)
	a.tx.meet(ref, got)
	return got, err
}

func (a *appenderV1) Commit() error   { return a.tx.commit(a.Appender.Commit, a.Appender.Rollback) }
func (a *appenderV1) Rollback() error { return a.tx.rollback(a.Appender.Rollback) }

// refusing answers every call with err.
type refusing struct{ err error }

func (r refusing) Append(storage.SeriesRef, labels.Labels, int64, int64, float64, *histogram.Histogram, *histogram.FloatHistogram, storage.AOptions) (storage.SeriesRef, error) {
	return 0, r.err
}
func (r refusing) Commit() error   { return r.err }
func (r refusing) Rollback() error { return nil }

type refusingV1 struct{ refusing }

func (r refusingV1) SetOptions(*storage.AppendOptions) {}

func (r refusingV1) Append(storage.SeriesRef, labels.Labels, int64, float64) (storage.SeriesRef, error) {
	return 0, r.err
}

func (r refusingV1) AppendExemplar(storage.SeriesRef, labels.Labels, exemplar.Exemplar) (storage.SeriesRef, error) {
	return 0, r.err
}

func (r refusingV1) AppendHistogram(storage.SeriesRef, labels.Labels, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 0, r.err
}

func (r refusingV1) AppendHistogramSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64, *histogram.Histogram, *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return 0, r.err
}

func (r refusingV1) AppendSTZeroSample(storage.SeriesRef, labels.Labels, int64, int64) (storage.SeriesRef, error) {
	return 0, r.err
}

func (r refusingV1) UpdateMetadata(storage.SeriesRef, labels.Labels, metadata.Metadata) (storage.SeriesRef, error) {
	return 0, r.err
}

// ErrDiskFull answers writes while the file system of the database is short of
// space, by the guard's measure (store.min_free_disk) or the disk's own.
var ErrDiskFull error = refusal("disk is full")

// ErrWAL answers writes after the write-ahead log failed for another reason than
// space, until it is mended.
var ErrWAL error = refusal("write-ahead log failed")

// refusal is an error that a later try may not meet. Rooms, which do not know this
// package, see it by its method.
type refusal string

func (r refusal) Error() string { return string(r) }

// Retryable tells the doors to answer 503 rather than 400 or 500.
func (refusal) Retryable() bool { return true }

func wrapRefusal(sentinel error, format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{sentinel}, args...)...)
}
