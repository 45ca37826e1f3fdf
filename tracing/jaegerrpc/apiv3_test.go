package jaegerrpc

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/ptrace"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-dev/weir/tracing/proto/apiv3"
	"github.com/weir-dev/weir/tracing/proto/expressionv1"
)

// spanNames are those of the spans in TracesData, which must be of one trace each.
func spanNames(t *testing.T, chunks []*tracev1.TracesData) []string {
	t.Helper()
	var found []string
	for _, chunk := range chunks {
		var id []byte
		for _, r := range chunk.ResourceSpans {
			for _, scope := range r.ScopeSpans {
				for _, s := range scope.Spans {
					if id == nil {
						id = s.TraceId
					}
					require.Equal(t, id, s.TraceId, "a chunk is of one trace")
					found = append(found, s.Name)
				}
			}
		}
		require.NotNil(t, id, "a chunk is never empty")
	}
	return found
}

func queryV3() *apiv3.TraceQueryParameters {
	return &apiv3.TraceQueryParameters{
		StartTimeMin: timestamppb.New(noon), StartTimeMax: timestamppb.New(noon.Add(time.Hour)),
	}
}

func TestAPIv3(t *testing.T) {
	client := apiv3.NewQueryServiceClient(dial(t, newServer(t, nil)))
	ctx := t.Context()
	whole := []string{"GET /cart", "Größe <lesen>", "plain"}

	for _, id := range []string{"ab", "00000000000000ab", "000000000000000000000000000000AB"} {
		chunks, err := all(client.GetTrace(ctx, &apiv3.GetTraceRequest{TraceId: id}))
		require.NoError(t, err)
		require.ElementsMatch(t, whole, spanNames(t, chunks))
	}
	_, err := all(client.GetTrace(ctx, &apiv3.GetTraceRequest{TraceId: "404"}))
	require.Equal(t, codes.NotFound, status.Code(err))
	for _, bad := range []string{"", "0", "x", "000000000000000000000000000000abc"} {
		_, err = all(client.GetTrace(ctx, &apiv3.GetTraceRequest{TraceId: bad}))
		require.Equal(t, codes.InvalidArgument, status.Code(err), bad)
	}

	q := queryV3()
	q.ServiceName, q.OperationName, q.Attributes = "frontend", "GET /cart", map[string]string{"http.status": "200"}
	q.DurationMin, q.DurationMax = durationpb.New(time.Millisecond), durationpb.New(time.Second)
	chunks, err := all(client.FindTraces(ctx, &apiv3.FindTracesRequest{Query: q}))
	require.NoError(t, err)
	require.ElementsMatch(t, whole, spanNames(t, chunks))
	q.OperationName = "PUT /cart"
	chunks, err = all(client.FindTraces(ctx, &apiv3.FindTracesRequest{Query: q}))
	require.NoError(t, err)
	require.Empty(t, chunks)

	q = queryV3()
	q.ServiceName = "frontend"
	summaries, err := all(client.FindTraceSummaries(ctx, &apiv3.FindTraceSummariesRequest{Query: q}))
	require.NoError(t, err)
	require.Len(t, summaries, 1)
	require.Len(t, summaries[0].Summaries, 1)
	sum := summaries[0].Summaries[0]
	require.Equal(t, "000000000000000000000000000000ab", sum.TraceId)
	require.Equal(t, "frontend GET /cart", sum.RootServiceName+" "+sum.RootOperationName)
	require.Equal(t, []int32{3, 1, 1}, []int32{sum.SpanCount, sum.ErrorSpanCount, sum.OrphanSpanCount})
	require.Equal(t, []uint64{at(0), at(30 * time.Millisecond)}, []uint64{sum.MinStartTimeUnixNano, sum.MaxEndTimeUnixNano})
	require.Len(t, sum.Services, 2)

	services, err := client.GetServices(ctx, &apiv3.GetServicesRequest{})
	require.NoError(t, err)
	require.Contains(t, services.Services, "kiosk/größe")
	operations, err := client.GetOperations(ctx, &apiv3.GetOperationsRequest{Service: "frontend", SpanKind: "SERVER"})
	require.NoError(t, err)
	require.Len(t, operations.Operations, 1)
	require.Equal(t, "server", operations.Operations[0].SpanKind)
	operations, err = client.GetOperations(ctx, &apiv3.GetOperationsRequest{Service: "frontend", SpanKind: "whatever"})
	require.NoError(t, err)
	require.Empty(t, operations.Operations)

	links, err := client.GetDependencies(ctx, &apiv3.GetDependenciesRequest{StartTime: timestamppb.New(noon), EndTime: timestamppb.New(noon)})
	require.NoError(t, err)
	require.Len(t, links.Dependencies, 1)
	_, err = client.GetDependencies(ctx, &apiv3.GetDependenciesRequest{})
	require.Equal(t, codes.InvalidArgument, status.Code(err))

	_, err = all(client.FindSpans(ctx, &apiv3.FindSpansRequest{}))
	require.Equal(t, codes.Unimplemented, status.Code(err))
}

