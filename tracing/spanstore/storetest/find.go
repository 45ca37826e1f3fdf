package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// ask collects what Find yields, and asks FindIDs the same.
func (s *suite) ask(q spanstore.Query) ([]*span.Batch, spanstore.Notes, error) {
	var found []*span.Batch
	var got []span.TraceID
	notes, err := s.r.Find(s.ctx, q, func(b *span.Batch) error {
		found = append(found, b)
		got = append(got, b.Spans[0].TraceID)
		return nil
	})
	if err != nil {
		return nil, notes, err
	}
	ids, _, err := s.r.FindIDs(s.ctx, q)
	if err == nil && !slices.Equal(ids, got) && !s.lacks[Immediacy] {
		err = fmt.Errorf("find gave traces %v, find of ids %v", got, ids)
	}
	return found, notes, err
}

func complain(verb, of string, n int, err error) string {
	return fmt.Sprintf("%s %s: got %d traces and %v", verb, of, n, err)
}

// subject is a trace of the test of find; the name says what it has of its own.
type subject struct {
	name   string
	change func(b *span.Batch)
}

func (s *suite) subjects() []subject {
	of := func(change func(*span.Span)) func(*span.Batch) {
		return func(b *span.Batch) { change(&b.Spans[0]) }
	}
	attr := func(key string, v span.Value) func(*span.Batch) {
		return of(func(x *span.Span) { x.Attrs = append(x.Attrs, span.Attr{Key: key, Value: v}) })
	}
	return []subject{
		{"plain", of(func(*span.Span) {})},
		{"operation", of(func(x *span.Span) { x.Name = "GET /other" })},
		{"client", of(func(x *span.Span) { x.Kind = span.KindClient })},
		{"consumer", of(func(x *span.Span) { x.Kind = span.KindConsumer })},
		{"failed", of(func(x *span.Span) { x.Status, x.Message = span.StatusError, "gone" })},
		{"ok", of(func(x *span.Span) { x.Status = span.StatusOK })},
		{"slow", of(func(x *span.Span) { x.End = x.Start + uint64(2*time.Second) })},
		{"instant", of(func(x *span.Span) { x.End = x.Start })},
		{"child", of(func(x *span.Span) { x.Parent = s.id() })},
		{"string", attr("s", span.StringValue("v:w"))},
		{"string of digits", attr("code", span.StringValue("404"))},
		{"int", attr("code", span.IntValue(500))},
		{"double", attr("ratio", span.DoubleValue(0.25))},
		{"true", attr("hit", span.BoolValue(true))},
		{"false", attr("hit", span.BoolValue(false))},
		{"status old", attr("http.status_code", span.IntValue(418))},
		{"status new", attr("http.response.status_code", span.IntValue(418))},
		{"resource", func(b *span.Batch) { b.Resources[0].Attrs = append(b.Resources[0].Attrs, str("zone", "eu-1")) }},
		{"event", of(func(x *span.Span) {
			x.Events = []span.Event{{Time: x.Start, Name: "cache miss", Attrs: []span.Attr{str("cache.key", "k1")}}}
		})},
		{"two", func(b *span.Batch) { // each condition in a span of its own
			x := b.Spans[0]
			b.Spans[0].Attrs = []span.Attr{str("a", "1")}
			x.ID, x.Attrs = s.id(), []span.Attr{str("b", "2")}
			b.Spans = append(b.Spans, x)
		}},
		{"both", of(func(x *span.Span) { x.Attrs = []span.Attr{str("a", "1"), str("b", "2")} })},
		{"state", of(func(x *span.Span) { x.State = "vendor=7" })},
		{"scope", func(b *span.Batch) { b.Scopes[0].Name = "otelsql" }},
	}
}

