package derive

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/weir-dev/weir/tracing/span"
)

// conn is a connection_type, or marks an edge that is none.
type conn uint8

const (
	connPlain conn = iota
	connMessaging
	connDatabase
	connVirtual
	// Spans of a service that found no other half; the other end is nobody.
	unpaired
	dropped
)

var connNames = [...]string{"", "messaging_system", "database", "virtual_node", "", ""}

// edgeKey names an edge.
type edgeKey struct {
	client, server nodeID
	conn           conn
}

// edge is the calls of one node by another.
type edge struct {
	key edgeKey

	mu    sync.Mutex
	gone  bool
	total edgeTotals
	born  int64
	last  int64

	// Of the flush alone.
	shown  edgeTotals
	seenAt int64 // last
	out    output
}

// edgeTotals is what is counted. A histogram with no buckets was never seen.
type edgeTotals struct {
	calls, failed  float64
	server, client hist
}

// graph is who calls whom.
//
// Halves of calls and what is remembered of spans lie in shards by trace, so that the
// spans of a trace need one lock. At most one shard is locked by a goroutine.
type graph struct {
	d       *Derive
	seed    maphash.Seed
	shards  [numShards]shard
	evicted atomic.Uint64

	mu    sync.RWMutex
	edges map[edgeKey]*edge
}

// numShards bounds contention; unmeasured: more than the cores that decode spans.
const numShards = 16

func newGraph(d *Derive) *graph {
	g := &graph{d: d, seed: maphash.MakeSeed(), edges: make(map[edgeKey]*edge)}
	for i := range g.shards {
		g.shards[i].init(&d.cfg.Graph)
	}
	return g
}

// call is a span as the graph sees it.
type call struct {
	s       *span.Span
	svc     *service
	seconds float64
	weight  float64
	at      int64

	database, peer, queue string // borrowed; empty: not named
}

func (c *call) caller() bool {
	return c.s.Kind == span.KindClient || c.s.Kind == span.KindProducer
}

func (c *call) callee() bool {
	return c.s.Kind == span.KindServer || c.s.Kind == span.KindConsumer
}

func (c *call) half(d *Derive) half {
	h := half{
		trace: c.s.TraceID, span: c.s.ID, node: c.svc.node, born: c.at,
		seconds: c.seconds, weight: c.weight, failed: c.s.Status == span.StatusError,
		message: c.s.Kind == span.KindProducer || c.s.Kind == span.KindConsumer,
	}
	if c.callee() {
		h.side = callee
	}
	switch {
	case h.message && c.queue != "":
		h.peer, h.peerConn = d.virtual(c.queue), connMessaging
	case c.caller() && c.peer != "":
		h.peer, h.peerConn = d.virtual(c.peer), connVirtual
	}
	return h
}

func (d *Derive) virtual(name string) nodeID {
	return d.names.number(clean(name, d.cfg.MaxNameLength), true)
}

func (g *graph) trace(id *span.TraceID) uint64 { return maphash.Bytes(g.seed, id[:]) }

// lock holds the shard of a trace hash until another is wanted, or Take ends.
func (t *taking) lock(trace uint64) *shard {
	sh := &t.d.graph.shards[trace>>60]
	if sh != t.held {
		if t.held != nil {
			t.held.mu.Unlock()
		}
		sh.mu.Lock()
		t.held = sh
	}
	return sh
}

// graph puts a span in its place: first as the parent of spans that came before it,
// then as the child of its own.
func (t *taking) graph(c *call) {
	trace := t.d.graph.trace(&c.s.TraceID)
	sh := t.lock(trace)
	if !c.s.ID.IsZero() {
		t.asParent(sh, trace, c)
	}
	switch {
	case c.s.Parent.IsZero():
		t.asRoot(c)
	case c.callee():
		t.asCallee(sh, keyOf(trace, c.s.TraceID, c.s.Parent), c)
	default:
		t.asChild(sh, keyOf(trace, c.s.TraceID, c.s.Parent).hash, c)
	}
}

