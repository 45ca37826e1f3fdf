package packtest

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/weir-dev/weir/tracing/span"
)

// SpansPerTrace of the shop, of which all have 12 attributes and their resources 11.
const SpansPerTrace = 10

// calls of a trace: service, its caller's place, what it does.
var calls = [SpansPerTrace]struct {
	service, parent int
	kind            span.Kind
	name            string
}{
	{0, -1, span.KindServer, "GET /api/cart/{id}"},
	{0, 0, span.KindClient, "cart.Cart/Get"},
	{1, 1, span.KindServer, "cart.Cart/Get"},
	{1, 2, span.KindClient, "SELECT cart.items"},
	{0, 0, span.KindClient, "POST /orders"},
	{2, 4, span.KindServer, "POST /orders/{order}"},
	{2, 5, span.KindClient, "INSERT shop.orders"},
	{2, 5, span.KindProducer, "orders publish"},
	{3, 7, span.KindConsumer, "orders process"},
	{4, 8, span.KindServer, "mail.Mail/Send"},
}

// Shop appends traces of five services to a batch, the first at start, one each gap.
func Shop(r *rand.Rand, b *span.Batch, traces int, start, gap uint64) {
	const pods = 4
	if len(b.Resources) == 0 {
		b.Scopes = append(b.Scopes, span.Scope{Name: "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", Version: "0.60.0"})
		for s := range 5 {
			for p := range pods {
				b.Resources = append(b.Resources, resource(s, p))
			}
		}
	}
	for range traces {
		trace(r, b, start, r.IntN(pods))
		start += gap
	}
}

func resource(service, pod int) span.Resource {
	name := fmt.Sprintf("shop-%d", service)
	attrs := []span.Attr{
		str("service.name", name), str("service.namespace", "shop"), str("service.version", "1.2.3"),
		str("service.instance.id", fmt.Sprintf("6f1c9e2a-8b1d-4c3e-9f00-0000000000%d%d", service, pod)),
		str("k8s.namespace.name", "shop"), str("k8s.pod.name", fmt.Sprintf("%s-7d9f8b6c5-x%dk2p", name, pod)),
		str("k8s.node.name", fmt.Sprintf("node-%d", pod)), str("k8s.cluster.name", "eu-1"),
		str("telemetry.sdk.language", "go"), str("telemetry.sdk.name", "opentelemetry"), str("telemetry.sdk.version", "1.37.0"),
	}
	return span.Resource{Attrs: attrs, Service: name}
}

func trace(r *rand.Rand, b *span.Batch, start uint64, pod int) {
	var id span.TraceID
	binary.BigEndian.PutUint64(id[:8], r.Uint64())
	binary.BigEndian.PutUint64(id[8:], r.Uint64())
	user := fmt.Sprintf("user-%d", r.IntN(100_000))
	request := fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", r.Uint32(), r.IntN(1<<16), r.IntN(1<<12), r.IntN(1<<12), r.Uint64N(1<<48))
	var ids [SpansPerTrace]span.ID
	length := uint64(math.Exp(r.NormFloat64()*0.8) * 50e6)
	for i, c := range calls {
		binary.BigEndian.PutUint64(ids[i][:], r.Uint64())
		s := span.Span{
			Resource: c.service*4 + pod, TraceID: id, ID: ids[i], Flags: 0x101, Kind: c.kind, Name: c.name,
			Start: start, End: start + length,
		}
		if c.parent >= 0 {
			s.Parent = ids[c.parent]
		}
		s.Attrs = attributes(r, i, user, request)
		if r.IntN(50) == 0 {
			s.Status, s.Message = span.StatusError, "deadline exceeded"
			s.Events = []span.Event{{Time: s.End, Name: "exception", Attrs: []span.Attr{str("exception.type", "Timeout")}}}
		}
		b.Spans = append(b.Spans, s)
		start += r.Uint64N(2e6)
		length = length * uint64(50+r.IntN(45)) / 100
	}
}

