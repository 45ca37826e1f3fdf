package jaegerrpc

import (
	"context"
	"errors"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weir-dev/weir/tracing/spanstore"
)

// busyError is what a query gets that waited for its place in vain.
type busyError struct{ places int }

func (e busyError) Error() string {
	return "too many queries at once: this one found no place among " + plural(e.places, "query", "queries")
}

// admit waits for a place and bounds the time of a query. Release must be called if
// there is no error.
func (s *Server) admit(ctx context.Context) (bounded context.Context, release func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, s.limits.Timeout)
	select {
	case s.places <- struct{}{}:
		return ctx, func() { <-s.places; cancel() }, nil
	case <-ctx.Done():
		cancel()
		if errors.Is(context.Cause(ctx), context.Canceled) {
			return nil, nil, context.Canceled // by the client
		}
		return nil, nil, busyError{cap(s.places)}
	}
}

// isQuery tells what needs a place from writes, health checks and reflection.
func isQuery(method string) bool {
	return strings.HasPrefix(method, "/jaeger.")
}

func (s *Server) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (response any, err error) {
	started := time.Now()
	defer func() { err = s.ended(info.FullMethod, started, recover(), err) }()
	if isQuery(info.FullMethod) {
		var release func()
		if ctx, release, err = s.admit(ctx); err != nil {
			return nil, err
		}
		defer release()
	}
	return handler(ctx, request)
}

func (s *Server) stream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	started := time.Now()
	defer func() { err = s.ended(info.FullMethod, started, recover(), err) }()
	if !isQuery(info.FullMethod) {
		return handler(service, stream)
	}
	ctx, release, err := s.admit(stream.Context())
	if err != nil {
		return err
	}
	defer release()
	return handler(service, boundedStream{stream, ctx})
}

type boundedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s boundedStream) Context() context.Context { return s.ctx }

// ended turns the end of a call into its status and counts it. A panic ends the call
// alone: what traces hold comes from strangers.
func (s *Server) ended(method string, started time.Time, panicked any, err error) error {
	if panicked != nil {
		s.deps.Log.Error("jaeger call panicked", "method", method, "panic", panicked, "stack", string(debug.Stack()))
		err = status.Error(codes.Internal, "the call failed inside; the log has the details")
	}
	err = statusOf(err)
	code := status.Code(err)
	if code == codes.Internal && panicked == nil {
		s.deps.Log.Error("jaeger call failed", "method", method, "err", err)
	}
	s.metrics.count(method, code.String(), time.Since(started))
	return err
}

// statusOf is the gRPC status of an error.
func statusOf(err error) error {
	var bad badRequest
	var busy busyError
	var passes interface{ Retryable() bool }
	if known, ok := status.FromError(err); ok {
		return known.Err() // nil, or of a remote store
	}
	switch {
	case errors.As(err, &bad):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.As(err, &busy):
		return status.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, spanstore.ErrNotFound):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	case errors.As(err, &passes) && passes.Retryable():
		return status.Error(codes.Unavailable, err.Error())
	}
	return status.Error(codes.Internal, err.Error())
}

type metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newMetrics(registerer prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_tracing_rpc_calls_total",
			Help: "Calls of the gRPC services of Jaeger, by how they ended.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "weir_tracing_rpc_seconds",
			Help:    "How long calls of the gRPC services of Jaeger took.",
			Buckets: []float64{.005, .02, .1, .3, 1, 5, 30},
		}, []string{"method"}),
	}
	if registerer != nil {
		registerer.MustRegister(m.calls, m.seconds)
	}
	return m
}

func (m *metrics) count(method, code string, took time.Duration) {
	method = strings.TrimPrefix(method, "/")
	m.calls.WithLabelValues(method, code).Inc()
	m.seconds.WithLabelValues(method).Observe(took.Seconds())
}
