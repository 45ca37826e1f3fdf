package derive

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// mesh is a generated mesh: 200 services, 1,500 edges. Each span comes when it likes
// within five minutes.
type mesh struct {
	spans  []arrival
	calls  map[pairOf]int
	failed map[pairOf]int
	more   int // spans beside those of the calls
}

type arrival struct {
	after   time.Duration
	service string
	span    span.Span
}

type pairOf struct{ client, server string }

func newMesh(seed uint64, services, edges int) *mesh {
	rnd := rand.New(rand.NewPCG(seed, seed))
	m := &mesh{calls: make(map[pairOf]int), failed: make(map[pairOf]int)}
	name := func(i int) string { return fmt.Sprintf("svc-%03d", i) }
	id := 0
	add := func(service string, s span.Span) {
		s.Start = uint64(epoch.UnixNano())
		s.End = s.Start + uint64(rnd.IntN(1e9))
		m.spans = append(m.spans, arrival{time.Duration(rnd.Int64N(int64(5 * time.Minute))), service, s})
	}
	for len(m.calls) < edges {
		p := pairOf{name(rnd.IntN(services)), name(rnd.IntN(services))}
		if _, ok := m.calls[p]; ok || p.client == p.server {
			continue
		}
		for range 1 + rnd.IntN(20) {
			trace := traceID(1 + rnd.IntN(3000)) // several calls of a trace, also by one service
			id += 4
			local, client, server := spanID(id), spanID(id+1), spanID(id+2)
			status := span.Status(rnd.IntN(3))
			add(p.client, span.Span{TraceID: trace, ID: local, Kind: span.KindInternal, Name: "local", Parent: spanID(1 << 40)})
			add(p.client, span.Span{TraceID: trace, ID: client, Parent: local, Kind: span.KindClient, Name: "call"})
			add(p.server, span.Span{TraceID: trace, ID: server, Parent: client, Kind: span.KindServer, Name: "serve", Status: status})
			add(p.server, span.Span{TraceID: trace, ID: spanID(id + 3), Parent: server, Kind: span.KindInternal, Name: "work"})
			m.calls[p]++
			if status == span.StatusError {
				m.failed[p]++
			}
		}
		if _, ok := m.failed[p]; !ok {
			m.failed[p] = 0
		}
	}
	slices.SortFunc(m.spans, func(a, b arrival) int { return cmp.Compare(a.after, b.after) })
	return m
}

// run lets the spans come, flushing every interval. pause is called between.
func (m *mesh) run(r *rig, pause func()) {
	for at := time.Duration(0); len(m.spans) > 0; at += r.cfg.Interval.Std() {
		for len(m.spans) > 0 && m.spans[0].after < at {
			n := 1
			for n < 20 && n < len(m.spans) && m.spans[n].after < at && m.spans[n].service == m.spans[0].service {
				n++
			}
			b := one(m.spans[0].service, m.spans[0].span)
			for _, more := range m.spans[1:n] {
				b.Spans = append(b.Spans, more.span)
			}
			r.take(b)
			m.spans = m.spans[n:]
		}
		pause()
		r.flush(r.cfg.Interval.Std())
	}
}