func attributes(r *rand.Rand, i int, user, request string) []span.Attr {
	peer := fmt.Sprintf("10.%d.%d.%d", r.IntN(4), r.IntN(16), r.IntN(256))
	switch calls[i].kind {
	case span.KindServer:
		return []span.Attr{
			str("http.request.method", "GET"), str("url.scheme", "https"), str("url.path", fmt.Sprintf("/api/cart/%d", r.IntN(1e6))),
			str("http.route", fmt.Sprintf("/api/%d/{id}", i)), num("http.response.status_code", int64(200+r.IntN(3)*100)),
			str("server.address", "shop.example.com"), num("server.port", 8443), str("client.address", peer),
			str("user_agent.original", fmt.Sprintf("Mozilla/5.0 (X11; Linux x86_64) Firefox/%d.0", 100+r.IntN(30))),
			str("network.protocol.version", "1.1"), str("enduser.id", user), num("http.response.body.size", int64(r.IntN(1e5))),
		}
	case span.KindProducer, span.KindConsumer:
		return []span.Attr{
			str("messaging.system", "kafka"), str("messaging.destination.name", "orders"), str("messaging.operation.name", "publish"),
			num("messaging.kafka.offset", int64(r.IntN(1e8))), num("messaging.destination.partition.id", int64(r.IntN(12))),
			str("messaging.client.id", "orders-1"), num("messaging.message.body.size", int64(r.IntN(4096))), str("server.address", "kafka-0"),
			num("server.port", 9092), str("request.id", request), str("messaging.consumer.group.name", "mailer"), yes("retried", r.IntN(20) == 0),
		}
	}
	return []span.Attr{
		str("db.system.name", "postgresql"), str("db.namespace", "shop"), str("db.operation.name", "SELECT"), str("db.collection.name", "items"),
		str("db.query.text", "SELECT id, name, price FROM items WHERE cart = $1 ORDER BY id LIMIT 100"),
		num("db.response.returned_rows", int64(r.IntN(100))), str("server.address", "pg-0.shop.svc"), num("server.port", 5432),
		str("request.id", request), num("thread.id", int64(r.IntN(64))), yes("cache.hit", r.IntN(3) == 0), str("network.peer.address", peer),
	}
}

func str(k, v string) span.Attr {
	return span.Attr{Key: k, Value: span.Value{Type: span.TypeString, Str: v}}
}

func num(k string, v int64) span.Attr {
	return span.Attr{Key: k, Value: span.Value{Type: span.TypeInt, Num: uint64(v)}}
}

func yes(k string, v bool) span.Attr {
	a := span.Attr{Key: k, Value: span.Value{Type: span.TypeBool}}
	if v {
		a.Value.Num = 1
	}
	return a
}

// Any makes a batch of spans in which every field is likely to be something, of a few
// traces, and much is equal to something else.
func Any(r *rand.Rand, spans int) *span.Batch {
	m := maker{r}
	b := &span.Batch{}
	for range 1 + r.IntN(4) {
		res := span.Resource{Attrs: m.attrs(4), Dropped: uint32(m.number()), SchemaURL: m.text()}
		if r.IntN(4) > 0 {
			name := m.pick("a", "b", "shop/ü", "")
			res.Attrs = append(res.Attrs, str("service.name", name))
		}
		for _, a := range res.Attrs {
			if a.Key == "service.name" && a.Value.Type == span.TypeString {
				res.Service = a.Value.Str
				break
			}
		}
		if r.IntN(8) == 0 {
			res.Service = "named apart"
		}
		b.Resources = append(b.Resources, res)
	}
	for range 1 + r.IntN(3) {
		b.Scopes = append(b.Scopes, span.Scope{Name: m.text(), Version: m.text(), Attrs: m.attrs(2), Dropped: uint32(m.number()), SchemaURL: m.text()})
	}
	for range spans {
		b.Spans = append(b.Spans, m.span(b))
	}
	return b
}

type maker struct{ *rand.Rand }

func (m maker) span(b *span.Batch) span.Span {
	s := span.Span{
		Resource: m.IntN(len(b.Resources)), Scope: m.IntN(len(b.Scopes)), Name: m.pick("GET /", "list", "", "op-17"),
		Kind: span.Kind(m.IntN(6)), Status: span.Status(m.IntN(3)), Flags: m.Uint32() >> m.IntN(32), State: m.rarely(m.text()),
		Message: m.rarely(m.text()), Start: 1_700_000_000_000_000_000 + m.Uint64N(1e9),
	}
	s.TraceID[15] = byte(m.IntN(4))
	s.ID[7], s.ID[0] = byte(m.IntN(12)), byte(m.IntN(2))
	switch m.IntN(6) {
	case 0:
	case 1:
		binary.LittleEndian.PutUint64(s.Parent[:], m.Uint64())
	case 2:
		s.Parent = s.ID
	default:
		s.Parent[7], s.Parent[0] = byte(m.IntN(12)), byte(m.IntN(2))
	}
	s.End = s.Start + m.Uint64N(1e7)*m.Uint64N(1e3)
	switch m.IntN(20) {
	case 0:
		s.Start, s.End = s.End, s.Start
	case 1:
		s.Start, s.End = 0, m.Uint64()
	case 2:
		s.Start, s.End = m.Uint64(), 0
	}
	if m.IntN(3) == 0 { // a coarse clock
		s.Start, s.End = s.Start/1000*1000, s.End/1000*1000
	}
	s.Attrs = m.attrs(6)
	if m.IntN(5) == 0 {
		for range 1 + m.IntN(3) {
			s.Events = append(s.Events, span.Event{Time: s.Start + m.Uint64N(1e6) - 1000, Name: m.text(), Attrs: m.attrs(3), Dropped: uint32(m.number())})
		}
		s.DroppedEvents = uint32(m.number())
	}
	if m.IntN(5) == 0 {
		for range 1 + m.IntN(3) {
			l := span.Link{State: m.rarely(m.text()), Flags: uint32(m.number()), Attrs: m.attrs(2), Dropped: uint32(m.number())}
			l.TraceID[15], l.ID[3] = byte(m.IntN(4)), byte(m.IntN(256))
			s.Links = append(s.Links, l)
		}
		s.DroppedLinks = uint32(m.number())
	}
	if m.IntN(10) == 0 {
		s.DroppedAttrs = uint32(m.number())
	}
	return s
}

