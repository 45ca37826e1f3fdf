package ingest

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"

	"github.com/weir-dev/weir/ingest/internal/wire"
)

// otlpAt is where a series of a batch comes from.
type otlpAt struct {
	resource uint32
	metric   uint32
	point    uint32
	// part is the series' place among those the point makes, in the order of
	// Prometheus' translator; partInfo stands for the resource's target_info.
	part      uint32
	exemplars wire.Range // in the request
	delta     bool
	refused   bool
}

const partInfo = math.MaxUint32

func (a *otlpAt) isInfo() bool { return a.part == partInfo }

// samePoint reports whether two series come from one data point.
func (a *otlpAt) samePoint(b *otlpAt) bool {
	if a.isInfo() || b.isInfo() {
		return a.isInfo() && b.isInfo() && a.resource == b.resource
	}
	return a.point == b.point
}

// otlpRequest is one decoded request on its way into a batch, and the batch's
// source. It is pooled.
type otlpRequest struct {
	o   *otlp
	how *translation
	wire.OTLP
	at []otlpAt // one a series of the batch

	lost  int           // points refused before they were series
	early [numKinds]int // samples they would have made

	// Of the place that fill is at.
	here        otlpAt
	first, last uint64 // times of the resource's points
	resource    key
	metric      key
	buf         []byte

	lab translator
}

func (o *otlp) request() *otlpRequest {
	q, ok := o.requests.Get().(*otlpRequest)
	if !ok {
		q = &otlpRequest{}
	}
	q.o, q.how = o, o.translation.Load()
	return q
}

func (o *otlp) done(q *otlpRequest) {
	q.Reset()
	if q.Size()+cap(q.at)*28+cap(q.buf) > maxPooled {
		return
	}
	q.lab.reset()
	*q = otlpRequest{OTLP: q.OTLP, at: q.at[:0], buf: q.buf[:0], lab: q.lab}
	o.requests.Put(q)
}

// fill turns every data point of the request into series with one sample each.
func (q *otlpRequest) fill(b *batch) {
	for i := range q.Resources {
		r := &q.Resources[i]
		q.here = otlpAt{resource: uint32(i)}
		q.first, q.last = math.MaxUint64, 0
		q.buf = binary.LittleEndian.AppendUint64(q.buf[:0], q.how.number)
		q.resource = hash128(&q.o.seed, append(q.buf, q.Bytes(r.Raw)...))
		for j := r.Scopes.Lo; j < r.Scopes.Hi; j++ {
			s := &q.Scopes[j]
			for m := s.Metrics.Lo; m < s.Metrics.Hi; m++ {
				q.here.metric = m
				q.fillMetric(b, s, &q.Metrics[m])
			}
		}
		if q.first < math.MaxUint64 {
			q.info(b)
		}
	}
}

func (q *otlpRequest) fillMetric(b *batch, s *wire.OTLPScope, m *wire.OTLPMetric) {
	q.buf = appendKey(q.buf[:0], q.resource)
	if q.how.settings.PromoteScopeMetadata {
		q.buf = q.appendBytes(q.appendBytes(q.buf, s.Raw), s.SchemaURL)
	}
	q.buf = append(q.buf, byte(m.Kind), flag(m.Monotonic))
	q.buf = q.appendBytes(q.buf, m.Name)
	q.buf = q.appendBytes(q.buf, m.Unit)
	q.buf = q.appendBytes(q.buf, m.Description)
	q.metric = hash128(&q.o.seed, q.buf)
	for i := m.Points.Lo; i < m.Points.Hi; i++ {
		t := q.Points[i].T
		q.first, q.last = min(q.first, t), max(q.last, t)
	}
	if !q.temporality(b, m) {
		return
	}
	for i := m.Points.Lo; i < m.Points.Hi; i++ {
		q.here.point = i
		q.fillPoint(b, m, &q.Points[i])
	}
}

// temporality notes whether a metric's points are deltas, and refuses all of
// them when it says neither that nor the opposite.
func (q *otlpRequest) temporality(b *batch, m *wire.OTLPMetric) bool {
	switch {
	case m.Kind == wire.OTLPGauge, m.Kind == wire.OTLPSummary, m.Temporality == wire.OTLPCumulative:
		q.here.delta = false
		return true
	case m.Temporality == wire.OTLPDelta:
		q.here.delta = true
		return true
	}
	k, n := kindFloat, m.Points.Len()
	if m.Kind == wire.OTLPExponential {
		k = kindHistogram
	}
	if n > 0 {
		q.lose(b, k, n, badTemporality, m, fmt.Sprintf("got %d", m.Temporality))
	}
	return false
}

