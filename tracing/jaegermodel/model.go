package jaegermodel

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/jaegertracing/jaeger-idl/model/v1"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Names that Jaeger gives to services that have none. Its collector gives the second,
// its translation of OTLP the first.
const (
	NoResource  = "OTLPResourceNoServiceName" // the resource has no attribute at all
	NoService   = "empty-service-name"        // the resource has others
	serviceName = "service.name"
)

// ServiceName is what Jaeger calls the sender of spans.
func ServiceName(r *span.Resource) string {
	switch {
	case r.Service != "":
		return r.Service
	case len(r.Attrs) == 0:
		return NoResource
	}
	return NoService
}

// Trace translates b as Jaeger does when it stores what it got as OTLP. The spans are
// sorted by start and id, whatever their order in b.
func Trace(b *span.Batch) (*model.Trace, error) {
	t, err := Spans(b)
	if err != nil {
		return nil, err
	}
	for _, s := range t.Spans {
		if s.Process.ServiceName == "" {
			s.Process.ServiceName = NoService
		}
	}
	sortSpans(t.Spans)
	return t, nil
}

// Spans translates b span by span in their order, without a name for a service that
// has none.
func Spans(b *span.Batch) (*model.Trace, error) {
	processes := make([]*model.Process, len(b.Resources))
	memory := make([]model.Span, len(b.Spans))
	t := &model.Trace{Spans: make([]*model.Span, len(b.Spans))}
	for i := range b.Spans {
		s := &b.Spans[i]
		if s.Resource < 0 || s.Resource >= len(processes) || s.Scope < 0 || s.Scope >= len(b.Scopes) {
			return nil, fmt.Errorf("translate span %s: resource %d of %d, scope %d of %d", s.ID, s.Resource, len(b.Resources), s.Scope, len(b.Scopes))
		}
		if processes[s.Resource] == nil {
			processes[s.Resource] = process(&b.Resources[s.Resource])
		}
		translate(&memory[i], s, &b.Scopes[s.Scope])
		memory[i].Process = processes[s.Resource]
		t.Spans[i] = &memory[i]
	}
	return t, nil
}

func process(r *span.Resource) *model.Process {
	p := &model.Process{ServiceName: r.Service}
	if len(r.Attrs) == 0 && r.Service == "" {
		p.ServiceName = NoResource
	}
	for _, a := range r.Attrs {
		if a.Key != serviceName {
			p.Tags = append(p.Tags, tag(a))
		}
	}
	return p
}

func translate(to *model.Span, s *span.Span, scope *span.Scope) {
	to.TraceID = TraceID(s.TraceID)
	to.SpanID = spanID(s.ID)
	to.OperationName = s.Name
	to.References = references(s, to.TraceID)
	to.StartTime = instant(s.Start)
	to.Duration = instant(s.End).Sub(to.StartTime)
	to.Tags = tags(s, scope)
	if len(s.Events) > 0 {
		to.Logs = make([]model.Log, len(s.Events))
	}
	for i := range s.Events {
		to.Logs[i] = model.Log{Timestamp: instant(s.Events[i].Time), Fields: fields(&s.Events[i])}
	}
}

// TraceID is id as Jaeger has it, in two halves.
func TraceID(id span.TraceID) model.TraceID {
	return model.TraceID{High: binary.BigEndian.Uint64(id[:8]), Low: binary.BigEndian.Uint64(id[8:])}
}

// StoredID is the opposite of [TraceID].
func StoredID(id model.TraceID) (out span.TraceID) {
	binary.BigEndian.PutUint64(out[:8], id.High)
	binary.BigEndian.PutUint64(out[8:], id.Low)
	return out
}

func spanID(id span.ID) model.SpanID { return model.SpanID(binary.BigEndian.Uint64(id[:])) }

// instant reads what does not fit into 63 bits as a time before 1970, as Jaeger does.
func instant(nanoseconds uint64) time.Time { return time.Unix(0, int64(nanoseconds)).UTC() }

// references has the parent first. A link to the parent is no second reference, but
// says of which kind the first is.
func references(s *span.Span, trace model.TraceID) []model.SpanRef {
	parent := spanID(s.Parent)
	if parent == 0 && len(s.Links) == 0 {
		return nil
	}
	refs := make([]model.SpanRef, 0, len(s.Links)+1)
	if parent != 0 {
		refs = append(refs, model.NewChildOfRef(trace, parent))
	}
	for i := range s.Links {
		ref := model.NewFollowsFromRef(TraceID(s.Links[i].TraceID), spanID(s.Links[i].ID))
		if kind, ok := find(s.Links[i].Attrs, "opentracing.ref_type"); ok && kind.Type == span.TypeString && kind.Str == "child_of" {
			ref.RefType = model.ChildOf
		}
		if parent != 0 && ref.TraceID == trace && ref.SpanID == parent {
			refs[0].RefType = ref.RefType
			continue
		}
		refs = append(refs, ref)
	}
	return refs
}

func find(attrs []span.Attr, key string) (span.Value, bool) {
	for i := range attrs {
		if attrs[i].Key == key {
			return attrs[i].Value, true
		}
	}
	return span.Value{}, false
}

// tags are those of the scope, of the span and of its fields, in this order.
func tags(s *span.Span, scope *span.Scope) []model.KeyValue {
	out := make([]model.KeyValue, 0, len(s.Attrs)+7)
	text := func(key, value string) {
		if value != "" {
			out = append(out, model.String(key, value))
		}
	}
	text("otel.scope.name", scope.Name)
	text("otel.scope.version", scope.Version)
	for _, a := range s.Attrs {
		out = append(out, tag(a))
	}
	text(model.SpanKindKey, spanstore.KindName(s.Kind))
	switch s.Status {
	case span.StatusOK:
		text("otel.status_code", "OK")
	case span.StatusError:
		text("otel.status_code", "ERROR")
		out = append(out, model.Bool("error", true))
	}
	text("otel.status_description", s.Message)
	text("w3c.tracestate", s.State)
	return out
}

func fields(e *span.Event) []model.KeyValue {
	out := make([]model.KeyValue, 0, len(e.Attrs)+1)
	if _, ok := find(e.Attrs, "event"); !ok && e.Name != "" {
		out = append(out, model.String("event", e.Name))
	}
	for _, a := range e.Attrs {
		out = append(out, tag(a))
	}
	return out
}

// tag gives what Jaeger has no type for as text.
func tag(a span.Attr) model.KeyValue {
	switch a.Value.Type {
	case span.TypeBool:
		return model.Bool(a.Key, a.Value.Bool())
	case span.TypeInt:
		return model.Int64(a.Key, a.Value.Int())
	case span.TypeDouble:
		return model.Float64(a.Key, a.Value.Double())
	case span.TypeBytes:
		return model.Binary(a.Key, []byte(a.Value.Str))
	}
	return model.String(a.Key, a.Value.Text())
}

// sortSpans orders by start and id. Where two spans have both in common their bytes
// decide, so that the order never depends on the store's.
func sortSpans(spans []*model.Span) {
	slices.SortStableFunc(spans, func(a, b *model.Span) int {
		if c := a.StartTime.Compare(b.StartTime); c != 0 {
			return c
		}
		if c := cmp.Compare(a.SpanID, b.SpanID); c != 0 {
			return c
		}
		return bytes.Compare(encoded(a), encoded(b))
	})
}

// encoded is nil of a span that cannot be encoded: such ones are equal to each other.
func encoded(s *model.Span) []byte {
	b, err := s.Marshal()
	if err != nil {
		return nil
	}
	return b
}
