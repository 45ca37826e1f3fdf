package jaegerv1

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/weir-dev/weir/tracing/span"
)

// epoch is when the spans of the corpus begin: long before any test asks for what was
// in the last two days.
var epoch = time.Date(2024, 5, 1, 10, 0, 0, 0, time.UTC)

// maker makes spans of one trace after the other.
type maker struct {
	batch span.Batch
	trace span.TraceID
	spans uint64
	at    time.Time
}

func at(t time.Time) uint64 { return uint64(t.UnixNano()) }

func traceID(high, low uint64) (id span.TraceID) {
	binary.BigEndian.PutUint64(id[:8], high)
	binary.BigEndian.PutUint64(id[8:], low)
	return id
}

func spanID(n uint64) (id span.ID) {
	binary.BigEndian.PutUint64(id[:], n)
	return id
}

func attr(key string, value any) span.Attr {
	a := span.Attr{Key: key}
	switch v := value.(type) {
	case string:
		a.Value = span.StringValue(v)
	case int:
		a.Value = span.IntValue(int64(v))
	case float64:
		a.Value = span.DoubleValue(v)
	case bool:
		a.Value = span.BoolValue(v)
	case []byte:
		a.Value = span.BytesValue(v)
	case span.Value:
		a.Value = v
	}
	return a
}

// resource of a service; "" has none.
func (m *maker) resource(service string, attrs ...span.Attr) int {
	r := span.Resource{Service: service, Attrs: attrs}
	if service != "" {
		r.Attrs = append([]span.Attr{attr("service.name", service)}, attrs...)
	}
	m.batch.Resources = append(m.batch.Resources, r)
	return len(m.batch.Resources) - 1
}

func (m *maker) scope(s span.Scope) int {
	m.batch.Scopes = append(m.batch.Scopes, s)
	return len(m.batch.Scopes) - 1
}

// begin starts a trace, a minute after the one before.
func (m *maker) begin(id span.TraceID) {
	m.trace, m.spans = id, 0
	if m.at.IsZero() {
		m.at = epoch
	}
	m.at = m.at.Add(time.Minute)
	if len(m.batch.Scopes) == 0 {
		m.scope(span.Scope{})
	}
}

// add makes a span that starts and lasts so many milliseconds after the trace's.
func (m *maker) add(resource int, name string, parent uint64, start, duration float64, change ...func(*span.Span)) uint64 {
	m.spans++
	begin := m.at.Add(time.Duration(start * 1e6))
	s := span.Span{
		Resource: resource, TraceID: m.trace, ID: spanID(m.spans), Parent: spanID(parent), Name: name,
		Start: at(begin), End: at(begin.Add(time.Duration(duration * 1e6))),
	}
	for _, f := range change {
		f(&s)
	}
	m.batch.Spans = append(m.batch.Spans, s)
	return m.spans
}

func kind(k span.Kind) func(*span.Span) { return func(s *span.Span) { s.Kind = k } }

func with(attrs ...span.Attr) func(*span.Span) {
	return func(s *span.Span) { s.Attrs = append(s.Attrs, attrs...) }
}

func status(code span.Status, message string) func(*span.Span) {
	return func(s *span.Span) { s.Status, s.Message = code, message }
}

func event(after float64, name string, attrs ...span.Attr) func(*span.Span) {
	return func(s *span.Span) {
		s.Events = append(s.Events, span.Event{Time: s.Start + uint64(after*1e6), Name: name, Attrs: attrs})
	}
}

func link(trace span.TraceID, id uint64, attrs ...span.Attr) func(*span.Span) {
	return func(s *span.Span) {
		s.Links = append(s.Links, span.Link{TraceID: trace, ID: spanID(id), Attrs: attrs})
	}
}

func id(n uint64) func(*span.Span) { return func(s *span.Span) { s.ID = spanID(n) } }

