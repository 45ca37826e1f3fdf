package index

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"github.com/weir-dev/weir/tracing/span"
)

// Builder is the index of a segment that still grows. One adds and seals; many search.
type Builder struct {
	cfg  Config
	all  bool // every key is indexed
	seed maphash.Seed

	// What follows is only ever appended to, so that a reader goes on with the rows
	// that there were when it took its copy, without holding up the writer.
	mu sync.RWMutex
	rows

	// The writer's own.
	traceAt map[span.TraceID]uint32
	shapeAt map[uint64]uint32
	groupAt map[uint64]uint32
	begun   *span.Batch
	epoch   uint32
	near    [nearSlots]nearGroup
	keys    [keySlots]keyHash
	scratch []uint32
}

const (
	// nearSlots bounds the resources and scopes of a batch that are remembered; a
	// request rarely has as many.
	nearSlots = 64
	// keySlots bounds the attribute keys that are; a system of a hundred services has
	// some hundred.
	keySlots = 256
)

// keyHash saves hashing a key for each span.
type keyHash struct {
	key  string
	hash uint64
	met  bool
	has  bool // it is indexed
}

// rows are the spans in the order they came, a column each.
type rows struct {
	shape  []uint32
	start  []uint64
	length []uint64 // duration, ns
	trace  []uint32 // index in traces
	ends   []uint32 // of its terms
	terms  []uint32
	over   []uint32 // rows with terms left out, ascending

	traces []span.TraceID
	shapes []shape
	groups []senders
}

// shape is what many spans have in common and what is most asked for.
type shape struct {
	group  uint32
	kind   span.Kind
	status span.Status
	root   bool
	name   string
	term   uint32 // of the name
}

// senders are a resource and scope as far as they can be asked for.
type senders struct {
	service string
	terms   []uint32 // that of the service is first
	over    bool
}

// nearGroup saves looking at a resource again for each span.
type nearGroup struct {
	epoch           uint32
	resource, scope int
	group           uint32
}

// NewBuilder begins a segment.
func NewBuilder(cfg Config) *Builder {
	return &Builder{
		cfg: cfg, all: cfg.all(), seed: maphash.MakeSeed(),
		traceAt: map[span.TraceID]uint32{}, shapeAt: map[uint64]uint32{}, groupAt: map[uint64]uint32{},
	}
}

// Len is the number of spans.
func (b *Builder) Len() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return len(b.start)
}

func (b *Builder) snapshot() rows {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.rows
}

// Begin tells that traces of a batch are going to be added, so that its resources are
// looked at once and not once a trace. It is called again when the batch has changed.
func (b *Builder) Begin(batch *span.Batch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begun = batch
	b.forget()
}

func (b *Builder) forget() {
	b.epoch++
	if b.epoch == 0 { // what was remembered 2^32 batches ago would pass for new
		b.near = [nearSlots]nearGroup{}
		b.epoch = 1
	}
}

// Add takes spans of one trace, which it borrows. A segment holds less than 2^32.
func (b *Builder) Add(trace span.TraceID, batch *span.Batch, spans []int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.traceAt[trace]
	if !ok {
		t = uint32(len(b.traces))
		b.traces = append(b.traces, trace)
		b.traceAt[trace] = t
	}
	if b.begun != batch {
		b.begun = nil
		b.forget()
	}
	b.grow(len(spans))
	for _, i := range spans {
		s := &batch.Spans[i]
		b.shape = append(b.shape, b.shapeOf(batch, s))
		b.start = append(b.start, s.Start)
		b.length = append(b.length, s.Duration())
		b.trace = append(b.trace, t)
		if !b.spanTerms(s) {
			b.over = append(b.over, uint32(len(b.start)-1))
		}
		b.ends = append(b.ends, uint32(len(b.terms)))
	}
}

// grow makes room by doubling: append grows long columns by a quarter, which copies
// each of them five times over.
func (b *Builder) grow(n int) {
	b.shape = double(b.shape, n)
	b.start = double(b.start, n)
	b.length = double(b.length, n)
	b.trace = double(b.trace, n)
	b.ends = double(b.ends, n)
}

func double[T any](s []T, n int) []T {
	if cap(s)-len(s) >= n {
		return s
	}
	return slices.Grow(s, max(n, cap(s)))
}

