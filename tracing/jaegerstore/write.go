package jaegerstore

import (
	"context"
	"errors"
	"fmt"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

const exportMethod = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

// maxOverhead is what HTTP/2 and gRPC add to a message, generously.
const maxOverhead = 64 << 10

// Append sends the spans and returns when the storage has acknowledged them; whether
// they are durable then is its matter. All count as stored. Of a batch that is sent in
// parts, the first may be stored although an error is returned; sent again they are
// read once.
func (s *Store) Append(ctx context.Context, b *span.Batch) (spanstore.Appended, error) {
	if len(b.Spans) == 0 {
		return spanstore.Appended{}, nil
	}
	if err := s.send(ctx, b); err != nil {
		return spanstore.Appended{}, err
	}
	return spanstore.Appended{Stored: len(b.Spans)}, nil
}

// send halves what is too large; a single span is left to the storage to refuse.
func (s *Store) send(ctx context.Context, b *span.Batch) error {
	message := b.Encode(nil)
	if n := len(b.Spans); len(message) > int(s.cfg.MaxSend) && n > 1 {
		part := *b
		for _, part.Spans = range [][]span.Span{b.Spans[:n/2], b.Spans[n/2:]} {
			if err := s.send(ctx, &part); err != nil {
				return err
			}
		}
		return nil
	}
	return s.export(ctx, message, len(b.Spans))
}

func (s *Store) export(ctx context.Context, message []byte, spans int) error {
	call, cancel := context.WithTimeout(ctx, s.cfg.Timeout.Std())
	defer cancel()
	var answer collectorv1.ExportTraceServiceResponse
	err := s.write.Invoke(call, exportMethod, body(message), &answer)
	if err != nil {
		return s.failed(ctx, fmt.Sprintf("write %d spans", spans), s.cfg.WriteEndpoint, err)
	}
	if p := answer.GetPartialSuccess(); p.GetRejectedSpans() > 0 {
		return fmt.Errorf("write %d spans at jaeger storage %s: it refused %d of them: %w", spans, s.cfg.WriteEndpoint,
			p.GetRejectedSpans(), errors.New(p.GetErrorMessage()))
	}
	return nil
}
