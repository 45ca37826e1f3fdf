package ingest

import (
	"errors"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/weir-dev/weir/ingest/internal/wire"
)

// appending is one series' turn in a round: the series is claimed.
type appending struct {
	w   *writer
	app storage.AppenderV2
	b   *batch
	i   int // in the request
	s   *series
	id  seriesID
	by  replicaID
	t   *tally

	opts storage.AOptions
}

// floats appends float samples in the order of the request.
//
// Cost: no allocation for a known series, see TestAppendAllocs.
func (a *appending) floats(samples []wire.Sample) {
	for j := range samples {
		s := &samples[j]
		a.sample(kindFloat, s.T, s.ST, s.V, nil, nil)
		if a.b.failed != nil {
			a.abandon(kindFloat, len(samples)-j-1)
			return
		}
	}
}

func (a *appending) histograms(samples []wire.Histogram) {
	for j := range samples {
		s := &samples[j]
		if a.b.failed != nil {
			a.abandon(kindHistogram, len(samples)-j)
			return
		}
		a.sample(kindHistogram, s.T, s.ST, 0, s.H, s.FH)
	}
}

// withExemplars appends a series that carries exemplars: they go with its last
// sample, and share its fate if that is refused.
func (a *appending) withExemplars(sr *wire.Series) {
	b := a.b
	floats := b.req.Samples[sr.Samples.Lo:sr.Samples.Hi]
	hists := b.req.Histograms[sr.Histograms.Lo:sr.Histograms.Hi]
	if len(floats)+len(hists) == 0 {
		a.refuse(kindExemplar, sr.Exemplars.Len(), emptySeries, 0, "")
		return
	}
	from := len(b.exemplars)
	b.exemplars = b.src.exemplars(a.i, b.exemplars)
	mine := b.exemplars[from:]
	if lost := sr.Exemplars.Len() - len(mine); lost > 0 {
		a.refuse(kindExemplar, lost, exemplarRefused, 0, "label references outside of the symbol table or in odd number")
	}
	keep := mine[:0]
	for _, e := range mine {
		if e.Ts > b.maxT {
			a.refuse(kindExemplar, 1, exemplarRefused, e.Ts, "timestamp too far in the future")
			continue
		}
		keep = append(keep, e)
	}
	last := &floats
	if len(hists) > 0 {
		a.floats(floats)
		a.histograms(hists[:len(hists)-1])
		h := hists[len(hists)-1]
		a.opts.Exemplars = keep
		if b.failed == nil {
			a.sample(kindHistogram, h.T, h.ST, 0, h.H, h.FH)
		} else {
			a.abandon(kindHistogram, 1)
		}
	} else {
		n := len(*last) - 1
		a.floats((*last)[:n])
		a.opts.Exemplars = keep
		if b.failed == nil {
			a.floats((*last)[n:])
		} else {
			a.abandon(kindFloat, 1)
		}
	}
	if b.failed != nil && len(a.opts.Exemplars) > 0 {
		a.abandon(kindExemplar, len(a.opts.Exemplars))
	}
}

// sample settles one sample: h or fh for a histogram, v for a float.
func (a *appending) sample(k kind, t, st int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram) {
	s := a.s
	if k == kindHistogram {
		if err := fitSchema(h, fh); err != nil {
			a.refuse(k, 1, badHistogram, t, err.Error())
			return
		}
	}
	switch {
	case t > a.b.maxT:
		a.refuse(k, 1, tooNew, t, "")
		return
	case t < a.b.minT:
		a.refuse(k, 1, tooOld, t, "")
		return
	case s.flags&hasLast != 0 && t <= s.lastT:
		if !a.old(k, t, v, h, fh) {
			return
		}
	}
	ls := labels.EmptyLabels()
	if s.ref == 0 {
		ls = a.w.labelsOf(a.b, a.i)
	}
	ref, err := a.app.Append(s.ref, ls, st, t, v, h, fh, a.opts)
	if errors.Is(err, tsdb.ErrInvalidSample) && s.ref != 0 {
		// The store has dropped the series since; the reference means nothing now.
		s.ref = 0
		ref, err = a.app.Append(0, a.w.labelsOf(a.b, a.i), st, t, v, h, fh, a.opts)
	}
	if err != nil && !a.survives(k, t, err) {
		return
	}
	if len(a.opts.Exemplars) > 0 {
		a.t.pending[kindExemplar] += uint32(len(a.opts.Exemplars))
		a.opts.Exemplars = nil
	}
	s.ref = ref
	a.t.pending[k]++
	if s.flags&hasLast == 0 || t > s.lastT {
		s.newest(t, v, k == kindHistogram, a.by)
	}
	a.b.log = append(a.b.log, logged{id: a.id, t: t, bits: math.Float64bits(v), h: h, fh: fh})
}

