package ingest

import (
	"errors"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
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

	opts   storage.AOptions
	queued bool // in b.todo: some samples must wait

	bearing []exemplar.Exemplar // of this series, not given to the store yet
	settled bool                // a sample was not appended because it is
	as      outcome             // a duplicate, or deduplicated
}

// floats appends float samples in the order of the request, those that must
// wait for the commit excepted: they stay in the series' range for the next round.
//
// Cost: no allocation for a known series, see TestAppendAllocs.
func (a *appending) floats(samples []wire.Sample) {
	waiting := 0
	for j := range samples {
		s := &samples[j]
		if a.waits(s.T) {
			samples[waiting] = *s
			waiting++
			continue
		}
		a.sample(kindFloat, s.T, s.ST, s.V, nil, nil)
		if a.b.failed != nil {
			a.abandon(kindFloat, len(samples)-j-1)
			break
		}
	}
	a.await(&a.b.req.Series[a.i].Samples, waiting)
}

func (a *appending) histograms(samples []wire.Histogram) {
	waiting := 0
	for j := range samples {
		s := &samples[j]
		if a.b.failed != nil {
			a.abandon(kindHistogram, len(samples)-j)
			break
		}
		if a.waits(s.T) {
			samples[waiting] = *s
			waiting++
			continue
		}
		a.sample(kindHistogram, s.T, s.ST, 0, s.H, s.FH)
	}
	a.await(&a.b.req.Series[a.i].Histograms, waiting)
}

// waits says whether a sample at t must wait for the commit, for the store would
// say yes to it and drop it, or one before it, in silence at the commit. It is so
//   - when the sample is older than one that this round has appended, because the
//     store holds it against what is committed only;
//   - behind a stale marker that the store makes a histogram of, as the series has
//     been one, because it commits histograms after floats.
func (a *appending) waits(t int64) bool {
	s := a.s
	if s.flags&appended == 0 || s.wasFlags&hasLast != 0 && s.lastT == s.wasT {
		return false
	}
	if t > s.lastT {
		return s.flags&lastHistogram != 0 && value.IsStaleNaN(math.Float64frombits(s.lastV))
	}
	if t == s.lastT {
		return false
	}
	_, known := a.inRound(t)
	return !known
}

// await leaves the first n of a range to the next round. One more round is
// enough for all that is older than what is then committed, and one more for each
// further stale marker.
func (a *appending) await(at *wire.Range, n int) {
	at.Hi = at.Lo + uint32(n)
	if n > 0 && !a.queued {
		a.queued = true
		a.b.todo = append(a.b.todo, uint32(a.i))
	}
}

// withExemplars appends a series that carries exemplars. The store takes them
// with a sample only: with the first one appended, or, when none is, with the
// series' newest once more, which it takes for the repetition it is. Senders of
// 1.0 put exemplars into a series of their own without any sample.
func (a *appending) withExemplars(sr *wire.Series) {
	b := a.b
	floats := b.req.Samples[sr.Samples.Lo:sr.Samples.Hi]
	hists := b.req.Histograms[sr.Histograms.Lo:sr.Histograms.Hi]
	from := len(b.exemplars)
	b.exemplars = b.src.exemplars(a.i, b.exemplars)
	mine := b.exemplars[from:]
	keep := slices.DeleteFunc(mine, func(e exemplar.Exemplar) bool { return e.Ts > b.maxT })
	a.bearing = keep
	a.floats(floats)
	a.histograms(hists)
	if a.queued && len(a.bearing) > 0 {
		return // they go with one of the samples that wait
	}
	if n := sr.Exemplars.Len() - len(mine); n > 0 {
		a.refuse(kindExemplar, n, exemplarRefused, 0, "label references outside of the symbol table or in odd number")
	}
	if n := len(mine) - len(keep); n > 0 {
		a.refuse(kindExemplar, n, exemplarRefused, 0, "timestamp too far in the future")
	}
	sr.Exemplars.Hi = sr.Exemplars.Lo
	a.carry()
}

// carry gives to the store the exemplars that no sample has taken along.
func (a *appending) carry() {
	n := len(a.bearing)
	switch {
	case n == 0:
		return
	case a.b.failed != nil:
		a.abandon(kindExemplar, n)
		return
	case a.settled && a.as == deduplicated:
		a.t.n[kindExemplar][deduplicated] += uint32(n)
		return
	}
	v, h, fh, ok := a.newest()
	if !ok {
		a.refuse(kindExemplar, n, exemplarRefused, a.bearing[0].Ts, "no sample of its series to go with")
		return
	}
	_, err := a.app.Append(a.s.ref, labels.EmptyLabels(), 0, a.s.lastT, v, h, fh, storage.AOptions{Exemplars: a.bearing})
	var partial *storage.AppendPartialError
	switch {
	case errors.As(err, &partial):
		a.partial(partial)
	case err != nil:
		a.refuse(kindExemplar, n, exemplarRefused, a.bearing[0].Ts, err.Error())
	case a.settled:
		a.t.n[kindExemplar][a.as] += uint32(n)
	default:
		a.t.pending[kindExemplar] += uint32(n)
	}
}

