package main

import (
	"context"
	"log/slog"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weir-dev/weir/internal/conf"
)

func TestSelfScrape(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	db, err := tsdb.Open(t.TempDir(), nil, nil, tsdb.DefaultOptions(), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	reg := prometheus.NewRegistry()
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{Name: "weir_answer", Help: "For the test."})
	gauge.Set(42)
	reg.MustRegister(gauge)

	// last returns the newest value of a series of ours, NaN when there is none.
	last := func(name string) float64 {
		q, err := db.Querier(0, math.MaxInt64)
		require.NoError(t, err)
		defer q.Close()
		set := q.Select(t.Context(), false, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", name))
		v := math.NaN()
		for set.Next() {
			require.Equal(t, labels.FromStrings("__name__", name, "instance", "127.0.0.1:9480", "job", "weir"), set.At().Labels())
			for it := set.At().Iterator(nil); it.Next() != chunkenc.ValNone; {
				_, v = it.At()
			}
		}
		require.NoError(t, set.Err())
		return v
	}

	var ready atomic.Bool
	s, err := newSelfScrape(SelfScrapeConfig{Interval: conf.Duration(time.Second)}, selfScrapeDeps{
		gatherer: reg, store: db, ready: func() (bool, string) { return ready.Load(), "" },
		instance: "127.0.0.1:9480", registerer: reg, log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-done)
	}()

	time.Sleep(1200 * time.Millisecond) // longer than an interval
	require.True(t, math.IsNaN(last("up")), "nothing is stored before the store is ready")
	ready.Store(true)
	require.Eventually(t, func() bool { return last("up") == 1 }, 10*time.Second, 50*time.Millisecond)
	require.Equal(t, 42.0, last("weir_answer"))
}

func TestSelfScrapeEndsBeforeReady(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	db, err := tsdb.Open(t.TempDir(), nil, nil, tsdb.DefaultOptions(), nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	s, err := newSelfScrape(DefaultSelfScrapeConfig(), selfScrapeDeps{
		gatherer: prometheus.NewRegistry(), store: db, ready: func() (bool, string) { return false, "" },
		instance: "x:1", registerer: prometheus.NewRegistry(), log: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, s.Run(ctx))
}

func TestSelfScrapeValidate(t *testing.T) {
	for interval, bad := range map[time.Duration]bool{0: false, time.Second: false, -1: true, time.Millisecond: true} {
		var f conf.Faults
		c := SelfScrapeConfig{Interval: conf.Duration(interval)}
		c.Validate(f.At("self_scrape"))
		require.Equal(t, bad, f.Err() != nil, interval)
	}
	c := DefaultSelfScrapeConfig()
	var f conf.Faults
	c.Validate(&f)
	require.NoError(t, f.Err())
}