// check compares graph and links with the truth.
func (m *mesh) check(r *rig) {
	r.t.Helper()
	want := make([]string, 0, len(m.calls))
	failed := make([]string, 0, len(m.calls))
	for p, n := range m.calls {
		want = append(want, fmt.Sprintf(`{__name__="traces_service_graph_request_total", client="%s", server="%s"} %d`, p.client, p.server, n))
		failed = append(failed, fmt.Sprintf(`{__name__="traces_service_graph_request_failed_total", client="%s", server="%s"} %d`, p.client, p.server, m.failed[p]))
	}
	slices.Sort(want)
	slices.Sort(failed)
	same := func(q string, want []string) {
		r.t.Helper()
		got := r.query(q)
		if slices.Equal(got, want) {
			return
		}
		r.t.Errorf("%s: %d series, want %d", q, len(got), len(want))
		for _, g := range got[:min(len(got), 2000)] {
			if _, ok := slices.BinarySearch(want, g); !ok {
				r.t.Fatalf("%s: got %s, which is not so", q, g)
			}
		}
	}
	same(`traces_service_graph_request_total`, want)
	same(`traces_service_graph_request_failed_total`, failed)
	total := 0
	for _, n := range m.calls {
		total += n
	}
	r.want(`sum(traces_service_graph_request_server_seconds_count)`, fmt.Sprintf("{} %d", total))
	r.want(`sum(histogram_count(traces_service_graph_request_client_seconds))`, fmt.Sprintf("{} %d", total))
	r.want(`traces_service_graph_unpaired_spans_total`)
	r.want(`traces_service_graph_dropped_spans_total`)
	r.want(`sum(traces_spanmetrics_calls_total)`, fmt.Sprintf("{} %d", 4*total+m.more))

	links := make(map[pairOf]int)
	for _, minute := range r.deps {
		for _, l := range minute {
			links[pairOf{l.Parent, l.Child}] += int(l.Calls)
		}
	}
	for p, n := range m.calls {
		if links[p] != n {
			r.t.Fatalf("%d links %s -> %s, want %d", links[p], p.client, p.server, n)
		}
	}
	if len(links) != len(m.calls) {
		r.t.Errorf("links between %d pairs, want %d", len(links), len(m.calls))
	}
}

func TestMeshEqualsTheTruth(t *testing.T) {
	r := newRig(t, nil)
	m := newMesh(1, 200, 1500)
	m.run(r, func() {})
	r.flush(r.cfg.Graph.Wait.Std() + time.Minute)
	m.check(r)
}

// TestKilledMeshEqualsTheTruth kills the process every 15 s, after spans were stored
// and taken, every other time with a checkpoint in between: what the next process
// knows is what the killed one did.
func TestKilledMeshEqualsTheTruth(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Graph.Wait = conf.Duration(10 * time.Minute) })
	m := newMesh(2, 40, 150)
	rounds := 0
	m.run(r, func() {
		if rounds++; rounds%2 == 0 {
			r.flush(time.Second)
			r.take(one("svc-000", span.Span{TraceID: traceID(1), ID: spanID(1 << 41), Name: "after the checkpoint"}))
			m.more++
		}
		before := r.d.totals()
		r.start()
		if after := r.d.totals(); !maps.EqualFunc(before, after, near) {
			t.Fatalf("round %d: %d totals before the kill, %d after, or others", rounds, len(before), len(after))
		}
	})
	r.flush(r.cfg.Graph.Wait.Std() + time.Minute)
	m.check(r)
	for _, metric := range []string{
		"spanmetrics_calls_total", "spanmetrics_latency", "spanmetrics_latency_bucket", "spanmetrics_latency_sum",
		"service_graph_request_total", "service_graph_request_server_seconds", "service_graph_request_client_seconds_bucket",
	} {
		r.want(`count(resets(traces_` + metric + `[15m]) > 0)`)
	}
}

// near allows for sums of seconds, which are added in another order.
func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Abs(a) }

// totals is every count by a name of its own.
func (d *Derive) totals() map[string]float64 {
	all := make(map[string]float64)
	for _, svc := range d.services {
		svc.each(func(x *series) {
			name := fmt.Sprint(svc.name, x.name, x.kind, x.status, x.dims)
			all[name], all[name+"sum"] = x.total.calls, x.total.latency.sum
			for i, c := range x.total.latency.classic {
				all[fmt.Sprint(name, i)] = c
			}
		})
	}
	for _, e := range d.graph.list() {
		names := d.names.all()
		name := fmt.Sprint(names[e.key.client], names[e.key.server], e.key.conn)
		all[name], all[name+"failed"] = e.total.calls, e.total.failed
		all[name+"client"], all[name+"server"] = e.total.client.sum, e.total.server.sum
	}
	return all
}

