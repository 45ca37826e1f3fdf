package pebblestore

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	stored, duplicate, refused, unlisted, reopened, dropped, rewritten prometheus.Counter

	sealSeconds prometheus.Histogram
	all         []prometheus.Collector
	reg         prometheus.Registerer
}

func newMetrics(reg prometheus.Registerer, s *Store) (*metrics, error) {
	m := &metrics{reg: reg}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_tracing_store_" + name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	gauge := func(name, help string, value func() float64) {
		m.all = append(m.all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "weir_tracing_store_" + name, Help: help}, value))
	}
	m.stored = counter("spans_total", "Spans stored.")
	m.duplicate = counter("duplicate_spans_total", "Spans not stored, because the very same were.")
	m.refused = counter("refused_spans_total", "Spans refused, because the disk is full or failed, or nobody waited any more.")
	m.unlisted = counter("unlisted_operations_total", "Operations met that are not listed, because index.operations is reached.")
	m.reopened = counter("reopened_total", "Partitions opened anew after a failure of the disk.")
	m.dropped = counter("expired_partitions_total", "Partitions deleted by retention.")
	m.rewritten = counter("rewritten_partitions_total", "Partitions rewritten to what is kept of them.")
	m.sealSeconds = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "weir_tracing_store_seal_seconds", Help: "Time to write a segment of the index.",
		Buckets: prometheus.ExponentialBuckets(0.01, 2, 10),
	})
	m.all = append(m.all, m.sealSeconds)
	gauge("partitions", "Partitions on disk.", func() float64 { return float64(len(s.partitions())) })
	gauge("bytes", "Bytes of all partitions on disk, when last measured.", func() float64 {
		var n int64
		for _, p := range s.partitions() {
			n += p.bytes.Load()
		}
		return float64(n)
	})
	gauge("damaged_partitions", "Partitions of which a part cannot be read, and those put aside.", func() float64 {
		n := 0
		for _, p := range s.partitions() {
			if p.hurt.Load() != nil {
				n++
			}
		}
		s.mu.RLock()
		defer s.mu.RUnlock()
		return float64(n + len(s.lost))
	})
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range m.all {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) close() {
	if m.reg == nil {
		return
	}
	for _, c := range m.all {
		m.reg.Unregister(c)
	}
	m.reg = nil
}
