package sampling

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	traces, spans *prometheus.CounterVec // by decision, policy
	late          map[bool]prometheus.Counter
	evicted       prometheus.Counter
	forgotten     prometheus.Counter
	dropped       prometheus.Counter
	dropFailures  prometheus.Counter
	rescued       prometheus.Counter
	lost          prometheus.Counter
	strategies    *prometheus.CounterVec
}

func newMetrics(s *Sampling, reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	name := func(n string) string { return "weir_tracing_sampling_" + n }
	counter := func(n, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name(n), Help: help})
	}
	gauge := func(n, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name(n), Help: help}, value)
	}
	gauge("pending_traces", "Traces that wait to be decided.", func() float64 { return float64(s.tail.waiting.Load()) })
	gauge("pending_drops", "Traces decided against that the store has not been told to forget.", func() float64 { return float64(s.tail.drops.len()) })
	gauge("adaptive_operations", "Operations whose rate is known to adaptive strategies.", func() float64 { return float64(s.rates.size()) })
	by := []string{"decision", "policy"}
	m := &metrics{
		traces:       f.NewCounterVec(prometheus.CounterOpts{Name: name("traces_total"), Help: "Traces decided, by the policy that did."}, by),
		spans:        f.NewCounterVec(prometheus.CounterOpts{Name: name("spans_total"), Help: "Spans of traces when they were decided."}, by),
		evicted:      counter("evicted_total", "Traces decided before their wait was over, for want of room (tracing.sampling.tail.max_traces)."),
		forgotten:    counter("forgotten_decisions_total", "Decisions that late spans can follow no more (tracing.sampling.tail.remembered_decisions)."),
		dropped:      counter("dropped_traces_total", "Traces that the store was told to forget."),
		dropFailures: counter("drop_failures_total", "Calls to the store to forget traces that failed and are repeated."),
		rescued:      counter("rescued_traces_total", "Traces decided against that were pinned before the store was told; late spans may lack."),
		lost:         counter("lost_drops_total", "Traces that stay stored though decided against, for the store did not take drops."),
		strategies:   f.NewCounterVec(prometheus.CounterOpts{Name: name("strategy_requests_total"), Help: "Requests of SDKs for strategies, by protocol."}, []string{"protocol", "result"}),
	}
	late := f.NewCounterVec(prometheus.CounterOpts{Name: name("late_spans_total"), Help: "Spans that came after the decision on their trace, and followed it."}, []string{"decision"})
	m.late = map[bool]prometheus.Counter{false: late.WithLabelValues(keep), true: late.WithLabelValues(drop)}
	return m
}

func (m *metrics) decision(kept bool, by string, spans uint32) {
	word := drop
	if kept {
		word = keep
	}
	m.traces.WithLabelValues(word, by).Inc()
	m.spans.WithLabelValues(word, by).Add(float64(spans))
}
