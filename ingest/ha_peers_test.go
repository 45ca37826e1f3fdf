package ingest

import (
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
)

// TestPeerFailures replays, by their mechanism, what other systems' users have
// suffered from HA pairs.
func TestPeerFailures(t *testing.T) {
	stale := math.Float64frombits(value.StaleNaN)
	for _, tc := range []struct {
		name string
		run  func(t *testing.T, h *haRig)
		want string // of m_total
	}{
		{
			// Thanos 7364: the chosen replica stalls, and deduplication skips the
			// other's samples for twice the last interval, so both are hidden.
			name: "thanos-7364: a stall hides the other replica's samples",
			run: func(t *testing.T, h *haRig) {
				for s := 0.0; s <= 240; s += 15 {
					if s <= 60 || s >= 180 {
						h.from(t, "a", smp{"m_total", s, s})
					}
					h.from(t, "b", smp{"m_total", s + 5, s + 5})
				}
			},
			want: "0=0 15=15 30=30 45=45 60=60 65=65 80=80 95=95 110=110 125=125 140=140 155=155 170=170 185=185 200=200 215=215 230=230 245=245",
		},
		{
			// Thanos 8430: chunks of both replicas are merged; a higher value stands
			// before a lower one, which rate() reads as a reset: 1200 instead of 0.46.
			name: "thanos-8430: a switch shows a counter going back",
			run: func(t *testing.T, h *haRig) {
				// b's clock is 4 s ahead, so its later timestamps show older values.
				v := func(at float64) float64 { return 304_528 + at }
				for s := 0.0; s <= 90; s += 15 {
					if s <= 30 {
						h.from(t, "a", smp{"m_total", s, v(s)})
					}
					h.from(t, "b", smp{"m_total", s + 2, v(s - 2)})
				}
			},
			want: "0=304528 15=304543 30=304558 47=304571 62=304586 77=304601 92=304616",
		},
		{
			// Mimir 7495: the elected replica restarts; the other is elected, and the
			// first one's queue, sent after the restart, brings older values.
			name: "mimir-7495: the queue of a restarted replica",
			run: func(t *testing.T, h *haRig) {
				h.from(t, "a", smp{"m_total", 0, 100})
				h.from(t, "a", smp{"m_total", 15, 115})
				for s := 5.0; s <= 65; s += 15 {
					h.from(t, "b", smp{"m_total", s, 100 + s})
				}
				require.Equal(t, "b", h.elected(t))
				for s := 30.0; s <= 60; s += 15 { // from a's write-ahead log
					h.from(t, "a", smp{"m_total", s, 100 + s})
				}
				h.from(t, "b", smp{"m_total", 80, 180})
				h.from(t, "b", smp{"m_total", 15, 114}) // a's time, b's value
			},
			want: "0=100 15=115 20=120 35=135 50=150 65=165 80=180",
		},
		{
			// Mimir 12331: failover goes by the time of arrival; the newly elected
			// replica is behind and its delayed requests, older than what is stored,
			// are accepted.
			name: "mimir-12331: the newly elected replica is behind",
			run: func(t *testing.T, h *haRig) {
				for s := 0.0; s <= 120; s += 15 {
					h.from(t, "a", smp{"m_total", s, s})
				}
				for s := 5.0; s <= 125; s += 15 { // all late
					h.from(t, "b", smp{"m_total", s, s})
				}
				for s := 140.0; s <= 170; s += 15 {
					h.from(t, "b", smp{"m_total", s, s})
				}
				require.Equal(t, "b", h.elected(t))
				h.from(t, "b", smp{"m_total", 110, 110}) // once more
			},
			want: "0=0 15=15 30=30 45=45 60=60 75=75 90=90 105=105 120=120 125=125 140=140 155=155 170=170",
		},
		{
			// promxy 734: a fixed buffer around each sample merges series of different
			// scrape intervals wrongly: too small doubles, too large leaves gaps.
			name: "promxy-734: intervals that fit no one buffer",
			run: func(t *testing.T, h *haRig) {
				for s := 0.0; s <= 120; s += 5 {
					a, b := []smp{{"fast_total", s, s}}, []smp{{"fast_total", s + 2, s + 2}}
					switch int(s) % 60 {
					case 0:
						a = append(a, smp{"m_total", s, s})
					case 30:
						b = append(b, smp{"m_total", s + 1, s + 1})
					}
					if s <= 60 {
						h.from(t, "a", a...)
					}
					h.from(t, "b", b...)
				}
				require.Equal(t, "0=0 5=5 10=10 15=15 20=20 25=25 30=30 35=35 40=40 45=45 50=50 55=55 60=60 "+
					"62=62 67=67 72=72 77=77 82=82 87=87 92=92 97=97 102=102 107=107 112=112 117=117 122=122", h.stored(t, "fast_total"))
			},
			want: "0=0 60=60 91=91",
		},
		{
			// Both replicas end a series: its stale marker must come through, once.
			name: "a series ends",
			run: func(t *testing.T, h *haRig) {
				for s := 0.0; s <= 90; s += 15 {
					v := s
					if s == 45 {
						v = stale
					}
					if s <= 45 {
						h.from(t, "a", smp{"m_total", s, v}, smp{"up", s, 1})
						h.from(t, "b", smp{"m_total", s + 5, v}, smp{"up", s + 5, 1})
					} else {
						h.from(t, "a", smp{"up", s, 1})
					}
				}
			},
			want: "0=0 15=15 30=30 45=stale 50=stale",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHARig(t)
			tc.run(t, h)
			require.Equal(t, tc.want, h.stored(t, "m_total"))
			h.balanced(t)
		})
	}
}
