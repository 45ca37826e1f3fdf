package store

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	refused       prometheus.Counter
	mended        prometheus.Counter
	replaySeconds prometheus.Gauge
}

func newMetrics(s *Store, reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_store_ready",
		Help: "1 when the WAL is replayed and the store serves.",
	}, func() float64 {
		if s.db.Load() != nil {
			return 1
		}
		return 0
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_store_disk_free_bytes",
		Help: "Free space on the file system of the database, as last measured; -1 when it cannot be.",
	}, func() float64 { return float64(s.guard.free.Load()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_store_writes_refused",
		Help: "1 while writes are refused for want of disk space or for a WAL not yet mended.",
	}, func() float64 {
		if s.guard.short.Load() != nil || s.wal.broken() != nil {
			return 1
		}
		return 0
	})
	return &metrics{
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_store_transactions_refused_total",
			Help: "Appenders and commits refused for want of disk space or for a failed WAL.",
		}),
		mended: f.NewCounter(prometheus.CounterOpts{
			Name: "weir_store_wal_mended_total",
			Help: "Times the WAL was mended after a failed write.",
		}),
		replaySeconds: f.NewGauge(prometheus.GaugeOpts{
			Name: "weir_store_replay_seconds",
			Help: "Time from opening the database to readiness.",
		}),
	}
}
