package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/store"
)

// haRig is a rig whose monotonic clock stands still unless a test moves it.
type haRig struct {
	*rig
	dir   string
	base  int64 // time zero of the test's samples, Unix milliseconds
	ticks time.Duration
	mu    sync.Mutex
}

const testFailover = 30_000

func newHARig(t testing.TB, change ...func(*Config, *store.Config)) *haRig {
	return openHARig(t, filepath.Join(t.TempDir(), "data"), time.Now().Add(-50*time.Minute).Truncate(time.Minute).UnixMilli(), change...)
}

func openHARig(t testing.TB, dir string, base int64, change ...func(*Config, *store.Config)) *haRig {
	h := &haRig{dir: dir, base: base}
	h.rig = openRig(t, dir, append([]func(*Config, *store.Config){func(c *Config, _ *store.Config) {
		c.HA.Dir = filepath.Join(dir, "ha")
		c.OTLP = OTLPConfig{}
	}}, change...)...)
	h.in.w.ha.since = func() time.Duration {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.ticks
	}
	t.Cleanup(func() { require.NoError(t, h.in.Close()) })
	return h
}

// pass lets real time go by and runs what Run does meanwhile.
func (h *haRig) pass(d time.Duration) {
	h.mu.Lock()
	h.ticks += d
	h.mu.Unlock()
	h.in.w.tickPairs(context.Background())
}

// smp is one sample of a test: metric, seconds after base, value.
type smp struct {
	name string
	sec  float64
	v    float64
}

func (h *haRig) series(cluster, replica string, s smp) prompb.TimeSeries {
	ls := []prompb.Label{{Name: "__name__", Value: s.name}}
	if replica != "" {
		ls = append(ls, prompb.Label{Name: "__replica__", Value: replica})
	}
	if cluster != "" {
		ls = append(ls, prompb.Label{Name: "cluster", Value: cluster})
	}
	return prompb.TimeSeries{Labels: ls, Samples: []prompb.Sample{{Timestamp: h.base + int64(math.Round(s.sec*1000)), Value: s.v}}}
}

// from sends samples of one replica of cluster "c" in one request.
func (h *haRig) from(t testing.TB, replica string, samples ...smp) {
	t.Helper()
	req := &prompb.WriteRequest{}
	for _, s := range samples {
		req.Timeseries = append(req.Timeseries, h.series("c", replica, s))
	}
	h.send(t, req)
}

func (h *haRig) send(t testing.TB, req *prompb.WriteRequest) {
	t.Helper()
	w := h.v1(t, req)
	require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
	n := 0
	for _, ts := range req.Timeseries {
		n += len(ts.Samples)
	}
	require.Equal(t, fmt.Sprint(n), w.Header().Get("X-Prometheus-Remote-Write-Samples-Written"))
}

// stored returns the samples of a metric as "seconds=value ...".
func (h *haRig) stored(t testing.TB, name string) string {
	t.Helper()
	var out []string
	each(t, h.store, func(ls labels.Labels, x point) {
		if ls.Get("__name__") != name {
			return
		}
		require.Empty(t, ls.Get("__replica__"))
		v := fmt.Sprint(x.v)
		switch {
		case value.IsStaleNaN(x.v):
			v = "stale"
		case x.h != nil:
			v = fmt.Sprintf("h%d", x.h.Count)
		}
		out = append(out, fmt.Sprintf("%g=%s", float64(x.t-h.base)/1000, v))
	})
	return strings.Join(out, " ")
}

// balanced checks that the ledger is, and returns its floats over all clusters.
func (h *haRig) balanced(t testing.TB) (sum clusterTotal) {
	t.Helper()
	for _, b := range h.in.w.ledger.totals() {
		require.Zero(t, b.Balance, "%+v", b)
		for _, c := range b.Clusters {
			require.GreaterOrEqual(t, c.Held, int64(0))
			if b.Kind == kindFloat.String() {
				sum.Stored += c.Stored
				sum.Duplicate += c.Duplicate
				sum.Deduplicated += c.Deduplicated
				sum.Held += c.Held
			}
		}
	}
	return sum
}

func (h *haRig) status(t testing.TB) haAnswer {
	t.Helper()
	w := httptest.NewRecorder()
	h.in.HAHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/status/ha", nil))
	var a haAnswer
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &a))
	return a
}

