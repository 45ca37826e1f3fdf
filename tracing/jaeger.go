package tracing

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/jaegertracing/jaeger-idl/model/v1"
	"github.com/jaegertracing/jaeger-idl/proto-gen/api_v2"
	thriftjaeger "github.com/jaegertracing/jaeger-idl/thrift-gen/jaeger"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/translator/jaeger"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // clients may send it
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// jaegerThrift answers POST /api/traces, a jaeger.thrift Batch in the binary protocol.
func (t *Tracing) jaegerThrift() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /api/traces", t.receive(protoJaegerThrift, func(media string) func([]byte) (ptrace.Traces, error) {
		switch media {
		case "application/x-thrift", "application/vnd.apache.thrift.binary":
			return readThrift
		}
		return nil
	}))
	return mux
}

func readThrift(body []byte) (ptrace.Traces, error) {
	// A length that the body cannot hold is refused before memory is taken for it.
	conf := &thrift.TConfiguration{MaxMessageSize: int32(max(len(body), 1)), TBinaryStrictRead: thrift.BoolPtr(true)}
	from := thrift.NewTBinaryProtocolConf(thrift.NewStreamTransportR(bytes.NewReader(body)), conf)
	batch := thriftjaeger.NewBatch()
	if err := batch.Read(context.Background(), from); err != nil {
		return ptrace.Traces{}, err
	}
	return jaeger.ThriftToTraces(batch)
}

// serveJaegerGRPC serves jaeger.api_v2.CollectorService, to which agents and clients of
// before 2022 send.
func (t *Tracing) serveJaegerGRPC(ctx context.Context, l net.Listener, s security) error {
	r := t.cfg.Receivers
	g := grpc.NewServer(append(s.grpc(),
		grpc.ForceServerCodecV2(collectorCodec{encoding.GetCodecV2("proto")}),
		grpc.MaxRecvMsgSize(int(r.MaxRequestBytes)),
		grpc.MaxConcurrentStreams(uint32(r.MaxInFlightRequests)),
		grpc.ConnectionTimeout(headerTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: time.Minute}),
	)...)
	api_v2.RegisterCollectorServiceServer(g, &collector{t: t, places: make(chan struct{}, r.MaxInFlightRequests)})
	return serveGRPC(ctx, g, l)
}

// collector implements jaeger.api_v2.CollectorService.
type collector struct {
	t      *Tracing
	places chan struct{}
}

// PostSpans implements api_v2.CollectorServiceServer.
func (c *collector) PostSpans(ctx context.Context, r *api_v2.PostSpansRequest) (*api_v2.PostSpansResponse, error) {
	err := errBusy
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
		err = c.post(ctx, r)
	default:
	}
	code, result := verdict(err)
	c.t.bodies.WithLabelValues(protoJaegerGRPC.String(), result).Inc()
	switch code {
	case http.StatusAccepted:
		return &api_v2.PostSpansResponse{}, nil
	case http.StatusServiceUnavailable:
		return nil, status.Error(codes.Unavailable, err.Error())
	case http.StatusInternalServerError:
		c.t.deps.Log.Error("request of spans failed", "protocol", protoJaegerGRPC, "err", err)
		return nil, status.Error(codes.Internal, err.Error())
	}
	return nil, status.Error(codes.InvalidArgument, err.Error())
}

func (c *collector) post(ctx context.Context, r *api_v2.PostSpansRequest) error {
	room := decodedFactor * r.Size()
	if err := c.t.flight.enter(room); err != nil {
		return err
	}
	defer c.t.flight.leave(room)
	traces, err := decodeSafely(func([]byte) (ptrace.Traces, error) {
		return jaeger.ProtoToTraces([]*model.Batch{&r.Batch})
	}, nil)
	if err != nil {
		return fmt.Errorf("%w: jaeger_grpc (%d bytes): %w", errMalformed, r.Size(), err)
	}
	return c.t.takeTraces(ctx, protoJaegerGRPC, traces)
}

// collectorCodec uses the methods that gogo has generated for Jaeger's messages:
// grpc-go's own codec cannot read their custom types.
type collectorCodec struct{ encoding.CodecV2 }

// Unmarshal implements encoding.CodecV2.
func (c collectorCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(interface{ Unmarshal([]byte) error }); ok {
		return m.Unmarshal(data.Materialize())
	}
	return c.CodecV2.Unmarshal(data, v)
}

// Marshal implements encoding.CodecV2.
func (c collectorCodec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(interface{ Marshal() ([]byte, error) })
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	b, err := m.Marshal()
	return mem.BufferSlice{mem.SliceBuffer(b)}, err
}
