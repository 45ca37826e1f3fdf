package tiers

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	rolled      prometheus.Counter
	samples     prometheus.Counter
	seconds     prometheus.Counter
	merged      *prometheus.CounterVec
	rewritten   *prometheus.CounterVec
	retained    *prometheus.CounterVec
	quarantined *prometheus.CounterVec
	failures    *prometheus.CounterVec
	paused      prometheus.Gauge
}

func newMetrics(t *Tiers, reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	gauge := func(name, help string, get func(*Status) float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return get(t.Status()) })
	}
	gauge("weir_rollup_lag_seconds", "From the beginning of the oldest raw block that is not rolled up yet to the end of the newest block; 0 when all are.",
		func(s *Status) float64 { return s.LagSeconds })
	gauge("weir_rollup_blocks_waiting", "Raw blocks that are not rolled up yet.",
		func(s *Status) float64 { return float64(s.Waiting) })
	gauge("weir_rollup_deletions_waiting", "Deletions by selector that hide what they delete and are still to be taken out of blocks.",
		func(s *Status) float64 { return float64(s.Deletions) })
	for _, x := range []struct {
		name, help string
		get        func(*Rolling) uint64
	}{
		{"weir_rollup_rolling_series", "Series of the raw block that is being rolled up; 0 when there is none.", func(r *Rolling) uint64 { return r.Series }},
		{"weir_rollup_rolling_series_done", "Those of its series that are done.", func(r *Rolling) uint64 { return r.SeriesDone }},
		{"weir_rollup_rolling_samples", "Samples of the raw block that is being rolled up; 0 when there is none.", func(r *Rolling) uint64 { return r.Samples }},
		{"weir_rollup_rolling_samples_done", "Those of its samples that are done.", func(r *Rolling) uint64 { return r.SamplesDone }},
	} {
		f.NewGaugeFunc(prometheus.GaugeOpts{Name: x.name, Help: x.help}, func() float64 {
			now, _, _ := t.progress.read()
			if now == nil {
				return 0
			}
			return float64(x.get(now))
		})
	}
	if reg != nil {
		reg.MustRegister(rungCollector{t})
	}
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	vec := func(name, help, label string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	return &metrics{
		rolled:      counter("weir_rollup_blocks_rolled_total", "Raw blocks rolled up."),
		samples:     counter("weir_rollup_samples_total", "Raw samples in the blocks rolled up."),
		seconds:     counter("weir_rollup_seconds_total", "Time spent rolling up."),
		merged:      vec("weir_rollup_merges_total", "Merges of tier blocks into longer ones.", "tier"),
		rewritten:   vec("weir_rollup_rewrites_total", "Tier blocks rewritten without what was deleted.", "tier"),
		retained:    vec("weir_rollup_blocks_deleted_total", "Blocks deleted by retention.", "tier"),
		quarantined: vec("weir_rollup_blocks_quarantined_total", "Damaged blocks put aside.", "tier"),
		failures:    vec("weir_rollup_failures_total", "Steps that failed and are tried again.", "step"),
		paused: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_rollup_paused", Help: "1 while nothing is rolled up for want of disk space.",
		}),
	}
}

// rungCollector counts the blocks of each rung when asked.
type rungCollector struct{ t *Tiers }

var (
	blocksDesc = prometheus.NewDesc("weir_rollup_blocks", "Blocks of a rung on disk.", []string{"tier"}, nil)
	bytesDesc  = prometheus.NewDesc("weir_rollup_bytes", "Size of a rung's blocks on disk.", []string{"tier"}, nil)
)

func (rungCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- blocksDesc
	ch <- bytesDesc
}

func (c rungCollector) Collect(ch chan<- prometheus.Metric) {
	for _, r := range c.t.rungStatus() {
		ch <- prometheus.MustNewConstMetric(blocksDesc, prometheus.GaugeValue, float64(r.Blocks), r.Resolution)
		ch <- prometheus.MustNewConstMetric(bytesDesc, prometheus.GaugeValue, float64(r.Bytes), r.Resolution)
	}
}
