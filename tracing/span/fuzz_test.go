package span

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// account writes down what a request says that a Batch keeps: without resources and
// scopes that have no span, and enums that OTLP does not have as 0.
func account(t ptrace.Traces) string {
	var a strings.Builder
	for _, rs := range t.ResourceSpans().All() {
		for _, ss := range rs.ScopeSpans().All() {
			for _, s := range ss.Spans().All() {
				fmt.Fprintf(&a, "resource %q %d", rs.SchemaUrl(), rs.Resource().DroppedAttributesCount())
				accountMap(&a, rs.Resource().Attributes())
				x := ss.Scope()
				fmt.Fprintf(&a, "scope %q %q %q %d", x.Name(), x.Version(), ss.SchemaUrl(), x.DroppedAttributesCount())
				accountMap(&a, x.Attributes())
				accountSpan(&a, s)
			}
		}
	}
	return a.String()
}

func accountSpan(a *strings.Builder, s ptrace.Span) {
	kind, code := s.Kind(), s.Status().Code()
	if kind < 0 || kind > 5 {
		kind = 0
	}
	if code < 0 || code > 2 {
		code = 0
	}
	fmt.Fprintf(a, "span %s %s %s %q %q %d %d %d %d %d %q %d %d %d", s.TraceID(), s.SpanID(), s.ParentSpanID(), s.TraceState().AsRaw(), s.Name(),
		kind, s.Flags(), s.StartTimestamp(), s.EndTimestamp(), code, s.Status().Message(),
		s.DroppedAttributesCount(), s.DroppedEventsCount(), s.DroppedLinksCount())
	accountMap(a, s.Attributes())
	for _, e := range s.Events().All() {
		fmt.Fprintf(a, "event %d %q %d", e.Timestamp(), e.Name(), e.DroppedAttributesCount())
		accountMap(a, e.Attributes())
	}
	for _, l := range s.Links().All() {
		fmt.Fprintf(a, "link %s %s %q %d %d", l.TraceID(), l.SpanID(), l.TraceState().AsRaw(), l.Flags(), l.DroppedAttributesCount())
		accountMap(a, l.Attributes())
	}
}

func accountMap(a *strings.Builder, m pcommon.Map) {
	for k, v := range m.All() {
		fmt.Fprintf(a, " %q=", k)
		accountValue(a, v)
	}
	a.WriteByte('\n')
}

func accountValue(a *strings.Builder, v pcommon.Value) {
	fmt.Fprintf(a, "%d:", v.Type())
	switch v.Type() {
	case pcommon.ValueTypeDouble:
		fmt.Fprintf(a, "%x", math.Float64bits(v.Double()))
	case pcommon.ValueTypeSlice:
		for _, e := range v.Slice().All() {
			accountValue(a, e)
			a.WriteByte(',')
		}
	case pcommon.ValueTypeMap:
		accountMap(a, v.Map())
	case pcommon.ValueTypeBytes:
		a.WriteString(hex.EncodeToString(v.Bytes().AsRaw()))
	default:
		fmt.Fprintf(a, "%q", v.AsString())
	}
}

// FuzzDecode holds Decode to the collector's decoder: both take a body or both refuse
// it, and what went through a Batch is what the collector reads.
func FuzzDecode(f *testing.F) {
	body := encode(f, full())
	f.Add(body)
	f.Add(body[:len(body)/2])
	f.Add([]byte("\x0a\x0b\x12\x09\x12\x07\x4a\x05\x0a\x01a\x12\x00"))
	f.Add([]byte("\x0a\x08\xc2\x3e\x05\x12\x03\x2a\x01x"))
	b := &Batch{} // one for all, as the pool has it: nothing may stay behind
	f.Fuzz(func(t *testing.T, body []byte) {
		want := ptraceotlp.NewExportRequest()
		wantErr := want.UnmarshalProto(body)
		err := b.Decode(body)
		if err != nil && (strings.Contains(err.Error(), "deep") || strings.Contains(err.Error(), "want 0, 1, 2 or 5")) {
			return // stricter, see maxDepth and next
		}
		if wantErr != nil {
			require.ErrorIs(t, err, ErrMalformed, "the collector's decoder says %v", wantErr)
			return
		}
		require.NoError(t, err)
		got, err := b.Traces()
		require.NoError(t, err)
		require.Equal(t, account(want.Traces()), account(got))
		first := b.Encode(nil)
		again := &Batch{}
		require.NoError(t, again.Decode(first))
		again.Own()
		require.Equal(t, first, again.Encode(nil))
	})
}
