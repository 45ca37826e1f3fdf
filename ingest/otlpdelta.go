package ingest

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
)

// Deltas become cumulative in the series they are for: the newest stored sample
// is the sum so far, and the next delta is added to it. That sum is what the
// writer remembers of every series anyhow, so there is no second table to bound,
// to expire or to save: max_series bounds it, it goes when the store forgets the
// series, and after a restart it is read from the store, so that a restart makes
// neither a reset nor a jump. A write that fails takes it back with the claim of
// the series, and a request sent again adds nothing: its points are not newer.
//
// The sum starts at the delta when nothing is known to add to: a new series, one
// the store has dropped from its head, one whose last sample is a stale marker or
// of another kind or layout. For counters and histograms that is a reset like a
// restart of the sender, which rate() and increase() see through.
//
// The collector's deltatocumulative processor, which Prometheus uses, is not: it
// keeps its sums in memory only, counts a request twice that is sent again after
// an error, and holds one lock for all.

// accumulate turns the delta of an OTLP series into the cumulative value to be
// stored. It returns false when the sample is settled already.
func (a *appending) accumulate() bool {
	q := a.b.src.(*otlpRequest)
	if !q.at[a.i].delta {
		return true
	}
	sr := &a.b.req.Series[a.i]
	if sr.Histograms.Len() == 1 {
		return a.addHistogram(&a.b.req.Histograms[sr.Histograms.Lo].H, &a.b.req.Histograms[sr.Histograms.Lo].ST, a.b.req.Histograms[sr.Histograms.Lo].T)
	}
	smp := &a.b.req.Samples[sr.Samples.Lo]
	if !a.newer(kindFloat, smp.T) {
		return false
	}
	s := a.s
	if s.flags&hasLast == 0 || s.flags&lastHistogram != 0 {
		return true
	}
	if sum := math.Float64frombits(s.lastV); !math.IsNaN(sum) && !math.IsNaN(smp.V) {
		smp.V += sum
		smp.ST = 0 // the sum began before this delta did
	}
	return true
}

// newer reports whether a delta at t can be added. One that is not newer has
// been added before, is another's for the same time, or has come too late.
func (a *appending) newer(k kind, t int64) bool {
	s := a.s
	if s.flags&hasLast == 0 || t > s.lastT {
		return true
	}
	a.opts.Exemplars = nil
	exemplars := a.b.req.Series[a.i].Exemplars.Len()
	if _, ok := a.inRound(t); ok {
		a.refuse(k, 1, conflict, t, "two deltas for one time")
		a.refuse(kindExemplar, exemplars, conflict, t, "")
		return false
	}
	known := t == s.lastT
	if !known && s.ref != 0 {
		_, _, _, known = a.w.store.SampleAt(s.ref, t)
	}
	if known {
		a.t.n[k][duplicate]++
		a.t.n[kindExemplar][duplicate] += uint32(exemplars)
		return false
	}
	a.refuse(k, 1, outOfOrder, t, "a delta must be newer than the last one")
	a.refuse(kindExemplar, exemplars, outOfOrder, t, "")
	return false
}

func (a *appending) addHistogram(h **histogram.Histogram, st *int64, t int64) bool {
	if !a.newer(kindHistogram, t) {
		return false
	}
	if sum := a.lastHistogram(); sum != nil {
		if total, ok := addHistograms(sum, *h); ok {
			*h, *st = total, 0
		}
	}
	return true
}

// lastHistogram returns the series' newest sample if it is an integer histogram
// and no stale marker.
//
// Cost: the store reads the open chunk of the series from its start.
func (a *appending) lastHistogram() *histogram.Histogram {
	s := a.s
	if s.flags&hasLast == 0 || s.flags&lastHistogram == 0 {
		return nil
	}
	e, ok := a.inRound(s.lastT)
	h := e.h
	if !ok && s.ref != 0 {
		_, h, _, _ = a.w.store.SampleAt(s.ref, s.lastT)
	}
	if h == nil || isStale(h) {
		return nil
	}
	return h
}

func isStale(h *histogram.Histogram) bool { return math.IsNaN(h.Sum) && h.Count >= 1<<63 }

// addHistograms returns the sum of two histograms, in the coarser of their
// schemas. Neither is changed. It fails when they have no common layout.
func addHistograms(a, b *histogram.Histogram) (*histogram.Histogram, bool) {
	if isStale(b) || a.ZeroThreshold != b.ZeroThreshold || a.UsesCustomBuckets() != b.UsesCustomBuckets() {
		return nil, false
	}
	if a.UsesCustomBuckets() && !histogram.CustomBucketBoundsMatch(a.CustomValues, b.CustomValues) {
		return nil, false
	}
	a, b = a.Copy(), b.Copy()
	if schema := min(a.Schema, b.Schema); !a.UsesCustomBuckets() {
		if coarsen(a, schema) != nil || coarsen(b, schema) != nil {
			return nil, false
		}
	}
	a.Count += b.Count
	a.ZeroCount += b.ZeroCount
	a.Sum += b.Sum
	a.CounterResetHint = histogram.UnknownCounterReset
	a.PositiveSpans, a.PositiveBuckets = addBuckets(a.PositiveSpans, a.PositiveBuckets, b.PositiveSpans, b.PositiveBuckets)
	a.NegativeSpans, a.NegativeBuckets = addBuckets(a.NegativeSpans, a.NegativeBuckets, b.NegativeSpans, b.NegativeBuckets)
	return a, true
}

func coarsen(h *histogram.Histogram, schema int32) error {
	if h.Schema == schema {
		return nil
	}
	return h.ReduceResolution(schema)
}

// addBuckets merges two lists of buckets by index.
func addBuckets(aSpans []histogram.Span, aDeltas []int64, bSpans []histogram.Span, bDeltas []int64) ([]histogram.Span, []int64) {
	x, y := walk(aSpans, aDeltas), walk(bSpans, bDeltas)
	var out *spanner
	for x.ok || y.ok {
		var idx int32
		var n int64
		switch {
		case !y.ok || x.ok && x.idx < y.idx:
			idx, n = x.idx, x.n
			x.next()
		case !x.ok || y.idx < x.idx:
			idx, n = y.idx, y.n
			y.next()
		default:
			idx, n = x.idx, x.n+y.n
			x.next()
			y.next()
		}
		if out == nil {
			out = &spanner{spans: []histogram.Span{{Offset: idx}}, next: idx}
		}
		out.put(idx, n)
	}
	if out == nil {
		return nil, nil
	}
	return out.spans, out.deltas
}

// walker reads buckets in ascending order.
type walker struct {
	spans  []histogram.Span
	deltas []int64
	left   uint32 // of the current span
	idx    int32
	n      int64
	ok     bool
}

func walk(spans []histogram.Span, deltas []int64) *walker {
	w := &walker{spans: spans, deltas: deltas, idx: -1}
	w.next()
	return w
}

func (w *walker) next() {
	w.idx++
	for w.left == 0 && len(w.spans) > 0 {
		w.idx += w.spans[0].Offset
		w.left, w.spans = w.spans[0].Length, w.spans[1:]
	}
	if w.left == 0 || len(w.deltas) == 0 {
		w.ok = false
		return
	}
	w.left--
	w.n += w.deltas[0]
	w.deltas, w.ok = w.deltas[1:], true
}
