package main

import (
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

// resourceLabels are the labels that an OTel program says once, in its resource.
var resourceLabels = map[string]bool{
	"__name__": true, "namespace": true, "pod": true, "node": true, "container": true,
	"instance": true, "job": true, "uid": true, "app_kubernetes_io_name": true, "version": true,
}

// encodeOTLP writes an OTLP export request: a resource a pod, a metric a name,
// and one number data point a sample, so that a sample means the same in every
// protocol. Labels that are not the resource's are attributes of the points.
func (e *encoder) encodeOTLP(r request) ([]byte, error) {
	md := pmetric.NewMetrics()
	for _, p := range r {
		pd := newPod(e.plan.seed, p.slot, p.gen)
		rm := md.ResourceMetrics().AppendEmpty()
		pd.putResource(rm.Resource().Attributes())
		sm := rm.ScopeMetrics().AppendEmpty()
		sm.Scope().SetName("bench")
		var (
			last *metric
			m    pmetric.Metric
		)
		for _, s := range pd.series() {
			if last == nil || s.metric.name != last.name {
				m, last = newOTLPMetric(sm.Metrics(), s.metric), s.metric
			}
			points := otlpPoints(m)
			for n := p.first; n < p.first+int64(p.k); n++ {
				e.putPoint(points.AppendEmpty(), pd, &s, n)
			}
		}
	}
	data, err := pmetricotlp.NewExportRequestFromMetrics(md).MarshalProto()
	e.raw += int64(len(data))
	return data, err
}

func (p *pod) putResource(a pcommon.Map) {
	a.PutStr("service.name", p.workload)
	a.PutStr("service.namespace", p.namespace)
	a.PutStr("service.instance.id", p.uid)
	a.PutStr("service.version", p.image[len(p.image)-6:])
	a.PutStr("k8s.namespace.name", p.namespace)
	a.PutStr("k8s.pod.name", p.name)
	a.PutStr("k8s.node.name", p.node)
	a.PutStr("k8s.container.name", p.workload)
}

func newOTLPMetric(ms pmetric.MetricSlice, m *metric) pmetric.Metric {
	om := ms.AppendEmpty()
	om.SetName(m.name)
	om.SetDescription(m.help)
	om.SetUnit(otlpUnits[m.unit])
	if !m.counter {
		om.SetEmptyGauge()
		return om
	}
	sum := om.SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return om
}

// otlpUnits are the UCUM forms of our units.
var otlpUnits = map[string]string{"": "", "seconds": "s", "milliseconds": "ms", "bytes": "By", "ratio": "1"}

func otlpPoints(m pmetric.Metric) pmetric.NumberDataPointSlice {
	if m.Type() == pmetric.MetricTypeSum {
		return m.Sum().DataPoints()
	}
	return m.Gauge().DataPoints()
}

func (e *encoder) putPoint(dp pmetric.NumberDataPoint, pd *pod, s *series, n int64) {
	dp.SetTimestamp(pcommon.Timestamp(e.plan.at(pd, n) * int64(time.Millisecond)))
	if s.metric.counter {
		dp.SetStartTimestamp(pcommon.Timestamp((e.plan.start - time.Hour.Milliseconds()) * int64(time.Millisecond)))
	}
	dp.SetDoubleValue(s.at(n))
	attrs := dp.Attributes()
	attrs.EnsureCapacity(len(s.labels))
	for _, l := range s.labels {
		if !resourceLabels[l.name] {
			attrs.PutStr(l.name, l.value)
		}
	}
}
