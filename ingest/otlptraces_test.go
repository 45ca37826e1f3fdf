package ingest

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/weir-dev/weir/internal/store"
)

// spans notes what it is given, and answers as it is told.
type spans struct {
	mu       sync.Mutex
	names    []string
	rejected int64
	err      error
}

func (s *spans) take(_ context.Context, body []byte) (int64, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, "", s.err
	}
	req := ptraceotlp.NewExportRequest()
	if err := req.UnmarshalProto(body); err != nil {
		return 0, "", err
	}
	for _, rs := range req.Traces().ResourceSpans().All() {
		s.names = append(s.names, rs.ScopeSpans().At(0).Spans().At(0).Name())
	}
	if s.rejected > 0 {
		return s.rejected, "too many", nil
	}
	return 0, "", nil
}

type fullDisk struct{ error }

func (fullDisk) Retryable() bool { return true }

func spanRequest(name string) ptraceotlp.ExportRequest {
	t := ptrace.NewTraces()
	t.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().SetName(name)
	return ptraceotlp.NewExportRequestFromTraces(t)
}

func (d *door) traceClient(t *testing.T) ptraceotlp.GRPCClient {
	conn, err := grpc.NewClient(d.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return ptraceotlp.NewGRPCClient(conn)
}

// TestOTLPTraces: spans come through the listeners of metrics as they were sent.
func TestOTLPTraces(t *testing.T) {
	got := &spans{}
	d := openDoorTo(t, got.take)
	client := d.traceClient(t)
	ctx := context.Background()
	var want []string
	for _, compressor := range []string{"", "gzip", "zstd"} {
		_, err := client.Export(ctx, spanRequest("grpc"+compressor), grpc.UseCompressor(compressor))
		require.NoError(t, err)
		want = append(want, "grpc"+compressor)
	}
	for _, media := range []string{mediaProtobuf, mediaJSON} {
		for encoding, pack := range map[string]func([]byte) []byte{"": func(b []byte) []byte { return b }, "gzip": gzipped, "zstd": zstded} {
			req := spanRequest(media + encoding)
			marshal := req.MarshalJSON
			if media == mediaProtobuf {
				marshal = req.MarshalProto
			}
			body, err := marshal()
			require.NoError(t, err)
			resp, answer := d.postTo(t, otlpTracesPath, media, encoding, pack(body))
			require.Equal(t, http.StatusOK, resp.StatusCode, "%s", answer)
			want = append(want, media+encoding)
		}
	}
	require.ElementsMatch(t, want, got.names)
	require.InDelta(t, 3, d.requests("grpc", "ok"), 0)
	require.InDelta(t, 6, d.requests("http", "ok"), 0)

	// Metrics go where they went.
	_, err := d.client(t).Export(ctx, pmetricotlp.NewExportRequestFromMetrics(otlpGauge("beside", 7)))
	require.NoError(t, err)
	require.Len(t, d.newest(t, "__name__", "beside"), 1)
}

// TestOTLPTracesAnswers: what taking spans says, the sender hears.
func TestOTLPTracesAnswers(t *testing.T) {
	got := &spans{rejected: 2}
	d := openDoorTo(t, got.take)
	client := d.traceClient(t)
	ctx := context.Background()
	body, err := spanRequest("x").MarshalProto()
	require.NoError(t, err)

	resp, err := client.Export(ctx, spanRequest("x"))
	require.NoError(t, err)
	require.EqualValues(t, 2, resp.PartialSuccess().RejectedSpans())
	require.Equal(t, "too many", resp.PartialSuccess().ErrorMessage())
	_, answer := d.postTo(t, otlpTracesPath, mediaProtobuf, "", body)
	require.NoError(t, resp.UnmarshalProto(answer))
	require.EqualValues(t, 2, resp.PartialSuccess().RejectedSpans())

	got.err = fullDisk{errors.New("disk full")}
	_, err = client.Export(ctx, spanRequest("x"))
	require.Equal(t, codes.Unavailable, status.Code(err))
	h, _ := d.postTo(t, otlpTracesPath, mediaProtobuf, "", body)
	require.Equal(t, http.StatusServiceUnavailable, h.StatusCode)
	require.NotEmpty(t, h.Header.Get("Retry-After"))

	got.err = errors.New("no ids")
	_, err = client.Export(ctx, spanRequest("x"))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	h, answer = d.postTo(t, otlpTracesPath, mediaJSON, "", []byte(`{"resourceSpans":7}`))
	require.Equal(t, http.StatusBadRequest, h.StatusCode, "%s", answer)
	for result, n := range map[string]float64{"partial": 1, "unavailable": 1, "refused": 1} {
		require.InDelta(t, n, d.requests("grpc", result), 0, result)
	}
}

// TestOTLPTracesOff: without somebody to take spans there is no door for them.
func TestOTLPTracesOff(t *testing.T) {
	d := openDoor(t, func(*Config, *store.Config) {})
	_, err := d.traceClient(t).Export(context.Background(), spanRequest("x"))
	require.Equal(t, codes.Unimplemented, status.Code(err))
	h, _ := d.postTo(t, otlpTracesPath, mediaProtobuf, "", nil)
	require.Equal(t, http.StatusNotFound, h.StatusCode)
}
