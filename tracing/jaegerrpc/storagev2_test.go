package jaegerrpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jaegertracing/jaeger-idl/proto-gen/api_v2"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-dev/weir/tracing/proto/storagev2"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

func TestStorageV2(t *testing.T) {
	client := storagev2.NewTraceReaderClient(dial(t, newServer(t, nil)))
	ctx := t.Context()
	shopID, oddID := shop().Spans[0].TraceID, odd().Spans[0].TraceID

	// Two of three are there; the times are what a Jaeger sends for none.
	none := timestamppb.New(time.Time{})
	chunks, err := all(client.GetTraces(ctx, &storagev2.GetTracesRequest{Query: []*storagev2.GetTraceParams{
		{TraceId: oddID[:], StartTime: none, EndTime: none},
		{TraceId: make([]byte, 16)},
		{TraceId: shopID[:]},
	}}))
	require.NoError(t, err)
	require.Len(t, chunks, 2)
	require.Len(t, spanNames(t, chunks), 5+3)
	_, err = all(client.GetTraces(ctx, &storagev2.GetTracesRequest{Query: []*storagev2.GetTraceParams{{TraceId: shopID[:8]}}}))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = all(client.GetTraces(ctx, &storagev2.GetTracesRequest{Query: make([]*storagev2.GetTraceParams, 1501)}))
	require.Equal(t, codes.InvalidArgument, status.Code(err))

	q := &storagev2.TraceQueryParameters{StartTimeMin: none, StartTimeMax: none, Attributes: []*storagev2.KeyValue{
		{Key: "http.status", Value: &storagev2.AnyValue{Value: &storagev2.AnyValue_IntValue{IntValue: 200}}},
		{Key: "http.route", Value: &storagev2.AnyValue{Value: &storagev2.AnyValue_StringValue{StringValue: "/cart"}}},
	}}
	chunks, err = all(client.FindTraces(ctx, &storagev2.FindTracesRequest{Query: q}))
	require.NoError(t, err)
	require.Len(t, spanNames(t, chunks), 3)
	ids, err := client.FindTraceIDs(ctx, &storagev2.FindTraceIDsRequest{Query: q})
	require.NoError(t, err)
	require.Len(t, ids.TraceIds, 1)
	require.Equal(t, shopID[:], ids.TraceIds[0].TraceId)
	summaries, err := all(client.FindTraceSummaries(ctx, &storagev2.FindTraceSummariesRequest{Query: q}))
	require.NoError(t, err)
	require.Len(t, summaries, 1)
	require.Equal(t, shopID[:], summaries[0].Summaries[0].TraceId)
	require.EqualValues(t, 3, summaries[0].Summaries[0].SpanCount)

	services, err := client.GetServices(ctx, &storagev2.GetServicesRequest{})
	require.NoError(t, err)
	require.Contains(t, services.Services, "odd")
	operations, err := client.GetOperations(ctx, &storagev2.GetOperationsRequest{Service: "kiosk/größe"})
	require.NoError(t, err)
	require.Equal(t, []string{"client", ""}, []string{operations.Operations[0].SpanKind, operations.Operations[1].SpanKind})
	_, err = all(client.FindSpans(ctx, &storagev2.FindSpansRequest{}))
	require.Equal(t, codes.Unimplemented, status.Code(err))
	_, err = all(client.FindTraces(ctx, &storagev2.FindTracesRequest{}))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestStorageV2DependenciesAndCapabilities(t *testing.T) {
	conn := dial(t, newServer(t, nil))
	links, err := storagev2.NewDependencyReaderClient(conn).GetDependencies(t.Context(), &storagev2.GetDependenciesRequest{})
	require.NoError(t, err)
	require.EqualValues(t, 7, links.Dependencies[0].CallCount)
	got, err := storagev2.NewCapabilitiesClient(conn).GetCapabilities(t.Context(), &storagev2.GetCapabilitiesRequest{})
	require.NoError(t, err)
	require.True(t, got.Search.WithoutServiceName)
	require.True(t, got.Search.SameSpanConjunction)
	require.Nil(t, got.Search.Filter)
}

// A storage that has one page says so by its capabilities, serves the first, and
// refuses to go on.
func TestPagination(t *testing.T) {
	client := storagev2.NewTraceReaderClient(dial(t, newServer(t, nil)))
	ask := func(p *storagev2.Pagination, depth int32) (*storagev2.FindTraceIDsResponse, error) {
		return client.FindTraceIDs(t.Context(), &storagev2.FindTraceIDsRequest{Query: &storagev2.TraceQueryParameters{Pagination: p, SearchDepth: depth}})
	}
	got, err := ask(&storagev2.Pagination{PageSize: 1}, 0)
	require.NoError(t, err)
	require.Len(t, got.TraceIds, 1)
	require.Empty(t, got.NextPageToken)
	for _, bad := range []*storagev2.Pagination{{}, {PageSize: 1, PageToken: "x"}} {
		_, err = ask(bad, 0)
		require.Equal(t, codes.InvalidArgument, status.Code(err))
	}
	_, err = ask(&storagev2.Pagination{PageSize: 1}, 1)
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

// Quirk 12. The client's limit is gRPC's 4 MiB, which a trace of 20 MB does not fit.
func TestLargeTraceComesInChunks(t *testing.T) {
	const spans = 60_000
	big := &span.Batch{Resources: []span.Resource{resource("big"), resource("bigger")}, Scopes: []span.Scope{{}}}
	for i := range spans {
		big.Spans = append(big.Spans, span.Span{
			Resource: i % 2, TraceID: span.TraceID{15: 1}, ID: span.ID{5: byte(i >> 16), 6: byte(i >> 8), 7: byte(i)}, Name: fmt.Sprint(i),
			Start: at(0), End: at(time.Second),
			Attrs: []span.Attr{{Key: "text", Value: span.StringValue(strings.Repeat("x", 300))}},
		})
	}
	small := shop()
	conn := dial(t, newServer(t, func(d *Deps) {
		d.Reader = &memory{traces: []*span.Batch{big, small}}
	}))
	chunks, err := all(storagev2.NewTraceReaderClient(conn).FindTraces(t.Context(), &storagev2.FindTracesRequest{Query: &storagev2.TraceQueryParameters{}}))
	require.NoError(t, err)
	require.Greater(t, len(chunks), 5)
	found := spanNames(t, chunks)
	require.Len(t, found, spans+3)
	seen := make(map[string]bool)
	for _, name := range found {
		seen[name] = true
	}
	require.Len(t, seen, spans+3, "each span once")
	require.Len(t, spanNames(t, chunks[len(chunks)-1:]), 3, "chunks of one trace follow each other")

	got := 0
	old, err := all(api_v2.NewQueryServiceClient(conn).FindTraces(t.Context(), &api_v2.FindTracesRequest{Query: &api_v2.TraceQueryParameters{}}))
	require.NoError(t, err)
	for _, chunk := range old {
		got += len(chunk.Spans)
	}
	require.Equal(t, spans+3, got)
}

func TestSearchDepthIsCapped(t *testing.T) {
	client := storagev2.NewTraceReaderClient(dial(t, newServer(t, func(d *Deps) {
		d.Limits.MaxTraces = 1
		d.Reader.(*memory).partial = "a partition is broken"
	})))
	var trailer metadata.MD
	got, err := client.FindTraceIDs(t.Context(), &storagev2.FindTraceIDsRequest{
		Query: &storagev2.TraceQueryParameters{SearchDepth: 300_000},
	}, grpc.Trailer(&trailer))
	require.NoError(t, err)
	require.Len(t, got.TraceIds, 1)
	require.Equal(t, []string{"300000 traces asked for, at most 1 are given", "a partition is broken"}, trailer.Get("weir-note"))
}

func TestExport(t *testing.T) {
	var body []byte
	var answer struct {
		rejected int64
		message  string
		err      error
	}
	conn := dial(t, newServer(t, func(d *Deps) {
		d.Export = func(_ context.Context, b []byte) (int64, string, error) {
			body = b
			return answer.rejected, answer.message, answer.err
		}
	}))
	client := ptraceotlp.NewGRPCClient(conn)
	traces, err := shop().Traces()
	require.NoError(t, err)
	want, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(traces)
	require.NoError(t, err)
	send := func() (ptraceotlp.ExportResponse, error) {
		return client.Export(t.Context(), ptraceotlp.NewExportRequestFromTraces(traces), grpc.UseCompressor(gzip.Name))
	}

	response, err := send()
	require.NoError(t, err)
	require.Equal(t, want, body, "the bytes as they came")
	require.Zero(t, response.PartialSuccess().RejectedSpans())

	answer.rejected, answer.message = 2, "2 spans have no id"
	response, err = send()
	require.NoError(t, err)
	require.EqualValues(t, 2, response.PartialSuccess().RejectedSpans())
	require.Equal(t, "2 spans have no id", response.PartialSuccess().ErrorMessage())

	for _, c := range []struct {
		err  error
		want codes.Code
	}{
		{status.Error(codes.ResourceExhausted, "full"), codes.ResourceExhausted},
		{fmt.Errorf("append: %w", passing{}), codes.Unavailable},
		{errors.New("broken"), codes.Internal},
	} {
		answer.err = c.err
		_, err = send()
		require.Equal(t, c.want, status.Code(err))
	}
}

type passing struct{}

func (passing) Error() string   { return "disk full" }
func (passing) Retryable() bool { return true }

func TestExportIsNotOfferedWithoutIntake(t *testing.T) {
	client := ptraceotlp.NewGRPCClient(dial(t, newServer(t, nil)))
	_, err := client.Export(t.Context(), ptraceotlp.NewExportRequest())
	require.Equal(t, codes.Unimplemented, status.Code(err))
}

func TestErrorsOfTheStore(t *testing.T) {
	for _, c := range []struct {
		err  error
		want codes.Code
	}{
		{errors.New("torn"), codes.Internal},
		{fmt.Errorf("look: %w", spanstore.ErrNotFound), codes.NotFound},
		{fmt.Errorf("ask: %w", context.DeadlineExceeded), codes.DeadlineExceeded},
		{context.Canceled, codes.Canceled},
		{fmt.Errorf("ask jaeger: %w", status.Error(codes.Unavailable, "gone")), codes.Unavailable},
	} {
		client := storagev2.NewTraceReaderClient(dial(t, newServer(t, func(d *Deps) { d.Reader.(*memory).err = c.err })))
		_, err := client.GetServices(t.Context(), &storagev2.GetServicesRequest{})
		require.Equal(t, c.want, status.Code(err))
	}
}
