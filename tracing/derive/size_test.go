package derive

import (
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/weir-dev/weir/tracing/span"
)

func TestSizeIsThatOfTheEncoding(t *testing.T) {
	attrs := []span.Attr{
		{Key: "s", Value: span.StringValue("x")}, {Key: "empty", Value: span.StringValue("")}, {Key: "b", Value: span.BoolValue(false)},
		{Key: "i", Value: span.IntValue(-1)}, {Key: "j", Value: span.IntValue(300)}, {Key: "d", Value: span.DoubleValue(0)},
		{Key: "bytes", Value: span.BytesValue([]byte{1})}, {Key: "none"},
		{Key: "list", Value: span.ArrayValue(span.IntValue(1), span.StringValue("y"))},
		{Key: "map", Value: span.MapValue(span.Attr{Key: "k", Value: span.IntValue(1)})},
	}
	full := span.Span{
		TraceID: traceID(1), ID: spanID(1), Parent: spanID(2), Flags: 0x101, State: "ot=th:8", Name: "name", Kind: span.KindServer,
		Start: 1, End: 2, Status: span.StatusError, Message: "bad", Attrs: attrs,
		Events:       []span.Event{{Time: 3, Name: "e", Attrs: attrs, Dropped: 1}},
		Links:        []span.Link{{TraceID: traceID(2), ID: spanID(3), State: "a=b", Flags: 1, Attrs: attrs, Dropped: 200}},
		DroppedAttrs: 1, DroppedEvents: 300, DroppedLinks: 1,
	}
	for range 200 { // lengths of more than a byte
		full.Attrs = append(full.Attrs, attrs[0])
	}
	for name, s := range map[string]span.Span{"full": full, "small": {TraceID: traceID(1), ID: spanID(1), Parent: spanID(2), Start: 1, End: 2, Status: span.StatusOK}} {
		b := one("a", s)
		td, err := b.Traces()
		if err != nil {
			t.Fatal(err)
		}
		want := (&ptrace.ProtoMarshaler{}).SpanSize(td.ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0))
		if got := size(&b.Spans[0]); got != want {
			t.Errorf("%s: %d bytes, want %d", name, got, want)
		}
	}
}