// partial books the exemplars that were given with a sample, some in vain.
func (a *appending) partial(err *storage.AppendPartialError) {
	bad := min(len(err.ExemplarErrors), len(a.bearing))
	a.refuse(kindExemplar, bad, exemplarRefused, a.bearing[0].Ts, err.Error())
	a.t.pending[kindExemplar] += uint32(len(a.bearing) - bad)
	a.bearing = nil
}

// newest returns the newest sample of the series, if the store takes exemplars
// with it: with a stale marker it does not.
func (a *appending) newest() (v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, ok bool) {
	s := a.s
	if s.flags&hasLast == 0 || s.ref == 0 {
		return 0, nil, nil, false
	}
	if s.flags&lastHistogram == 0 {
		v = math.Float64frombits(s.lastV)
		return v, nil, nil, !value.IsStaleNaN(v)
	}
	if e, found := a.inRound(s.lastT); found {
		h, fh = e.h, e.fh
	} else {
		_, h, fh, _ = a.w.store.SampleAt(s.ref, s.lastT)
	}
	return 0, h, fh, (h != nil || fh != nil) && !stale(0, h, fh)
}

func stale(v float64, h *histogram.Histogram, fh *histogram.FloatHistogram) bool {
	switch {
	case h != nil:
		v = h.Sum
	case fh != nil:
		v = fh.Sum
	}
	return value.IsStaleNaN(v)
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
	case s.flags&hasLast == 0 && s.ref != 0, s.flags&hasLast != 0 && t <= s.lastT:
		if !a.old(k, t, v, h, fh) {
			return
		}
	}
	if a.invents(k, t, v, h, fh) {
		a.settle(k, deduplicated)
		return
	}
	ls := labels.EmptyLabels()
	if s.ref == 0 {
		ls = a.w.labelsOf(a.b, a.i)
	}
	opts := a.opts
	if len(a.bearing) > 0 && !stale(v, h, fh) {
		opts.Exemplars = a.bearing
	}
	ref, err := a.app.Append(s.ref, ls, st, t, v, h, fh, opts)
	if errors.Is(err, tsdb.ErrInvalidSample) && s.ref != 0 {
		// The store has dropped the series since; the reference means nothing now.
		s.ref = 0
		ref, err = a.app.Append(0, a.w.labelsOf(a.b, a.i), st, t, v, h, fh, opts)
	}
	if err != nil && !a.survives(k, t, err) {
		return
	}
	if len(opts.Exemplars) > 0 {
		a.t.pending[kindExemplar] += uint32(len(a.bearing))
		a.bearing = nil
	}
	s.ref = ref
	s.flags |= appended
	a.t.pending[k]++
	if s.flags&hasLast == 0 || t > s.lastT {
		s.newest(t, magnitude(v, h, fh), k == kindHistogram || s.flags&lastHistogram != 0 && value.IsStaleNaN(v), a.by)
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
	if a.by != 0 && s.flags&switched != 0 && t < s.lastT {
		// The other replica may have this time, and if it has not, a sample between
		// those of two replicas may show a reset that there was not.
		a.settle(k, deduplicated)
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

// sameSample compares a received sample with a stored one. The store keeps a
// stale marker as the kind that its series had before, and widens a histogram by
// empty buckets to fit its neighbours in the chunk.
func sameSample(k kind, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, gv float64, gh *histogram.Histogram, gfh *histogram.FloatHistogram) bool {
	switch {
	case stale(v, h, fh):
		return stale(gv, gh, gfh)
	case k == kindFloat:
		return gh == nil && gfh == nil && math.Float64bits(v) == math.Float64bits(gv)
	case h != nil:
		return gh != nil && (h.Equals(gh) || h.Copy().Compact(0).Equals(gh.Copy().Compact(0)))
	default:
		return gfh != nil && (fh.Equals(gfh) || fh.Copy().Compact(0).Equals(gfh.Copy().Compact(0)))
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
		a.partial(partial)
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
	a.settled, a.as = true, o
	if n := len(a.opts.Exemplars); n > 0 {
		a.t.n[kindExemplar][o] += uint32(n)
		a.opts.Exemplars = nil
	}
}

func (a *appending) refuse(k kind, n int, o outcome, t int64, detail string) {
	a.t.n[k][o] += uint32(n)
	if k != kindExemplar {
		a.b.spoil(a.i)
	}
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
