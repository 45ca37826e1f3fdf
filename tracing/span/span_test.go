package span

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// full is a request with something in every field.
func full() ptrace.Traces {
	t := ptrace.NewTraces()
	for r := range 2 {
		rs := t.ResourceSpans().AppendEmpty()
		rs.SetSchemaUrl("https://example.com/resource")
		rs.Resource().SetDroppedAttributesCount(3)
		rs.Resource().Attributes().PutStr("service.name", fmt.Sprintf("shop-%d", r))
		rs.Resource().Attributes().PutStr("host.name", "böx")
		for range 2 {
			ss := rs.ScopeSpans().AppendEmpty()
			ss.SetSchemaUrl("https://example.com/scope")
			ss.Scope().SetName("lib")
			ss.Scope().SetVersion("1.2.3")
			ss.Scope().SetDroppedAttributesCount(1)
			ss.Scope().Attributes().PutBool("debug", true)
			for i := range 3 {
				fillSpan(ss.Spans().AppendEmpty(), byte(i))
			}
		}
	}
	return t
}

func fillSpan(s ptrace.Span, i byte) {
	s.SetTraceID(pcommon.TraceID{1, 2, 3, i, 15: 9})
	s.SetSpanID(pcommon.SpanID{1, i})
	s.SetParentSpanID(pcommon.SpanID{7, 7: 1})
	s.TraceState().FromRaw("vendor=1")
	s.SetName("GET /cart")
	s.SetKind(ptrace.SpanKind(i % 6))
	s.SetFlags(257)
	s.SetStartTimestamp(1_700_000_000_000_000_000)
	s.SetEndTimestamp(1_700_000_000_250_000_000)
	s.Status().SetCode(ptrace.StatusCode(i % 3))
	s.Status().SetMessage("no stock")
	s.SetDroppedAttributesCount(1)
	s.SetDroppedEventsCount(2)
	s.SetDroppedLinksCount(3)
	values(s.Attributes())
	e := s.Events().AppendEmpty()
	e.SetName("exception")
	e.SetTimestamp(1_700_000_000_100_000_000)
	e.SetDroppedAttributesCount(4)
	values(e.Attributes())
	s.Events().AppendEmpty()
	l := s.Links().AppendEmpty()
	l.SetTraceID(pcommon.TraceID{4})
	l.SetSpanID(pcommon.SpanID{5})
	l.TraceState().FromRaw("a=b")
	l.SetFlags(1)
	l.SetDroppedAttributesCount(5)
	values(l.Attributes())
}

func values(m pcommon.Map) {
	m.PutStr("string", "<&>")
	m.PutStr("empty string", "")
	m.PutStr("not utf8", "\xff\xfe")
	m.PutInt("int", -5)
	m.PutDouble("double", 0.25)
	m.PutBool("yes", true)
	m.PutBool("no", false)
	m.PutEmptyBytes("bytes").FromRaw([]byte{0, 1, 255})
	m.PutEmptyBytes("no bytes")
	m.PutEmpty("nothing")
	s := m.PutEmptySlice("slice")
	s.AppendEmpty().SetStr("a")
	s.AppendEmpty().SetInt(2)
	s.AppendEmpty()
	s.AppendEmpty().SetEmptyMap().PutDouble("x", 1e30)
	n := m.PutEmptyMap("map")
	n.PutStr("k", "<v>")
	n.PutEmptySlice("s").AppendEmpty().SetBool(true)
	n.PutEmptyBytes("b").FromRaw([]byte{1})
}

func encode(t testing.TB, traces ptrace.Traces) []byte {
	t.Helper()
	body, err := ptraceotlp.NewExportRequestFromTraces(traces).MarshalProto()
	require.NoError(t, err)
	return body
}

func TestDecodeEncode(t *testing.T) {
	want := full()
	b := &Batch{}
	require.NoError(t, b.Decode(encode(t, want)))
	require.Len(t, b.Spans, 12)
	require.Equal(t, "shop-1", b.Resources[1].Service)
	got, err := b.Traces()
	require.NoError(t, err)
	require.Equal(t, encode(t, want), encode(t, got))
	require.Equal(t, "x"+string(b.Encode(nil)), string(b.Encode([]byte("x"))))

	// In any order, they come out in groups.
	for i, j := 0, len(b.Spans)-1; i < j; i, j = i+1, j-1 {
		b.Spans[i], b.Spans[j] = b.Spans[j], b.Spans[i]
	}
	got, err = b.Traces()
	require.NoError(t, err)
	require.Equal(t, 2, got.ResourceSpans().Len())
	require.Equal(t, 2, got.ResourceSpans().At(1).ScopeSpans().Len())

	again, err := FromTraces(want)
	require.NoError(t, err)
	got, err = again.Traces()
	require.NoError(t, err)
	require.Equal(t, encode(t, want), encode(t, got))
}

func TestOwn(t *testing.T) {
	body := encode(t, full())
	b := &Batch{}
	require.NoError(t, b.Decode(body))
	want := string(b.Encode(nil))
	b.Own()
	clear(body)
	require.Equal(t, want, string(b.Encode(nil)))
	require.Equal(t, "shop-0", b.Resources[0].Service)
	b.Reset()
	require.Empty(t, b.Encode(nil))
}

