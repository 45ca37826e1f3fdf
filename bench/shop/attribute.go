package shop

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// traceFacts are the values that all spans of one trace share.
type traceFacts struct {
	failed      bool
	status      uint64 // of the HTTP answer
	agent       string
	zone        string
	experiment  string
	errorMember int // the step that failed first, if failed
}

func newFacts(sh *shape, rng *rand.Rand) traceFacts {
	f := traceFacts{
		status: 200,
		agent:  agents[rng.IntN(len(agents))], zone: zones[rng.IntN(len(zones))], experiment: experiments[rng.IntN(len(experiments))],
	}
	if rng.IntN(30) == 0 {
		f.status = 404
	}
	if rng.IntN(100) == 0 {
		f.failed, f.status = true, 500
		for f.errorMember == 0 || sh.steps[f.errorMember].kind != server {
			f.errorMember = 1 + rng.IntN(len(sh.steps)-1)
		}
	}
	return f
}

var (
	agents = []string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:143.0)", "Mozilla/5.0 (iPhone; CPU iPhone OS 26_1)", "ShopApp/7.3.1 (Android 16)", "okhttp/5.1.0",
	}
	zones       = []string{"eu-central-1a", "eu-central-1b", "us-east-1c"}
	experiments = []string{"new-checkout:control", "new-checkout:treated", "fast-search:treated"}
)

// failedSteps are the spans of a failed trace that have the error: the one that
// failed and all that called it.
func failedSteps(sh *shape, f traceFacts) map[int]bool {
	out := map[int]bool{}
	if f.failed {
		for i := f.errorMember; i >= 0; i = sh.steps[i].parent {
			out[i] = true
		}
	}
	return out
}

// attributes writes the 12 attributes of a span.
func (m *message) attributes(st *step, span int32, f traceFacts, failed bool, rng *rand.Rand) {
	const field protowire.Number = 9
	text := func(key, value string) { m.text(field, key, value) }
	number := func(key string, v uint64) { m.number(field, key, v) }
	grpc := uint64(0)
	if failed {
		grpc = 14 // unavailable
	}
	switch st.proto {
	case httpServer:
		method, _, _ := strings.Cut(st.name, " ")
		text("http.request.method", method)
		before, behind, found := strings.Cut(st.route, "{id}")
		if found {
			m.hole(field, "url.path", product, span, before, 5, behind)
		} else {
			text("url.path", st.route)
		}
		text("url.scheme", "https")
		text("http.route", st.route)
		number("http.response.status_code", f.status)
		m.holeNumber(field, "http.response.body.size", bodySize, span, 3)
		text("server.address", "shop.example.com")
		m.hole(field, "client.address", address, span, "203.0.", 7, "")
		text("user_agent.original", f.agent)
		m.hole(field, "enduser.id", user, span, "u-", 6, "")
		m.hole(field, "shop.order.id", order, span, "", 16, "")
		text("cloud.availability_zone", f.zone)
		return
	case rpc:
		service, method, _ := strings.Cut(st.name, "/")
		text("rpc.system", "grpc")
		text("rpc.service", service)
		text("rpc.method", method)
		number("rpc.grpc.status_code", grpc)
		text("server.address", st.peer+".shop.svc.cluster.local")
		number("server.port", 8080)
		text("peer.service", st.peer)
	case sql:
		verb, table, _ := strings.Cut(st.name, " ")
		text("db.system.name", "postgresql")
		text("db.operation.name", verb)
		text("db.collection.name", table)
		text("db.query.text", verb+" * FROM "+table+" WHERE id = $1")
		text("db.namespace", "shop")
		text("server.address", st.peer+".shop.svc.cluster.local")
		text("peer.service", st.peer)
	case cache:
		text("db.system.name", "redis")
		text("db.operation.name", st.name)
		text("db.query.text", st.name+" ?")
		number("db.namespace", 0)
		text("server.address", st.peer+".shop.svc.cluster.local")
		number("server.port", 6379)
		text("peer.service", st.peer)
	case queue:
		_, op, _ := strings.Cut(st.name, " ")
		text("messaging.system", "kafka")
		text("messaging.operation.name", op)
		text("messaging.destination.name", "cart-events")
		number("messaging.destination.partition.id", uint64(rng.IntN(12)))
		text("messaging.client.id", st.service+"-events")
		text("server.address", "kafka.shop.svc.cluster.local")
		text("peer.service", st.peer)
	case work:
		text("code.function.name", "render.Page")
		number("code.line.number", uint64(100+rng.IntN(900)))
		text("template", "default")
		number("items", uint64(rng.IntN(40)))
		text("cache", "miss")
		text("thread.name", "main")
		text("component", "render")
	}
	m.holeNumber(field, "thread.id", threadID, span, 1)
	m.hole(field, "shop.order.id", order, span, "", 16, "")
	text("shop.experiment", f.experiment)
	text("cloud.availability_zone", f.zone)
	text("network.peer.address", fmt.Sprintf("10.42.%d.%d", 17+len(st.peer), 100+rng.IntN(podsPerService)))
}

func (m *message) keyValue(field protowire.Number, key string, value *message) {
	var kv message
	kv.bytes(1, key)
	kv.message(2, value)
	m.message(field, &kv)
}

func (m *message) text(field protowire.Number, key, value string) {
	var v message
	v.bytes(1, value)
	m.keyValue(field, key, &v)
}

func (m *message) number(field protowire.Number, key string, value uint64) {
	var v message
	v.varint(3, value)
	m.keyValue(field, key, &v)
}

func (m *message) hole(field protowire.Number, key string, kind holeKind, span int32, before string, n int, behind string) {
	var v message
	v.holeBytes(1, kind, span, before, n, behind)
	m.keyValue(field, key, &v)
}

func (m *message) holeNumber(field protowire.Number, key string, kind holeKind, span int32, n int) {
	var v message
	v.holeVarint(3, kind, span, n)
	m.keyValue(field, key, &v)
}

// pod is who makes the spans of a service in one template.
type pod struct{ service, name, uid, node, version string }

// podsPerService is how many pods of a service there are.
const podsPerService = 12

func newPod(service string, rng *rand.Rand) pod {
	n := rng.IntN(podsPerService)
	own := rand.New(rand.NewPCG(uint64(n), uint64(len(service))<<8|uint64(service[len(service)-1])))
	return pod{
		service: service, name: fmt.Sprintf("%s-%08x-%05x", service, own.Uint32(), own.Uint32N(1<<20)),
		uid:  fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", own.Uint32(), own.Uint32N(1<<16), own.Uint32N(1<<12), own.Uint32N(1<<12), own.Uint64N(1<<48)),
		node: fmt.Sprintf("node-%02d", own.IntN(20)), version: fmt.Sprintf("2.%d.%d", own.IntN(3), own.IntN(5)),
	}
}

// resource writes the 11 attributes of a resource.
func (p pod) resource() *message {
	var m message
	for _, kv := range [...][2]string{
		{"service.name", p.service},
		{"service.namespace", "shop"},
		{"service.version", p.version},
		{"service.instance.id", p.uid},
		{"deployment.environment.name", "production"},
		{"k8s.namespace.name", "shop"},
		{"k8s.pod.name", p.name},
		{"k8s.node.name", p.node},
		{"telemetry.sdk.name", "opentelemetry"},
		{"telemetry.sdk.language", "go"},
		{"telemetry.sdk.version", "1.46.0"},
	} {
		m.text(1, kv[0], kv[1])
	}
	return &m
}
