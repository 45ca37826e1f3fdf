package shop

import "fmt"

// kind is OTLP's SpanKind.
type kind uint64

const (
	internal kind = 1 + iota
	server
	client
	producer
	consumer
)

// proto is what a span speaks, which decides its attributes.
type proto uint8

const (
	httpServer proto = iota
	rpc
	sql
	cache
	queue
	work
)

// step is one span of a shape.
type step struct {
	parent   int // index in the shape, -1 for the root
	service  string
	peer     string // who is called, or calls
	kind     kind
	proto    proto
	name     string
	route    string  // of HTTP
	from, to float64 // when, as part of the parent's time
}

// shape is what calls what in one trace, parents before children.
type shape struct {
	weight  int
	seconds float64 // that the root usually takes
	steps   []step
}

// spansPerTrace is fixed, so that a number of spans is a number of traces.
const spansPerTrace = 10

// The services of the shop.
const (
	frontend  = "frontend"
	checkout  = "checkout"
	cart      = "cart"
	payment   = "payment"
	inventory = "inventory"
)

// shopShapes are the requests of the shop, how often each is made, and how long it
// takes.
func shopShapes() []shape {
	return []shape{
		{weight: 5, seconds: 0.080, steps: []step{
			root("GET", "/api/products/{id}"),
			call(0, frontend, inventory, "example.shop.v1.Inventory/GetProduct", 0.05, 0.35),
			serve(1, inventory, frontend, "example.shop.v1.Inventory/GetProduct"),
			query(2, inventory, "SELECT products"),
			call(0, frontend, cart, "example.shop.v1.Cart/GetCart", 0.36, 0.55),
			serve(4, cart, frontend, "example.shop.v1.Cart/GetCart"),
			call(0, frontend, checkout, "example.shop.v1.Checkout/Quote", 0.56, 0.95),
			serve(6, checkout, frontend, "example.shop.v1.Checkout/Quote"),
			call(7, checkout, payment, "example.shop.v1.Payment/Rates", 0.1, 0.8),
			serve(8, payment, checkout, "example.shop.v1.Payment/Rates"),
		}},
		{weight: 2, seconds: 0.120, steps: []step{
			root("POST", "/api/cart"),
			call(0, frontend, cart, "example.shop.v1.Cart/AddItem", 0.05, 0.9),
			serve(1, cart, frontend, "example.shop.v1.Cart/AddItem"),
			call(2, cart, inventory, "example.shop.v1.Inventory/GetStock", 0.05, 0.5),
			serve(3, inventory, cart, "example.shop.v1.Inventory/GetStock"),
			query(4, inventory, "SELECT stock"),
			{parent: 2, service: cart, peer: checkout, kind: producer, proto: queue, name: "cart-events publish", from: 0.6, to: 0.7},
			{parent: 6, service: checkout, peer: cart, kind: consumer, proto: queue, name: "cart-events process", from: 2, to: 6},
			call(7, checkout, payment, "example.shop.v1.Payment/Authorize", 0.2, 0.9),
			serve(8, payment, checkout, "example.shop.v1.Payment/Authorize"),
		}},
		{weight: 1, seconds: 0.350, steps: []step{
			root("POST", "/api/checkout"),
			call(0, frontend, checkout, "example.shop.v1.Checkout/PlaceOrder", 0.02, 0.97),
			serve(1, checkout, frontend, "example.shop.v1.Checkout/PlaceOrder"),
			call(2, checkout, cart, "example.shop.v1.Cart/GetCart", 0.02, 0.15),
			serve(3, cart, checkout, "example.shop.v1.Cart/GetCart"),
			{parent: 4, service: cart, peer: "redis", kind: client, proto: cache, name: "HGETALL", from: 0.2, to: 0.7},
			call(2, checkout, payment, "example.shop.v1.Payment/Charge", 0.16, 0.8),
			serve(6, payment, checkout, "example.shop.v1.Payment/Charge"),
			call(2, checkout, inventory, "example.shop.v1.Inventory/Reserve", 0.82, 0.97),
			serve(8, inventory, checkout, "example.shop.v1.Inventory/Reserve"),
		}},
		{weight: 2, seconds: 0.060, steps: []step{
			root("GET", "/api/orders/{id}"),
			call(0, frontend, checkout, "example.shop.v1.Checkout/GetOrder", 0.05, 0.95),
			serve(1, checkout, frontend, "example.shop.v1.Checkout/GetOrder"),
			query(2, checkout, "SELECT orders"),
			call(2, checkout, payment, "example.shop.v1.Payment/GetCharge", 0.4, 0.6),
			serve(4, payment, checkout, "example.shop.v1.Payment/GetCharge"),
			call(2, checkout, inventory, "example.shop.v1.Inventory/GetShipment", 0.4, 0.9),
			serve(6, inventory, checkout, "example.shop.v1.Inventory/GetShipment"),
			call(2, checkout, cart, "example.shop.v1.Cart/History", 0.6, 0.8),
			serve(8, cart, checkout, "example.shop.v1.Cart/History"),
		}},
	}
}

func root(method, route string) step {
	return step{parent: -1, service: frontend, kind: server, proto: httpServer, name: method + " " + route, route: route, to: 1}
}

func call(parent int, service, peer, name string, from, to float64) step {
	return step{parent: parent, service: service, peer: peer, kind: client, proto: rpc, name: name, from: from, to: to}
}

func serve(parent int, service, peer, name string) step {
	return step{parent: parent, service: service, peer: peer, kind: server, proto: rpc, name: name, from: 0.03, to: 0.96}
}

func query(parent int, service, name string) step {
	return step{parent: parent, service: service, peer: "postgres", kind: client, proto: sql, name: name, from: 0.1, to: 0.35}
}

// Edge is one service calling another.
type Edge struct{ From, To string }

// edge is what a span adds to the service graph: that of a span that serves what a
// span of another service called.
func (s *shape) edge(i int) (Edge, bool) {
	st := s.steps[i]
	if st.kind != server && st.kind != consumer || st.parent < 0 {
		return Edge{}, false
	}
	caller := s.steps[st.parent]
	return Edge{From: caller.service, To: st.service}, caller.service != st.service
}

func (s *shape) check() error {
	if len(s.steps) != spansPerTrace {
		return fmt.Errorf("shape %s: got %d spans, want %d", s.steps[0].name, len(s.steps), spansPerTrace)
	}
	for i, st := range s.steps {
		if st.parent >= i {
			return fmt.Errorf("shape %s: the parent of span %d is %d, want an earlier one", s.steps[0].name, i, st.parent)
		}
	}
	return nil
}
