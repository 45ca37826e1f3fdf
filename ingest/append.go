package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-dev/weir/ingest/internal/wire"
)

// Store is what ingest needs of the store: to append, and two questions about a
// series by its reference.
type Store interface {
	storage.AppendableV2
	// Ready says whether the store takes samples, and if not, why.
	Ready() (ok bool, why string)
	// Last returns time (Unix milliseconds), value and kind of the newest sample
	// in order.
	Last(ref storage.SeriesRef) (t int64, v float64, isHistogram, ok bool)
	// SampleAt returns the sample stored at exactly t.
	SampleAt(ref storage.SeriesRef, t int64) (v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, ok bool)
}

// writer carries batches into the store.
//
// A batch goes in rounds. In a round each of its series is claimed, its samples
// are appended, the store commits, and only then the claims are released and
// the outcomes counted: what is answered as stored is in the store's log. A
// series that another batch has claimed waits for the next round, which starts
// when this one has released all it had, so that nobody waits while holding.
//
// A known series costs one look into keys, one into series, and an append by
// reference. Its labels are not read. Holds for every round:
//   - a series' samples of one batch are appended in the order of the request;
//   - a sample is appended only if the store is known not to have one at its time;
//   - no lock is held during an append but the read side of gate.
type writer struct {
	store    Store
	rules    atomic.Pointer[rules]
	hasher   *hasher
	keys     *keyTable // what senders write: a cache
	known    *keyTable // final labels: every series in the slab has its key here
	series   *slab
	limits   *Limits
	ha       *pairs
	metadata *Metadata
	ledger   *ledger
	now      func() time.Time
	flushes  prometheus.Counter

	// gate is held for reading by every batch and for writing by sweeps and
	// reloads, which renumber series.
	gate   sync.RWMutex
	tokens atomic.Uint32
}

// write brings b into the store and fills its tallies, complaint and failed.
// The error wraps wire.ErrMalformed; then nothing was appended.
func (w *writer) write(ctx context.Context, b *batch) error {
	w.gate.RLock()
	defer w.gate.RUnlock()
	// Who is elected must be known before series are recalled.
	if ok, why := w.store.Ready(); !ok {
		b.failed = fmt.Errorf("store is not ready: %s", why)
	} else {
		b.failed = w.openPairs(ctx)
	}
	if b.failed != nil {
		b.say.add(unavailable, "", b.failed.Error())
		b.refuseAll(unavailable)
		return nil
	}
	w.limits.seal()
	for b.token = w.tokens.Add(1); b.token == 0; b.token = w.tokens.Add(1) {
	}
	b.minT, b.maxT = w.bounds()
	w.lookUp(b)
	app := w.store.AppenderV2(ctx)
	if b.failed = w.limits.answerable(app); b.failed != nil {
		b.say.add(unavailable, "", b.failed.Error())
		b.refuseAll(unavailable)
		return app.Rollback()
	}
	if err := w.resolveAll(app, b); err != nil {
		return errors.Join(err, app.Rollback())
	}
	if w.elect(ctx, b); b.failed != nil {
		b.failed = errors.Join(b.failed, app.Rollback())
		return nil
	}
	w.round(app, b, nil)
	for idle := 0; len(b.todo) > 0 && b.failed == nil; {
		todo := slices.Clone(b.todo)
		b.todo = b.todo[:0]
		w.round(w.store.AppenderV2(ctx), b, todo)
		if len(b.todo) < len(todo) {
			idle = 0
			continue
		}
		if b.failed = w.pause(ctx, &idle); b.failed != nil {
			b.say.add(unavailable, "", b.failed.Error())
			w.refuseRest(b)
		}
	}
	if b.failed == nil {
		w.settlePassed(ctx, b)
	}
	return nil
}

