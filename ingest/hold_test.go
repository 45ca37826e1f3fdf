package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/store"
)

// TestHoldOverflow fills the buffer: the oldest are settled early, nothing is
// lost, and the bound holds.
func TestHoldOverflow(t *testing.T) {
	h := newHARig(t, func(c *Config, _ *store.Config) { c.HA.HoldBytes = 4 << 10 })
	h.from(t, "a", smp{"m_total", 0, 0})
	for s := 1.0; s <= 25; s++ { // never far enough ahead to take over
		var all []smp
		for i := range 20 {
			all = append(all, smp{fmt.Sprintf("b%d", i), s, s})
		}
		h.from(t, "b", all...)
		require.LessOrEqual(t, h.status(t).Data.HeldBytes, int64(4<<10))
	}
	sum := h.balanced(t)
	require.Positive(t, sum.Held)
	require.Equal(t, int64(1+25*20), sum.Stored+sum.Held)
	h.pass(time.Minute)
	require.Len(t, h.dump(t), 1+25*20)
	require.Zero(t, h.balanced(t).Held)
	require.EqualValues(t, 25*20, h.status(t).Data.Clusters[0].Replicas[1].Filled)
}

// TestHoldOverflowByOthers gives a cluster no room at all: it is settled at once.
func TestHoldOverflowByOthers(t *testing.T) {
	h := newHARig(t, func(c *Config, _ *store.Config) { c.HA.HoldBytes = 400 })
	send := func(cluster, replica string, s smp) {
		h.send(t, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{h.series(cluster, replica, s)}})
	}
	for _, c := range []string{"one", "two"} {
		send(c, "a", smp{c, 0, 0})
		send(c, "b", smp{c, 7, 7})
	}
	require.Empty(t, strings.TrimPrefix(h.stored(t, "one"), "0=0"), "held")
	require.Equal(t, "0=0 7=7", h.stored(t, "two"))
	h.balanced(t)
}

// stubborn is a store that refuses to commit when told to, as a full disk does.
type stubborn struct {
	Store
	refuse atomic.Bool
}

func (s *stubborn) AppenderV2(ctx context.Context) storage.AppenderV2 {
	return &stubbornAppender{s.Store.AppenderV2(ctx), s}
}

type stubbornAppender struct {
	storage.AppenderV2
	s *stubborn
}

func (a *stubbornAppender) GetRef(ls labels.Labels, hash uint64) (storage.SeriesRef, labels.Labels) {
	return a.AppenderV2.(storage.GetRef).GetRef(ls, hash)
}

func (a *stubbornAppender) Append(ref storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AOptions) (storage.SeriesRef, error) {
	if a.s.refuse.Load() {
		return 0, errors.New("disk is full")
	}
	return a.AppenderV2.Append(ref, ls, st, t, v, h, fh, o)
}

func (a *stubbornAppender) Commit() error {
	if a.s.refuse.Load() {
		return errors.Join(errors.New("disk is full"), a.Rollback())
	}
	return a.AppenderV2.Commit()
}

// TestTakeoverFails refuses the takeover's own appends: the request is refused
// retryable, nothing is acknowledged twice, and a later try takes over.
func TestTakeoverFails(t *testing.T) {
	h := newHARig(t)
	st := &stubborn{Store: h.in.w.store}
	h.in.w.store = st
	h.from(t, "a", smp{"m_total", 0, 0})
	h.from(t, "b", smp{"m_total", 7, 7}, smp{"n_total", 7, 7})
	h.from(t, "b", smp{"m_total", 22, 22})
	st.refuse.Store(true)
	last := &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{h.series("c", "b", smp{"m_total", 37, 37})}}
	w := h.v1(t, last)
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, w.Body.String(), "disk is full")
	require.Equal(t, "0", w.Header().Get("X-Prometheus-Remote-Write-Samples-Written"))
	require.Equal(t, "a", h.elected(t))
	require.EqualValues(t, 3, h.balanced(t).Held)
	h.pass(time.Minute) // fails as well
	require.EqualValues(t, 3, h.balanced(t).Held)
	st.refuse.Store(false)
	h.send(t, last)
	require.Equal(t, "b", h.elected(t))
	require.Equal(t, "0=0 7=7 22=22 37=37", h.stored(t, "m_total"))
	require.Equal(t, "7=7", h.stored(t, "n_total"))
	require.Zero(t, h.balanced(t).Held)
}

// TestHeldSeriesDropped lets the store drop series while samples of them wait.
func TestHeldSeriesDropped(t *testing.T) {
	h := newHARig(t)
	h.from(t, "a", smp{"m_total", 0, 0}, smp{"n_total", 0, 0})
	h.from(t, "b", smp{"m_total", 7, 7})
	h.from(t, "b", smp{"never", 7, 7})
	old := h.dump(t)
	for id := firstSeriesID; id < h.in.w.series.next; id++ {
		// As after the head has cut a block: references mean nothing any more.
		if s := h.in.w.series.at(id); s.ref != 0 {
			s.ref += 1 << 30
			h.in.w.limits.mu.Lock()
			h.in.w.limits.gone = map[storage.SeriesRef]struct{}{s.ref: {}}
			h.in.w.limits.mu.Unlock()
			h.in.w.sweep(h.in.log)
		}
	}
	h.pass(time.Minute)
	require.Equal(t, "0=0 7=7", h.stored(t, "m_total"))
	require.Equal(t, "7=7", h.stored(t, "never"))
	require.Len(t, h.dump(t), len(old)+2)
	require.Zero(t, h.balanced(t).Held)
	for id := firstSeriesID; id < h.in.w.series.next; id++ {
		require.Zero(t, h.in.w.series.at(id).pins.Load())
	}
}

