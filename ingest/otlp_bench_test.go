package ingest

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

// otlpLoad is a request of n pods with 50 series each, as an SDK or a Collector
// sends them: 8 resource attributes, 6 point attributes, counters and gauges in
// turn, 10 points a metric.
func otlpLoad(first, n int, t int64) pmetric.Metrics {
	md := pmetric.NewMetrics()
	for pod := first; pod < first+n; pod++ {
		rm := md.ResourceMetrics().AppendEmpty()
		a := rm.Resource().Attributes()
		a.PutStr("service.name", fmt.Sprintf("checkout-%03d", pod%300))
		a.PutStr("service.namespace", fmt.Sprintf("team-%02d", pod%40))
		a.PutStr("service.instance.id", fmt.Sprintf("7c1a45d2-91a1-4f6e-b0a5-%012x", pod))
		a.PutStr("service.version", "1.27.3")
		a.PutStr("k8s.namespace.name", fmt.Sprintf("team-%02d", pod%40))
		a.PutStr("k8s.pod.name", fmt.Sprintf("checkout-%010x-%05x", pod*31, pod))
		a.PutStr("k8s.node.name", fmt.Sprintf("ip-10-0-%d-%d.eu-west-1.compute.internal", pod/250, pod%250))
		a.PutStr("k8s.container.name", "checkout")
		sm := rm.ScopeMetrics().AppendEmpty()
		sm.Scope().SetName("bench")
		for m := range 5 {
			points := otlpLoadMetric(sm.Metrics().AppendEmpty(), m)
			for i := range 10 {
				pt := points.AppendEmpty()
				pt.SetTimestamp(pcommon.Timestamp(t * 1e6))
				pt.SetDoubleValue(float64(t/1000 + int64(i)))
				at := pt.Attributes()
				at.PutStr("http.request.method", "GET")
				at.PutStr("http.route", fmt.Sprintf("/api/v1/checkout/{id}/step/%d", i))
				at.PutStr("http.response.status_code", "200")
				at.PutStr("destination_service_name", fmt.Sprintf("payments-%02d", i))
				at.PutStr("connection_security_policy", "mutual_tls")
				at.PutStr("source_workload", fmt.Sprintf("checkout-%02d", i))
			}
		}
	}
	return md
}

func otlpLoadMetric(m pmetric.Metric, i int) pmetric.NumberDataPointSlice {
	m.SetName(fmt.Sprintf("http.server.request.things.%d", i))
	m.SetDescription("Requests that the server has handled so far.")
	m.SetUnit("{request}")
	if i%2 == 1 {
		return m.SetEmptyGauge().DataPoints()
	}
	s := m.SetEmptySum()
	s.SetIsMonotonic(true)
	s.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	return s.DataPoints()
}

// otlpBodies encodes one round of 100,000 series in requests of 2,000.
func otlpBodies(tb testing.TB, t int64) (raw [][]byte, size int) {
	for pod := 0; pod < 2000; pod += 40 {
		b, err := pmetricotlp.NewExportRequestFromMetrics(otlpLoad(pod, 40, t)).MarshalProto()
		require.NoError(tb, err)
		raw, size = append(raw, b), size+len(b)
	}
	return raw, size
}

// BenchmarkOTLP is the path from a protobuf body to the commit, without HTTP;
// "pmetric" is, for comparison, what the collector's decoder alone would cost.
// One op is one data point.
func BenchmarkOTLP(b *testing.B) {
	const per = 2000
	for _, part := range []string{"receive", "new", "pmetric"} {
		b.Run(part, func(b *testing.B) {
			r := newRig(b, otlpCfg(nil))
			t := time.Now().Add(-time.Hour).UnixMilli()
			send := func(raw []byte) {
				if part == "pmetric" {
					require.NoError(b, pmetricotlp.NewExportRequest().UnmarshalProto(raw))
					return
				}
				require.NoError(b, r.in.otlp.receive(context.Background(), raw))
			}
			bodies, size := otlpBodies(b, t)
			if part == "receive" {
				for _, raw := range bodies {
					send(raw)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			var used, since time.Duration
			for done := 0; done < b.N; {
				b.StopTimer()
				if since > 0 {
					used += processCPU() - since
				}
				if part != "new" || done > 0 {
					t += 15_000
					bodies, _ = otlpBodies(b, t)
				}
				if part == "new" && done > 0 {
					r.stop()
					r = newRig(b, otlpCfg(nil))
				}
				since = processCPU()
				b.StartTimer()
				for _, raw := range bodies {
					if done >= b.N {
						break
					}
					send(raw)
					done += per
				}
			}
			used += processCPU() - since
			b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(size)/100_000, "bytes/sample")
		})
	}
}

// processCPU returns the processor time that the process has used, garbage
// collection and background work included: a busy machine does not change it.
func processCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