// pause waits for another batch to release a series. Batches take milliseconds,
// so the wait grows from 50 microseconds to a few milliseconds.
func (w *writer) pause(ctx context.Context, idle *int) error {
	*idle++
	d := min(50*time.Microsecond<<min(*idle, 7), 5*time.Millisecond)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// bounds returns the oldest and the newest time a sample may have, in Unix
// milliseconds.
func (w *writer) bounds() (minT, maxT int64) {
	l, now := w.limits.cfg.Load(), w.now()
	minT, maxT = math.MinInt64, math.MaxInt64
	if d := l.MaxSampleAge.Std(); d > 0 {
		minT = now.Add(-d).UnixMilli()
	}
	if d := l.MaxFutureSkew.Std(); d > 0 {
		maxT = now.Add(d).UnixMilli()
	}
	return minT, maxT
}

// lookUp finds the targets of all known keys. Looking up all before appending
// any lets the processor overlap the cache misses of several series.
func (w *writer) lookUp(b *batch) {
	slots := *w.keys.slots.Load()
	for _, k := range b.keys {
		to, _ := find(slots, k)
		b.targets = append(b.targets, to)
	}
}

// resolveAll reads the labels of every series that lookUp did not find.
func (w *writer) resolveAll(app storage.AppenderV2, b *batch) error {
	for i := range b.targets {
		if b.targets[i].id != idUnknown {
			continue
		}
		// An earlier series of this request may have had the same labels.
		if to, ok := find(*w.keys.slots.Load(), b.keys[i]); ok && b.keys[i] != (key{}) {
			b.targets[i] = to
			continue
		}
		to, err := w.resolve(app, b, i)
		b.targets[i] = to
		if errors.Is(err, wire.ErrMalformed) {
			return err
		}
		if err != nil {
			w.refuseSeries(b, i, err)
		}
	}
	return nil
}

// round appends the series of todo (nil: all of the request) and commits.
func (w *writer) round(app storage.AppenderV2, b *batch, todo []uint32) {
	b.resetRound()
	n := len(b.targets)
	if todo != nil {
		n = len(todo)
	}
	for j := range n {
		i := j
		if todo != nil {
			i = int(todo[j])
		}
		w.appendSeries(app, b, i)
		if b.failed != nil {
			b.todo = append(b.todo, rest(todo, j+1, n)...)
			break
		}
	}
	err := b.failed
	if err != nil {
		err = errors.Join(err, app.Rollback())
	} else if err = app.Commit(); err != nil {
		b.failed = err
	}
	for _, id := range b.claimed {
		w.series.at(id).release(err != nil)
	}
	b.claimed = b.claimed[:0]
	if err == nil {
		b.settle(stored)
		return
	}
	b.settle(unavailable)
	b.say.add(unavailable, "", err.Error())
	w.refuseRest(b)
}

// rest returns the series that a failed round did not come to.
func rest(todo []uint32, from, n int) []uint32 {
	if todo != nil {
		return todo[from:]
	}
	out := make([]uint32, 0, n-from)
	for i := from; i < n; i++ {
		out = append(out, uint32(i))
	}
	return out
}

// refuseRest books what no round will try any more.
func (w *writer) refuseRest(b *batch) {
	for _, i := range b.todo {
		if to := b.targets[i]; to.id >= firstSeriesID {
			w.countSeries(b, int(i), w.series.at(to.id).cluster, unavailable)
		} else if to.id == idDropped {
			w.countSeries(b, int(i), 0, dropped)
		}
	}
	b.todo = b.todo[:0]
}

func (w *writer) countSeries(b *batch, i int, c clusterID, o outcome) {
	s := &b.req.Series[i]
	b.count(c, kindFloat, o, s.Samples.Len())
	b.count(c, kindHistogram, o, s.Histograms.Len())
	b.count(c, kindExemplar, o, s.Exemplars.Len())
}

// refuseSeries books a series whose labels err speaks about.
func (w *writer) refuseSeries(b *batch, i int, err error) {
	reason := badLabels
	var r *refused
	var l *limitError
	var in inCluster
	errors.As(err, &in) // else the cluster stays unknown: its labels are what is wrong
	switch {
	case errors.As(err, &r):
		reason = r.reason
	case errors.As(err, &l):
		reason = l.reason
	}
	w.countSeries(b, i, in.cluster, reason)
	b.spoil(i)
	b.say.add(reason, b.describe(i), err.Error())
}

// appendSeries appends the samples of series i.
func (w *writer) appendSeries(app storage.AppenderV2, b *batch, i int) {
	to := b.targets[i]
	switch to.id {
	case idFaulty, idHeld:
		return
	case idDropped:
		w.countSeries(b, i, 0, dropped)
		return
	}
	sr := &b.req.Series[i]
	s := w.series.at(to.id)
	ok, first := s.claim(b.token)
	if !ok {
		b.todo = append(b.todo, uint32(i))
		return
	}
	if first {
		b.claimed = append(b.claimed, to.id)
	}
	if !w.wellFormed(b, i, s) {
		return
	}
	a := appending{w: w, app: app, b: b, i: i, s: s, id: to.id, by: to.replica, t: b.at(s.cluster)}
	if b.proto == protoOTLP && b.isDelta(i) && !a.accumulate() {
		return
	}
	if sr.Exemplars.Len() == 0 {
		a.floats(b.req.Samples[sr.Samples.Lo:sr.Samples.Hi])
		a.histograms(b.req.Histograms[sr.Histograms.Lo:sr.Histograms.Hi])
	} else {
		a.withExemplars(sr)
	}
}

// wellFormed refuses what 2.0 forbids: a series with neither samples nor
// histograms, or with both. 1.0 allows both.
func (w *writer) wellFormed(b *batch, i int, s *series) bool {
	sr := &b.req.Series[i]
	if b.proto != protoV2 {
		return true
	}
	reason := outcome(0)
	switch floats, histograms := sr.Samples.Len(), sr.Histograms.Len(); {
	case floats > 0 && histograms > 0:
		reason = mixedSeries
	case floats == 0 && histograms == 0:
		reason = emptySeries
	default:
		return true
	}
	w.countSeries(b, i, s.cluster, reason)
	b.say.add(reason, b.describe(i), "")
	return false
}

// labelsOf returns the final labels of series i for a store that does not know
// it (any more).
func (w *writer) labelsOf(b *batch, i int) labels.Labels {
	if i < len(b.fresh) && !b.fresh[i].IsEmpty() {
		return b.fresh[i]
	}
	if src, ok := b.src.(*heldSource); ok {
		return src.final(i)
	}
	id, err := w.identify(b, i)
	if err != nil {
		return labels.EmptyLabels()
	}
	return id.labels
}