// TestHARace lets replicas of several clusters send at once, stall and come back
// while the buffer is small, held samples are settled by the clock, and somebody
// looks on.
func TestHARace(t *testing.T) {
	h := newHARig(t, func(c *Config, _ *store.Config) { c.HA.HoldBytes = 8 << 10 })
	const clusters, seconds = 3, 400
	var senders, others sync.WaitGroup
	for c := range clusters {
		for r := range 4 { // two requests of each replica at once
			senders.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(c), uint64(r)))
				replica := string(rune('a' + r/2))
				for s := 0; s < seconds; s += 5 {
					if rng.IntN(20) == 0 {
						s += 50
					}
					req := &prompb.WriteRequest{}
					for m := range 5 {
						at := float64(s) + float64(r/2)
						req.Timeseries = append(req.Timeseries, h.series(fmt.Sprint(c), replica,
							smp{fmt.Sprintf("m%d_%d_total", m, r%2), at, at}))
					}
					if w := h.v1(t, req); w.Code != http.StatusNoContent {
						t.Errorf("got %d: %s", w.Code, w.Body.String())
					}
				}
			})
		}
	}
	done := make(chan struct{})
	others.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				h.pass(time.Second)
				h.status(t)
				h.in.w.sweep(h.in.log)
			}
		}
	})
	senders.Wait()
	close(done)
	others.Wait()
	h.pass(time.Minute)
	require.Zero(t, h.balanced(t).Held)
	last := map[string]point{}
	each(t, h.store, func(ls labels.Labels, x point) {
		p := last[ls.String()]
		require.Greater(t, x.t, p.t, ls)
		require.Equal(t, float64(x.t-h.base)/1000, x.v, ls)
		last[ls.String()] = x
	})
	require.Len(t, last, clusters*10)
}

// TestHAMetrics checks that what the status page says is in /metrics too.
func TestHAMetrics(t *testing.T) {
	h := newHARig(t)
	h.from(t, "a", smp{"m_total", 0, 0})
	h.from(t, "b", smp{"m_total", 7, 7})
	h.from(t, "b", smp{"m_total", 40, 40})
	h.from(t, "a", smp{"m_total", 41, 41})
	got := map[string]float64{}
	families, err := h.reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.Metric {
			key := f.GetName()
			for _, l := range m.Label {
				key += " " + l.GetValue()
			}
			got[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	require.Equal(t, 1.0, got["weir_ingest_ha_elected c b"])
	require.Equal(t, 0.0, got["weir_ingest_ha_elected c a"])
	require.Equal(t, 1.0, got["weir_ingest_ha_takeovers_total c"])
	require.Equal(t, 1.0, got["weir_ingest_ha_filled_total c b"])
	require.Equal(t, 1.0, got["weir_ingest_ha_held_samples c a"])
	require.Positive(t, got["weir_ingest_ha_held_bytes c a"])
	require.Equal(t, float64(h.base+41_000)/1000, got["weir_ingest_ha_clock_timestamp_seconds c a"])
}

// TestHABooks sends unsorted, repeated and refused samples of two replicas over a
// store that fails now and then: the ledger balances after every request, and in
// the end nothing is held.
func TestHABooks(t *testing.T) {
	h := newHARig(t, func(c *Config, _ *store.Config) { c.HA.HoldBytes = 6 << 10 })
	st := &stubborn{Store: h.in.w.store}
	h.in.w.store = st
	rng := rand.New(rand.NewPCG(7, 7))
	for now := 0.0; now < 600; now += 5 {
		req := &prompb.WriteRequest{}
		for range 1 + rng.IntN(8) {
			at := now - float64(rng.IntN(60)*rng.IntN(2))
			ts := h.series("c", string(rune('a'+rng.IntN(2))), smp{fmt.Sprintf("m%d_total", rng.IntN(5)), at, now})
			for range rng.IntN(4) {
				ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: ts.Samples[0].Timestamp + int64(rng.IntN(9)-4)*500, Value: now})
			}
			if rng.IntN(3) == 0 {
				ts.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: "id", Value: "x"}}, Value: 1, Timestamp: ts.Samples[0].Timestamp + int64(rng.IntN(2))*7_200_000}}
			}
			if rng.IntN(10) == 0 {
				ts.Samples = nil
			}
			if rng.IntN(20) == 0 {
				ts.Labels = nil
			}
			req.Timeseries = append(req.Timeseries, ts)
		}
		st.refuse.Store(rng.IntN(6) == 0)
		w := h.v1(t, req)
		require.Contains(t, []int{http.StatusNoContent, http.StatusBadRequest, http.StatusServiceUnavailable}, w.Code)
		h.balanced(t)
		if rng.IntN(10) == 0 {
			h.pass(time.Duration(rng.IntN(60)) * time.Second)
			h.balanced(t)
		}
		if rng.IntN(40) == 0 {
			h = h.kill(t, func(c *Config, _ *store.Config) { c.HA.HoldBytes = 6 << 10 })
			st = &stubborn{Store: h.in.w.store}
			h.in.w.store = st
		}
	}
	st.refuse.Store(false)
	h.pass(time.Minute)
	h.pass(time.Minute)
	require.Zero(t, h.balanced(t).Held)
	require.Zero(t, h.in.w.ha.bytes.Load())
	for id := firstSeriesID; id < h.in.w.series.next; id++ {
		require.Zero(t, h.in.w.series.at(id).pins.Load())
	}
}
