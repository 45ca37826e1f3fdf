package derive

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	folded           *prometheus.CounterVec
	samples          prometheus.Counter
	refused          prometheus.Counter
	exemplars        prometheus.Counter
	exemplarsRefused prometheus.Counter
	replayed         prometheus.Counter
	flushFailures    prometheus.Counter
	flushSeconds     prometheus.Gauge
	checkpointBytes  prometheus.Gauge
}

func newMetrics(d *Derive, reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "weir_tracing_derive_" + name, Help: help})
	}
	gauge := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_tracing_derive_" + name, Help: help}, value)
	}
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "weir_tracing_derive_spans_total", Help: "Spans of which metrics were derived.",
	}, func() float64 { return float64(d.spans.Load()) })
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "weir_tracing_derive_evicted_total", Help: "Halves of calls that could not wait for the other for want of room.",
	}, func() float64 { return float64(d.graph.evicted.Load()) })
	gauge("label_sets", "Label sets of traces_spanmetrics_*.", func() float64 { return float64(d.sets.Load()) })
	gauge("waiting", "Halves of calls that wait for the other.", func() float64 { return float64(d.graph.waiting()) })
	gauge("pinned_traces", "Traces that exemplars point to and sampling must keep.", func() float64 { return float64(d.pins.len()) })
	return &metrics{
		folded: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_tracing_derive_folded_total",
			Help: "Spans counted in span_name=\"_other\" because a bound on label sets was reached.",
		}, []string{"service"}),
		samples:          counter("samples_total", "Derived samples written."),
		refused:          counter("samples_refused_total", "Derived samples that the store refused one by one."),
		exemplars:        counter("exemplars_total", "Exemplars given to the store with derived samples."),
		exemplarsRefused: counter("exemplars_refused_total", "Exemplars that the store refused."),
		replayed:         counter("replayed_spans_total", "Spans taken again after a restart."),
		flushFailures:    counter("flush_failures_total", "Flushes that did not write all samples."),
		flushSeconds: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_tracing_derive_flush_seconds", Help: "How long the newest flush took.",
		}),
		checkpointBytes: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_tracing_derive_checkpoint_bytes", Help: "Size of the newest checkpoint.",
		}),
	}
}