// old settles a sample that is not newer than the series' newest, and returns
// true when it should be appended out of order after all.
func (a *appending) old(k kind, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram) bool {
	s := a.s
	if a.by != 0 && s.writer != a.by && s.writer != 0 {
		// The other replica has been here: this time is covered.
		a.settle(k, deduplicated)
		return false
	}
	if k == kindFloat && t == s.lastT && s.flags&lastHistogram == 0 && math.Float64bits(v) == s.lastV {
		a.settle(k, duplicate)
		return false
	}
	if e, ok := a.inRound(t); ok {
		if a.b.same(e, k, v, h, fh) {
			a.settle(k, duplicate)
		} else {
			a.refuse(k, 1, conflict, t, "")
		}
		return false
	}
	if s.ref == 0 {
		return true
	}
	gv, gh, gfh, ok := a.w.store.SampleAt(s.ref, t)
	switch {
	case !ok:
		return true
	case sameSample(k, v, h, fh, gv, gh, gfh):
		a.settle(k, duplicate)
	default:
		a.refuse(k, 1, conflict, t, "")
	}
	return false
}

// sameSample compares a received sample with a stored one.
func sameSample(k kind, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, gv float64, gh *histogram.Histogram, gfh *histogram.FloatHistogram) bool {
	switch {
	case k == kindFloat:
		return gh == nil && gfh == nil && math.Float64bits(v) == math.Float64bits(gv)
	case h != nil:
		return gh != nil && h.Equals(gh)
	default:
		return gfh != nil && fh.Equals(gfh)
	}
}

// inRound returns the sample at t that this round has appended to the series,
// which the store does not show before the commit. The index is built when the
// first old sample asks, so requests in order pay nothing for it.
func (a *appending) inRound(t int64) (logged, bool) {
	b := a.b
	if a.s.flags&appended == 0 {
		return logged{}, false
	}
	if b.index == nil {
		b.index = make(map[sampleID]logged, len(b.log))
	}
	for ; b.indexed < len(b.log); b.indexed++ {
		e := b.log[b.indexed]
		b.index[sampleID{e.id, e.t}] = e
	}
	e, ok := b.index[sampleID{a.id, t}]
	return e, ok
}

// survives reports whether the sample was appended in spite of err, and books
// what was not.
func (a *appending) survives(k kind, t int64, err error) bool {
	var partial *storage.AppendPartialError
	if errors.As(err, &partial) {
		n := min(len(partial.ExemplarErrors), len(a.opts.Exemplars))
		rest := a.opts.Exemplars[n:]
		a.opts.Exemplars = nil
		a.refuse(kindExemplar, n, exemplarRefused, t, partial.Error())
		a.opts.Exemplars = rest
		return true
	}
	reason, retry := reasonOf(err)
	if retry {
		a.b.failed = err
		a.abandon(k, 1)
		return false
	}
	a.refuse(k, 1, reason, t, err.Error())
	return false
}

// reasonOf maps what the store says of one sample. retry means that it was not
// the sample's fault and the whole request should be sent again.
func reasonOf(err error) (_ outcome, retry bool) {
	var limit *limitError
	var bad histogram.Error
	switch {
	case errors.Is(err, storage.ErrOutOfOrderSample):
		return outOfOrder, false
	case errors.Is(err, storage.ErrOutOfBounds), errors.Is(err, storage.ErrTooOldSample):
		return tooOld, false
	case errors.Is(err, storage.ErrDuplicateSampleForTimestamp):
		return conflict, false
	case errors.As(err, &limit):
		return limit.reason, false
	case errors.As(err, &bad):
		return badHistogram, false
	case errors.Is(err, tsdb.ErrInvalidSample):
		return badLabels, false
	}
	return unavailable, true
}

// fitSchema lowers the resolution of an exponential histogram that is finer
// than the store's finest schema, as Prometheus' receiver does.
func fitSchema(h *histogram.Histogram, fh *histogram.FloatHistogram) error {
	switch {
	case h != nil && tooFine(h.Schema):
		return h.ReduceResolution(histogram.ExponentialSchemaMax)
	case fh != nil && tooFine(fh.Schema):
		return fh.ReduceResolution(histogram.ExponentialSchemaMax)
	}
	return nil
}

func tooFine(schema int32) bool {
	return histogram.IsExponentialSchemaReserved(schema) && schema > histogram.ExponentialSchemaMax
}

// settle books one sample, its exemplars with it.
func (a *appending) settle(k kind, o outcome) {
	a.t.n[k][o]++
	if n := len(a.opts.Exemplars); n > 0 {
		a.t.n[kindExemplar][o] += uint32(n)
		a.opts.Exemplars = nil
	}
}

func (a *appending) refuse(k kind, n int, o outcome, t int64, detail string) {
	a.t.n[k][o] += uint32(n)
	if k != kindExemplar && len(a.opts.Exemplars) > 0 {
		a.t.n[kindExemplar][o] += uint32(len(a.opts.Exemplars))
		a.opts.Exemplars = nil
	}
	if a.b.say.first[o] == "" { // describing costs more than refusing
		a.b.say.addAt(o, a.b.describe(a.i), t, detail)
	}
}

func (a *appending) abandon(k kind, n int) {
	a.t.n[k][unavailable] += uint32(n)
	if k == kindExemplar {
		a.opts.Exemplars = nil
	}
}