// shop is what a shop's services send in an hour. Half of its traces have 64-bit ids.
func shop() *span.Batch {
	m := &maker{}
	services := make(map[string]int)
	for i, name := range []string{"front", "cart/v2", "pay ment", "größe", "a+b", "db.orders", "weird\"<&>", "p%C3", "/lead"} {
		services[name] = m.resource(name, attr("host.name", fmt.Sprintf("host-%d", i)), attr("ip", fmt.Sprintf("10.0.0.%d", i)))
	}
	for i := range 24 {
		high := uint64(0)
		if i%2 == 0 {
			high = 0xa1
		}
		m.begin(traceID(high, uint64(1000+i)))
		failed := span.StatusUnset
		if i%4 == 0 {
			failed = span.StatusError
		}
		root := m.add(services["front"], "GET /cart", 0, 0, float64(20+i), kind(span.KindServer), status(failed, ""),
			with(attr("http.method", "GET"), attr("http.status_code", 200+300*(int(failed)/2)), attr("cached", i%3 == 0)))
		call := m.add(services["front"], "cart", root, 1, 10, kind(span.KindClient), with(attr("peer.service", "cart/v2")))
		cart := m.add(services["cart/v2"], "GetCart", call, 2, 8, kind(span.KindServer), event(1, "cache miss", attr("key", i)))
		switch i % 6 {
		case 0:
			m.add(services["pay ment"], "charge card", cart, 3, 4, kind(span.KindInternal), with(attr("amount", float64(i)*1.5)))
		case 1:
			m.add(services["größe"], "messen", cart, 3, 2.5, kind(span.KindConsumer), with(attr("url", "http://x/?a=1:2")))
		case 2:
			m.add(services["a+b"], "sum", cart, 3, 1, with(attr("w", "k:v:w")))
			m.add(services["a+b"], "sum", cart, 5, 1, kind(span.KindServer))
		case 3:
			m.add(services["db.orders"], "SELECT", cart, 3, 6, kind(span.KindClient), status(span.StatusError, "deadlock"))
		case 4:
			m.add(services["weird\"<&>"], "op <b>&", cart, 3, 1, kind(span.KindProducer))
		case 5:
			m.add(services["p%C3"], "percent%20", cart, 3, 1)
			m.add(services["/lead"], "//", cart, 4, 1)
		}
	}
	return &m.batch
}

// oddTrace is one that breaks something somewhere.
type oddTrace struct {
	name string
	make func(m *maker, svc func(string, ...span.Attr) int)
}