func (b *Builder) shapeOf(batch *span.Batch, s *span.Span) uint32 {
	want := shape{group: b.groupOf(batch, s), kind: s.Kind, status: s.Status, root: s.Parent.IsZero(), name: s.Name}
	few := uint64(want.group)<<32 | uint64(want.kind)<<16 | uint64(want.status)<<8
	if want.root {
		few |= 1
	}
	for h := fold(maphash.String(b.seed, s.Name), few); ; h++ {
		at, ok := b.shapeAt[h]
		if !ok {
			want.name = strings.Clone(s.Name)
			want.term = termOf(hashText(seedOperation, s.Name))
			at = uint32(len(b.shapes))
			b.shapes = append(b.shapes, want)
			b.shapeAt[h] = at
			return at
		}
		have := &b.shapes[at]
		if have.group == want.group && have.kind == want.kind && have.status == want.status &&
			have.root == want.root && have.name == want.name {
			return at
		}
	}
}

func (b *Builder) groupOf(batch *span.Batch, s *span.Span) uint32 {
	near := &b.near[uint(s.Resource*7+s.Scope)%nearSlots]
	if near.epoch != b.epoch || near.resource != s.Resource || near.scope != s.Scope {
		*near = nearGroup{b.epoch, s.Resource, s.Scope, b.newGroup(batch, s)}
	}
	return near.group
}

// newGroup knows a resource and scope by the 64-bit hashes of their terms.
func (b *Builder) newGroup(batch *span.Batch, s *span.Span) uint32 {
	var resource span.Resource
	var scope span.Scope
	if uint(s.Resource) < uint(len(batch.Resources)) {
		resource = batch.Resources[s.Resource]
	}
	if uint(s.Scope) < uint(len(batch.Scopes)) {
		scope = batch.Scopes[s.Scope]
	}
	h := hashText(seedService, resource.Service)
	b.scratch = append(b.scratch[:0], termOf(h))
	id := maphash.Comparable(b.seed, h)
	add := func(h uint64) {
		b.scratch = append(b.scratch, termOf(h))
		id = fold(id, h)
	}
	over := false
	for i := range resource.Attrs {
		at := &resource.Attrs[i]
		key := b.key(at.Key)
		if !key.has {
			continue
		}
		h, fate := b.cfg.hashValue(key.hash, &at.Value)
		switch {
		case fate == tooLong:
		case fate == unread, len(b.scratch) > b.cfg.MaxTermsPerSpan:
			over = true
			id++
		default:
			add(h)
		}
	}
	for _, field := range [...]struct{ key, value string }{
		{"otel.scope.name", scope.Name}, {"otel.scope.version", scope.Version},
	} {
		key := b.key(field.key)
		if field.value != "" && len(field.value) <= b.cfg.MaxValueBytes && key.has {
			add(hashText(key.hash, field.value))
		}
	}
	at, ok := b.groupAt[id]
	if !ok {
		at = uint32(len(b.groups))
		b.groups = append(b.groups, senders{strings.Clone(resource.Service), slices.Clone(b.scratch), over})
		b.groupAt[id] = at
	}
	return at
}

// spanTerms appends the terms of a span, and tells whether there was room for all.
func (b *Builder) spanTerms(s *span.Span) bool {
	b.terms = double(b.terms, b.cfg.MaxTermsPerSpan)
	room := len(b.terms) + b.cfg.MaxTermsPerSpan
	whole := b.attrTerms(s.Attrs, room)
	for i := range s.Events {
		e := &s.Events[i]
		whole = b.field("event", e.Name, room) && b.attrTerms(e.Attrs, room) && whole
	}
	whole = b.field("otel.status_description", s.Message, room) && whole
	return b.field("w3c.tracestate", s.State, room) && whole
}

func (b *Builder) attrTerms(attrs []span.Attr, room int) bool {
	whole := true
	for i := range attrs {
		at := &attrs[i]
		key := b.key(at.Key)
		if !key.has {
			continue
		}
		h, fate := b.cfg.hashValue(key.hash, &at.Value)
		switch {
		case fate == tooLong:
		case fate == unread, len(b.terms) >= room:
			whole = false
		default:
			b.terms = append(b.terms, termOf(h))
		}
	}
	return whole
}

// field is the term of what Jaeger shows as a tag.
func (b *Builder) field(key, value string, room int) bool {
	if value == "" || len(value) > b.cfg.MaxValueBytes {
		return true
	}
	k := b.key(key)
	if !k.has {
		return true
	}
	if len(b.terms) >= room {
		return false
	}
	b.terms = append(b.terms, termOf(hashText(k.hash, value)))
	return true
}

func (b *Builder) key(key string) *keyHash {
	n := len(key)
	h := uint64(n)
	for i := n - 1; i >= 0; i -= 1 + n/8 {
		h = h*31 + uint64(key[i])
	}
	k := &b.keys[h*0x9E3779B97F4A7C15>>56%keySlots]
	if !k.met || k.key != key {
		*k = keyHash{key: strings.Clone(key), hash: hashKey(key), met: true, has: b.all || b.cfg.has(key)}
	}
	return k
}