func TestEdges(t *testing.T) {
	const a, b = 10, 20 // span ids
	sp := func(id, parent int, kind span.Kind) span.Span {
		return span.Span{TraceID: traceID(1), ID: spanID(id), Parent: spanID(parent), Kind: kind, Name: "x"}
	}
	linked := sp(b, 0, span.KindConsumer)
	linked.TraceID = traceID(2)
	linked.Links = []span.Link{{TraceID: traceID(1), ID: spanID(a)}, {TraceID: traceID(1), ID: spanID(a + 1)}}
	for name, c := range map[string]struct {
		spans []*span.Batch
		want  []string
		links []string
	}{
		"client, server": {
			spans: []*span.Batch{one("a", sp(a, 1, span.KindClient)), one("b", sp(b, a, span.KindServer))},
			want:  []string{`request_total a b  1`}, links: []string{"a b 1"},
		},
		"client of itself": {
			spans: []*span.Batch{one("a", sp(a, 1, span.KindClient)), one("a", sp(b, a, span.KindServer))},
			want:  []string{`request_total a a  1`},
		},
		"client answered twice": {
			spans: []*span.Batch{one("a", sp(a, 1, span.KindClient)), one("b", sp(b, a, span.KindServer)), one("c", sp(b+1, a, span.KindServer))},
			want:  []string{`request_total a b  1`, `request_total a c  1`}, links: []string{"a b 1", "a c 1"},
		},
		"user": {
			spans: []*span.Batch{one("a", sp(a, 0, span.KindServer))},
			want:  []string{`request_total user a  1`},
		},
		"server below a local span of another service": {
			spans: []*span.Batch{one("a", sp(a, 0, span.KindInternal)), one("b", sp(b, a, span.KindServer))},
			want:  []string{`unpaired_spans_total  b  1`}, links: []string{"a b 1"},
		},
		"several server spans of a service": {
			spans: []*span.Batch{one("a", sp(a, 0, span.KindServer)), one("a", sp(b, a, span.KindServer)), one("a", sp(b+1, b, span.KindServer))},
			want:  []string{`request_total user a  1`},
		},
		"local span of another service": {
			spans: []*span.Batch{one("a", sp(a, 0, span.KindServer)), one("b", sp(b, a, span.KindInternal))},
			want:  []string{`request_total user a  1`}, links: []string{"a b 1"},
		},
		"database": {
			spans: []*span.Batch{one("a", sp(a, 1, span.KindClient), "db.system", "redis", "peer.service", "cache")},
			want:  []string{`request_total a redis database 1`},
		},
		"database that sends spans": {
			spans: []*span.Batch{one("a", sp(a, 1, span.KindClient), "db.name", "x"), one("db", sp(b, a, span.KindServer))},
			want:  []string{`request_total a x database 1`}, links: []string{"a db 1"},
		},
		"peer": {
			spans: []*span.Batch{one("a", sp(a, 1, span.KindClient), "server.address", "10.0.0.1", "peer.service", "bank")},
			want:  []string{`request_total a bank virtual_node 1`},
		},
		"peer that answers": {
			spans: []*span.Batch{one("a", sp(a, 1, span.KindClient), "peer.service", "bank"), one("b", sp(b, a, span.KindServer))},
			want:  []string{`request_total a b  1`}, links: []string{"a b 1"},
		},
		"nobody answers": {
			spans: []*span.Batch{one("a", sp(a, 1, span.KindClient))},
			want:  []string{`unpaired_spans_total a   1`},
		},
		"nobody called": {
			spans: []*span.Batch{one("b", sp(b, a, span.KindServer))},
			want:  []string{`unpaired_spans_total  b  1`},
		},
		"producer, two consumers": {
			spans: []*span.Batch{one("a", sp(a, 1, span.KindProducer)), one("b", sp(b, a, span.KindConsumer)), one("c", sp(b+1, a, span.KindConsumer))},
			want:  []string{`request_total a b messaging_system 1`, `request_total a c messaging_system 1`}, links: []string{"a b 1", "a c 1"},
		},
		"consumer of a trace of its own": {
			spans: []*span.Batch{one("a", sp(a, 1, span.KindProducer)), one("b", linked), one("a", sp(a+1, 1, span.KindProducer))},
			want:  []string{`request_total a b messaging_system 2`}, links: []string{"a b 2"},
		},
		"queue": {
			spans: []*span.Batch{
				one("a", sp(a, 1, span.KindProducer), "messaging.system", "kafka", "messaging.destination.name", "orders"),
				one("b", sp(b, 0, span.KindConsumer), "messaging.destination.name", "orders"),
			},
			want: []string{`request_total a orders messaging_system 1`, `request_total orders b messaging_system 1`},
		},
	} {
		for _, order := range []string{"as told", "turned round"} {
			t.Run(name+", "+order, func(t *testing.T) {
				r := newRig(t, nil)
				spans := slices.Clone(c.spans)
				if order == "turned round" {
					slices.Reverse(spans)
				}
				for _, s := range spans {
					r.take(s)
				}
				r.flush(time.Second)
				r.flush(r.cfg.Graph.Wait.Std())
				r.flush(time.Minute)
				got := []string{}
				names := r.d.names.all()
				for _, e := range r.d.graph.list() {
					metric := "request_total"
					if e.key.conn == unpaired {
						metric = "unpaired_spans_total"
					}
					got = append(got, fmt.Sprintf("%s %s %s %s %v", metric, names[e.key.client], names[e.key.server], connNames[e.key.conn], e.total.calls))
				}
				slices.Sort(got)
				if !slices.Equal(got, c.want) {
					t.Errorf("edges %q, want %q", got, c.want)
				}
				links := []string{}
				for _, minute := range r.deps {
					for _, l := range minute {
						links = append(links, fmt.Sprintf("%s %s %d", l.Parent, l.Child, l.Calls))
					}
				}
				if !slices.Equal(links, append([]string{}, c.links...)) {
					t.Errorf("links %q, want %q", links, c.links)
				}
			})
		}
	}
}

