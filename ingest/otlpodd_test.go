package ingest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
)

// odd makes random metrics of every kind, with names that need translation.
type odd struct {
	*rand.Rand
	t   time.Time // of the points; each up to spread later
	max time.Duration
}

func (o odd) attributes(m pcommon.Map, n int) {
	names := []string{"http.method", "http_method", "a-b", "_x", "__y__", "1st", "größe", "le", "quantile", "job", "instance", "plain", "with space", "otel.scope.name", "_a.b"}
	for _, i := range o.Perm(len(names))[:o.IntN(n+1)] {
		switch o.IntN(8) {
		case 0:
			m.PutInt(names[i], o.Int64N(3))
		case 1:
			m.PutBool(names[i], o.IntN(2) == 0)
		case 2:
			m.PutDouble(names[i], float64(o.IntN(3))/2)
		case 3:
			m.PutEmptySlice(names[i]).AppendEmpty().SetStr("x")
		case 4:
			m.PutStr(names[i], "")
		default:
			m.PutStr(names[i], fmt.Sprintf("v%d;ü", o.IntN(3)))
		}
	}
}

func (o odd) resource(r pcommon.Resource) {
	o.attributes(r.Attributes(), 4)
	for _, a := range []string{"service.name", "service.namespace", "service.instance.id", "k8s.pod.name", "cloud.region"} {
		if o.IntN(3) > 0 {
			r.Attributes().PutStr(a, fmt.Sprintf("%s-%d", a, o.IntN(3)))
		}
	}
}

func (o odd) times(pt interface {
	SetTimestamp(pcommon.Timestamp)
	SetStartTimestamp(pcommon.Timestamp)
}) {
	t := o.t.Add(time.Duration(o.Int64N(int64(o.max))))
	pt.SetTimestamp(pcommon.NewTimestampFromTime(t))
	if o.IntN(2) == 0 {
		pt.SetStartTimestamp(pcommon.NewTimestampFromTime(o.t.Add(-time.Hour)))
	}
}

func (o odd) flags() pmetric.DataPointFlags {
	return pmetric.DefaultDataPointFlags.WithNoRecordedValue(o.IntN(12) == 0)
}

func (o odd) value() float64 {
	return []float64{0, 1, -2.5, o.NormFloat64() * 1e6, math.Inf(1), math.NaN()}[o.IntN(6)]
}

// exemplars adds some; a point without a value has none.
func (o odd) exemplars(f pmetric.DataPointFlags, s pmetric.ExemplarSlice, bound float64) {
	if f.NoRecordedValue() {
		return
	}
	v := 0.0
	for i := range o.IntN(3) {
		e := s.AppendEmpty()
		v += o.Float64() * bound
		e.SetDoubleValue(v)
		if o.IntN(4) == 0 {
			e.SetIntValue(int64(v))
		}
		e.SetTimestamp(pcommon.NewTimestampFromTime(o.t.Add(time.Duration(i) * time.Second)))
		if o.IntN(3) > 0 {
			e.SetTraceID([16]byte{1, byte(o.IntN(256))})
			e.SetSpanID([8]byte{2, byte(o.IntN(256))})
		}
		o.attributes(e.FilteredAttributes(), 3)
		if o.IntN(4) == 0 {
			e.FilteredAttributes().PutStr("long", string(make([]byte, 100)))
		}
	}
}

func (o odd) metric(m pmetric.Metric, temporality pmetric.AggregationTemporality) {
	kind := o.IntN(5)
	m.SetName([]string{"http.requests", "queue.size", "ratio", "größe.x", "1st thing", "a__b", "total_bytes"}[o.IntN(7)] + fmt.Sprint(kind))
	m.SetUnit([]string{"", "s", "By", "1", "{request}", "m/s"}[o.IntN(6)])
	m.SetDescription("about " + m.Name())
	switch n := 1 + o.IntN(3); kind {
	case 0:
		for range n {
			o.number(m, pmetric.NewNumberDataPoint())
		}
	case 1:
		s := m.SetEmptySum()
		s.SetIsMonotonic(o.IntN(2) == 0)
		s.SetAggregationTemporality(temporality)
		for range n {
			o.number(m, s.DataPoints().AppendEmpty())
		}
	case 2:
		m.SetEmptyHistogram().SetAggregationTemporality(temporality)
		for range n {
			o.histogram(m.Histogram().DataPoints().AppendEmpty())
		}
	case 3:
		m.SetEmptyExponentialHistogram().SetAggregationTemporality(temporality)
		for range n {
			o.exponential(m.ExponentialHistogram().DataPoints().AppendEmpty())
		}
	case 4:
		m.SetEmptySummary()
		for range n {
			o.summary(m.Summary().DataPoints().AppendEmpty())
		}
	}
}