func TestAPIv3Capabilities(t *testing.T) {
	client := apiv3.NewCapabilitiesClient(dial(t, newServer(t, nil)))
	got, err := client.GetCapabilities(t.Context(), &apiv3.GetCapabilitiesRequest{})
	require.NoError(t, err)
	require.True(t, got.Search.WithoutServiceName)
	require.True(t, got.Search.SameSpanConjunction)
	require.False(t, got.Search.Paginated)
	require.Nil(t, got.Search.Filter)
}

func TestAPIv3Refuses(t *testing.T) {
	client := apiv3.NewQueryServiceClient(dial(t, newServer(t, nil)))
	eq := &expressionv1.Call{Op: "eq"}
	for name, change := range map[string]func(*apiv3.TraceQueryParameters){
		"no times":          func(q *apiv3.TraceQueryParameters) { q.StartTimeMin, q.StartTimeMax = nil, nil },
		"Go's zero time":    func(q *apiv3.TraceQueryParameters) { q.StartTimeMin = timestamppb.New(time.Time{}) },
		"start after end":   func(q *apiv3.TraceQueryParameters) { q.StartTimeMax = timestamppb.New(noon.Add(-1)) },
		"negative duration": func(q *apiv3.TraceQueryParameters) { q.DurationMin = durationpb.New(-1) },
		"durations cross": func(q *apiv3.TraceQueryParameters) {
			q.DurationMin, q.DurationMax = durationpb.New(2), durationpb.New(1)
		},
		"pagination":         func(q *apiv3.TraceQueryParameters) { q.Pagination = &apiv3.Pagination{PageSize: 1} },
		"filter and service": func(q *apiv3.TraceQueryParameters) { q.Filter, q.ServiceName = eq, "frontend" },
		"many attributes": func(q *apiv3.TraceQueryParameters) {
			q.Attributes = make(map[string]string)
			for i := range 65 {
				q.Attributes[strconv.Itoa(i)] = ""
			}
		},
		"filter without operand": func(q *apiv3.TraceQueryParameters) { q.Filter = eq },
	} {
		t.Run(name, func(t *testing.T) {
			q := queryV3()
			change(q)
			_, err := all(client.FindTraces(t.Context(), &apiv3.FindTracesRequest{Query: q}))
			require.Equal(t, codes.InvalidArgument, status.Code(err), "%v", err)
		})
	}
	_, err := all(client.FindTraces(t.Context(), &apiv3.FindTracesRequest{}))
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

func TestAdjustUnlessRaw(t *testing.T) {
	client := apiv3.NewQueryServiceClient(dial(t, newServer(t, func(d *Deps) {
		d.Adjust = func(traces ptrace.Traces) {
			for _, r := range traces.ResourceSpans().All() {
				for _, scope := range r.ScopeSpans().All() {
					for _, s := range scope.Spans().All() {
						s.SetName("adjusted")
					}
				}
			}
		}
	})))
	chunks, err := all(client.GetTrace(t.Context(), &apiv3.GetTraceRequest{TraceId: "ab"}))
	require.NoError(t, err)
	require.Equal(t, []string{"adjusted", "adjusted", "adjusted"}, spanNames(t, chunks))
	chunks, err = all(client.GetTrace(t.Context(), &apiv3.GetTraceRequest{TraceId: "ab", RawTraces: true}))
	require.NoError(t, err)
	require.Contains(t, spanNames(t, chunks), "plain")
}
