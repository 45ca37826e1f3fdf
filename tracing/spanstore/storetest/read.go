package storetest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// rich makes a span with something in every field.
func (s *suite) rich(service string) *span.Batch {
	b := s.in(service, str("host.name", "node-1"), span.Attr{Key: "process.pid", Value: span.IntValue(17)})
	b.Resources[0].SchemaURL, b.Resources[0].Dropped = "https://opentelemetry.io/schemas/1.34.0", 1
	b.Scopes[0].Attrs, b.Scopes[0].SchemaURL = []span.Attr{str("scope.of", "test")}, "https://opentelemetry.io/schemas/1.33.0"
	b.Spans = []span.Span{{
		TraceID: s.traceID(), ID: s.id(), Parent: s.id(), Flags: 0x101, State: "vendor=1", Name: "GET /größe/{id}", Kind: span.KindClient,
		Start: s.nanos(1234567 * time.Nanosecond), End: s.nanos(7654321 * time.Nanosecond), Status: span.StatusError, Message: "no answer",
		Attrs: []span.Attr{
			str("text", "a \"quoted\" text"), {Key: "int", Value: span.IntValue(-42)}, {Key: "big", Value: span.IntValue(1 << 60)},
			{Key: "double", Value: span.DoubleValue(0.125)}, {Key: "yes", Value: span.BoolValue(true)}, {Key: "no", Value: span.BoolValue(false)},
			{Key: "bytes", Value: span.BytesValue([]byte{0, 1, 254, 255})},
			{Key: "list", Value: span.ArrayValue(span.StringValue("a"), span.StringValue("b"))},
			{Key: "map", Value: span.MapValue(str("k", "v"))},
		},
		Events: []span.Event{
			{Time: s.nanos(2 * time.Millisecond), Name: "exception", Attrs: []span.Attr{str("exception.type", "Timeout")}, Dropped: 2},
			{Time: s.nanos(3 * time.Millisecond), Name: "retry"},
		},
		Links:        []span.Link{{TraceID: s.traceID(), ID: s.id(), State: "x=y", Flags: 1, Attrs: []span.Attr{str("why", "batch")}, Dropped: 3}},
		DroppedAttrs: 4, DroppedEvents: 5, DroppedLinks: 6,
	}}
	return b
}

func (s *suite) writeThenRead() {
	b := s.rich(s.name("rich"))
	got := s.put(b)
	if got.Stored != 1 {
		s.Errorf("append said %d stored, want 1", got.Stored)
	}
	s.reads(b)
	if got := s.put(s.in(s.name("nobody"))); got.Stored+got.Duplicate != 0 {
		s.Errorf("append of nothing said %+v", got)
	}
}

// mesh is a trace of three services, a batch each.
func (s *suite) mesh() (parts []*span.Batch, whole *span.Batch) {
	trace, parent := s.traceID(), span.ID{}
	whole = &span.Batch{}
	for i, of := range []string{"edge", "shop", "db"} {
		b := s.in(s.name(of))
		for k, kind := range []span.Kind{span.KindServer, span.KindClient} {
			id := s.id()
			after := time.Duration(i*2+k) * time.Millisecond
			b.Spans = append(b.Spans, span.Span{
				TraceID: trace, ID: id, Parent: parent, Name: s.name(of) + kindName(kind), Kind: kind,
				Start: s.nanos(after), End: s.nanos(50*time.Millisecond - after),
			})
			parent = id
		}
		parts = append(parts, b)
		join(whole, b)
	}
	return parts, whole
}

func kindName(k span.Kind) string { return " " + spanstore.KindName(k) }

// join appends the spans of b to those of to.
func join(to, b *span.Batch) {
	r, c := len(to.Resources), len(to.Scopes)
	to.Resources, to.Scopes = append(to.Resources, b.Resources...), append(to.Scopes, b.Scopes...)
	for _, x := range b.Spans {
		x.Resource, x.Scope = x.Resource+r, x.Scope+c
		to.Spans = append(to.Spans, x)
	}
}

func (s *suite) wholeTrace() {
	parts, whole := s.mesh()
	parts[0], parts[2] = parts[2], parts[0] // children first
	for _, b := range parts {
		s.put(b)
	}
	s.reads(whole)
	// Spans of many traces in one batch are read apart.
	many, other := &span.Batch{}, s.one(s.name("edge"), "other", 0, nil)
	_, second := s.mesh()
	join(many, other)
	join(many, second)
	s.put(many)
	s.reads(other)
	s.reads(second)
	s.reads(whole)
}

func (s *suite) duplicates() {
	b := s.rich(s.name("twice"))
	b.Spans = append(b.Spans, span.Span{
		TraceID: b.Spans[0].TraceID, ID: s.id(), Name: "second", Start: s.nanos(0), End: s.nanos(time.Millisecond),
	})
	s.put(b)
	s.reads(b)
	again := s.put(b)
	if !s.lacks[DuplicateCount] && again.Duplicate != len(b.Spans) {
		s.Errorf("append of %d spans that it had said %+v", len(b.Spans), again)
	}
	s.reads(b)
	// One new beside an old one; and the same span twice at once.
	mixed := s.in(s.name("twice"))
	mixed.Resources[0] = b.Resources[0]
	mixed.Scopes[0] = b.Scopes[0]
	fresh := span.Span{TraceID: b.Spans[0].TraceID, ID: s.id(), Name: "fresh", Start: s.nanos(0), End: s.nanos(time.Millisecond)}
	mixed.Spans = []span.Span{b.Spans[1], fresh, fresh}
	got := s.put(mixed)
	if !s.lacks[DuplicateCount] {
		if got.Stored != 1 || got.Duplicate != 2 {
			s.Errorf("append of an old span and twice a new one said %+v, want 1 stored, 2 duplicates", got)
		}
		if len(got.New) != 3 || got.New[0] || got.New[1] == got.New[2] {
			s.Errorf("new spans: got %v, want one of the last two of 3", got.New)
		}
	}
	b.Spans = append(b.Spans, fresh)
	s.reads(b)
	if !s.lacks[Twins] {
		s.twins(b)
	}
}