func (o odd) number(m pmetric.Metric, pt pmetric.NumberDataPoint) {
	if m.Type() != pmetric.MetricTypeSum {
		if m.Type() != pmetric.MetricTypeGauge {
			m.SetEmptyGauge()
		}
		pt = m.Gauge().DataPoints().AppendEmpty()
	}
	o.attributes(pt.Attributes(), 5)
	o.times(pt)
	pt.SetFlags(o.flags())
	switch o.IntN(8) {
	case 0: // no value
	case 1, 2, 3:
		pt.SetIntValue(o.Int64() - o.Int64())
	default:
		pt.SetDoubleValue(o.value())
	}
	o.exemplars(pt.Flags(), pt.Exemplars(), 1)
}

func (o odd) histogram(pt pmetric.HistogramDataPoint) {
	o.attributes(pt.Attributes(), 4)
	o.times(pt)
	pt.SetFlags(o.flags())
	var count uint64
	bound := -1.0
	for range o.IntN(8) {
		bound += o.Float64() * 3
		pt.ExplicitBounds().Append(bound)
		n := uint64(max(0, o.IntN(9)-4))
		pt.BucketCounts().Append(n)
		count += n
	}
	if pt.ExplicitBounds().Len() > 0 || o.IntN(2) == 0 {
		pt.BucketCounts().Append(2)
		count += 2
	}
	pt.SetCount(count)
	if o.IntN(3) > 0 {
		pt.SetSum(o.Float64() * 100)
	}
	o.exemplars(pt.Flags(), pt.Exemplars(), bound)
}

func (o odd) exponential(pt pmetric.ExponentialHistogramDataPoint) {
	o.attributes(pt.Attributes(), 4)
	o.times(pt)
	pt.SetFlags(o.flags())
	pt.SetScale(int32(o.IntN(13)) - 4) // -4..8; finer ones in TestExponentialFine
	pt.SetZeroCount(uint64(o.IntN(3)))
	count := pt.ZeroCount()
	for _, b := range []pmetric.ExponentialHistogramDataPointBuckets{pt.Positive(), pt.Negative()} {
		b.SetOffset(int32(o.IntN(40)) - 20)
		for range o.IntN(12) {
			n := uint64(max(0, o.IntN(8)-4))
			b.BucketCounts().Append(n)
			count += n
		}
	}
	pt.SetCount(count)
	if o.IntN(3) > 0 {
		pt.SetSum(o.NormFloat64() * 100)
	}
	o.exemplars(pt.Flags(), pt.Exemplars(), 10)
}

func (o odd) summary(pt pmetric.SummaryDataPoint) {
	o.attributes(pt.Attributes(), 4)
	o.times(pt)
	pt.SetFlags(o.flags())
	pt.SetCount(uint64(o.IntN(100)))
	pt.SetSum(o.value())
	for i := range o.IntN(4) {
		q := pt.QuantileValues().AppendEmpty()
		q.SetQuantile([]float64{0, 0.5, 0.999}[i])
		q.SetValue(o.value())
	}
}

func (o odd) request(temporality pmetric.AggregationTemporality) pmetric.Metrics {
	md := pmetric.NewMetrics()
	for range 1 + o.IntN(3) {
		rm := md.ResourceMetrics().AppendEmpty()
		o.resource(rm.Resource())
		for range o.IntN(3) {
			sm := rm.ScopeMetrics().AppendEmpty()
			if o.IntN(3) > 0 {
				sm.Scope().SetName(fmt.Sprintf("scope%d", o.IntN(2)))
				sm.Scope().SetVersion("v1")
				sm.SetSchemaUrl("https://opentelemetry.io/schemas/1.26.0")
				o.attributes(sm.Scope().Attributes(), 2)
			}
			for range o.IntN(6) {
				o.metric(sm.Metrics().AppendEmpty(), temporality)
			}
		}
	}
	return md
}
