package span

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

const benchSpans = 500

// benchBody is 500 spans with 12 attributes each.
func benchBody(b *testing.B) []byte {
	t := ptrace.NewTraces()
	rs := t.ResourceSpans().AppendEmpty()
	rs.Resource().Attributes().PutStr("service.name", "shop")
	ss := rs.ScopeSpans().AppendEmpty()
	for i := range benchSpans {
		s := ss.Spans().AppendEmpty()
		s.SetTraceID(pcommon.TraceID{1, byte(i), byte(i >> 8)})
		s.SetSpanID(pcommon.SpanID{2, byte(i), byte(i >> 8)})
		s.SetParentSpanID(pcommon.SpanID{3})
		s.SetName("GET /api/products/{id}")
		s.SetKind(ptrace.SpanKindServer)
		s.SetStartTimestamp(1_700_000_000_000_000_000)
		s.SetEndTimestamp(1_700_000_000_250_000_000)
		for j := range 9 {
			s.Attributes().PutStr(fmt.Sprintf("http.request.attribute.%d", j), fmt.Sprintf("value-%d-%d", i, j))
		}
		s.Attributes().PutInt("http.response.status_code", 200)
		s.Attributes().PutInt("server.port", 8080)
		s.Attributes().PutBool("cache.hit", true)
	}
	return encode(b, t)
}

func BenchmarkDecode(b *testing.B) {
	body := benchBody(b)
	batch := &Batch{}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		require.NoError(b, batch.Decode(body))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchSpans, "ns/span")
}

func BenchmarkEncode(b *testing.B) {
	batch := &Batch{}
	require.NoError(b, batch.Decode(benchBody(b)))
	dst := make([]byte, 0, 1<<20)
	b.ReportAllocs()
	for b.Loop() {
		dst = batch.Encode(dst[:0])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchSpans, "ns/span")
}

// BenchmarkCollector is what the collector's decoder takes.
func BenchmarkCollector(b *testing.B) {
	body := benchBody(b)
	b.ReportAllocs()
	for b.Loop() {
		require.NoError(b, ptraceotlp.NewExportRequest().UnmarshalProto(body))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchSpans, "ns/span")
}