// TestText: but for doubles, which Jaeger prints with %g, a value reads as the
// collector prints it.
func TestText(t *testing.T) {
	b := &Batch{}
	require.NoError(t, b.Decode(encode(t, full())))
	want := full().ResourceSpans().At(0).ScopeSpans().At(0).Spans().At(0).Attributes()
	seen := 0
	for _, a := range b.Spans[0].Attrs {
		v, ok := want.Get(a.Key)
		require.True(t, ok, a.Key)
		require.Equal(t, v.AsString(), a.Value.Text(), a.Key)
		seen++
	}
	require.Equal(t, want.Len(), seen)
	require.Equal(t, "1e+30", DoubleValue(1e30).Text())
	require.Equal(t, "NaN", DoubleValue(nan()).Text())

	list := ArrayValue(StringValue("a"), IntValue(-1), BoolValue(false), DoubleValue(.5), BytesValue([]byte("b")), Value{},
		MapValue(Attr{"k", ArrayValue()}))
	require.Equal(t, `["a",-1,false,0.5,"Yg==",null,{"k":[]}]`, list.Text())
	elements, err := list.Elements()
	require.NoError(t, err)
	require.Len(t, elements, 7)
	entries, err := elements[6].Entries()
	require.NoError(t, err)
	require.Equal(t, []Attr{{"k", Value{Type: TypeArray}}}, entries)
}

func nan() float64 { z := 0.0; return z / z }

func TestDecodeErrors(t *testing.T) {
	// wrap puts messages around b, by their field numbers from the inside out.
	wrap := func(b string, nums ...int) []byte {
		for _, n := range nums {
			w := newWriter(len(b) + 16)
			w.strAlways(n, b)
			b = string(w.b[w.i:])
		}
		return []byte(b)
	}
	deep := ""
	for range maxDepth + 1 {
		deep = string(wrap(deep, 5, 1))
	}
	for _, c := range []struct {
		name string
		body []byte
		want string
	}{
		{"trace id", wrap("\x0a\x03abc", 2, 2, 1), "Span field 1 at byte 6: a trace id of 3 bytes, want 16"},
		{"span id", wrap("\x12\x03abc", 2, 2, 1), "Span field 2 at byte 6: a span id of 3 bytes, want 8"},
		{"parent", wrap("\x22\x09abcdefghi", 2, 2, 1), "Span field 4 at byte 6: a span id of 9 bytes, want 8"},
		{"wire type", wrap("\x28\x01", 2, 2, 1), "Span field 5 at byte 6: wire type 0, want 2"},
		{"cut", wrap("\x2a\x05ab", 2, 2, 1), "Span field 5 at byte 6: its message ends inside of it"},
		{"field 0", []byte{0, 0}, "TracesData field 0 at byte 0"},
		{"end of a group", []byte{0x0c}, "TracesData field 1 at byte 0: wire type 4, want 0, 1, 2 or 5"},
		{"long number", []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "a number of more than 10 bytes"},
		{"array in array", wrap(deep, 5, 2, 9, 2, 2, 1), "arrays and maps more than 64 deep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &Batch{}
			err := b.Decode(c.body)
			require.ErrorIs(t, err, ErrMalformed)
			require.ErrorContains(t, err, c.want)
			require.Empty(t, b.Spans)
		})
	}
}

func TestParse(t *testing.T) {
	id, err := ParseTraceID("aB1")
	require.NoError(t, err)
	require.Equal(t, strings.Repeat("0", 29)+"ab1", id.String())
	sid, err := ParseID("0102030405060708")
	require.NoError(t, err)
	require.Equal(t, ID{1, 2, 3, 4, 5, 6, 7, 8}, sid)
	for _, bad := range []string{"", "xyz", strings.Repeat("a", 33)} {
		_, err := ParseTraceID(bad)
		require.Error(t, err, bad)
	}
}

// TestMaxBytes: spans and attributes of two bytes each do not take what they could.
func TestMaxBytes(t *testing.T) {
	for _, small := range []string{"\x12\x00", "\x12\x02\x4a\x00", "\x12\x02\x5a\x00", "\x12\x02\x6a\x00"} {
		w := newWriter(1 << 20)
		for i := 0; i < 1<<18; i += len(small) {
			w.raw(small)
		}
		w.message(2, len(w.b))
		w.message(1, len(w.b))
		b := &Batch{MaxBytes: 1 << 20}
		require.ErrorIs(t, b.Decode(w.b[w.i:]), ErrTooLarge)
		require.Less(t, b.Size(), 4<<20)
		require.Equal(t, 1<<20, b.MaxBytes)
	}
}

// TestCutAnywhere: a body cut anywhere is an error or a smaller batch, never a panic.
func TestCutAnywhere(t *testing.T) {
	body := encode(t, full())
	b := &Batch{}
	for n := range body {
		if err := b.Decode(body[:n:n]); err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatal(err)
		}
	}
}
