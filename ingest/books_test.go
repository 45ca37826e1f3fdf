package ingest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weir-dev/weir/internal/store"
)

// book returns the sums of a protocol and kind over all clusters.
func (r *rig) book(p protocol, k kind) (received int64, by map[string]int64) {
	by = map[string]int64{}
	for _, b := range r.in.w.ledger.totals() {
		if b.Protocol != p.String() || b.Kind != k.String() {
			continue
		}
		received = int64(b.Received)
		for _, c := range b.Clusters {
			by["stored"] += c.Stored
			by["duplicate"] += c.Duplicate
			by["deduplicated"] += c.Deduplicated
			by["dropped"] += c.Dropped
			by["held"] += c.Held
			for reason, n := range c.Refused {
				by[reason] += n
			}
		}
	}
	return received, by
}

// accounted is what the written headers should say in sum.
func accounted(by map[string]int64) int64 {
	return by["stored"] + by["duplicate"] + by["deduplicated"] + by["dropped"] + by["held"]
}

// TestBooksBalance: eight senders at once, who share series and send what is
// good, repeated, contradictory, unordered, broken, dropped by rule and over a
// limit. Every sample has one end, and what is called stored can be read.
func TestBooksBalance(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	r := newRig(t, func(c *Config, _ *store.Config) {
		c.HA.ReplicaLabel = ""
		c.Limits.MaxSeriesPerMetric = 12
		c.RelabelConfigs = []*relabel.Config{{
			SourceLabels: model.LabelNames{"job"}, Regex: relabel.MustNewRegexp("unwanted"), Action: relabel.Drop,
			Separator: ";", NameValidationScheme: model.UTF8Validation,
		}}
	})
	defer r.stop()
	const senders, requests = 8, 60
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		sent    [2][numKinds]int64
		written [2][numKinds]int64
		codes   = map[int]int{}
	)
	base := time.Now().Add(-10 * time.Minute).Truncate(time.Second).UnixMilli()
	for n := range senders {
		wg.Go(func() {
			m := &mixer{rng: rand.New(rand.NewPCG(uint64(n), 7)), base: base}
			for range requests {
				proto := protocol(m.rng.IntN(2))
				raw, count := m.request(t, proto)
				w := r.post([]string{typeV1, typeV2}[proto], raw)
				got := writtenHeaders(t, w)
				mu.Lock()
				codes[w.Code]++
				for k := range numKinds {
					sent[proto][k] += count[k]
					written[proto][k] += int64(got[k])
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()

	require.Equal(t, senders*requests, codes[204]+codes[400], "%v", codes)
	require.NotZero(t, codes[204])
	var storedSamples int64
	seen := map[string]int64{}
	for p := range protoOTLP {
		for k := range numKinds {
			received, by := r.book(p, k)
			var sum int64
			for o, n := range by {
				sum += n
				seen[o] += n
			}
			require.Equal(t, sent[p][k], received, "%v %v", p, k)
			require.Equal(t, received, sum, "%v %v: %v", p, k, by)
			require.Equal(t, written[p][k], accounted(by), "%v %v: %v", p, k, by)
			if k != kindExemplar {
				storedSamples += by["stored"]
			}
		}
	}
	for _, o := range []string{"stored", "duplicate", "dropped", "duplicate_timestamp", "limit_series_per_metric", "invalid_labels", "invalid_histogram", "too_far_in_future", "too_old"} {
		require.NotZero(t, seen[o], "the mixture holds no %s: %v", o, seen)
	}
	require.EqualValues(t, storedSamples, len(r.dump(t)), "stored and readable")
	require.Zero(t, r.in.flight.requests.Load())
	require.Zero(t, r.in.flight.bytes.Load())
}

// mixer makes requests of all sorts.
type mixer struct {
	rng  *rand.Rand
	base int64
}

func (m *mixer) request(t testing.TB, p protocol) (raw []byte, count [numKinds]int64) {
	v1, v2, st := &prompb.WriteRequest{}, &writev2.Request{}, writev2.NewSymbolTable()
	for range 1 + m.rng.IntN(30) {
		ls, hist := m.series()
		var xs []point
		for range 1 + m.rng.IntN(3) {
			xs = append(xs, m.sample(ls, hist))
		}
		var pairs []prompb.Label
		var refs []uint32
		ls.Range(func(l labels.Label) {
			pairs = append(pairs, prompb.Label{Name: l.Name, Value: l.Value})
			refs = append(refs, st.Symbolize(l.Name), st.Symbolize(l.Value))
		})
		s1, s2 := prompb.TimeSeries{Labels: pairs}, writev2.TimeSeries{LabelsRefs: refs}
		for _, x := range xs {
			count[x.kind()]++
			if x.h != nil {
				s1.Histograms = append(s1.Histograms, prompb.FromIntHistogram(x.t, x.h))
				s2.Histograms = append(s2.Histograms, writev2.FromIntHistogram(0, x.t, x.h))
			} else {
				s1.Samples = append(s1.Samples, prompb.Sample{Timestamp: x.t, Value: x.v})
				s2.Samples = append(s2.Samples, writev2.Sample{Timestamp: x.t, Value: x.v})
			}
		}
		if m.rng.IntN(4) == 0 {
			count[kindExemplar]++
			e := labels.FromStrings("trace_id", fmt.Sprint(m.rng.IntN(5)))
			s1.Exemplars = []prompb.Exemplar{{Labels: prompb.FromLabels(e, nil), Value: 1, Timestamp: xs[0].t}}
			s2.Exemplars = []writev2.Exemplar{{LabelsRefs: st.SymbolizeLabels(e, nil), Value: 1, Timestamp: xs[0].t}}
		}
		v1.Timeseries, v2.Timeseries = append(v1.Timeseries, s1), append(v2.Timeseries, s2)
	}
	v2.Symbols = st.Symbols()
	var err error
	if p == protoV1 {
		raw, err = v1.Marshal()
	} else {
		raw, err = v2.Marshal()
	}
	require.NoError(t, err)
	return raw, count
}

func (m *mixer) series() (ls labels.Labels, hist bool) {
	n := m.rng.IntN(10)
	switch m.rng.IntN(12) {
	case 0:
		return labels.FromStrings("__name__", "up", "job", "unwanted", "n", fmt.Sprint(n)), false
	case 1:
		return labels.FromStrings("__name__", "crowded", "n", fmt.Sprint(m.rng.IntN(100))), false
	case 2:
		return labels.FromStrings("job", "nameless"), false
	case 3, 4:
		return labels.FromStrings("__name__", "latency", "n", fmt.Sprint(n)), true
	}
	return labels.FromStrings("__name__", fmt.Sprintf("metric_%d", n%3), "cluster", fmt.Sprintf("c%d", n%2), "n", fmt.Sprint(n)), false
}

// sample mostly returns what any other sender would send for that time.
func (m *mixer) sample(ls labels.Labels, hist bool) point {
	x := point{t: m.base + int64(m.rng.IntN(200))*1000}
	switch m.rng.IntN(40) {
	case 0:
		x.t += time.Hour.Milliseconds()
	case 1:
		x.t -= 5 * time.Hour.Milliseconds()
	}
	x.v = float64(ls.Hash()%1000) + float64(x.t%1000)
	if m.rng.IntN(20) == 0 {
		x.v = m.rng.Float64()
	}
	if hist {
		x.h = smallHistogram(1 + uint64(x.t/1000)%3)
		if m.rng.IntN(20) == 0 {
			x.h.Count = 1
		}
	}
	return x
}

// TestRetry: a request that is sent again, and again while it is handled, is
// stored once and answered alike every time.
func TestRetry(t *testing.T) {
	for _, concurrent := range []bool{false, true} {
		for _, p := range []protocol{protoV1, protoV2} {
			t.Run(fmt.Sprintf("%v/concurrent=%v", p, concurrent), func(t *testing.T) {
				r := newRig(t)
				raw, want := retried(t, p)
				post := func() *httptest.ResponseRecorder { return r.post([]string{typeV1, typeV2}[p], raw) }
				answers := make([]*httptest.ResponseRecorder, 3)
				var wg sync.WaitGroup
				for i := range answers {
					if concurrent {
						wg.Go(func() { answers[i] = post() })
					} else {
						answers[i] = post()
					}
				}
				wg.Wait()
				for _, w := range answers {
					require.Equal(t, http.StatusNoContent, w.Code, w.Body)
					require.Equal(t, want, writtenHeaders(t, w))
				}
				require.Len(t, r.dump(t), want[kindFloat]+want[kindHistogram])
				for k := range kindExemplar {
					_, by := r.book(p, k)
					require.EqualValues(t, want[k], by["stored"], "%v", k)
					require.EqualValues(t, 2*want[k], by["duplicate"], "%v", k)
				}
			})
		}
	}
}

// retried is a request whose repetition is hard to see: samples that are not the
// series' newest, histograms that the store widens to fit later ones, a stale
// marker that it keeps as a histogram, unordered samples, NaN.
func retried(t *testing.T, p protocol) (raw []byte, want [numKinds]int) {
	at := func(sec int64) int64 {
		return time.Now().Add(-10*time.Minute).Truncate(time.Minute).UnixMilli() + sec*1000
	}
	wide := smallHistogram(4)
	wide.PositiveSpans = []histogram.Span{{Offset: 0, Length: 4}}
	wide.PositiveBuckets = []int64{4, 8, 0, 0}
	wide.Count = 4 + 12 + 12 + 12 + wide.ZeroCount
	floats := []point{{t: at(30), v: 3}, {t: at(0), v: 1}, {t: at(45), v: 4}, {t: at(15), v: 2}}
	hists := []point{{t: at(0), h: smallHistogram(1)}, {t: at(15), h: wide}, {t: at(30), fh: smallHistogram(1).ToFloat(nil)}}
	stale := []point{{t: at(45), h: smallHistogram(5)}}
	marker := point{t: at(60), v: math.Float64frombits(programFloats[4])}
	nan := []point{{t: at(0), v: math.Float64frombits(programFloats[6])}, {t: at(15), v: math.Float64frombits(programFloats[5])}}

	v1, v2, st := &prompb.WriteRequest{}, &writev2.Request{}, writev2.NewSymbolTable()
	add := func(name string, xs ...point) {
		ls := labels.FromStrings("__name__", name)
		s1, s2 := prompb.TimeSeries{Labels: prompb.FromLabels(ls, nil)}, writev2.TimeSeries{LabelsRefs: st.SymbolizeLabels(ls, nil)}
		for _, x := range xs {
			want[x.kind()]++
			switch {
			case x.h != nil:
				s1.Histograms = append(s1.Histograms, prompb.FromIntHistogram(x.t, x.h))
				s2.Histograms = append(s2.Histograms, writev2.FromIntHistogram(0, x.t, x.h))
			case x.fh != nil:
				s1.Histograms = append(s1.Histograms, prompb.FromFloatHistogram(x.t, x.fh))
				s2.Histograms = append(s2.Histograms, writev2.FromFloatHistogram(0, x.t, x.fh))
			default:
				s1.Samples = append(s1.Samples, prompb.Sample{Timestamp: x.t, Value: x.v})
				s2.Samples = append(s2.Samples, writev2.Sample{Timestamp: x.t, Value: x.v})
			}
		}
		v1.Timeseries, v2.Timeseries = append(v1.Timeseries, s1), append(v2.Timeseries, s2)
	}
	add("floats", floats...)
	add("hists", hists...)
	add("ending", stale...)
	add("ending", marker)
	add("ending", point{t: at(75), h: smallHistogram(6)})
	add("nan", nan...)
	v2.Symbols = st.Symbols()
	var err error
	if p == protoV1 {
		raw, err = v1.Marshal()
	} else {
		raw, err = v2.Marshal()
	}
	require.NoError(t, err)
	return raw, want
}