func (t *taking) asParent(sh *shard, trace uint64, c *call) {
	g, k := t.d.graph, keyOf(trace, c.s.TraceID, c.s.ID)
	known := memory{node: c.svc.node}
	if c.caller() {
		known.called, known.message = true, c.s.Kind == span.KindProducer
		if c.database != "" && !known.message {
			known.answered = true
			mine := c.half(t.d)
			g.record(edgeKey{c.svc.node, t.d.virtual(c.database), connDatabase}, &mine, &mine, c.at)
		}
	}
	waiting := known.called && !known.answered
	for {
		theirs, ok := sh.take(k, callee)
		if !ok {
			break
		}
		switch t.link(c.svc.node, theirs.node); {
		case known.called && !known.answered:
			var mine *half // of the first call only: the client has one duration
			if waiting {
				h := c.half(t.d)
				mine = &h
			}
			g.pair(c.svc.node, known.message, mine, &theirs, c.at)
			waiting = false
		case known.called || c.svc.node == theirs.node:
		default:
			g.alone(&theirs, unpaired, c.at)
		}
	}
	for {
		node, ok := sh.awaited.take(k.hash, c.at)
		if !ok {
			break
		}
		t.link(c.svc.node, nodeID(node))
	}
	if waiting {
		h := c.half(t.d)
		h.key = k
		t.d.graph.keep(sh, &h)
	} else {
		sh.seen.put(k.hash, known.pack(), c.at)
	}
}

// asRoot is a span without a parent: its caller is a user, or a queue.
func (t *taking) asRoot(c *call) {
	g := t.d.graph
	switch mine := c.half(t.d); {
	case c.s.Kind == span.KindServer:
		g.record(edgeKey{userNode, c.svc.node, connPlain}, nil, &mine, c.at)
	case c.s.Kind != span.KindConsumer:
	case len(c.s.Links) > 0:
		// A consumer that begins a trace links to the producers'. More than a few are
		// a batch; each message of it is a call.
		for i := range c.s.Links[:min(len(c.s.Links), maxLinks)] {
			l := &c.s.Links[i]
			trace := g.trace(&l.TraceID)
			t.asCallee(t.lock(trace), keyOf(trace, l.TraceID, l.ID), c)
		}
	default:
		g.alone(&mine, unpaired, c.at)
	}
}

// maxLinks bounds what one span may cost; unmeasured: the SDKs allow 128 links.
const maxLinks = 128

// asCallee looks for the caller with key k.
func (t *taking) asCallee(sh *shard, k key, c *call) {
	g, mine := t.d.graph, c.half(t.d)
	if theirs, ok := sh.take(k, caller); ok {
		known := memory{node: theirs.node, called: true, message: theirs.message}
		sh.seen.put(k.hash, known.pack(), c.at)
		t.link(theirs.node, c.svc.node)
		g.pair(theirs.node, theirs.message, &theirs, &mine, c.at)
		return
	}
	v, ok := sh.seen.find(k.hash, c.at)
	if !ok {
		mine.key = k
		g.keep(sh, &mine)
		return
	}
	switch known := unpack(v); {
	case known.called && !known.answered:
		t.link(known.node, c.svc.node)
		g.pair(known.node, known.message, nil, &mine, c.at)
	case known.node != c.svc.node:
		t.link(known.node, c.svc.node)
		if !known.called {
			g.alone(&mine, unpaired, c.at)
		}
	}
}

// Bits of a span's flags (OTLP): whether the sender tells if the parent is in another
// process, and if it is.
const (
	tellsRemote = 0x100
	isRemote    = 0x200
)

// asChild is a span that nobody called. Its parent may be in another service all the
// same, where libraries make no server spans.
func (t *taking) asChild(sh *shard, parent uint64, c *call) {
	if c.s.Flags&(tellsRemote|isRemote) == tellsRemote || t.d.deps.Links == nil {
		return
	}
	if v, ok := sh.seen.find(parent, c.at); ok {
		t.link(unpack(v).node, c.svc.node)
		return
	}
	if h := sh.peek(key{parent, c.s.TraceID, c.s.Parent}, caller); h != nil {
		t.link(h.node, c.svc.node)
		return
	}
	sh.awaited.put(parent, uint32(c.svc.node), c.at)
}

func (t *taking) link(parent, child nodeID) {
	if parent != child {
		t.d.links.add(parent, child)
	}
}

// pair records a call both of whose halves are known; of the client only who it is
// if the half is nil.
func (g *graph) pair(from nodeID, message bool, client, server *half, now int64) {
	k := edgeKey{from, server.node, connPlain}
	if message || server.message {
		k.conn = connMessaging
	}
	g.record(k, client, server, now)
}

