package ingest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/weir-dev/weir/ingest/internal/wire"
)

// translator has Prometheus' OTLP translator make the labels of one data point.
// It implements storage.AppenderV2 to catch what the translator would store.
type translator struct {
	conv *prometheusremotewrite.PrometheusConverter
	one  pmetric.Metrics // one resource, one scope, one metric, one point
	at   otlpAt          // the point that got belongs to
	ok   bool            // at and err are set
	got  []translated
	err  error
}

type translated struct {
	labels labels.Labels
	meta   metadata.Metadata
}

// Append implements storage.AppenderV2.
func (t *translator) Append(_ storage.SeriesRef, ls labels.Labels, _, _ int64, _ float64, _ *histogram.Histogram, _ *histogram.FloatHistogram, o storage.AOptions) (storage.SeriesRef, error) {
	t.got = append(t.got, translated{ls, o.Metadata})
	return 0, nil
}

// Commit implements storage.AppenderV2.
func (*translator) Commit() error { return nil }

// Rollback implements storage.AppenderV2.
func (*translator) Rollback() error { return nil }

// reset drops what belongs to a request.
func (t *translator) reset() {
	if !t.ok {
		return
	}
	t.conv.Reset(nil)
	clear(t.got)
	*t = translator{conv: t.conv, got: t.got[:0]}
}

// translate fills q.lab.got with the series of the point at, or with the
// resource's target_info (after the point that calls for it). An error that
// wraps wire.ErrMalformed says that the request cannot be read.
func (q *otlpRequest) translate(at *otlpAt) error {
	t := &q.lab
	if t.ok && at.samePoint(&t.at) {
		return t.err
	}
	fresh := !t.ok
	if t.conv == nil {
		t.conv = prometheusremotewrite.NewPrometheusConverter(nil)
	}
	if fresh {
		t.conv.Reset(t)
	}
	before := t.at
	t.at, t.ok, t.got = *at, true, t.got[:0]
	settings := q.how.settings
	settings.DisableTargetInfo = !at.isInfo()
	if fresh || before.resource != at.resource || before.isInfo() != at.isInfo() || q.scopeOf(&before) != q.scopeOf(at) {
		if t.err = q.frame(at); t.err != nil {
			t.ok = false
			return t.err
		}
	}
	if t.err = q.point(at); t.err == nil {
		_, t.err = t.conv.FromMetrics(context.Background(), t.one, settings)
	}
	return t.err
}

func (q *otlpRequest) scopeOf(at *otlpAt) uint32 {
	if at.isInfo() {
		return 0
	}
	return q.Metrics[at.metric].Scope
}

// frame makes t.one a request with the resource and the scope of at, and one
// metric to be filled in.
func (q *otlpRequest) frame(at *otlpAt) error {
	var scope []byte
	if !at.isInfo() && q.how.settings.PromoteScopeMetadata {
		s := &q.Scopes[q.scopeOf(at)]
		scope = appendField(nil, 1, q.Bytes(s.Raw))
		scope = appendField(scope, 3, q.Bytes(s.SchemaURL))
	}
	scope = appendField(scope, 2, nil)
	resource := appendField(nil, 1, q.Bytes(q.Resources[at.resource].Raw))
	resource = appendField(resource, 2, scope)
	var err error
	q.lab.one, err = decodeMetrics(appendField(nil, 1, resource))
	return err
}

// point puts the point at into t.one. Exemplars, which decide no label, stay
// behind; deltas are told as what they will become.
func (q *otlpRequest) point(at *otlpAt) error {
	one := q.lab.one.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0)
	if at.isInfo() {
		one.SetName("any")
		one.SetEmptyGauge().DataPoints().AppendEmpty()
		return nil
	}
	m := &q.Metrics[at.metric]
	raw := appendField(nil, 1, q.Bytes(m.Name))
	raw = appendField(raw, 2, q.Bytes(m.Description))
	raw = appendField(raw, 3, q.Bytes(m.Unit))
	raw = appendField(raw, protowire.Number(m.Kind), appendField(nil, 1, q.Bytes(q.Points[at.point].Raw)))
	md, err := decodeMetrics(appendField(nil, 1, appendField(nil, 2, appendField(nil, 2, raw))))
	if err != nil {
		return err
	}
	from := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0)
	all := func(pmetric.Exemplar) bool { return true }
	switch from.Type() {
	case pmetric.MetricTypeSum:
		from.Sum().SetIsMonotonic(m.Monotonic)
		from.Sum().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		from.Sum().DataPoints().At(0).Exemplars().RemoveIf(all)
	case pmetric.MetricTypeHistogram:
		from.Histogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		from.Histogram().DataPoints().At(0).Exemplars().RemoveIf(all)
	case pmetric.MetricTypeExponentialHistogram:
		from.ExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
		from.ExponentialHistogram().DataPoints().At(0).Exemplars().RemoveIf(all)
	}
	from.MoveTo(one)
	return nil
}