var oddTraces = []oddTrace{
	{"one span", func(m *maker, svc func(string, ...span.Attr) int) { m.add(svc("a"), "x", 0, 0, 1) }},
	{"parent missing", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 77, 0, 1)
		m.add(svc("b"), "y", 1, 0, 0.5)
	}},
	{"own parent", func(m *maker, svc func(string, ...span.Attr) int) { m.add(svc("a"), "x", 1, 0, 1) }},
	{"circle", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 3, 0, 1)
		m.add(svc("b"), "y", 1, 0, 1)
		m.add(svc("c"), "z", 2, 0, 1)
		m.add(svc("c"), "root", 0, -1, 1)
	}},
	{"two roots", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 5, 1)
		m.add(svc("a"), "y", 0, 0, 1)
	}},
	{"shared ids", func(m *maker, svc func(string, ...span.Attr) int) {
		a := svc("a")
		b := svc("b", attr("ip", "10.0.0.1"))
		m.add(a, "root", 0, 0, 20, kind(span.KindServer))
		m.add(a, "call", 1, 1, 10, kind(span.KindClient))
		m.add(b, "handle", 1, 3, 5, kind(span.KindServer), id(2))
		m.add(b, "query", 2, 4, 1, kind(span.KindClient), id(4))
	}},
	{"shared by three", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "call", 0, 0, 10, kind(span.KindClient), id(7))
		m.add(svc("b"), "handle", 0, 1, 5, kind(span.KindServer), id(7))
		m.add(svc("c"), "handle", 0, 2, 5, kind(span.KindServer), id(7))
		m.add(svc("c"), "inner", 7, 3, 1, id(1))
		m.add(svc("c"), "inner", 7, 3, 1, id(2))
	}},
	{"shared with a link", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "call", 0, 0, 10, kind(span.KindClient), id(7))
		m.add(svc("b"), "handle", 9, 1, 5, kind(span.KindServer), id(7), link(m.trace, 7), link(traceID(0, 5), 6))
	}},
	{"same span twice", func(m *maker, svc func(string, ...span.Attr) int) {
		a := svc("a")
		m.add(a, "x", 0, 0, 1, id(1))
		m.add(a, "x", 0, 0, 1, id(1))
	}},
	{"same span four times", func(m *maker, svc func(string, ...span.Attr) int) {
		a := svc("a")
		for range 4 {
			m.add(a, "x", 0, 0, 1, id(1), with(attr("b", 1), attr("a", 2)))
		}
		m.add(a, "y", 1, 0.1, 0.5, id(2))
	}},
	{"same id, other content", func(m *maker, svc func(string, ...span.Attr) int) {
		a := svc("a")
		m.add(a, "x", 0, 0, 1, id(1))
		m.add(a, "y", 0, 0, 2, id(1))
		m.add(svc("b"), "x", 0, 0, 1, id(1))
	}},
	{"id zero", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 1, id(0))
		m.add(svc("a"), "y", 0, 0, 1, id(0), kind(span.KindClient))
		m.add(svc("b"), "z", 0, 0, 1, id(0), kind(span.KindServer))
	}},
	{"no duration", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 0)
		m.add(svc("b"), "y", 1, 0, 0.0004)
		m.add(svc("b"), "z", 1, 0.0005, 0.0015)
	}},
	{"negative duration", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, -5)
		m.add(svc("b"), "y", 1, 0, 1)
	}},
	{"time zero", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 1, func(s *span.Span) { s.Start, s.End = 0, 0 })
		m.add(svc("a"), "y", 1, 0, 1, func(s *span.Span) { s.Start = 0 })
	}},
	{"far future", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 1, func(s *span.Span) { s.Start, s.End = at(epoch.AddDate(200, 0, 0)), at(epoch.AddDate(200, 0, 1)) })
	}},
	{"time past 63 bits", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 1, func(s *span.Span) { s.Start, s.End = math.MaxUint64-10_000, math.MaxUint64 })
	}},
	{"clock behind", func(m *maker, svc func(string, ...span.Attr) int) {
		a, b := svc("a", attr("ip", "10.0.0.1")), svc("b", attr("ip", "10.0.0.2"))
		m.add(a, "x", 0, 0, 20)
		m.add(b, "y", 1, -100, 10, event(1, "e"))
		m.add(b, "z", 2, -99, 5, event(1, "e"), event(2, "f"))
		m.add(a, "back", 3, 8, 1)
	}},
	{"clock ahead", func(m *maker, svc func(string, ...span.Attr) int) {
		a, b := svc("a", attr("ip", 167772161)), svc("b", attr("ip", []byte{10, 0, 0, 2}))
		m.add(a, "x", 0, 0, 20)
		m.add(b, "y", 1, 15, 10)
		m.add(svc("c", attr("ip", []byte(strings.Repeat("\x01", 16)))), "z", 1, 2500, 3)
		m.add(svc("d", attr("ip", []byte{1, 2})), "w", 1, 30, 3)
		m.add(svc("e", attr("ip", 1.5)), "v", 1, 30, 3)
		m.add(svc("f", attr("ip", true)), "u", 1, 30, 3)
	}},
	{"clock an hour off", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 20)
		m.add(svc("b"), "y", 1, 3600_000, 10)
		m.add(svc("c"), "z", 1, -3600_000, 10)
	}},
	{"child outlasts parent", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 20)
		m.add(svc("b"), "later", 1, 5, 100)
		m.add(svc("c"), "earlier", 1, -5, 100)
	}},
	{"same host", func(m *maker, svc func(string, ...span.Attr) int) {
		a, b := svc("a", attr("ip", "h")), svc("b", attr("ip", "h"))
		m.add(a, "x", 0, 0, 20)
		m.add(b, "y", 1, 500, 10)
	}},
	{"follows from", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 20)
		m.add(svc("b"), "y", 0, 5, 10, link(m.trace, 1))
		m.add(svc("b"), "z", 0, 5, 10, link(traceID(9, 9), 1), link(m.trace, 1), link(m.trace, 2))
	}},
	{"link to the parent", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 20)
		m.add(svc("b"), "y", 1, 5, 10, link(m.trace, 1))
		m.add(svc("b"), "z", 1, 5, 10, link(m.trace, 1, attr("opentracing.ref_type", "child_of")), link(m.trace, 2))
	}},
	{"child_of links", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 20)
		m.add(svc("b"), "y", 0, 5, 10, link(traceID(1, 1), 4), link(m.trace, 1, attr("opentracing.ref_type", "child_of")))
		m.add(svc("b"), "z", 0, 5, 10, link(m.trace, 2), link(m.trace, 1, attr("opentracing.ref_type", "child_of")), link(m.trace, 1, attr("opentracing.ref_type", 5)))
	}},
	{"links to trace zero", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 20, link(span.TraceID{}, 0), link(span.TraceID{}, 5), link(traceID(0, 3), 0))
	}},
	{"values", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 20, with(
			attr("s", ""), attr("b", false), attr("t", true), attr("i", 0), attr("safe", 1<<53-1), attr("unsafe", 1<<53), attr("min", -1<<53+1),
			attr("under", -1<<53), attr("max", math.MaxInt64), attr("least", math.MinInt64),
			attr("f", 0.0), attr("tiny", 1e-7), attr("small", 1e-6), attr("e", 1e-10), attr("big", 1e21), attr("large", 123456789012345680000.0), attr("third", 1.0/3), attr("maxf", math.MaxFloat64), attr("denormal", 5e-324), attr("whole", 3.0),
			attr("bytes", []byte{0, 1, 254, 255}), attr("one", []byte("a")), attr("nobytes", []byte{}), span.Attr{Key: "empty"}))
	}},
	{"minus zero", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 20, with(attr("z", math.Copysign(0, -1))))
	}},
	{"no number", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 20, with(attr("nan", math.NaN()), attr("inf", math.Inf(1)), attr("-inf", math.Inf(-1))))
	}},
	{"arrays and maps", func(m *maker, svc func(string, ...span.Attr) int) {
		str := span.StringValue
		m.add(svc("a", attr("r", span.ArrayValue(str("x"), span.IntValue(1)))), "x", 0, 0, 20, with(
			attr("none", span.ArrayValue()), attr("nomap", span.MapValue()),
			attr("list", span.ArrayValue(str("a<b>&\u2028"), span.IntValue(math.MaxInt64), span.DoubleValue(1.5), span.DoubleValue(3), span.BoolValue(true), span.Value{}, span.BytesValue([]byte("xyz")))),
			attr("map", span.MapValue(attr("z", 1), attr("a", span.ArrayValue(span.MapValue(attr("k", "v"))))))),
			event(1, "e", attr("list", span.ArrayValue(str("é")))))
	}},
	{"text", func(m *maker, svc func(string, ...span.Attr) int) {
		all := make([]byte, 128)
		for i := range all {
			all[i] = byte(i)
		}
		m.add(svc("<script>\"'&\\"), "\u2028 \u2029 \u00e9 \U0001F600 \ufffd", 0, 0, 20, with(attr(string(all), string(all)), attr("", "no key")))
	}},
	{"no UTF-8", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a\xff"), "\xc3(\xf0\x9f", 0, 0, 20, with(attr("k\xfe", "v\xed\xa0\x80")), event(1, "\x80"))
	}},
	{"kinds and statuses", func(m *maker, svc func(string, ...span.Attr) int) {
		a := svc("a")
		for k := span.KindUnspecified; k <= span.KindConsumer; k++ {
			m.add(a, "x", 0, float64(k), 1, kind(k), status(span.Status(k%3), strings.Repeat("m", int(k))))
		}
	}},
	{"tags that mean something", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 20, kind(span.KindServer), status(span.StatusError, "bad"),
			with(attr("span.kind", "client"), attr("error", false), attr("otel.status_code", "OK"), attr("http.response.status_code", 500), attr("http.status_code", 200)),
			func(s *span.Span) { s.State, s.Flags = "k=v,x=y", 0x101 })
		m.add(svc("a"), "y", 1, 1, 2, with(attr("span.kind", 7), attr("service.name", "other")))
	}},
	{"library tags", func(m *maker, svc func(string, ...span.Attr) int) {
		a := svc("a", attr("telemetry.sdk.name", "otel"), attr("z", 1), attr("b", 2))
		m.add(a, "x", 0, 0, 20, with(attr("telemetry.sdk.language", "go"), attr("k", "v"), attr("telemetry.distro.version", "1")))
		m.add(a, "y", 1, 1, 2, with(attr("telemetry.sdk.version", "2")))
		m.add(a, "z", 1, 1, 2)
	}},
	{"addresses", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a", attr("ip", 167772161), attr("peer.ipv4", -1)), "x", 0, 0, 20,
			with(attr("ip", 3232235777.0), attr("peer.ipv4", 1<<40+7), attr("peer.ipv4", "4"), attr("ipv4", 7), attr("ip", -2.5)), event(1, "e", attr("ip", 5)))
	}},
	{"events", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 20, event(1, "named", attr("z", 1), attr("a", 2)), event(0.5, ""), event(2, "n", attr("b", 1), attr("event", "attribute"), attr("a", 1)),
			event(3, "n", attr("event", 5), attr("a", 1)), event(4, "", attr("c", 1), attr("event", 3), attr("event", "late"), attr("b", 1)), event(-5000, "before"))
	}},
	{"same key twice", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a", attr("k", 2), attr("k", 1)), "x", 0, 0, 20, with(attr("k", "b"), attr("k", 1), attr("k", "a"), attr("k", 1.5), attr("k", true), attr("k", []byte("x"))))
	}},
	{"no service", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(m.resource("", attr("host", "h")), "x", 0, 0, 20)
		m.add(m.resource(""), "y", 1, 1, 2)
		m.add(m.resource("", attr("service.name", "")), "z", 1, 1, 2)
		m.add(m.resource("", attr("service.name", 5), attr("k", 1)), "w", 1, 1, 2)
		m.add(m.resource("", attr("service.name", 5)), "v", 1, 1, 2)
	}},
	{"no operation", func(m *maker, svc func(string, ...span.Attr) int) { m.add(svc("a"), "", 0, 0, 20) }},
	{"scopes", func(m *maker, svc func(string, ...span.Attr) int) {
		a := svc("a")
		full := m.scope(span.Scope{Name: "lib", Version: "1.2", Attrs: []span.Attr{attr("scope", "attr")}, SchemaURL: "https://s"})
		versioned := m.scope(span.Scope{Version: "3"})
		m.add(a, "x", 0, 0, 20, func(s *span.Span) { s.Scope = full })
		m.add(a, "y", 1, 1, 2, func(s *span.Span) { s.Scope = versioned }, with(attr("otel.scope.name", "mine")))
	}},
	{"dropped", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), "x", 0, 0, 20, func(s *span.Span) { s.DroppedAttrs, s.DroppedEvents, s.DroppedLinks = 1, 2, 3 })
	}},
	{"twelve processes", func(m *maker, svc func(string, ...span.Attr) int) {
		root := m.add(svc("s0"), "x", 0, 0, 50)
		for i := range 24 {
			m.add(svc(fmt.Sprintf("s%d", i%12), attr("b", 1), attr("a", i%12)), "x", root, float64(24-i), 1)
		}
	}},
	{"same process said otherwise", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a", attr("x", 1), attr("y", 2)), "x", 0, 0, 20)
		m.add(svc("a", attr("y", 2), attr("x", 1)), "y", 1, 1, 2)
		m.add(svc("a", attr("y", 2), attr("x", "1")), "y", 1, 1, 2)
	}},
	{"chain", func(m *maker, svc func(string, ...span.Attr) int) {
		a, b := svc("a"), svc("b")
		for i := range 20 {
			m.add([]int{a, b}[i%2], "x", uint64(i), float64(-i), 100-2*float64(i))
		}
	}},
	{"same start", func(m *maker, svc func(string, ...span.Attr) int) {
		a := svc("a")
		for _, n := range []uint64{9, 3, 1 << 63, 5, 1} {
			m.add(a, "x", 0, 0, 1, id(n))
		}
	}},
	{"no number twice", func(m *maker, svc func(string, ...span.Attr) int) {
		a := svc("a")
		for range 3 {
			m.add(a, "x", 0, 0, 1, id(1), with(attr("nan", math.NaN())))
		}
	}},
	{"long", func(m *maker, svc func(string, ...span.Attr) int) {
		m.add(svc("a"), strings.Repeat("n", 300), 0, 0, 1, with(attr(strings.Repeat("k", 300), strings.Repeat("v", 1000))))
	}},
}

