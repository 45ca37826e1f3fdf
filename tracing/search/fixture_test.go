package search

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/span"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 8, 22, 12, 0, 0, 0, time.UTC)

func str(k, v string) span.Attr       { return span.Attr{Key: k, Value: span.StringValue(v)} }
func num(k string, v int64) span.Attr { return span.Attr{Key: k, Value: span.IntValue(v)} }

// shop makes traces of a shop: root GET / of frontend, which calls cart once or twice
// and payment now and then, each client and server.
type shop struct {
	rnd     *rand.Rand
	version string        // of cart
	slow    time.Duration // more time in cart
	b       *span.Batch
	id      span.TraceID
}

func newShop(seed uint64) *shop {
	return &shop{rnd: rand.New(rand.NewPCG(seed, 7)), version: "1.0"}
}

func (g *shop) ms(least, most int) uint64 { return uint64(1e6 * (least + g.rnd.IntN(most-least+1))) }

// trace makes one that starts so long after noon.
func (g *shop) trace(after time.Duration) *span.Batch {
	binary.BigEndian.PutUint64(g.id[:], g.rnd.Uint64())
	binary.BigEndian.PutUint64(g.id[8:], g.rnd.Uint64())
	g.b = &span.Batch{Scopes: []span.Scope{{}}}
	for _, name := range []string{"frontend", "cart", "payment"} {
		r := span.Resource{Service: name, Attrs: []span.Attr{str("service.name", name)}}
		if name == "cart" {
			r.Attrs = append(r.Attrs, str("service.version", g.version))
		}
		g.b.Resources = append(g.b.Resources, r)
	}
	at := uint64(noon.Add(after).UnixNano())
	root := g.span(0, span.ID{}, "GET /", span.KindServer, at)
	now := at + g.ms(1, 3)
	for range 1 + g.rnd.IntN(2) {
		now = g.call(root, 1, "GET /cart", now, g.ms(3, 20)+uint64(g.slow)) + g.ms(1, 2)
	}
	if g.rnd.IntN(3) == 0 {
		now = g.call(root, 2, "POST /pay", now, g.ms(10, 40))
	}
	g.b.Spans[root].End = now + g.ms(1, 4)
	return g.b
}

func (g *shop) span(service int, parent span.ID, name string, kind span.Kind, start uint64) int {
	s := span.Span{TraceID: g.id, Resource: service, Parent: parent, Name: name, Kind: kind, Start: start}
	binary.BigEndian.PutUint64(s.ID[:], g.rnd.Uint64())
	g.b.Spans = append(g.b.Spans, s)
	return len(g.b.Spans) - 1
}

// call makes a client span and its server, and gives the client's end.
func (g *shop) call(from, to int, name string, start, took uint64) uint64 {
	client := g.span(g.b.Spans[from].Resource, g.b.Spans[from].ID, name, span.KindClient, start)
	server := g.span(to, g.b.Spans[client].ID, name, span.KindServer, start+5e5)
	c, s := &g.b.Spans[client], &g.b.Spans[server]
	c.End, s.End = start+took+1e6, start+5e5+took
	code := int64(200)
	if g.rnd.IntN(10) == 0 {
		code = 500 + int64(g.rnd.IntN(4))
		c.Status, s.Status, s.Message = span.StatusError, span.StatusError, fmt.Sprintf("order %d of user-%08x: no answer after %dms", g.rnd.IntN(9999), g.rnd.Uint32(), g.rnd.IntN(900))
		s.Events = []span.Event{{Time: s.End, Name: "exception", Attrs: []span.Attr{str("exception.type", "TimeoutError")}}}
	}
	c.Attrs = []span.Attr{num("http.response.status_code", code), str("http.route", name[4:])}
	s.Attrs = []span.Attr{num("http.response.status_code", code), str("region", []string{"eu", "us"}[g.rnd.IntN(2)])}
	return c.End
}

// traces makes n, evenly over a time that starts so long after noon.
func (g *shop) traces(n int, after, over time.Duration) (list []*span.Batch) {
	for i := range n {
		list = append(list, g.trace(after+over*time.Duration(i)/time.Duration(n)))
	}
	return list
}

// stored puts traces into an embedded store.
func stored(t testing.TB, lists ...[]*span.Batch) *pebblestore.Store {
	t.Helper()
	cfg := pebblestore.DefaultConfig()
	cfg.Dir, cfg.MinFree = t.TempDir(), 0
	cfg.Memory.Cache, cfg.Memory.Memtable = 8<<20, 4<<20
	s, err := pebblestore.New(cfg, pebblestore.Deps{
		Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return noon.Add(2 * time.Hour) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for _, list := range lists {
		for _, b := range list {
			if _, err := s.Append(context.Background(), b); err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

func deps(s *pebblestore.Store) Deps {
	return Deps{Reader: s, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return noon.Add(time.Hour) }}
}