func appendField(b []byte, num protowire.Number, raw []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), raw)
}

func decodeMetrics(raw []byte) (pmetric.Metrics, error) {
	var u pmetric.ProtoUnmarshaler
	md, err := u.UnmarshalMetrics(raw)
	if err != nil {
		return md, fmt.Errorf("%w: %w", wire.ErrMalformed, err)
	}
	return md, nil
}

// find returns series i as the translator has it.
func (q *otlpRequest) find(i int) (*translated, error) {
	at := &q.at[i]
	switch err := q.translate(at); {
	case errors.Is(err, wire.ErrMalformed):
		return nil, err
	case err != nil:
		return nil, &refused{badLabels, err.Error()}
	}
	part := int(at.part)
	if at.isInfo() {
		part = 1 // after the point that called for it
	}
	if part >= len(q.lab.got) {
		return nil, &refused{badLabels, fmt.Sprintf("part %d of a data point that makes %d", part, len(q.lab.got))}
	}
	return &q.lab.got[part], nil
}

// labels implements source.
func (q *otlpRequest) labels(i int, add func(name, value string)) error {
	s, err := q.find(i)
	if err != nil {
		return err
	}
	s.labels.Range(func(l labels.Label) { add(l.Name, l.Value) })
	return nil
}

// metadata implements source.
func (q *otlpRequest) metadata(i int) (metadata.Metadata, bool) {
	s, err := q.find(i)
	if err != nil {
		return metadata.Metadata{}, false
	}
	return s.meta, true
}

// exemplars implements source. One that has no value or cannot be read is left
// out, and counted as refused for it.
func (q *otlpRequest) exemplars(i int, dst []exemplar.Exemplar) []exemplar.Exemplar {
	at := &q.at[i]
	for j := at.exemplars.Lo; j < at.exemplars.Hi; j++ {
		e := &q.Exemplars[j]
		if !e.HasValue {
			continue
		}
		point := appendField(nil, 5, q.Bytes(e.Raw)) // of a sum
		metric := appendField(nil, 7, appendField(nil, 1, point))
		md, err := decodeMetrics(appendField(nil, 1, appendField(nil, 2, appendField(nil, 2, metric))))
		if err == nil {
			sum := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Sum()
			dst = append(dst, newOTLPExemplar(sum.DataPoints().At(0).Exemplars().At(0), e))
		}
	}
	return dst
}

// maxExemplarRunes is OpenMetrics' bound on an exemplar's names and values;
// past it the filtered attributes are left out and the trace stays.
const maxExemplarRunes = 128

func newOTLPExemplar(e pmetric.Exemplar, raw *wire.OTLPExemplar) exemplar.Exemplar {
	var pairs []string
	runes := 0
	add := func(name, value string) {
		pairs = append(pairs, name, value)
		runes += utf8.RuneCountInString(name) + utf8.RuneCountInString(value)
	}
	if id := e.TraceID(); !id.IsEmpty() {
		add("trace_id", hex.EncodeToString(id[:]))
	}
	if id := e.SpanID(); !id.IsEmpty() {
		add("span_id", hex.EncodeToString(id[:]))
	}
	trace := len(pairs)
	for k, v := range e.FilteredAttributes().All() {
		add(k, v.AsString())
	}
	if runes > maxExemplarRunes {
		pairs = pairs[:trace]
	}
	t := millis(raw.T)
	return exemplar.Exemplar{Labels: labels.FromStrings(pairs...), Value: raw.V, Ts: t, HasTs: t != 0}
}

// resourceInfos remembers which resources have a target_info: those with an
// identity (job or instance) and something else to tell.
type resourceInfos struct {
	mu  sync.RWMutex
	has map[key]bool
}

// maxResourceInfos bounds the memory, 3 MiB; when it is full it starts over.
const maxResourceInfos = 1 << 16

// hasInfo reports whether the resource that fill is at has a target_info.
func (q *otlpRequest) hasInfo() bool {
	infos := &q.o.infos
	infos.mu.RLock()
	has, known := infos.has[q.resource]
	infos.mu.RUnlock()
	if known {
		return has
	}
	at := otlpAt{resource: q.here.resource, part: partInfo}
	has = q.translate(&at) == nil && len(q.lab.got) > 1
	infos.mu.Lock()
	defer infos.mu.Unlock()
	if infos.has == nil || len(infos.has) >= maxResourceInfos {
		infos.has = map[key]bool{}
	}
	infos.has[q.resource] = has
	return has
}
