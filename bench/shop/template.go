package shop

import (
	"errors"
	"fmt"
	"math/rand/v2"
)

// Spec says what is made.
type Spec struct {
	Seed  uint64
	Batch int   // spans a body, a multiple of 10
	Split bool  // the spans of a trace come in 5 bodies, as from 5 programs; else in one
	Mesh  *Mesh // nil: the shop
}

const (
	// templates is how many bodies are encoded beforehand: 16 MB at 500 spans, and
	// 3,200 traces that differ in more than ids and times.
	templates = 64
	// splitInto is how many bodies a trace is split into; services are dealt to them in
	// turn, so a body of the shop's is of one service.
	splitInto = 5
)

// Shop holds the templates.
type Shop struct {
	spec      Spec
	templates []template
}

// template is many traces, encoded.
type template struct {
	parts  []part
	spans  []slot
	traces []told
	calls  map[Edge]int
}

// part is one body.
type part struct {
	message
	spans int
}

// slot is when a span is, in parts of its root's duration after the root's start.
type slot struct {
	trace     int32
	off, long float32
}

// told is what is known of a trace before it has an id.
type told struct {
	shape  *shape
	facts  traceFacts
	extent float32 // from the root's start to the end of its last span, as slot
}

// New encodes the templates.
func New(spec Spec) (*Shop, error) {
	if spec.Batch <= 0 || spec.Batch%spansPerTrace != 0 {
		return nil, fmt.Errorf("batch of %d spans: want a multiple of %d", spec.Batch, spansPerTrace)
	}
	rng := rand.New(rand.NewPCG(spec.Seed, 0))
	shapes := shopShapes()
	if spec.Mesh != nil {
		var err error
		if shapes, err = meshShapes(*spec.Mesh, rng); err != nil {
			return nil, err
		}
	}
	var faults []error
	for i := range shapes {
		faults = append(faults, shapes[i].check())
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	s := &Shop{spec: spec}
	deal := newDealer(shapes, rng)
	for range templates {
		s.templates = append(s.templates, newTemplate(spec, deal, rng))
	}
	return s, nil
}

// dealer hands out shapes in shuffled rounds, so that each comes as often as its
// weight says and none is left out.
type dealer struct {
	shapes []*shape
	next   int
	rng    *rand.Rand
}

func newDealer(shapes []shape, rng *rand.Rand) *dealer {
	d := &dealer{rng: rng}
	for i := range shapes {
		for range shapes[i].weight {
			d.shapes = append(d.shapes, &shapes[i])
		}
	}
	return d
}

func (d *dealer) deal() *shape {
	if d.next == 0 {
		d.rng.Shuffle(len(d.shapes), func(i, j int) { d.shapes[i], d.shapes[j] = d.shapes[j], d.shapes[i] })
	}
	s := d.shapes[d.next]
	d.next = (d.next + 1) % len(d.shapes)
	return s
}

func newTemplate(spec Spec, deal *dealer, rng *rand.Rand) template {
	t := template{calls: map[Edge]int{}}
	bodies := 1
	if spec.Split {
		bodies = splitInto
	}
	sorter := newSorter(bodies)
	for range spec.Batch / spansPerTrace * bodies {
		sh := deal.deal()
		t.add(sh, newFacts(sh, rng), sorter, rng)
	}
	for _, m := range sorter.bodies(rng) {
		if m.spans > 0 {
			t.parts = append(t.parts, m)
		}
	}
	return t
}

// add encodes the spans of one trace.
func (t *template) add(sh *shape, facts traceFacts, to *sorter, rng *rand.Rand) {
	trace, first := int32(len(t.traces)), int32(len(t.spans))
	failed := failedSteps(sh, facts)
	info := told{shape: sh, facts: facts}
	for i := range sh.steps {
		st := &sh.steps[i]
		sl := slot{trace: trace, long: 1}
		if st.parent >= 0 {
			p := t.spans[first+int32(st.parent)]
			sl.off = p.off + p.long*float32(st.from)
			sl.long = p.long * float32(st.to-st.from) * (0.85 + 0.15*rng.Float32())
		}
		t.spans = append(t.spans, sl)
		info.extent = max(info.extent, sl.off+sl.long)
		to.add(st.service, encodeSpan(st, first, first+int32(i), facts, failed[i], failed[i] && i == facts.errorMember, rng))
		if e, ok := sh.edge(i); ok {
			t.calls[e]++
		}
	}
	t.traces = append(t.traces, info)
}

// encodeSpan writes the span number n, whose trace begins with number first. origin
// says that it is the one where an error arose, not one that was handed it.
func encodeSpan(st *step, first, n int32, facts traceFacts, failed, origin bool, rng *rand.Rand) *message {
	var m message
	m.holeBytes(1, traceID, n, "", 16, "")
	m.holeBytes(2, spanID, n, "", 8, "")
	if st.parent >= 0 {
		m.holeBytes(4, spanID, first+int32(st.parent), "", 8, "")
	}
	m.bytes(5, st.name)
	m.varint(6, uint64(st.kind))
	m.holeTime(7, start, n)
	m.holeTime(8, end, n)
	m.attributes(st, n, facts, failed, rng)
	if origin {
		m.message(11, exception(n))
	}
	if failed {
		var status message
		status.bytes(2, "upstream unavailable")
		status.varint(3, 2)
		m.message(15, &status)
	}
	m.fixed32(16, 0x101) // sampled; whether the parent is remote is known
	return &m
}

func exception(n int32) *message {
	var m message
	m.holeTime(1, thrown, n)
	m.bytes(2, "exception")
	m.text(3, "exception.type", "*net.OpError")
	m.text(3, "exception.message", "dial tcp 10.0.3.17:5432: connect: connection refused")
	m.text(3, "exception.stacktrace", "goroutine 1 [running]:\nmain.(*server).handle(0xc000012345)\n\t/src/server.go:214 +0x1d4\nmain.main()\n\t/src/main.go:33 +0x85")
	return &m
}

// sorter puts spans into bodies by service.
type sorter struct {
	n     int
	order []string // services in the order in which they came
	spans map[string]*message
	count map[string]int
}

func newSorter(bodies int) *sorter {
	return &sorter{n: bodies, spans: map[string]*message{}, count: map[string]int{}}
}

func (s *sorter) add(service string, span *message) {
	if s.spans[service] == nil {
		s.order = append(s.order, service)
		s.spans[service] = &message{}
	}
	s.spans[service].message(2, span)
	s.count[service]++
}

// bodies are export requests, each with one resource a service.
func (s *sorter) bodies(rng *rand.Rand) []part {
	out := make([]part, s.n)
	for i, service := range s.order {
		var scope, scoped, resource message
		scope.bytes(1, "github.com/example/shop/"+service)
		scope.bytes(2, "0.68.0")
		scoped.message(1, &scope)
		appendAll(&scoped, s.spans[service])
		resource.message(1, newPod(service, rng).resource())
		resource.message(2, &scoped)
		out[i%s.n].message.message(1, &resource)
		out[i%s.n].spans += s.count[service]
	}
	return out
}

// appendAll appends the fields of from.
func appendAll(m, from *message) {
	for _, h := range from.holes {
		h.at += int32(len(m.data))
		m.holes = append(m.holes, h)
	}
	m.data = append(m.data, from.data...)
}
