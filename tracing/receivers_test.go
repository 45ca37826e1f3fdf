package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/jaegertracing/jaeger-idl/model/v1"
	"github.com/jaegertracing/jaeger-idl/proto-gen/api_v2"
	thriftjaeger "github.com/jaegertracing/jaeger-idl/thrift-gen/jaeger"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/status"

	"github.com/weir-dev/weir/tracing/span"
)

const (
	thriftSetting = "tracing.receivers.jaeger_thrift.endpoint"
	zipkinSetting = "tracing.receivers.zipkin.endpoint"
	grpcSetting   = "tracing.receivers.jaeger_grpc.endpoint"
)

func (r *rig) post(t *testing.T, setting, path string, body []byte, header ...string) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+r.Addr(setting).String()+path, bytes.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text), resp.Header
}

func thriftBody(t *testing.T, spans ...*thriftjaeger.Span) []byte {
	t.Helper()
	buf := thrift.NewTMemoryBuffer()
	b := &thriftjaeger.Batch{Process: &thriftjaeger.Process{ServiceName: "old"}, Spans: spans}
	require.NoError(t, b.Write(context.Background(), thrift.NewTBinaryProtocolConf(buf, nil)))
	return buf.Bytes()
}

func thriftSpan(id int64) *thriftjaeger.Span {
	yes := true
	return &thriftjaeger.Span{
		TraceIdLow: 0x42, TraceIdHigh: 0x1, SpanId: id, OperationName: "op", StartTime: now.UnixMicro(), Duration: 5000,
		Tags: []*thriftjaeger.Tag{{Key: "hot", VType: thriftjaeger.TagType_BOOL, VBool: &yes}},
	}
}

func zipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

var oldTrace = span.TraceID{7: 1, 15: 0x42}

func TestJaegerThrift(t *testing.T) {
	r := newRig(t, nil)
	r.run(t)
	z, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	defer z.Close()
	for i, c := range []struct {
		pack   func([]byte) []byte
		header []string
	}{
		{bytes.Clone, []string{"Content-Type", "application/x-thrift"}},
		{bytes.Clone, []string{"Content-Type", "application/vnd.apache.thrift.binary; charset=x"}},
		{zipped, []string{"Content-Type", "application/x-thrift", "Content-Encoding", "gzip"}},
		{func(b []byte) []byte { return z.EncodeAll(b, nil) }, []string{"Content-Type", "application/x-thrift", "Content-Encoding", "zstd"}},
	} {
		code, text, _ := r.post(t, thriftSetting, "/api/traces?format=jaeger.thrift", c.pack(thriftBody(t, thriftSpan(int64(i+1)))), c.header...)
		require.Equal(t, http.StatusAccepted, code, text)
	}
	got := r.trace(t, oldTrace)
	require.Len(t, got.Spans, 4)
	require.Equal(t, "old", got.Resources[0].Service)
	require.Equal(t, "true", attr(got.Spans[0].Attrs, "hot"))
	require.EqualValues(t, 5*time.Millisecond, got.Spans[0].Duration())
	require.EqualValues(t, 4, r.book(protoJaegerThrift).Stored)
	r.balanced(t)
}

// TestBadBodies: who sends what cannot be read hears why, and nothing else is harmed.
func TestBadBodies(t *testing.T) {
	r := newRig(t, func(c *Config, _ *Deps) { c.Receivers.MaxRequestBytes = 64 << 10 })
	r.run(t)
	good := thriftBody(t, thriftSpan(1))
	thriftType := []string{"Content-Type", "application/x-thrift"}
	jsonType := []string{"Content-Type", "application/json"}
	for _, c := range []struct {
		name, setting, path string
		body                []byte
		header              []string
		code                int
		says                string
	}{
		{"unknown thrift type", thriftSetting, "/api/traces", append([]byte{0x77, 0, 9}, good...), thriftType, 400, "malformed request: jaeger_thrift (139 bytes): Unknown data type 119"},
		{"thrift cut short", thriftSetting, "/api/traces", good[:len(good)/2], thriftType, 400, "jaeger_thrift"},
		{"no thrift", thriftSetting, "/api/traces", []byte("hello"), thriftType, 400, "jaeger_thrift"},
		{"endless list", thriftSetting, "/api/traces", []byte{0x0f, 0, 2, 0x0c, 0x7f, 0xff, 0xff, 0xff}, thriftType, 400, "size"},
		{"no type", thriftSetting, "/api/traces", good, nil, 415, "content type"},
		{"json for thrift", thriftSetting, "/api/traces", good, jsonType, 415, "application/json"},
		{"unknown encoding", thriftSetting, "/api/traces", good, append(thriftType[:2:2], "Content-Encoding", "br"), 415, "want gzip"},
		{"not gzip", thriftSetting, "/api/traces", good, append(thriftType[:2:2], "Content-Encoding", "gzip"), 400, "gzip"},
		{"bomb", thriftSetting, "/api/traces", zipped(make([]byte, 1<<20)), append(thriftType[:2:2], "Content-Encoding", "gzip"), 413, "tracing.receivers.max_request_bytes"},
		{"too large", zipkinSetting, "/api/v2/spans", make([]byte, 1<<20), jsonType, 413, "tracing.receivers.max_request_bytes"},
		{"no json", zipkinSetting, "/api/v2/spans", []byte(`[{"id":7}]`), jsonType, 400, "zipkin"},
		{"zipkin id", zipkinSetting, "/api/v2/spans", []byte(`[{"id":"xyz","traceId":"1"}]`), jsonType, 400, "zipkin"},
		{"zero ids", thriftSetting, "/api/traces", thriftBody(t, &thriftjaeger.Span{OperationName: "x"}), thriftType, 400, "trace id or span id"},
		{"elsewhere", zipkinSetting, "/api/v3/spans", nil, jsonType, 404, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, text, _ := r.post(t, c.setting, c.path, c.body, c.header...)
			require.Equal(t, c.code, code, text)
			require.Contains(t, text, c.says)
		})
	}
	code, text, _ := r.post(t, thriftSetting, "/api/traces", good, thriftType...)
	require.Equal(t, http.StatusAccepted, code, text)
	require.Zero(t, r.flight.held.Load())
	r.balanced(t)
}

