package derive

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/weir-dev/weir/tracing/span"
)

// busy is requests of traces with ten spans and twelve attributes each, as
// bench/traces sends them.
func busy(n int) []*span.Batch {
	keys := []string{
		"http.request.method", "http.route", "url.path", "server.address", "server.port", "http.response.status_code",
		"net.peer.name", "thread.id", "code.function", "enduser.id", "k8s.pod.name", "rpc.method",
	}
	var batches []*span.Batch
	for i := range n {
		b := &span.Batch{Scopes: []span.Scope{{}}}
		for s := range 5 {
			b.Resources = append(b.Resources, span.Resource{Service: fmt.Sprintf("svc-%d", s)})
		}
		for j := range 10 {
			s := span.Span{
				Resource: j / 2, TraceID: traceID(i + 1), ID: spanID(j + 1), Parent: spanID(j),
				Kind: [2]span.Kind{span.KindServer, span.KindClient}[j%2], Name: fmt.Sprintf("GET /api/%d", j),
				Start: uint64(epoch.UnixNano()), End: uint64(epoch.UnixNano() + rand.Int64N(1e9)),
			}
			for _, k := range keys {
				s.Attrs = append(s.Attrs, span.Attr{Key: k, Value: span.Value{Type: span.TypeString, Str: fmt.Sprint("value ", i%50)}})
			}
			b.Spans = append(b.Spans, s)
		}
		batches = append(batches, b)
	}
	return batches
}

// renew makes b a trace of its own.
func renew(b *span.Batch, n int) *span.Batch {
	for i := range b.Spans {
		binary.BigEndian.PutUint64(b.Spans[i].TraceID[:8], uint64(n))
	}
	return b
}

func BenchmarkTake(b *testing.B) {
	for _, name := range []string{"plain", "dimensions"} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b, func(c *Config) {
				if name != "plain" {
					c.Dimensions, c.Size = []string{"http.route", "k8s.pod.name"}, true
				}
			})
			batches := busy(100) // as warm as what was just decoded
			for _, x := range batches {
				r.d.Take(x, nil, epoch)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				r.d.Take(renew(batches[i%len(batches)], i), nil, epoch)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10, "ns/span")
		})
	}
}

