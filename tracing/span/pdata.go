package span

import (
	"fmt"

	"go.opentelemetry.io/collector/pdata/ptrace"
)

// Traces is b as the collector has it, sharing no memory.
func (b *Batch) Traces() (ptrace.Traces, error) {
	t, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(b.Encode(nil))
	if err != nil {
		return ptrace.Traces{}, fmt.Errorf("decode %d spans encoded before: %w", len(b.Spans), err)
	}
	return t, nil
}

// FromTraces is the batch of t; it owns its memory.
func FromTraces(t ptrace.Traces) (*Batch, error) {
	body, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(t)
	if err != nil {
		return nil, fmt.Errorf("encode %d spans: %w", t.SpanCount(), err)
	}
	b := &Batch{}
	if err := b.Decode(body); err != nil {
		return nil, err
	}
	return b, nil
}