// odd has each of them, its number being the low half of the trace id.
func odd() *span.Batch {
	m := &maker{}
	for i, o := range oddTraces {
		m.begin(traceID(uint64(i%2), uint64(i+1)))
		o.make(m, m.resource)
	}
	return &m.batch
}

// chance has traces of everything, decided by the dice.
func chance(traces int) *span.Batch {
	dice := rand.New(rand.NewPCG(4, 62))
	one := func(list ...string) string { return list[dice.IntN(len(list))] }
	value := func() any {
		switch dice.IntN(8) {
		case 0:
			return dice.IntN(1000)
		case 1:
			return int(dice.Uint64())
		case 2:
			return dice.NormFloat64() * math.Pow(10, float64(dice.IntN(40)-20))
		case 3:
			return dice.IntN(2) == 0
		case 4:
			return []byte(one("", "a", "xyz\xff"))
		case 5:
			return span.ArrayValue(span.IntValue(1), span.StringValue(one("a", "é")))
		}
		return one("", "x", "é", "<a&b>", "true", "10.0.0.1", "line\nbreak")
	}
	attrs := func(most int) (out []span.Attr) {
		for range dice.IntN(most + 1) {
			out = append(out, attr(one("ip", "error", "event", "http.status_code", "telemetry.sdk.name", "k", "z", "peer.ipv4", "span.kind"), value()))
		}
		return out
	}
	m := &maker{}
	for i := range traces {
		m.begin(traceID(dice.Uint64N(2), uint64(i+1)))
		resources := []int{m.resource(one("a", "b", "c"), attrs(3)...), m.resource(one("a", "d"), attrs(2)...), m.resource(one("", "e"), attrs(1)...)}
		spans := 1 + dice.IntN(5)
		for range spans {
			n := uint64(1 + dice.IntN(6))
			m.add(resources[dice.IntN(3)], one("x", "y", "z"), uint64(dice.IntN(6)), dice.Float64()*2000-500, dice.Float64()*1000,
				id(n), kind(span.Kind(dice.IntN(6))), with(attrs(3)...), status(span.Status(dice.IntN(3)), one("", "m")))
			s := &m.batch.Spans[len(m.batch.Spans)-1]
			for range dice.IntN(2) {
				event(dice.Float64()*100, one("", "e"), attrs(2)...)(s)
			}
			for range dice.IntN(2) {
				link(traceID(0, dice.Uint64N(3)*uint64(i+1)), dice.Uint64N(6), attr("opentracing.ref_type", one("child_of", "follows_from")))(s)
			}
			if dice.IntN(6) == 0 {
				m.batch.Spans = append(m.batch.Spans, *s)
			}
		}
	}
	return &m.batch
}