// BenchmarkFlush is of 10,000 label sets and 1,500 edges, the bounds' default.
func BenchmarkFlush(b *testing.B) {
	r := newRig(b, nil)
	for i := range 10_000 {
		r.d.Take(one(fmt.Sprint("svc-", i/100), span.Span{
			TraceID: traceID(i), ID: spanID(i + 1), Parent: spanID(i), Kind: span.KindServer, Name: fmt.Sprint("op", i%100),
		}), nil, epoch)
	}
	for b.Loop() {
		r.now = r.now.Add(15 * time.Second)
		if err := r.d.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.Logf("checkpoint of %d bytes, %+v", len(r.d.status.frozen.encode(r.d)), r.d.Status())
}

func TestManyTakeAtOnce(t *testing.T) {
	r := newRig(t, nil)
	var wg sync.WaitGroup
	const takers, rounds = 8, 20
	for w := range takers {
		wg.Go(func() {
			for range rounds {
				for _, b := range busy(5) {
					for i := range b.Spans {
						b.Spans[i].TraceID[0] = byte(w + 1)
					}
					r.take(b)
				}
			}
		})
	}
	for range 5 {
		r.flush(time.Second)
		r.d.Status()
		r.d.Pinned(traceID(1))
	}
	wg.Wait()
	r.flush(time.Second)
	r.want(`sum(traces_spanmetrics_calls_total)`, fmt.Sprintf("{} %d", takers*rounds*50))
	r.want(`sum(histogram_count(traces_spanmetrics_latency))`, fmt.Sprintf("{} %d", takers*rounds*50))
}

// TestNativeEqualsClientGolang holds the buckets against those of the Prometheus
// client library, from a nanosecond to a day, whole range and narrow ones.
func TestNativeEqualsClientGolang(t *testing.T) {
	for seed, top := range []float64{1e5, 1, 1e-3, 1} {
		rnd := rand.New(rand.NewPCG(uint64(seed), 1))
		want := prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "x", NativeHistogramBucketFactor: 1.1, NativeHistogramZeroThreshold: prometheus.NativeHistogramZeroThresholdZero,
		})
		h := newHist(nil, false)
		for i := range 3000 {
			v := rnd.Float64() * top
			switch {
			case i%50 == 0:
				v = 0
			case i%10 == 0:
				v = float64(int64(1)<<rnd.IntN(20)) / (1 << 20) // a bound
			case seed == 3 && i%7 == 0:
				v = 1e-9 * float64(1+rnd.IntN(100))
			}
			want.Observe(v)
			h.observe(nil, v, 1, span.TraceID{}, span.ID{}, 0)
		}
		var m dto.Metric
		if err := want.Write(&m); err != nil {
			t.Fatal(err)
		}
		counts := make(map[int32]float64) // the client's, joined down to our schema
		at, n := int32(0), int64(0)
		i := 0
		for _, s := range m.Histogram.PositiveSpan {
			at += s.GetOffset()
			for range s.GetLength() {
				n += m.Histogram.PositiveDelta[i]
				idx := at
				for schema := m.Histogram.GetSchema(); schema > h.native.schema; schema-- {
					idx = (idx + 1) >> 1
				}
				counts[idx] += float64(n)
				at++
				i++
			}
		}
		for i, c := range h.native.counts {
			idx := h.native.first + int32(i)
			if counts[idx] != c {
				t.Errorf("up to %v: bucket %d has %v, want %v", top, idx, c, counts[idx])
			}
			delete(counts, idx)
		}
		if len(counts) > 0 {
			t.Errorf("up to %v: %v are missing", top, counts)
		}
		if float64(m.Histogram.GetZeroCount()) != h.native.zero {
			t.Errorf("up to %v: %v zeros, want %v", top, h.native.zero, m.Histogram.GetZeroCount())
		}
		if err := h.integer().Validate(); err != nil {
			t.Error(err)
		}
		if err := h.float().Validate(); err != nil {
			t.Error(err)
		}
		if len(h.native.counts) > maxNative {
			t.Errorf("%d buckets", len(h.native.counts))
		}
	}
}

// TestDamagedCheckpoint cuts and changes the file at many places: it is laid aside, and
// counting begins anew.
func TestDamagedCheckpoint(t *testing.T) {
	r := newRig(t, nil)
	for _, b := range shop(1) {
		r.take(b)
	}
	r.flush(time.Second)
	path := filepath.Join(r.dir, fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(whole); i += 1 + len(whole)/50 {
		for _, data := range [][]byte{whole[:i], append(append([]byte{}, whole[:i]...), append([]byte{whole[i] ^ 0x40}, whole[i+1:]...)...)} {
			if err := os.WriteFile(path, data, 0o644); err != nil {
				t.Fatal(err)
			}
			r.start()
			if got := r.d.Status(); got.LabelSets != 0 || got.Edges != 0 || got.Services != 0 {
				t.Fatalf("damaged at %d: %+v, want nothing", i, got)
			}
			if _, err := os.Stat(path + ".unreadable"); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// FuzzDecode: a checkpoint whose CRC is right and whose content is not must not harm.
func FuzzDecode(f *testing.F) {
	r := newRig(f, nil)
	for _, b := range shop(1) {
		r.take(b)
	}
	var x frozen
	r.d.freeze(&x)
	f.Add(x.encode(r.d)[len(magic):])
	f.Fuzz(func(t *testing.T, body []byte) {
		deps := r.d.deps
		deps.Reg = nil
		cfg := DefaultConfig()
		cfg.Graph.Recent = 0 // megabytes to clear
		d, err := New(cfg, deps)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (&decoder{data: body}).body(d); err != nil {
			return
		}
		var x frozen
		d.freeze(&x)
		x.encode(d)
	})
}
