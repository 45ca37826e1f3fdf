package jaegerrpc

import (
	"context"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/weir-dev/weir/tracing/proto/apiv2metrics"
	"github.com/weir-dev/weir/tracing/proto/apiv3"
	"github.com/weir-dev/weir/tracing/proto/storagev2"
)

func TestNewRefuses(t *testing.T) {
	_, err := New(Deps{})
	require.ErrorContains(t, err, "reader")
	deps := newServer(t, nil).deps
	deps.Limits.Concurrency = -1
	_, err = New(deps)
	require.ErrorContains(t, err, "limits")
}

func TestHealthAndReflection(t *testing.T) {
	conn := dial(t, newServer(t, nil))
	for _, service := range []string{"", "jaeger.api_v2.QueryService", "jaeger.api_v3.QueryService", "jaeger.storage.v2.TraceReader"} {
		got, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
		require.NoError(t, err, service)
		require.Equal(t, grpc_health_v1.HealthCheckResponse_SERVING, got.Status)
	}
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	for _, symbol := range []string{"jaeger.api_v3.QueryService", "jaeger.storage.v2.TraceReader"} {
		require.NoError(t, stream.Send(&grpc_reflection_v1.ServerReflectionRequest{
			MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: symbol},
		}))
		got, err := stream.Recv()
		require.NoError(t, err)
		require.NotEmpty(t, got.GetFileDescriptorResponse().GetFileDescriptorProto(), symbol)
	}
	require.NoError(t, stream.CloseSend())
	_, err = stream.Recv()
	require.Error(t, err)
}

func TestQueriesAreBounded(t *testing.T) {
	block := make(chan struct{})
	s := newServer(t, func(d *Deps) {
		d.Reader.(*memory).block = block
		d.Limits.Concurrency, d.Limits.Timeout = 1, 300*time.Millisecond
	})
	client := storagev2.NewTraceReaderClient(dial(t, s))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	_, err := client.GetServices(ctx, &storagev2.GetServicesRequest{})
	require.Equal(t, codes.DeadlineExceeded, status.Code(err), "the server's patience, not the client's")

	s.places <- struct{}{} // a query that does not end
	_, err = client.GetServices(ctx, &storagev2.GetServicesRequest{})
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	w := httptest.NewRecorder()
	s.Handler("").ServeHTTP(w, httptest.NewRequest("GET", "/api/v3/services", nil))
	require.Equal(t, 503, w.Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))

	<-s.places
	close(block)
	_, err = client.GetServices(ctx, &storagev2.GetServicesRequest{})
	require.NoError(t, err)
}

func TestPanicEndsTheCallAlone(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	client := storagev2.NewTraceReaderClient(dial(t, newServer(t, func(d *Deps) {
		d.Reader.(*memory).panics = true
		d.Registerer = registry
	})))
	_, err := client.GetServices(t.Context(), &storagev2.GetServicesRequest{})
	require.Equal(t, codes.Internal, status.Code(err))
	require.NotContains(t, err.Error(), "stranger")
	_, err = client.GetOperations(t.Context(), &storagev2.GetOperationsRequest{Service: "odd"})
	require.NoError(t, err)
	n, err := testutil.GatherAndCount(registry, "weir_tracing_rpc_calls_total")
	require.NoError(t, err)
	require.Equal(t, 2, n)
}

func TestRequestsAreBounded(t *testing.T) {
	client := apiv3.NewQueryServiceClient(dial(t, newServer(t, func(d *Deps) { d.Limits.MaxRequest = 100 })))
	_, err := client.GetOperations(t.Context(), &apiv3.GetOperationsRequest{Service: string(make([]byte, 200))})
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
}

type minStep struct {
	apiv2metrics.UnimplementedMetricsQueryServiceServer
}

func (minStep) GetMinStepDuration(context.Context, *apiv2metrics.GetMinStepDurationRequest) (*apiv2metrics.GetMinStepDurationResponse, error) {
	return &apiv2metrics.GetMinStepDurationResponse{}, nil
}

func TestMetricsService(t *testing.T) {
	client := apiv2metrics.NewMetricsQueryServiceClient(dial(t, newServer(t, func(d *Deps) { d.Metrics = minStep{} })))
	_, err := client.GetMinStepDuration(t.Context(), &apiv2metrics.GetMinStepDurationRequest{})
	require.NoError(t, err)
	_, err = client.GetLatencies(t.Context(), &apiv2metrics.GetLatenciesRequest{})
	require.Equal(t, codes.Unimplemented, status.Code(err))
}
