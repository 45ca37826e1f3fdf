package ingest

import (
	"context"
	"reflect"
	"sync"

	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
)

// GetGRPCServerOptions implements extensionmiddleware.GRPCServer.
func (m otlpMiddleware) GetGRPCServerOptions(context.Context) ([]grpc.ServerOption, error) {
	return []grpc.ServerOption{
		grpc.MaxRecvMsgSize(int(m.s.cfg.MaxRecvMsgSize)), // to the byte; the receiver has whole MiB
		grpc.ForceServerCodecV2(m.s.codec),
		grpc.InTapHandle(m.s.admit),
		grpc.StatsHandler(otlpStats(m)),
		grpc.ChainUnaryInterceptor(m.s.intercept),
	}, nil
}

// otlpCodec decodes as the collector's codec does, but for export requests of the
// signals taken over: their bytes are set aside for intercept, which gRPC calls next
// with the message that was not filled in.
type otlpCodec struct {
	encoding.CodecV2
	signals map[reflect.Type]signal // of an undecoded request; constant once serving
	aside   sync.Map                // message -> mem.Buffer
}

func newOTLPCodec() *otlpCodec {
	c := &otlpCodec{CodecV2: encoding.GetCodecV2("proto"), signals: map[reflect.Type]signal{}}
	c.takeOver(reflect.TypeFor[pmetricotlp.ExportRequest](), metricsSignal)
	return c
}

// takeOver sets requests of a signal aside. Their type has no name outside of its
// module; a request holds a pointer to it.
func (c *otlpCodec) takeOver(request reflect.Type, s signal) { c.signals[request.Field(0).Type] = s }

// Unmarshal implements encoding.CodecV2.
func (c *otlpCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if _, ours := c.signals[reflect.TypeOf(v)]; !ours {
		return c.CodecV2.Unmarshal(data, v)
	}
	c.aside.Store(v, data.MaterializeToBuffer(mem.DefaultBufferPool()))
	return nil
}

// take returns the signal and the bytes of message v, which the caller must free.
func (c *otlpCodec) take(v any) (signal, mem.Buffer, bool) {
	sig, ours := c.signals[reflect.TypeOf(v)]
	if !ours {
		return 0, nil, false
	}
	buf, ok := c.aside.LoadAndDelete(v)
	if !ok {
		return 0, nil, false
	}
	return sig, buf.(mem.Buffer), true
}

// admit looks at a gRPC request before its message is read: it turns it away
// when too many are in flight, and bounds how long it may take.
func (s *otlpServer) admit(ctx context.Context, _ *tap.Info) (context.Context, error) {
	if s.flight.requests.Load() >= s.flight.maxRequests {
		s.requests.WithLabelValues("grpc", "overload").Inc()
		return ctx, status.Errorf(codes.Unavailable, "%d requests are being handled: try again later, or raise ingest.max_in_flight_requests", s.flight.maxRequests)
	}
	ctx, cancel := context.WithTimeout(ctx, otlpReadTimeout)
	stop := context.AfterFunc(s.halt, cancel)
	context.AfterFunc(ctx, func() { stop() })
	return ctx, nil
}

// intercept writes metrics and spans and leaves other messages to the receiver.
func (s *otlpServer) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	c := callOf(ctx)
	sig, buf, ok := s.codec.take(req)
	if ok {
		defer buf.Free()
	}
	switch {
	case c.over != nil:
		return nil, unavailableStatus(c.over.Error())
	case !ok:
		return next(ctx, req)
	}
	if err := s.receive(ctx, sig, buf.ReadOnlyData()); err != nil {
		return nil, err
	}
	return c.reply(sig), nil
}

// reply is the answer to a request that was taken in.
func (c *otlpCall) reply(sig signal) any {
	if sig == tracesSignal {
		answer := &collectortrace.ExportTraceServiceResponse{}
		if c.message != "" {
			answer.PartialSuccess = &collectortrace.ExportTracePartialSuccess{RejectedSpans: c.rejected, ErrorMessage: c.message}
		}
		return answer
	}
	answer := &collectormetrics.ExportMetricsServiceResponse{}
	if c.message != "" {
		answer.PartialSuccess = &collectormetrics.ExportMetricsPartialSuccess{RejectedDataPoints: c.rejected, ErrorMessage: c.message}
	}
	return answer
}

// otlpStats follows gRPC requests from headers to trailers: unlike an
// interceptor it also hears of messages that could not be read.
type otlpStats struct{ s *otlpServer }

// TagRPC implements stats.Handler.
func (h otlpStats) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, otlpCallKey{}, &otlpCall{s: h.s, transport: "grpc"})
}

// HandleRPC implements stats.Handler.
func (h otlpStats) HandleRPC(ctx context.Context, e stats.RPCStats) {
	c := callOf(ctx)
	switch e := e.(type) {
	case *stats.Begin:
		c.begin()
	case *stats.InPayload:
		_ = c.received(e.Length) // intercept looks at it
	case *stats.End:
		if status.Code(e.Error) == codes.ResourceExhausted {
			c.tooLarge = true
		}
		c.end("malformed_body")
	}
}

// TagConn implements stats.Handler.
func (otlpStats) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (otlpStats) HandleConn(context.Context, stats.ConnStats) {}