// searches of the subjects and who answers them.
func (s *suite) searches() []search {
	yes, no := true, false
	where := func(c ...spanstore.Condition) spanstore.Query { return spanstore.Query{Where: c} }
	is := func(key, value string) spanstore.Condition {
		return spanstore.Condition{Key: key, Op: spanstore.Equal, Value: value}
	}
	on := func(key string, op spanstore.Op, value string) spanstore.Query {
		return where(spanstore.Condition{Key: key, Op: op, Value: value})
	}
	all := make([]string, 0, 32)
	for _, x := range s.subjects() {
		all = append(all, x.name)
	}
	but := func(names ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(n string) bool { return slices.Contains(names, n) })
	}
	return []search{
		{"service", spanstore.Query{}, all},
		{"operation", spanstore.Query{Operation: "GET /other"}, []string{"operation"}},
		{"operation that is not", spanstore.Query{Operation: "GET /oth"}, nil},
		{"kind", spanstore.Query{Kind: span.KindClient}, []string{"client"}},
		{"kind of few", spanstore.Query{Kind: span.KindConsumer}, []string{"consumer"}},
		{"minimum", spanstore.Query{MinDuration: 2 * time.Second}, []string{"slow"}},
		{"above all", spanstore.Query{MinDuration: 2*time.Second + 1}, nil},
		{"maximum", spanstore.Query{MaxDuration: 9 * time.Millisecond}, []string{"instant"}},
		{"between", spanstore.Query{MinDuration: 10 * time.Millisecond, MaxDuration: 10 * time.Millisecond}, but("slow", "instant")},
		{"errors", spanstore.Query{Error: &yes}, []string{"failed"}},
		{"no errors", spanstore.Query{Error: &no}, but("failed")},
		{"roots", spanstore.Query{Root: true}, but("child")},

		{"string", where(is("s", "v:w")), []string{"string"}},
		{"part of a string", where(is("s", "v")), nil},
		{"int by its text", where(is("code", "500")), []string{"int"}},
		{"digits", where(is("code", "404")), []string{"string of digits"}},
		{"double by its text", where(is("ratio", "0.25")), []string{"double"}},
		{"true by its text", where(is("hit", "true")), []string{"true"}},
		{"false by its text", where(is("hit", "false")), []string{"false"}},
		{"error as a tag", where(is("error", "true")), []string{"failed"}},
		{"status as a tag", where(is("otel.status_code", "OK")), []string{"ok"}},
		{"its description", where(is("otel.status_description", "gone")), []string{"failed"}},
		{"kind as a tag", where(is("span.kind", "consumer")), []string{"consumer"}},
		{"scope as a tag", where(is("otel.scope.name", "otelsql")), []string{"scope"}},
		{"state as a tag", where(is("w3c.tracestate", "vendor=7")), []string{"state"}},
		{"renamed, by the old name", where(is("http.status_code", "418")), []string{"status old", "status new"}},
		{"renamed, by the new name", where(is("http.response.status_code", "418")), []string{"status old", "status new"}},
		{"of the resource", where(is("zone", "eu-1")), []string{"resource"}},
		{"of an event", where(is("cache.key", "k1")), []string{"event"}},
		{"name of an event", where(is("event", "cache miss")), []string{"event"}},
		{"all at once in one span", where(is("a", "1"), is("b", "2")), []string{"both"}},
		{"one key, two values", where(is("a", "1"), is("a", "2")), nil},
		{"a key that is not", where(is("nothing", "1")), nil},

		{"not equal", on("hit", spanstore.NotEqual, "true"), []string{"false"}},
		{"less", on("code", spanstore.Less, "500"), []string{"string of digits"}},
		{"at most", on("code", spanstore.LessEq, "500"), []string{"int", "string of digits"}},
		{"greater", on("ratio", spanstore.Greater, "0.2"), []string{"double"}},
		{"at least", on("code", spanstore.GreatEq, "405"), []string{"int"}},
		{"pattern", on("s", spanstore.Match, "v.w"), []string{"string"}},
		{"anchored pattern", on("s", spanstore.Match, "v"), nil},
		{"not the pattern", on("hit", spanstore.NotMatch, "t.*"), []string{"false"}},
		{"exists", on("hit", spanstore.Exists, ""), []string{"true", "false"}},
		{"everything", spanstore.Query{
			Operation: "GET /", Kind: span.KindServer, Error: &no, Root: true, MinDuration: time.Millisecond,
			MaxDuration: time.Second, Where: []spanstore.Condition{is("code", "500")},
		}, []string{"int"}},
	}
}

type search struct {
	name string
	q    spanstore.Query
	want []string
}

func (s *suite) find() {
	service := s.name("search")
	names := make(map[span.TraceID]string)
	traces := make(map[string]*span.Batch)
	var order []string
	for i, x := range s.subjects() {
		b := s.one(service, "GET /", time.Duration(i)*10*time.Second, nil)
		x.change(b)
		s.put(b)
		names[b.Spans[0].TraceID], traces[x.name] = x.name, b
		order = append(order, x.name)
	}
	slices.Reverse(order) // newest first
	for _, name := range order {
		s.reads(traces[name])
	}
	for _, c := range s.searches() {
		s.Run(c.name, func(t *testing.T) {
			q := c.q
			q.Service, q.Limit = service, 100
			q.Start, q.End = s.at, s.at.Add(time.Hour)
			want := slices.DeleteFunc(slices.Clone(order), func(n string) bool { return !slices.Contains(c.want, n) })
			s.at1(t).wait(func() string { return s.finds(q, names, traces, want) })
		})
	}
	s.windows(service, names, traces, order)
	s.anyService(names, traces)
}

// at1 is the suite with the subtest's t.
func (s *suite) at1(t *testing.T) *suite {
	c := *s
	c.T = t
	return &c
}

func (s *suite) finds(q spanstore.Query, names map[span.TraceID]string, traces map[string]*span.Batch, want []string) string {
	found, notes, err := s.ask(q)
	if err != nil {
		return err.Error()
	}
	if notes.Partial != "" && !s.lacks[Completeness] {
		return "traces may be missing: " + notes.Partial
	}
	var got []string
	for _, b := range found {
		name := names[b.Spans[0].TraceID]
		if name == "" {
			return fmt.Sprintf("trace %s is not asked for", b.Spans[0].TraceID)
		}
		if d := s.differ(b, traces[name]); d != "" {
			return name + ": " + d
		}
		got = append(got, name)
	}
	if !slices.Equal(got, want) {
		return fmt.Sprintf("got %q, want %q (newest first)", got, want)
	}
	return ""
}

