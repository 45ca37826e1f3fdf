package jaegerrpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/jaegertracing/jaeger-idl/proto-gen/api_v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // clients may send it
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/weir-dev/weir/tracing/proto/apiv2metrics"
	"github.com/weir-dev/weir/tracing/proto/apiv3"
	"github.com/weir-dev/weir/tracing/proto/storagev2"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Limits bound what clients can make the server do. Zero fields are the defaults.
type Limits struct {
	// MaxTraces of one answer; more are not sent, and a note says so. 1,500 by
	// default: the largest that the Jaeger UI offers.
	MaxTraces int
	// Timeout of a query, also where the client grants more. 1m by default: Grafana's
	// data sources give up after 30s, Kiali after 1m.
	Timeout time.Duration
	// Concurrency of queries over all clients; further ones wait until they time out.
	// 16 by default: unmeasured, each holds at least one trace in memory.
	Concurrency int
	// MaxRequest in bytes. 16 MiB by default: a Jaeger in front passes on the batches
	// of its own receivers, whose limit is gRPC's 4 MiB compressed.
	MaxRequest int
	// Streams at once on one connection. 100 by default, as gRPC's authors advise.
	Streams uint32
}

func (l Limits) withDefaults() Limits {
	if l.MaxTraces == 0 {
		l.MaxTraces = 1500
	}
	if l.Timeout == 0 {
		l.Timeout = time.Minute
	}
	if l.Concurrency == 0 {
		l.Concurrency = 16
	}
	if l.MaxRequest == 0 {
		l.MaxRequest = 16 << 20
	}
	if l.Streams == 0 {
		l.Streams = 100
	}
	return l
}

// Deps of [New]. Reader and Log are required.
type Deps struct {
	Reader spanstore.Reader
	// Export takes an ExportTraceServiceRequest, which is the callee's from then on.
	// Errors that carry a gRPC status pass as they are, those with Retryable() true as
	// UNAVAILABLE. nil: the service is not offered.
	Export func(ctx context.Context, body []byte) (rejected int64, message string, err error)
	// Archive keeps a trace for good; nil: UNIMPLEMENTED.
	Archive func(ctx context.Context, id span.TraceID, hint spanstore.Window) error
	// Adjust corrects a trace before people look at it; nil: it stays as stored.
	Adjust func(ptrace.Traces)
	// Metrics answers jaeger.api_v2.metrics; nil: the service is not offered.
	Metrics apiv2metrics.MetricsQueryServiceServer
	// Also registers services of others on the same port; nil: none.
	Also func(*grpc.Server)

	Limits     Limits
	Log        *slog.Logger
	Registerer prometheus.Registerer // may be nil
}

// Server holds the services. Its methods may be called by many at once.
type Server struct {
	deps    Deps
	limits  Limits
	places  chan struct{} // one for each running query
	health  *health.Server
	metrics *metrics
}

// New checks deps and starts nothing.
func New(deps Deps) (*Server, error) {
	if deps.Reader == nil || deps.Log == nil {
		return nil, errors.New("jaeger services: a reader and a logger are required")
	}
	limits := deps.Limits.withDefaults()
	if limits.MaxTraces < 0 || limits.Timeout < 0 || limits.Concurrency < 0 || limits.MaxRequest < 0 {
		return nil, fmt.Errorf("jaeger services: got limits %+v, want none below 0", deps.Limits)
	}
	return &Server{
		deps:    deps,
		limits:  limits,
		places:  make(chan struct{}, limits.Concurrency),
		health:  health.NewServer(),
		metrics: newMetrics(deps.Registerer),
	}, nil
}

// Options are those that a [grpc.Server] needs for [Server.Register].
func (s *Server) Options() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(codec{}),
		grpc.MaxRecvMsgSize(s.limits.MaxRequest),
		grpc.MaxConcurrentStreams(s.limits.Streams),
		grpc.ConnectionTimeout(20 * time.Second), // for the handshake; grpc-go's default is 2 minutes
		// A dead client is noticed after 1m20s, so that its query ends.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		// Jaeger's own clients ping every 10 seconds at most.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.ChainUnaryInterceptor(s.unary),
		grpc.ChainStreamInterceptor(s.stream),
	}
}

// Register adds the services, health and reflection to a server made with
// [Server.Options].
func (s *Server) Register(g *grpc.Server) {
	if s.deps.Also != nil {
		s.deps.Also(g)
	}
	api_v2.RegisterQueryServiceServer(g, apiV2{s})
	apiv3.RegisterQueryServiceServer(g, apiV3{Server: s})
	apiv3.RegisterCapabilitiesServer(g, apiV3Capabilities{})
	storagev2.RegisterTraceReaderServer(g, storageV2{Server: s})
	storagev2.RegisterDependencyReaderServer(g, storageV2Dependencies{Server: s})
	storagev2.RegisterCapabilitiesServer(g, storageV2Capabilities{})
	if s.deps.Export != nil {
		g.RegisterService(&exportDesc, s)
		// The name that Jaeger's remote storage gives its writer in health checks.
		s.health.SetServingStatus("jaeger.storage.v2.TraceWriter", grpc_health_v1.HealthCheckResponse_SERVING)
	}
	if s.deps.Metrics != nil {
		apiv2metrics.RegisterMetricsQueryServiceServer(g, s.deps.Metrics)
	}
	for name := range g.GetServiceInfo() {
		s.health.SetServingStatus(name, grpc_health_v1.HealthCheckResponse_SERVING)
	}
	grpc_health_v1.RegisterHealthServer(g, s.health)
	reflection.Register(g)
}

// drain bounds how long running queries may go on when the process ends.
const drain = 10 * time.Second

// Serve answers on l until ctx ends, lets running queries finish for up to 10 seconds,
// and returns nil. Options are further ones, such as [grpc.Creds].
func (s *Server) Serve(ctx context.Context, l net.Listener, options ...grpc.ServerOption) error {
	g := grpc.NewServer(append(s.Options(), options...)...)
	s.Register(g)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.health.Shutdown() // load balancers look elsewhere
		hard := time.AfterFunc(drain, g.Stop)
		defer hard.Stop()
		g.GracefulStop()
	})
	err := g.Serve(l)
	if stop() { // ctx has not ended
		g.Stop()
		return fmt.Errorf("serve jaeger gRPC on %s: %w", l.Addr(), err)
	}
	<-stopped
	return nil
}