// twins: the same id with other content is another span, as with Zipkin's shared ids.
func (s *suite) twins(b *span.Batch) {
	s.Helper()
	twin := b.Spans[1]
	twin.Name, twin.Kind = "twin", span.KindServer
	beside := &span.Batch{Resources: b.Resources, Scopes: b.Scopes, Spans: []span.Span{twin}}
	if got := s.put(beside); got.Stored != 1 {
		s.Errorf("append of a span with the id of another said %+v, want 1 stored", got)
	}
	b.Spans = append(b.Spans, twin)
	s.reads(b)
}

func (s *suite) lateSpans() {
	parts, whole := s.mesh()
	s.put(parts[0])
	s.reads(parts[0])
	late := s.in(s.name("late"))
	for i := range 3 {
		late.Spans = append(late.Spans, span.Span{
			TraceID: whole.Spans[0].TraceID, ID: s.id(), Parent: whole.Spans[0].ID, Name: "late",
			Start: s.nanos(time.Duration(i+5) * time.Minute), End: s.nanos(time.Duration(i+6) * time.Minute),
		})
	}
	s.put(late)
	s.put(parts[1])
	s.put(parts[2])
	join(whole, late)
	s.reads(whole)
	// Found by either end, it is whole.
	for _, service := range []string{s.name("edge"), s.name("late")} {
		s.wait(func() string {
			found, _, err := s.ask(spanstore.Query{Service: service, Start: s.at, End: s.at.Add(time.Hour), Limit: 5})
			if err != nil || len(found) != 1 {
				return complain("find", service, len(found), err)
			}
			return s.differ(found[0], whole)
		})
	}
}

func (s *suite) notFound() {
	s.put(s.one(s.name("there"), "op", 0, nil))
	for _, id := range []span.TraceID{s.traceID(), {15: 1}, {}} {
		if b, err := s.r.Trace(s.ctx, id, spanstore.Window{}); !errors.Is(err, spanstore.ErrNotFound) {
			s.Errorf("trace %s: got %v and %v, want ErrNotFound", id, b, err)
		}
	}
	found, _, err := s.ask(spanstore.Query{Service: s.name("nobody"), Start: s.at, End: s.at.Add(time.Hour), Limit: 5})
	if err != nil || len(found) != 0 {
		s.Errorf("find of a service that is not: got %d traces and %v", len(found), err)
	}
}

func (s *suite) hint() {
	b := s.one(s.name("hinted"), "op", 0, nil)
	s.put(b)
	s.reads(b)
	for _, w := range []spanstore.Window{
		{Start: s.at.Add(-time.Minute), End: s.at.Add(time.Minute)},
		{Start: s.at.Add(-48 * time.Hour), End: s.at.Add(-47 * time.Hour)},
		{Start: s.at.Add(time.Second)}, {End: s.at.Add(-time.Second)}, {Start: s.at, End: s.at},
	} {
		got, err := s.r.Trace(s.ctx, b.Spans[0].TraceID, w)
		if err != nil {
			s.Errorf("trace with the hint %v: %v", w, err)
		} else if d := s.differ(got, b); d != "" {
			s.Errorf("trace with the hint %v: %s", w, d)
		}
	}
}

// large is more than a message of gRPC's default size in any encoding.
func (s *suite) large() {
	const spans = 5000
	whole := s.in(s.name("large"))
	trace, root := s.traceID(), s.id()
	for i := range spans {
		x := span.Span{
			TraceID: trace, ID: s.id(), Parent: root, Name: "step", Kind: span.KindInternal,
			Start: s.nanos(time.Duration(i) * time.Microsecond), End: s.nanos(time.Duration(i+10) * time.Microsecond),
			Attrs: []span.Attr{{Key: "step", Value: span.IntValue(int64(i))}, str("note", s.name("the same in all of them, and not short"))},
		}
		if i == 0 {
			x.ID, x.Parent = root, span.ID{}
		}
		whole.Spans = append(whole.Spans, x)
	}
	for part := range slices.Chunk(whole.Spans, 1000) {
		s.put(&span.Batch{Resources: whole.Resources, Scopes: whole.Scopes, Spans: part})
	}
	s.reads(whole)
	s.wait(func() string {
		found, _, err := s.ask(spanstore.Query{
			Service: s.name("large"), Start: s.at, End: s.at.Add(time.Hour), Limit: 1,
			Where: []spanstore.Condition{{Key: "step", Op: spanstore.Equal, Value: "4321"}},
		})
		if err != nil || len(found) != 1 {
			return complain("find", "step 4321", len(found), err)
		}
		return s.differ(found[0], whole)
	})
}

func (s *suite) ended() {
	b := s.one(s.name("ended"), "op", 0, nil)
	s.put(b)
	s.reads(b)
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	q := spanstore.Query{Service: s.name("ended"), Start: s.at, End: s.at.Add(time.Hour), Limit: 1}
	if _, err := s.r.Find(ctx, q, func(*span.Batch) error { return nil }); !errors.Is(err, context.Canceled) {
		s.Errorf("find: got %v, want context.Canceled", err)
	}
}