func (h *haRig) elected(t testing.TB) string { return h.status(t).Data.Clusters[0].Elected }

func TestFailover(t *testing.T) {
	for _, tc := range []struct {
		name    string
		run     func(t *testing.T, h *haRig)
		want    string // of m_total
		elected string
		held    int64
	}{
		{
			name: "the other is held and forgotten",
			run: func(t *testing.T, h *haRig) {
				for s := 0.0; s <= 120; s += 15 {
					h.from(t, "a", smp{"m_total", s, s})
					h.from(t, "b", smp{"m_total", s + 7, s + 7})
				}
			},
			want: "0=0 15=15 30=30 45=45 60=60 75=75 90=90 105=105 120=120", elected: "a", held: 3,
		},
		{
			name: "takeover starts at the first missing timestamp",
			run: func(t *testing.T, h *haRig) {
				for s := 0.0; s <= 90; s += 15 {
					if s <= 30 {
						h.from(t, "a", smp{"m_total", s, s})
					}
					h.from(t, "b", smp{"m_total", s + 7, s + 7})
				}
			},
			want: "0=0 15=15 30=30 37=37 52=52 67=67 82=82 97=97", elected: "b",
		},
		{
			name: "no fail-back; the returning replica's backlog changes nothing",
			run: func(t *testing.T, h *haRig) {
				for s := 0.0; s <= 90; s += 15 {
					if s <= 30 {
						h.from(t, "a", smp{"m_total", s, s})
					}
					h.from(t, "b", smp{"m_total", s + 7, s + 7})
				}
				for s := 45.0; s <= 105; s += 15 {
					h.from(t, "a", smp{"m_total", s, s})
				}
				h.from(t, "b", smp{"m_total", 112, 112})
			},
			want: "0=0 15=15 30=30 37=37 52=52 67=67 82=82 97=97 112=112", elected: "b", held: 1,
		},
		{
			name: "a short silence of the elected replica is filled",
			run: func(t *testing.T, h *haRig) {
				for s := 0.0; s <= 60; s += 15 {
					if s != 30 {
						h.from(t, "a", smp{"m_total", s, s}, smp{"x", s, s})
					}
					h.from(t, "b", smp{"m_total", s + 7, s + 7})
				}
			},
			want: "0=0 15=15 22=22 37=37 45=45 60=60", elected: "a", held: 2,
		},
		{
			name: "a backlog of the elected replica leaves nothing to fill",
			run: func(t *testing.T, h *haRig) {
				h.from(t, "a", smp{"m_total", 0, 0})
				for s := 0.0; s <= 15; s += 15 {
					h.from(t, "b", smp{"m_total", s + 7, s + 7})
				}
				h.from(t, "a", smp{"m_total", 15, 15}, smp{"m_total", 30, 30}, smp{"m_total", 45, 45})
				h.from(t, "a", smp{"m_total", 60, 60})
			},
			want: "0=0 15=15 30=30 45=45 60=60", elected: "a",
		},
		{
			name: "both silent",
			run: func(t *testing.T, h *haRig) {
				h.from(t, "a", smp{"m_total", 0, 0})
				h.from(t, "b", smp{"m_total", 7, 7})
				h.from(t, "b", smp{"m_total", 22, 22})
				h.pass(29 * time.Second)
				require.Equal(t, "0=0", h.stored(t, "m_total"))
				h.pass(2 * time.Second)
			},
			want: "0=0 7=7 22=22", elected: "a",
		},
		{
			name: "a living elected replica keeps the timer back",
			run: func(t *testing.T, h *haRig) {
				for s := 0.0; s <= 60; s += 15 {
					h.from(t, "b", smp{"m_total", s + 7, s + 7})
					h.from(t, "a", smp{"m_total", s, s}, smp{"x", s, s})
					h.pass(15 * time.Second)
				}
			},
			want: "7=7 22=22 37=37 52=52 67=67", elected: "b", held: 2,
		},
		{
			name: "a far future timestamp moves no clock",
			run: func(t *testing.T, h *haRig) {
				h.from(t, "a", smp{"m_total", 0, 0})
				w := h.v1(t, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{h.series("c", "b", smp{"m_total", 7200, 1})}})
				require.Equal(t, http.StatusBadRequest, w.Code)
				require.Contains(t, w.Body.String(), "too_far_in_future")
				h.from(t, "b", smp{"m_total", 7, 7})
				h.from(t, "a", smp{"m_total", 15, 15})
			},
			want: "0=0 15=15", elected: "a", held: 1,
		},
		{
			name: "a slow clock: passed over until it is surely ahead",
			run: func(t *testing.T, h *haRig) {
				// b's clock is 10 s ahead: at b's time t the counter is t-10.
				for s := 0.0; s <= 120; s += 15 {
					if s <= 30 {
						h.from(t, "a", smp{"m_total", s, 100 + s})
					}
					h.from(t, "b", smp{"m_total", s + 8, 100 + s - 2})
				}
			},
			want: "0=100 15=115 30=130 53=143 68=158 83=173 98=188 113=203 128=218", elected: "b",
		},
		{
			name: "a gauge is not a counter",
			run: func(t *testing.T, h *haRig) {
				for s := 0.0; s <= 90; s += 15 {
					if s <= 30 {
						h.from(t, "a", smp{"m_total", s, s}, smp{"g", s, 9 - s})
					}
					h.from(t, "b", smp{"m_total", s + 7, s + 7}, smp{"g", s + 7, 2 - s})
				}
				require.Equal(t, "0=9 15=-6 30=-21 37=-28 52=-43 67=-58 82=-73 97=-88", h.stored(t, "g"))
			},
			want: "0=0 15=15 30=30 37=37 52=52 67=67 82=82 97=97", elected: "b",
		},
		{
			name: "series that only one sees, and a target that the elected one loses",
			run: func(t *testing.T, h *haRig) {
				for s := 0.0; s <= 105; s += 15 {
					a := []smp{{"m_total", s, s}}
					if s <= 30 {
						a = append(a, smp{"lost_total", s, s})
					} else if s == 45 {
						a = append(a, smp{"lost_total", s, math.Float64frombits(value.StaleNaN)})
					}
					h.from(t, "a", a...)
					h.from(t, "b", smp{"m_total", s + 7, s + 7}, smp{"lost_total", s + 7, s + 7}, smp{"only_b", s + 7, s + 7})
				}
				require.Equal(t, "0=0 15=15 30=30 45=stale 52=52 67=67", h.stored(t, "lost_total"))
				require.Equal(t, "7=7 22=22 37=37 52=52 67=67", h.stored(t, "only_b"))
			},
			want: "0=0 15=15 30=30 45=45 60=60 75=75 90=90 105=105", elected: "a", held: 9,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHARig(t)
			tc.run(t, h)
			require.Equal(t, tc.want, h.stored(t, "m_total"))
			require.Equal(t, tc.elected, h.elected(t))
			require.Equal(t, tc.held, h.balanced(t).Held)
			require.Equal(t, tc.held == 0, h.status(t).Data.HeldBytes == 0)
		})
	}
}

