package pebblestore_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/weir-dev/weir/tracing/span"
)

// shop generates traces of ten spans over five services, twelve attributes a span and
// eleven a resource, as bench/traces does.
type shop struct {
	rnd *rand.Rand
	at  time.Time
}

var services = []string{"frontend", "checkout", "cart", "payment", "inventory"}

func newShop(seed uint64, at time.Time) *shop {
	return &shop{rand.New(rand.NewPCG(seed, 1)), at}
}

func (g *shop) resource(i int) span.Resource {
	pod := g.rnd.IntN(4)
	attr := func(k, v string) span.Attr { return span.Attr{Key: k, Value: span.StringValue(v)} }
	return span.Resource{Service: services[i], Attrs: []span.Attr{
		attr("service.name", services[i]), attr("service.version", "1.4.2"), attr("service.namespace", "shop"),
		attr("service.instance.id", fmt.Sprintf("%s-7d9f8b6c5-%04x", services[i], pod)),
		attr("k8s.pod.name", fmt.Sprintf("%s-7d9f8b6c5-%04x", services[i], pod)), attr("k8s.namespace.name", "shop"),
		attr("k8s.node.name", fmt.Sprintf("node-%d", pod)), attr("host.name", fmt.Sprintf("node-%d", pod)),
		attr("telemetry.sdk.name", "opentelemetry"), attr("telemetry.sdk.language", "go"), attr("telemetry.sdk.version", "1.30.0"),
	}}
}

// batch makes spans, ten a trace.
func (g *shop) batch(traces int) *span.Batch {
	b := &span.Batch{Scopes: []span.Scope{{Name: "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", Version: "0.55.0"}}}
	for i := range services {
		b.Resources = append(b.Resources, g.resource(i))
	}
	for range traces {
		g.trace(b)
	}
	return b
}

func (g *shop) trace(b *span.Batch) {
	var id span.TraceID
	binary.BigEndian.PutUint64(id[:], g.rnd.Uint64())
	binary.BigEndian.PutUint64(id[8:], g.rnd.Uint64())
	g.at = g.at.Add(time.Duration(g.rnd.IntN(2_000_000)))
	user, order := fmt.Sprintf("user-%05d", g.rnd.IntN(100_000)), fmt.Sprintf("%08x", g.rnd.Uint32())
	first := len(b.Spans)
	for k := range 10 {
		sv := k / 2
		s := span.Span{TraceID: id, Resource: sv, Flags: 1, Name: "GET /" + services[sv], Kind: span.KindServer}
		binary.BigEndian.PutUint64(s.ID[:], g.rnd.Uint64())
		if k > 0 {
			s.Parent = b.Spans[first+k-1].ID
		}
		if k%2 == 1 {
			s.Kind, s.Name = span.KindClient, "call "+services[min(sv+1, 4)]
		}
		s.Start = uint64(g.at.UnixNano()) + uint64(k*150_000+g.rnd.IntN(90_000))
		s.End = s.Start + uint64(1_000_000+g.rnd.IntN(40_000_000))
		code := int64(200)
		if g.rnd.IntN(50) == 0 {
			s.Status, s.Message, code = span.StatusError, "upstream failed", 500
		}
		str := func(k, v string) span.Attr { return span.Attr{Key: k, Value: span.StringValue(v)} }
		num := func(k string, v int64) span.Attr { return span.Attr{Key: k, Value: span.IntValue(v)} }
		s.Attrs = []span.Attr{
			str("http.request.method", "GET"), str("url.scheme", "https"), str("http.route", "/"+services[sv]+"/{id}"),
			num("http.response.status_code", code), str("url.path", "/"+services[sv]+"/"+order), str("server.address", services[sv]+".shop.svc"),
			num("server.port", 8080), str("network.protocol.version", "1.1"), str("user_agent.original", "shop-client/3.2"),
			str("enduser.id", user), num("http.response.body.size", int64(g.rnd.IntN(20_000))),
			{Key: "cache.hit", Value: span.BoolValue(g.rnd.IntN(2) == 0)},
		}
		b.Spans = append(b.Spans, s)
	}
}
