package jaegerrpc

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
)

const exportService = "opentelemetry.proto.collector.trace.v1.TraceService"

// exportDesc is OTLP's TraceService, by which a Jaeger in front writes. It is described
// by hand because the request stays bytes until the intake decodes it.
var exportDesc = grpc.ServiceDesc{
	ServiceName: exportService,
	HandlerType: (*exporter)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Export", Handler: exportHandler}},
	Metadata:    "opentelemetry/proto/collector/trace/v1/trace_service.proto",
}

type exporter interface {
	export(ctx context.Context, body encoded) (encoded, error)
}

//nolint:revive // the order of parameters is grpc.MethodHandler's
func exportHandler(server any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	var body encoded
	if err := decode(&body); err != nil {
		return nil, err
	}
	call := func(ctx context.Context, request any) (any, error) {
		return server.(exporter).export(ctx, *request.(*encoded))
	}
	if intercept == nil {
		return call(ctx, &body)
	}
	info := &grpc.UnaryServerInfo{Server: server, FullMethod: "/" + exportService + "/Export"}
	return intercept(ctx, &body, info, call)
}

// export passes a request on and answers with an ExportTraceServiceResponse.
func (s *Server) export(ctx context.Context, body encoded) (encoded, error) {
	rejected, message, err := s.deps.Export(ctx, body)
	if err != nil {
		return nil, err
	}
	if rejected == 0 && message == "" {
		return encoded{}, nil
	}
	var partial []byte // ExportTracePartialSuccess
	partial = protowire.AppendTag(partial, 1, protowire.VarintType)
	partial = protowire.AppendVarint(partial, uint64(rejected))
	partial = protowire.AppendTag(partial, 2, protowire.BytesType)
	partial = protowire.AppendString(partial, message)
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), partial), nil
}