// TestHAMixedBatch sends several clusters, replicas and series without a pair in
// one request: each is judged by itself.
func TestHAMixedBatch(t *testing.T) {
	h := newHARig(t)
	for s := 0.0; s <= 90; s += 15 {
		req := &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{
			h.series("one", "b", smp{"one_total", s + 7, s + 7}),
			h.series("", "a", smp{"lone_total", s, s}), // no cluster: the label stays
			h.series("two", "b", smp{"two_total", s, s}),
			h.series("two", "", smp{"plain_total", s, s}),
			h.series("two", "a", smp{"two_total", s + 7, s + 7}),
		}}
		if s <= 30 {
			req.Timeseries = append(req.Timeseries, h.series("one", "a", smp{"one_total", s, s}))
		}
		h.send(t, req)
	}
	require.Equal(t, "7=7 22=22 37=37 52=52 67=67 82=82 97=97", h.stored(t, "one_total"))
	require.Equal(t, "0=0 15=15 30=30 45=45 60=60 75=75 90=90", h.stored(t, "two_total"))
	require.Equal(t, "0=0 15=15 30=30 45=45 60=60 75=75 90=90", h.stored(t, "plain_total"))
	require.Len(t, h.dump(t), 4*7)
	st := h.status(t).Data
	require.Len(t, st.Clusters, 2)
	require.Equal(t, []string{"one", "two"}, []string{st.Clusters[0].Cluster, st.Clusters[1].Cluster})
	require.Equal(t, "b", st.Clusters[0].Elected)
	require.Equal(t, "b", st.Clusters[1].Elected)
	h.balanced(t)
}

