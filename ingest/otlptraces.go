package ingest

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// signal is what an OTLP request carries.
type signal uint8

const (
	metricsSignal signal = iota
	tracesSignal
)

// TakeTraces takes one ExportTraceServiceRequest in protobuf, which is borrowed until
// it returns. It returns how many spans were rejected beside others that are stored,
// and why. An error means that none is; one with a method Retryable() bool that says
// true has the sender try again.
type TakeTraces func(ctx context.Context, body []byte) (rejected int64, message string, err error)

// ReceiveTraces has the OTLP listeners take spans too. It must be called before Run,
// and does nothing if there are no listeners.
func (in *Ingest) ReceiveTraces(take TakeTraces) error {
	s := in.otlpIn
	if s == nil {
		return nil
	}
	s.traces = take
	s.codec.takeOver(reflect.TypeFor[ptraceotlp.ExportRequest](), tracesSignal)
	next, err := consumer.NewTraces(s.consumeTraces, consumer.WithCapabilities(consumer.Capabilities{}))
	if err != nil {
		return fmt.Errorf("make otlp consumer of traces: %w", err)
	}
	// It is the receiver that there is already, and starts and stops with it.
	if _, err := s.factory.CreateTraces(context.Background(), s.settings, s.config, next); err != nil {
		return fmt.Errorf("make otlp receiver of traces: %w", err)
	}
	return nil
}

// receive writes what one request holds. The error carries a gRPC status.
func (s *otlpServer) receive(ctx context.Context, sig signal, raw []byte) error {
	if sig == tracesSignal {
		return s.receiveTraces(ctx, raw)
	}
	return s.otlp.receive(ctx, raw)
}

func (s *otlpServer) receiveTraces(ctx context.Context, raw []byte) error {
	call := callOf(ctx)
	rejected, message, err := s.traces(ctx, raw)
	var again interface{ Retryable() bool }
	switch {
	case errors.As(err, &again) && again.Retryable():
		call.result = "unavailable"
		return unavailableStatus(err.Error())
	case err != nil:
		call.result = "refused"
		return status.Error(codes.InvalidArgument, err.Error())
	case rejected > 0:
		call.result = "partial"
	default:
		call.result = "ok"
	}
	call.rejected, call.message = rejected, message
	return nil
}

// consumeTraces takes spans that somebody else has decoded.
func (s *otlpServer) consumeTraces(ctx context.Context, t ptrace.Traces) error {
	return s.encodeTraces(ctx, ptraceotlp.NewExportRequestFromTraces(t))
}

// tracesJSON takes a request in JSON, which is too rare to have a reader of its own.
func (s *otlpServer) tracesJSON(ctx context.Context, body []byte) error {
	req := ptraceotlp.NewExportRequest()
	if err := req.UnmarshalJSON(body); err != nil {
		return malformed(body, err)
	}
	return s.encodeTraces(ctx, req)
}

func (s *otlpServer) encodeTraces(ctx context.Context, req ptraceotlp.ExportRequest) error {
	raw, err := req.MarshalProto()
	if err != nil {
		return status.Error(codes.InvalidArgument, fmt.Sprintf("encode otlp: %v", err))
	}
	return s.receiveTraces(ctx, raw)
}

func (c *otlpCall) tracesResponse(media string) ([]byte, error) {
	r := ptraceotlp.NewExportResponse()
	if c.message != "" {
		r.PartialSuccess().SetRejectedSpans(c.rejected)
		r.PartialSuccess().SetErrorMessage(c.message)
	}
	if media == mediaJSON {
		return r.MarshalJSON()
	}
	return r.MarshalProto()
}
