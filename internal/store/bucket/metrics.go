package bucket

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	seconds  *prometheus.HistogramVec
	failures *prometheus.CounterVec
	retried  *prometheus.CounterVec
	bytes    *prometheus.CounterVec

	shipped     prometheus.Counter
	shipErrors  prometheus.Counter
	waiting     prometheus.Gauge
	held        prometheus.Gauge
	lag         prometheus.Gauge
	blocks      *prometheus.GaugeVec
	listed      prometheus.Gauge
	conflict    prometheus.Gauge
	deleted     prometheus.Counter
	pageHits    *prometheus.CounterVec
	pagesOnDisk prometheus.Gauge
}

// newMetrics registers with reg, which may be nil.
func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "weir_bucket_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_bucket_" + name, Help: help})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_bucket_" + name, Help: help}, labels)
	}
	m := &metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weir_bucket_request_duration_seconds", Help: "Time of requests to the bucket, each try by itself.",
			NativeHistogramBucketFactor: 1.1,
			Buckets:                     []float64{.01, .1, 1, 10, 100},
		}, []string{"op"}),
		failures: counters("request_failures_total", "Requests given up, by what went wrong.", "op", "kind"),
		retried:  counters("request_retries_total", "Requests repeated.", "op"),
		bytes:    counters("transferred_bytes_total", "Bytes of objects sent and fetched.", "op"),

		shipped:     counter("blocks_shipped_total", "Blocks uploaded and checked."),
		shipErrors:  counter("block_ship_failures_total", "Uploads of a block that failed; they are tried again."),
		waiting:     gauge("blocks_waiting", "Blocks on disk that are to be uploaded."),
		held:        gauge("blocks_held", "Blocks on disk that cannot be uploaded as they are: they have tombstones."),
		lag:         gauge("ship_lag_seconds", "Age of the newest sample of the oldest block that waits; 0 when none does."),
		blocks:      prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weir_bucket_blocks", Help: "Blocks in the bucket by state."}, []string{"state"}),
		listed:      gauge("listed_timestamp_seconds", "When the bucket was last listed, in Unix seconds."),
		conflict:    gauge("owner_conflict", "1 while another server ships with the same external labels, and this one does not."),
		deleted:     counter("blocks_deleted_total", "Blocks deleted from the bucket."),
		pageHits:    counters("pages_read_total", "Pages of remote blocks read, by where they were: memory, disk or bucket.", "from"),
		pagesOnDisk: gauge("cache_pages", "Pages of remote blocks on disk."),
	}
	if reg != nil {
		reg.MustRegister(m.seconds, m.failures, m.retried, m.bytes, m.shipped, m.shipErrors, m.waiting, m.held,
			m.lag, m.blocks, m.listed, m.conflict, m.deleted, m.pageHits, m.pagesOnDisk)
	}
	return m
}