// windows: both ends belong to it.
func (s *suite) windows(service string, names map[span.TraceID]string, traces map[string]*span.Batch, order []string) {
	at := func(i int) time.Time { return s.at.Add(time.Duration(i) * 10 * time.Second) }
	n := len(order)
	for _, c := range []struct {
		name       string
		start, end time.Time
		want       []string
	}{
		{"window with both ends", at(3), at(5), order[n-6 : n-3]},
		{"window within", at(3).Add(1), at(5).Add(-1), order[n-5 : n-4]},
		{"one moment", at(4), at(4), order[n-5 : n-4]},
		{"end before start", at(5), at(3), nil},
		{"open start", time.Time{}, at(1), order[n-2:]},
		{"open end", at(n - 1), time.Time{}, order[:1]},
		{"open", time.Time{}, time.Time{}, order},
		{"before all", at(-60), at(-50), nil},
	} {
		s.Run(c.name, func(t *testing.T) {
			q := spanstore.Query{Service: service, Start: c.start, End: c.end, Limit: 100}
			s.at1(t).wait(func() string { return s.finds(q, names, traces, c.want) })
		})
	}
}

// anyService asks for what only the traces of this test can have.
func (s *suite) anyService(names map[span.TraceID]string, traces map[string]*span.Batch) {
	b := s.one(s.name("else"), "GET /", 0, func(x *span.Span) { x.Attrs = []span.Attr{str("run", s.tag)} })
	s.put(b)
	s.reads(b)
	names[b.Spans[0].TraceID], traces["else"] = "else", b
	q := spanstore.Query{
		Start: s.at, End: s.at.Add(time.Hour), Limit: 10,
		Where: []spanstore.Condition{{Key: "run", Op: spanstore.Equal, Value: s.tag}},
	}
	s.Run("any service", func(t *testing.T) {
		s.at1(t).wait(func() string { return s.finds(q, names, traces, []string{"else"}) })
	})
}

func (s *suite) limit() {
	service := s.name("many")
	names := make(map[span.TraceID]string)
	traces := make(map[string]*span.Batch)
	var order []string
	for _, i := range s.rnd.Perm(20) { // in any order
		b := s.one(service, "op", time.Duration(i)*time.Second, nil)
		// A second span, of another service, that is newer in the older traces.
		other := s.one(s.name("other"), "op", 100*time.Second-time.Duration(i)*time.Second, nil)
		other.Spans[0].TraceID, other.Spans[0].Parent = b.Spans[0].TraceID, b.Spans[0].ID
		join(b, other)
		s.put(b)
		name := fmt.Sprintf("%02d", i)
		names[b.Spans[0].TraceID], traces[name] = name, b
		order = append(order, name)
	}
	slices.Sort(order)
	slices.Reverse(order)
	for _, b := range traces {
		s.reads(b)
	}
	oldest := slices.Clone(order)
	slices.Reverse(oldest)
	for _, n := range []int{1, 7, 20, 1000} {
		q := spanstore.Query{Service: service, Start: s.at, End: s.at.Add(time.Hour), Limit: n}
		s.wait(func() string { return s.newest(q, names, traces, order) })
		q.Service = s.name("other") // by the spans that match, not by the trace
		s.wait(func() string { return s.newest(q, names, traces, oldest) })
	}
}

// newest wants the first of all, as many as the limit has.
func (s *suite) newest(q spanstore.Query, names map[span.TraceID]string, traces map[string]*span.Batch, all []string) string {
	want := all[:min(q.Limit, len(all))]
	if !s.lacks[Choice] {
		return s.finds(q, names, traces, want)
	}
	ids, _, err := s.r.FindIDs(s.ctx, q)
	if err != nil || len(ids) != len(want) {
		return complain("find", fmt.Sprintf("%d", q.Limit), len(ids), err)
	}
	place := -1
	for _, id := range ids {
		at := slices.Index(all, names[id])
		if at <= place {
			return fmt.Sprintf("got %q, which is not a trace of the test, or out of order", names[id])
		}
		place = at
	}
	return ""
}

var errEnough = errors.New("enough")

func (s *suite) yieldError() {
	service := s.name("enough")
	for i := range 3 {
		b := s.one(service, "op", time.Duration(i)*time.Second, nil)
		s.put(b)
		s.reads(b)
	}
	calls := 0
	q := spanstore.Query{Service: service, Start: s.at, End: s.at.Add(time.Hour), Limit: 3}
	_, err := s.r.Find(s.ctx, q, func(*span.Batch) error {
		calls++
		return errEnough
	})
	if !errors.Is(err, errEnough) || calls != 1 {
		s.Errorf("got %v after %d calls, want the error of the first", err, calls)
	}
}