func TestZipkin(t *testing.T) {
	r := newRig(t, nil)
	r.run(t)
	v2 := fmt.Sprintf(`[{"traceId":"10000000000000042","id":"1","name":"get","kind":"SERVER","timestamp":%d,"duration":5000,
		"localEndpoint":{"serviceName":"zip"},"tags":{"http.path":"/"},"annotations":[{"timestamp":%d,"value":"cached"}]}]`, now.UnixMicro(), now.UnixMicro())
	v1 := fmt.Sprintf(`[{"traceId":"00000000000000010000000000000042","id":"0000000000000002","name":"old","timestamp":%d,"duration":5000,
		"annotations":[{"timestamp":%d,"value":"sr","endpoint":{"serviceName":"zip","ipv4":"10.0.0.1"}}]}]`, now.UnixMicro(), now.UnixMicro())
	for path, body := range map[string]string{"/api/v2/spans": v2, "/api/v1/spans": v1} {
		code, text, _ := r.post(t, zipkinSetting, path, []byte(body), "Content-Type", "application/json")
		require.Equal(t, http.StatusAccepted, code, "%s %s", path, text)
	}
	got := r.trace(t, oldTrace)
	require.Len(t, got.Spans, 2)
	for _, s := range got.Spans {
		require.Equal(t, "zip", got.Resources[s.Resource].Service)
		require.Equal(t, span.KindServer, s.Kind)
		if s.Name == "get" {
			require.Equal(t, "/", attr(s.Attrs, "http.path"))
			require.Len(t, s.Events, 1)
		}
	}
	r.balanced(t)
}

// collectorClient sends as Jaeger agents do.
func (r *rig) collectorClient(t *testing.T) api_v2.CollectorServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(r.Addr(grpcSetting).String(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(collectorCodec{encoding.GetCodecV2("proto")})))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return api_v2.NewCollectorServiceClient(conn)
}

func TestJaegerGRPC(t *testing.T) {
	r := newRig(t, nil)
	r.run(t)
	client := r.collectorClient(t)
	ctx := context.Background()
	post := func(id uint64, options ...grpc.CallOption) error {
		_, err := client.PostSpans(ctx, &api_v2.PostSpansRequest{Batch: model.Batch{
			Process: &model.Process{ServiceName: "agent"},
			Spans: []*model.Span{{
				TraceID: model.NewTraceID(1, 0x42), SpanID: model.NewSpanID(id), OperationName: "op", StartTime: now, Duration: 5 * time.Millisecond,
				Tags: []model.KeyValue{model.Bool("hot", true)},
			}},
		}}, options...)
		return err
	}
	require.NoError(t, post(1))
	require.NoError(t, post(2, grpc.UseCompressor("gzip")))
	got := r.trace(t, oldTrace)
	require.Len(t, got.Spans, 2)
	require.Equal(t, "agent", got.Resources[0].Service)
	err := post(0)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	require.ErrorContains(t, err, "trace id or span id")
	_, err = client.PostSpans(ctx, &api_v2.PostSpansRequest{})
	require.NoError(t, err)
	require.NoError(t, r.store.Close())
	require.Equal(t, codes.Unavailable, status.Code(post(3)))
	r.balanced(t)
}

// TestReceiverRetry: 503 with Retry-After where sending again may help.
func TestReceiverRetry(t *testing.T) {
	r := newRig(t, nil)
	r.run(t)
	require.NoError(t, r.store.Close())
	code, text, header := r.post(t, thriftSetting, "/api/traces", thriftBody(t, thriftSpan(1)), "Content-Type", "application/x-thrift")
	require.Equal(t, http.StatusServiceUnavailable, code, text)
	require.NotEmpty(t, header.Get("Retry-After"))
}

func TestQueryDoor(t *testing.T) {
	r := newRig(t, nil)
	r.Answer(API{HTTP: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("yes")) })})
	r.run(t)
	code, text, _ := r.post(t, "tracing.query.http.endpoint", "/", nil)
	require.Equal(t, 200, code)
	require.Equal(t, "yes", text)
	require.Nil(t, r.Addr("tracing.query.grpc.endpoint"), "nobody answers")
}

// TestTakenPort names the setting, and leaves no listener behind.
func TestTakenPort(t *testing.T) {
	r := newRig(t, nil)
	r.run(t)
	other := newRig(t, func(c *Config, _ *Deps) { c.Receivers.Zipkin.Endpoint = r.Addr(zipkinSetting).String() })
	err := other.Open(context.Background())
	require.ErrorContains(t, err, "tracing.receivers.zipkin.endpoint")
	require.Empty(t, other.doors)
}

func TestConfigFaults(t *testing.T) {
	require.True(t, strings.HasPrefix(faults(func(c *Config) { c.Limits.MaxSpansPerSecond = 20_000 }), "limits.spans_burst"))
	require.Contains(t, faults(func(c *Config) { c.Receivers.Zipkin.Endpoint = "9411" }), "receivers.zipkin.endpoint")
	require.Contains(t, faults(func(c *Config) { c.TLS.CertFile = "x" }), "tls.key_file")
	require.Contains(t, faults(func(c *Config) { c.Limits.MaxInFlightBytes = 1 }), "limits.max_in_flight_bytes")
	require.Empty(t, faults(func(*Config) {}))
}