func TestEvictionIsCounted(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Graph.MaxWaiting = 16 })
	const n = 1000
	for i := range n {
		r.take(one("a", span.Span{TraceID: traceID(i + 1), ID: spanID(i + 1), Parent: spanID(1 << 40), Kind: span.KindClient}))
	}
	r.flush(time.Second)
	r.flush(r.cfg.Graph.Wait.Std() + time.Second)
	r.want(`traces_service_graph_unpaired_spans_total`, `{__name__="traces_service_graph_unpaired_spans_total", client="a"} 16`)
	r.want(`traces_service_graph_dropped_spans_total`, fmt.Sprintf(`{__name__="traces_service_graph_dropped_spans_total", client="a"} %d`, n-16))
	if got := r.d.Status(); got.Waiting != 0 || got.Evicted != n-16 {
		t.Errorf("%+v, want none waiting, %d evicted", got, n-16)
	}
}

// TestRepeatedIDsAreBounded would take minutes if halves alike were searched one by one.
func TestRepeatedIDsAreBounded(t *testing.T) {
	r := newRig(t, nil)
	b := one("a", span.Span{TraceID: traceID(1), ID: spanID(1), Parent: spanID(2), Kind: span.KindClient})
	for range 200_000 {
		r.d.Take(b, nil, epoch)
	}
	if got := r.d.Status(); got.Waiting != maxAlike || got.Evicted != 200_000-maxAlike {
		t.Errorf("%+v, want %d waiting", got, maxAlike)
	}
}

func TestEdgesAreBounded(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Graph.MaxEdges = 2 })
	for i := range 5 {
		r.take(one(fmt.Sprint("s", i), span.Span{TraceID: traceID(1), ID: spanID(i + 1), Kind: span.KindServer}))
	}
	r.flush(time.Second)
	r.want(`sum(traces_service_graph_request_total)`, `{} 5`)
	r.want(`traces_service_graph_request_total{client="_other"}`, `{__name__="traces_service_graph_request_total", client="_other", server="_other"} 3`)
}

func TestLinksWaitForAStoreThatFails(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Graph.Wait = conf.Duration(time.Minute) })
	r.fail = errors.New("full")
	r.take(one("a", span.Span{TraceID: traceID(1), ID: spanID(1), Kind: span.KindClient}))
	r.take(one("b", span.Span{TraceID: traceID(1), ID: spanID(2), Parent: spanID(1), Kind: span.KindServer}))
	r.flush(time.Second)
	r.now = r.now.Add(2 * time.Minute)
	if err := r.d.Flush(t.Context()); !errors.Is(err, r.fail) {
		t.Fatalf("flush: %v, want %v", err, r.fail)
	}
	r.fail = nil
	r.start() // they are in the checkpoint
	r.flush(time.Minute)
	want := []spanstore.Dependency{{Parent: "a", Child: "b", Calls: 1}}
	if got := r.deps[epoch]; len(r.deps) != 1 || !slices.Equal(got, want) {
		t.Errorf("links %v, want %v at %s", r.deps, want, epoch)
	}
}
