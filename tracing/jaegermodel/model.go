package jaegermodel

import (
	"fmt"

	"github.com/jaegertracing/jaeger-idl/model/v1"
	jaegertranslator "github.com/open-telemetry/opentelemetry-collector-contrib/pkg/translator/jaeger"

	"github.com/weir-dev/weir/tracing/span"
)

// Trace translates b as Jaeger does what it gets as OTLP. Each span has its process.
func Trace(b *span.Batch) (*model.Trace, error) {
	td, err := b.Traces()
	if err != nil {
		return nil, fmt.Errorf("translate trace: %w", err)
	}
	t := &model.Trace{}
	for _, batch := range jaegertranslator.ProtoFromTraces(td) {
		for _, s := range batch.Spans {
			if s.Process == nil {
				s.Process = batch.Process
			}
			t.Spans = append(t.Spans, s)
		}
	}
	return t, nil
}