func (m maker) pick(of ...string) string { return of[m.IntN(len(of))] }

func (m maker) rarely(s string) string {
	if m.IntN(5) > 0 {
		return ""
	}
	return s
}

func (m maker) number() uint64 { return m.Uint64() >> (32 + m.IntN(32)) }

// text is of all the kinds that pack writes in a way of its own.
func (m maker) text() string {
	switch m.IntN(12) {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("%016x", m.Uint64())
	case 2:
		return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", m.Uint32(), m.IntN(1<<16), m.IntN(1<<12), m.IntN(1<<12), m.Uint64N(1<<48))
	case 3:
		return fmt.Sprint(m.Uint64() >> m.IntN(60))
	case 4:
		return fmt.Sprintf("user-%d", m.IntN(1e6))
	case 5:
		return fmt.Sprintf("user-%09d", m.IntN(1e6))
	case 6:
		return m.pick("0000123456", "deadbeefdeadbeeF", "DEADBEEFDEADBEEF", "abcdefabcdefabcde", "99999999999999999999", "0", "00000",
			"6f1c9e2a-8b1d-4c3e-9f00-00000000000g", "6F1c9e2a-8b1d-4c3e-9f00-000000000000", "6f1c9e2a-8b1d-4c3e-9f00-0000000000001")
	case 7:
		long := make([]byte, m.IntN(400))
		for i := range long {
			long[i] = byte(m.IntN(256))
		}
		return string(long)
	default:
		return m.pick("GET", "POST", "200", "500", "true", "pg-0.shop.svc", "ERROR", "server", "SELECT 1", "\xff\xfe", "ü")
	}
}

func (m maker) attrs(most int) []span.Attr {
	var l []span.Attr
	for range m.IntN(most + 1) {
		l = append(l, span.Attr{Key: m.pick("http.method", "http.status_code", "http.response.status_code", "error", "span.kind",
			"db.statement", "k", "", "user", "otel.status_code", "a.long.key.of.some.library"), Value: m.value()})
	}
	return l
}

func (m maker) value() span.Value {
	switch t := span.Type(m.IntN(14)); t {
	case span.TypeEmpty:
		return span.Value{}
	case span.TypeBool:
		return span.Value{Type: t, Num: m.Uint64N(2)}
	case span.TypeInt:
		return span.Value{Type: t, Num: []uint64{m.Uint64(), uint64(m.IntN(600)), -uint64(m.IntN(1e6)), 200}[m.IntN(4)]}
	case span.TypeDouble:
		return span.Value{Type: t, Num: []uint64{m.Uint64(), math.Float64bits(1.5), math.Float64bits(-3), math.Float64bits(math.Copysign(0, -1)), 0}[m.IntN(5)]}
	case span.TypeArray: // ["GET", 7]
		return span.Value{Type: t, Str: "\x0a\x05\x0a\x03GET\x0a\x02\x18\x07"}
	case span.TypeMap: // {"k": true}
		return span.Value{Type: t, Str: "\x0a\x07\x0a\x01k\x12\x02\x10\x01"}
	case span.TypeBytes:
		return span.Value{Type: t, Str: m.text()}
	default:
		return span.Value{Type: span.TypeString, Str: m.text()}
	}
}

// ByTrace groups the spans of a batch by trace, in the order they come.
func ByTrace(b *span.Batch) (ids []span.TraceID, spans [][]int) {
	at := map[span.TraceID]int{}
	for i := range b.Spans {
		id := b.Spans[i].TraceID
		k, ok := at[id]
		if !ok {
			k = len(ids)
			at[id] = k
			ids, spans = append(ids, id), append(spans, nil)
		}
		spans[k] = append(spans[k], i)
	}
	return ids, spans
}