// alone records a half that found no other: a call of or by a virtual node if it names
// one, else it is counted as why says.
func (g *graph) alone(h *half, why conn, now int64) {
	switch {
	case h.peer != nobody && h.side == caller:
		g.record(edgeKey{h.node, h.peer, h.peerConn}, h, h, now)
	case h.peer != nobody:
		g.record(edgeKey{h.peer, h.node, h.peerConn}, nil, h, now)
	case h.side == caller:
		g.record(edgeKey{client: h.node, conn: why}, h, nil, now)
	default:
		g.record(edgeKey{server: h.node, conn: why}, nil, h, now)
	}
}

// record counts a call. What the halves lack is not observed.
func (g *graph) record(k edgeKey, client, server *half, now int64) {
	for {
		e := g.edge(k, now)
		e.mu.Lock()
		if e.gone {
			e.mu.Unlock()
			continue
		}
		e.last = max(e.last, now)
		e.count(g.d, client, server, now)
		e.mu.Unlock()
		return
	}
}

func (e *edge) count(d *Derive, client, server *half, now int64) {
	w, failed := 0.0, false
	for _, h := range [2]*half{client, server} {
		if h != nil {
			w = max(w, h.weight) // both are kept as often as the rarer
			failed = failed || h.failed
		}
	}
	e.total.calls += w
	if e.key.conn >= unpaired {
		return
	}
	if failed {
		e.total.failed += w
	}
	if client != nil {
		e.total.client.observeHalf(d, client, w, now)
	}
	if server != nil {
		e.total.server.observeHalf(d, server, w, now)
	}
}

func (h *hist) observeHalf(d *Derive, from *half, w float64, now int64) {
	if h.classic == nil {
		*h = newHist(d.cfg.Buckets, d.cfg.Exemplars)
	}
	h.observe(d.cfg.Buckets, from.seconds, w, from.trace, from.span, now)
}

// edge returns that of a key; beyond the bound all of a kind share one.
func (g *graph) edge(k edgeKey, now int64) *edge {
	g.mu.RLock()
	e := g.edges[k]
	g.mu.RUnlock()
	if e != nil {
		return e
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.edges[k]; e != nil {
		return e
	}
	if len(g.edges) >= g.d.cfg.Graph.MaxEdges {
		k = edgeKey{otherNode, otherNode, k.conn}
		if e := g.edges[k]; e != nil {
			return e
		}
	}
	e = &edge{key: k, born: now, last: now}
	g.edges[k] = e
	return e
}

// maxAlike bounds the halves that wait for the same span, which lie in one bucket: many
// consumers may, and so may spans of a sender that repeats ids.
const maxAlike = 128

// keep lets a half wait; if there is no room, the oldest leaves.
func (g *graph) keep(sh *shard, h *half) {
	if sh.waiting.alike(h.key, h.side, maxAlike) == maxAlike {
		g.evicted.Add(1)
		g.alone(h, dropped, h.born)
		return
	}
	if sh.waiting.n >= sh.waiting.limit {
		if old, ok := sh.waiting.leave(1<<63 - 1); ok {
			g.evicted.Add(1)
			g.alone(&old, dropped, h.born)
		}
	}
	sh.waiting.add(h)
}

// expire ends the waiting of halves that came before a time.
func (g *graph) expire(before int64) {
	for i := range g.shards {
		sh := &g.shards[i]
		sh.mu.Lock()
		for {
			h, ok := sh.waiting.leave(before)
			if !ok {
				break
			}
			g.alone(&h, unpaired, h.born)
		}
		sh.mu.Unlock()
	}
}

// list returns all edges.
func (g *graph) list() []*edge {
	g.mu.RLock()
	defer g.mu.RUnlock()
	all := make([]*edge, 0, len(g.edges))
	for _, e := range g.edges {
		all = append(all, e)
	}
	return all
}

// end takes out the edges that a flush has found idle.
func (g *graph) end(idleSince int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for k, e := range g.edges {
		e.mu.Lock()
		if e.gone = e.out.ending && e.last < idleSince; e.gone {
			delete(g.edges, k)
		}
		e.out.ending = false
		e.mu.Unlock()
	}
}
