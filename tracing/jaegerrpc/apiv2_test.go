package jaegerrpc

import (
	"context"
	"testing"
	"time"

	gogoproto "github.com/gogo/protobuf/proto"
	"github.com/jaegertracing/jaeger-idl/model/v1"
	"github.com/jaegertracing/jaeger-idl/proto-gen/api_v2"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// TestRegistriesLiveTogether is about init: a name registered twice ends the process.
func TestRegistriesLiveTogether(t *testing.T) {
	require.NotNil(t, gogoproto.MessageType("jaeger.api_v2.Span"), "api_v2 is gogo's")
	for _, name := range []string{
		"jaeger/api_v3/query_service.proto", "jaeger/storage/v2/trace_storage.proto",
		"jaeger/api_v2/metrics/metricsquery.proto", "opentelemetry/proto/trace/v1/trace.proto",
	} {
		_, err := protoregistry.GlobalFiles.FindFileByPath(name)
		require.NoError(t, err)
	}
}

func TestAPIv2Traces(t *testing.T) {
	client := api_v2.NewQueryServiceClient(dial(t, newServer(t, nil)))
	ctx := t.Context()

	chunks, err := all(client.GetTrace(ctx, &api_v2.GetTraceRequest{TraceID: model.NewTraceID(0, 0xab)}))
	require.NoError(t, err)
	require.Len(t, chunks, 1)
	spans := make(map[string]model.Span)
	for _, s := range chunks[0].Spans {
		spans[s.OperationName] = s
	}
	require.Len(t, spans, 3)
	call := spans["Größe <lesen>"]
	require.Equal(t, model.NewTraceID(0, 0xab), call.TraceID)
	require.Equal(t, model.NewSpanID(1), call.ParentSpanID())
	require.Equal(t, "kiosk/größe", call.Process.ServiceName, "each span brings its process")
	require.Equal(t, noon.Add(5*time.Millisecond), call.StartTime.UTC())
	require.Equal(t, 20*time.Millisecond, call.Duration)

	_, err = all(client.GetTrace(ctx, &api_v2.GetTraceRequest{TraceID: model.NewTraceID(0, 404)}))
	require.Equal(t, codes.NotFound, status.Code(err))
	require.ErrorContains(t, err, "trace not found")
	_, err = all(client.GetTrace(ctx, &api_v2.GetTraceRequest{}))
	require.Equal(t, codes.InvalidArgument, status.Code(err))

	// What Kiali sends, and a search without any bound.
	for _, q := range []*api_v2.TraceQueryParameters{
		{ServiceName: "frontend", StartTimeMin: noon, StartTimeMax: noon.Add(time.Hour), DurationMin: time.Millisecond, SearchDepth: 10},
		{Tags: map[string]string{"error": "true"}},
		{Tags: map[string]string{"http.status": "200", "http.route": "/cart"}},
	} {
		chunks, err = all(client.FindTraces(ctx, &api_v2.FindTracesRequest{Query: q}))
		require.NoError(t, err)
		require.Len(t, chunks, 1)
		require.Len(t, chunks[0].Spans, 3, "a trace comes whole")
	}
	chunks, err = all(client.FindTraces(ctx, &api_v2.FindTracesRequest{Query: &api_v2.TraceQueryParameters{ServiceName: "nobody"}}))
	require.NoError(t, err)
	require.Empty(t, chunks)
	_, err = all(client.FindTraces(ctx, &api_v2.FindTracesRequest{}))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
	_, err = all(client.FindTraces(ctx, &api_v2.FindTracesRequest{Query: &api_v2.TraceQueryParameters{StartTimeMin: noon, StartTimeMax: noon.Add(-1)}}))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

// Quirk 16: all tags are of one span. The shop has one span with the route and another
// that is retried.
func TestTagsAreOfOneSpan(t *testing.T) {
	client := api_v2.NewQueryServiceClient(dial(t, newServer(t, nil)))
	chunks, err := all(client.FindTraces(t.Context(), &api_v2.FindTracesRequest{Query: &api_v2.TraceQueryParameters{
		Tags: map[string]string{"http.route": "/cart", "retried": "true"},
	}}))
	require.NoError(t, err)
	require.Empty(t, chunks)
}

// Quirk 11.
func TestOddTraceComesWhole(t *testing.T) {
	client := api_v2.NewQueryServiceClient(dial(t, newServer(t, nil)))
	chunks, err := all(client.GetTrace(t.Context(), &api_v2.GetTraceRequest{TraceID: model.NewTraceID(0xff<<56, 1)}))
	require.NoError(t, err)
	require.Len(t, chunks, 1)
	require.Len(t, chunks[0].Spans, 5)
}

func TestAPIv2Lists(t *testing.T) {
	client := api_v2.NewQueryServiceClient(dial(t, newServer(t, nil)))
	ctx := t.Context()

	services, err := client.GetServices(ctx, &api_v2.GetServicesRequest{})
	require.NoError(t, err)
	require.Equal(t, []string{"", "frontend", "kiosk/größe", "odd"}, services.Services)

	operations, err := client.GetOperations(ctx, &api_v2.GetOperationsRequest{Service: "kiosk/größe"})
	require.NoError(t, err)
	require.Equal(t, []string{"Größe <lesen>", "plain"}, operations.OperationNames)
	require.Equal(t, []*api_v2.Operation{{Name: "Größe <lesen>", SpanKind: "client"}, {Name: "plain"}}, operations.Operations)
	operations, err = client.GetOperations(ctx, &api_v2.GetOperationsRequest{Service: "kiosk/größe", SpanKind: "server"})
	require.NoError(t, err)
	require.Empty(t, operations.Operations)
	_, err = client.GetOperations(ctx, &api_v2.GetOperationsRequest{})
	require.Equal(t, codes.InvalidArgument, status.Code(err))

	links, err := client.GetDependencies(ctx, &api_v2.GetDependenciesRequest{StartTime: noon, EndTime: noon.Add(time.Hour)})
	require.NoError(t, err)
	require.Equal(t, []model.DependencyLink{{Parent: "frontend", Child: "kiosk/größe", CallCount: 7}}, links.Dependencies)
	_, err = client.GetDependencies(ctx, &api_v2.GetDependenciesRequest{EndTime: noon})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestArchive(t *testing.T) {
	ctx := t.Context()
	request := &api_v2.ArchiveTraceRequest{TraceID: model.NewTraceID(1, 2)}
	client := api_v2.NewQueryServiceClient(dial(t, newServer(t, nil)))
	_, err := client.ArchiveTrace(ctx, request)
	require.Equal(t, codes.Unimplemented, status.Code(err))

	var archived span.TraceID
	client = api_v2.NewQueryServiceClient(dial(t, newServer(t, func(d *Deps) {
		d.Archive = func(_ context.Context, id span.TraceID, _ spanstore.Window) error {
			archived = id
			return nil
		}
	})))
	_, err = client.ArchiveTrace(ctx, request)
	require.NoError(t, err)
	require.Equal(t, span.TraceID{7: 1, 15: 2}, archived)
}