// TestHAHistograms checks kinds and start timestamps through buffer and journal,
// stale markers bit-exact, exemplars counted with their samples.
func TestHAHistograms(t *testing.T) {
	h := newHARig(t)
	send := func(h *haRig, replica string, sec float64, n int64) {
		s := h.series("c", replica, smp{"h", sec, 0})
		at := s.Samples[0].Timestamp
		s.Samples = nil
		s.Histograms = []prompb.Histogram{prompb.FromIntHistogram(at, tsdbutil.GenerateTestHistogram(n))}
		s.Exemplars = []prompb.Exemplar{{Labels: []prompb.Label{{Name: "trace_id", Value: "t"}}, Value: 1, Timestamp: at}}
		f := h.series("c", replica, smp{"fh", sec, 0})
		f.Samples = nil
		f.Histograms = []prompb.Histogram{prompb.FromFloatHistogram(at, tsdbutil.GenerateTestCustomBucketsFloatHistogram(n))}
		w := h.v1(t, &prompb.WriteRequest{Timeseries: []prompb.TimeSeries{s, f, h.series("c", replica, smp{"up", sec, 1})}})
		require.Equal(t, http.StatusNoContent, w.Code, w.Body.String())
		require.Equal(t, "2", w.Header().Get("X-Prometheus-Remote-Write-Histograms-Written"))
		require.Equal(t, "1", w.Header().Get("X-Prometheus-Remote-Write-Exemplars-Written"))
	}
	send(h, "a", 0, 10)
	send(h, "b", 5, 1) // lower than a's: would be a reset that there was not
	send(h, "b", 20, 12)
	h.from(t, "b", smp{"up", 21, math.Float64frombits(value.StaleNaN)})
	h = h.kill(t)
	send(h, "b", 35, 14)
	require.Equal(t, "b", h.elected(t))
	require.Equal(t, "0=1 5=1 20=1 21=stale 35=1", h.stored(t, "up"))
	require.Equal(t, "0=h102 20=h120 35=h138", h.stored(t, "h"))
	require.Equal(t, "0=0 20=0 35=0", h.stored(t, "fh"))
	require.Zero(t, h.balanced(t).Held)
}

// kill goes on with a copy of the data directory, as it is on disk now, and
// leaves this rig to end later: what kill -9 leaves, in one process.
func (h *haRig) kill(t testing.TB, change ...func(*Config, *store.Config)) *haRig {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.CopyFS(dir, os.DirFS(h.dir)))
	return openHARig(t, dir, h.base, change...)
}

func TestHARestart(t *testing.T) {
	h := newHARig(t)
	for s := 0.0; s <= 45; s += 15 {
		if s <= 15 {
			h.from(t, "a", smp{"m_total", s, s})
		}
		h.from(t, "b", smp{"m_total", s + 7, s + 7}, smp{"only_b", s + 7, s + 7})
	}
	require.Equal(t, "b", h.elected(t))
	h.from(t, "a", smp{"only_a", 60, 1}) // held: new to the store
	require.EqualValues(t, 1, h.balanced(t).Held)

	h = h.kill(t)
	h.from(t, "b", smp{"m_total", 67, 67})
	require.Equal(t, "b", h.elected(t), "the election survives")
	require.EqualValues(t, 1, h.status(t).Data.Clusters[0].Takeovers)
	require.EqualValues(t, 1, h.balanced(t).Held)
	h.from(t, "b", smp{"m_total", 50, 51}) // b's own past, which a may have filled
	h.from(t, "b", smp{"m_total", 97, 97})

	h = h.kill(t)
	h.pass(time.Millisecond) // opens the journal without any request
	h.pass(31 * time.Second)
	require.Equal(t, "60=1", h.stored(t, "only_a"))
	require.Equal(t, "0=0 15=15 22=22 37=37 52=52 67=67 97=97", h.stored(t, "m_total"))
	require.Equal(t, "7=7 22=22 37=37 52=52", h.stored(t, "only_b"))
	require.Zero(t, h.balanced(t).Held)
	files, err := os.ReadDir(filepath.Join(h.dir, "ha"))
	require.NoError(t, err)
	require.Len(t, files, 1, "settled segments are deleted")
	require.Zero(t, h.status(t).Data.HeldBytes)
}
