package ingest

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
)

// load is a set of series as a Kubernetes cluster has them: 12 labels, about
// 400 bytes encoded.
func loadLabels(i int) labels.Labels {
	pod := i / 50
	return labels.FromStrings(
		"__name__", fmt.Sprintf("container_network_receive_bytes_%02d_total", i%50),
		"cluster", "eu-west-1a", "container", "istio-proxy",
		"endpoint", "https-metrics", "id", fmt.Sprintf("/kubepods/burstable/pod%032x/%064x", pod, pod*7919),
		"image", "registry.example.org/platform/istio/proxyv2:1.27.3-distroless",
		"instance", fmt.Sprintf("10.0.%d.%d:10250", pod/250, pod%250), "job", "kubelet",
		"metrics_path", "/metrics/cadvisor", "namespace", fmt.Sprintf("team-%02d", pod%40),
		"node", fmt.Sprintf("ip-10-0-%d-%d.eu-west-1.compute.internal", pod/250, pod%250),
		"pod", fmt.Sprintf("checkout-%010x-%05x", pod*31, pod),
	)
}

// bodies encodes one round of n series in requests of per series.
func bodies(tb testing.TB, proto protocol, n, per int, t int64) (raw [][]byte, size int) {
	for lo := 0; lo < n; lo += per {
		var b []byte
		var err error
		if proto == protoV1 {
			req := &prompb.WriteRequest{}
			for i := lo; i < min(lo+per, n); i++ {
				req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
					Labels:  prompb.FromLabels(loadLabels(i), nil),
					Samples: []prompb.Sample{{Timestamp: t, Value: float64(t/1000 + int64(i))}},
				})
			}
			b, err = req.Marshal()
		} else {
			req, st := &writev2.Request{}, writev2.NewSymbolTable()
			for i := lo; i < min(lo+per, n); i++ {
				req.Timeseries = append(req.Timeseries, writev2.TimeSeries{
					LabelsRefs: st.SymbolizeLabels(loadLabels(i), nil),
					Samples:    []writev2.Sample{{Timestamp: t, Value: float64(t/1000 + int64(i))}},
					Metadata:   writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_COUNTER, HelpRef: st.Symbolize("Bytes received.")},
				})
			}
			req.Symbols = st.Symbols()
			b, err = req.Marshal()
		}
		require.NoError(tb, err)
		raw = append(raw, snappy.Encode(nil, b))
		size += len(b)
	}
	return raw, size
}

// BenchmarkReceive is the path from a compressed body to the commit, without
// HTTP. One op is one sample.
func BenchmarkReceive(b *testing.B) {
	for _, proto := range []protocol{protoV1, protoV2} {
		for _, n := range []int{100_000} {
			b.Run(fmt.Sprintf("%v/series=%d", proto, n), func(b *testing.B) {
				r := newRig(b)
				t := time.Now().Add(-time.Hour).UnixMilli()
				const per = 2000
				send := func(reqs [][]byte) {
					for _, raw := range reqs {
						dec, err := snappy.Decode(nil, raw)
						require.NoError(b, err)
						res := r.in.receive(context.Background(), proto, dec)
						require.Equal(b, http.StatusNoContent, res.status, res.text)
					}
				}
				reqs, size := bodies(b, proto, n, per, t)
				send(reqs)
				b.ReportMetric(float64(size)/float64(n), "bytes/sample")
				b.ReportAllocs()
				b.ResetTimer()
				for done := 0; done < b.N; {
					b.StopTimer()
					t += 15_000
					reqs, _ = bodies(b, proto, n, per, t)
					b.StartTimer()
					for _, raw := range reqs {
						if done >= b.N {
							break
						}
						send([][]byte{raw})
						done += per
					}
				}
			})
		}
	}
}