// lose refuses n points that never become series.
func (q *otlpRequest) lose(b *batch, k kind, n int, o outcome, m *wire.OTLPMetric, detail string) {
	q.lost += n
	q.early[k] += n
	b.count(0, k, o, n)
	b.say.add(o, fmt.Sprintf("metric %q", clip(string(q.Bytes(m.Name)))), detail)
}

func (q *otlpRequest) fillPoint(b *batch, m *wire.OTLPMetric, p *wire.OTLPPoint) {
	q.buf = appendKey(q.buf[:0], q.metric)
	v := values{q: q, b: b, p: p, t: millis(p.T), st: millis(p.ST), stale: p.Flags&wire.OTLPNoRecordedValue != 0}
	switch m.Kind {
	case wire.OTLPGauge:
		v.begin()
		v.float(p.V)
	case wire.OTLPSum:
		v.begin()
		v.float(p.V)
		v.exemplars(p.Exemplars)
	case wire.OTLPExplicit:
		q.explicit(&v, &q.Histograms[p.Extra])
	case wire.OTLPExponential:
		h := &q.Histograms[p.Extra]
		if h.Scale < histogram.ExponentialSchemaMin {
			q.lose(b, kindHistogram, 1, badHistogram, m, fmt.Sprintf("scale %d, less than %d", h.Scale, histogram.ExponentialSchemaMin))
			return
		}
		v.begin()
		v.native(q.exponential(h))
		v.exemplars(p.Exemplars)
	case wire.OTLPSummary:
		q.summary(&v, &q.Histograms[p.Extra])
	}
}

// explicit turns explicit buckets into _sum, _count and _bucket series, or into
// a native histogram with custom buckets.
func (q *otlpRequest) explicit(v *values, h *wire.OTLPHistogram) {
	counts, bounds := q.Counts[h.Counts.Lo:h.Counts.Hi], q.Bounds[h.Bounds.Lo:h.Bounds.Hi]
	if q.how.settings.ConvertHistogramsToNHCB {
		v.begin()
		v.native(customBuckets(h, counts, bounds))
		v.exemplars(v.p.Exemplars)
		return
	}
	n := min(len(counts), len(bounds))
	q.buf = append(q.buf, flag(h.HasSum))
	for _, bound := range bounds[:n] {
		q.buf = binary.LittleEndian.AppendUint64(q.buf, math.Float64bits(bound))
	}
	q.buf = binary.LittleEndian.AppendUint32(q.buf, uint32(n))
	v.begin()
	if h.HasSum {
		v.float(h.Sum)
	}
	v.float(float64(h.Count))
	left := v.p.Exemplars
	var sum uint64
	for i, bound := range bounds[:n] {
		sum += counts[i]
		v.float(float64(sum))
		mine := wire.Range{Lo: left.Lo, Hi: left.Lo}
		for mine.Hi < left.Hi && !(q.Exemplars[mine.Hi].V > bound) {
			mine.Hi++
		}
		v.exemplars(mine)
		left.Lo = mine.Hi
	}
	v.float(float64(h.Count))
	v.exemplars(left)
}

func (q *otlpRequest) summary(v *values, h *wire.OTLPHistogram) {
	quantiles := q.Quantiles[h.Quantiles.Lo:h.Quantiles.Hi]
	for _, x := range quantiles {
		q.buf = binary.LittleEndian.AppendUint64(q.buf, math.Float64bits(x.Quantile))
	}
	q.buf = binary.LittleEndian.AppendUint32(q.buf, uint32(len(quantiles)))
	v.begin()
	v.float(h.Sum)
	v.float(float64(h.Count))
	for _, x := range quantiles {
		v.float(x.Value)
	}
}

// values makes the series of one point.
type values struct {
	q     *otlpRequest
	b     *batch
	p     *wire.OTLPPoint
	t, st int64
	stale bool
	k     key
	n     uint32
}

// begin makes the point's key of q.buf, where the caller has put what tells its
// series from others, and its attributes. Attributes in another order make
// another key for the same series, which costs memory and nothing else.
func (v *values) begin() {
	q := v.q
	q.buf = append(q.buf, q.Bytes(v.p.Attributes)...)
	v.k = hash128(&q.o.seed, q.buf)
}

// partStep tells the keys of one point's series apart. Point keys are random
// 128 bits, so any odd numbers serve; these two also spread the slots of one
// point over the table (the golden ratio and the square root of two, in 2^-64).
var partStep = key{0x9e3779b97f4a7c15, 0x6a09e667f3bcc909}

func (k key) part(i uint64) key { return key{k.a + i*partStep.a, k.b + i*partStep.b} }

// float adds a series with one float sample.
func (v *values) float(x float64) {
	if v.stale {
		x = math.Float64frombits(value.StaleNaN)
	}
	r := &v.b.req
	n := uint32(len(r.Samples))
	r.Samples = append(r.Samples, wire.Sample{T: v.t, ST: v.st, V: x})
	r.Series = append(r.Series, wire.Series{Samples: wire.Range{Lo: n, Hi: n + 1}})
	v.series()
}

// native adds a series with one native histogram.
func (v *values) native(h *histogram.Histogram) {
	if v.stale {
		h.Count, h.Sum = value.StaleNaN, math.Float64frombits(value.StaleNaN)
	}
	r := &v.b.req
	n := uint32(len(r.Histograms))
	r.Histograms = append(r.Histograms, wire.Histogram{T: v.t, ST: v.st, H: h})
	r.Series = append(r.Series, wire.Series{Histograms: wire.Range{Lo: n, Hi: n + 1}})
	v.series()
}

func (v *values) series() {
	v.b.keys = append(v.b.keys, v.k.part(uint64(v.n)))
	at := v.q.here
	at.part = v.n
	v.q.at = append(v.q.at, at)
	v.n++
}

// exemplars gives exemplars of the point to the last series.
func (v *values) exemplars(from wire.Range) {
	if from.Len() == 0 {
		return
	}
	r := &v.b.req
	lo := uint32(len(r.Exemplars))
	for _, e := range v.q.Exemplars[from.Lo:from.Hi] {
		r.Exemplars = append(r.Exemplars, wire.Exemplar{T: millis(e.T), V: e.V})
	}
	r.Series[len(r.Series)-1].Exemplars = wire.Range{Lo: lo, Hi: uint32(len(r.Exemplars))}
	v.q.at[len(v.q.at)-1].exemplars = from
}

// lookback is the lookback of queries that target_info must satisfy: that of
// Prometheus and of Weir by default.
const lookback = 5 * time.Minute

// maxInfoSamples bounds the target_info samples of one resource in one request:
// a day, at one in half a lookback. Without it a point with time 0 beside one of
// today would make eleven million.
const maxInfoSamples = 576

// info adds the resource's target_info: a sample at the first and at the last
// time of its points, and enough between for a query at any time between.
func (q *otlpRequest) info(b *batch) {
	if !q.hasInfo() {
		return
	}
	const interval = uint64(lookback / 2)
	if q.last-q.first > maxInfoSamples*interval {
		q.first = q.last - maxInfoSamples*interval
	}
	r := &b.req
	n := uint32(len(r.Samples))
	prev := int64(math.MinInt64)
	for t := q.first; ; t = min(t+interval, q.last) {
		if ms := millis(t); ms != prev {
			r.Samples = append(r.Samples, wire.Sample{T: ms, V: 1})
			prev = ms
		}
		if t == q.last {
			break
		}
	}
	r.Series = append(r.Series, wire.Series{Samples: wire.Range{Lo: n, Hi: uint32(len(r.Samples))}})
	b.keys = append(b.keys, q.resource.part(1))
	q.at = append(q.at, otlpAt{resource: q.here.resource, part: partInfo})
}

// rejected returns how many data points were refused, in whole or in part.
// target_info is not the sender's, and does not count.
func (q *otlpRequest) rejected() int {
	n := q.lost
	var last *otlpAt
	for i := range q.at {
		at := &q.at[i]
		if !at.refused || at.isInfo() {
			continue
		}
		if last == nil || !at.samePoint(last) {
			n++
		}
		last = at
	}
	return n
}

// millis is the store's time of an OTLP time, Unix nanoseconds.
func millis(t uint64) int64 { return int64(t) / int64(time.Millisecond) }

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendKey(buf []byte, k key) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(buf, k.a), k.b)
}

// appendBytes appends bytes of the request so that no two sequences of them
// look the same.
func (q *otlpRequest) appendBytes(buf []byte, at wire.Bytes) []byte {
	buf = binary.LittleEndian.AppendUint32(buf, at.Hi-at.Lo)
	return append(buf, q.Bytes(at)...)
}
