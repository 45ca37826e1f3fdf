package pebblestore_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

var ctx = context.Background()

var noon = time.Date(2026, 8, 22, 12, 0, 1, 0, time.UTC)

// clock is moved by hand.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func config(dir string) pebblestore.Config {
	cfg := pebblestore.DefaultConfig()
	cfg.Dir = dir
	cfg.MinFree = 0
	cfg.Memory.Cache, cfg.Memory.Memtable = 8<<20, 4<<20
	cfg.Memory.RecentSpans = 64 << 10
	return cfg
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func open(t testing.TB, cfg pebblestore.Config, deps pebblestore.Deps) *pebblestore.Store {
	t.Helper()
	if deps.Logger == nil {
		deps.Logger = quiet()
	}
	s, err := pebblestore.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func put(t testing.TB, s *pebblestore.Store, b *span.Batch) spanstore.Appended {
	t.Helper()
	got, err := s.Append(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	if got.Stored+got.Duplicate != len(b.Spans) {
		t.Fatalf("stored %d and duplicate %d of %d spans", got.Stored, got.Duplicate, len(b.Spans))
	}
	return got
}

// dump is a batch's spans in a form that can be compared: sorted, with what their
// indexes point to.
func dump(t testing.TB, b *span.Batch) string {
	t.Helper()
	type full struct {
		Span     span.Span
		Resource span.Resource
		Scope    span.Scope
	}
	var all []full
	for _, s := range b.Spans {
		f := full{Span: s, Resource: b.Resources[s.Resource]}
		if s.Scope < len(b.Scopes) {
			f.Scope = b.Scopes[s.Scope]
		}
		f.Span.Resource, f.Span.Scope = 0, 0
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b full) int {
		return cmp.Compare(a.Span.ID.String()+a.Span.Name, b.Span.ID.String()+b.Span.Name)
	})
	out, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// traceOf are the spans of one trace of b.
func traceOf(b *span.Batch, id span.TraceID) *span.Batch {
	out := &span.Batch{Resources: b.Resources, Scopes: b.Scopes}
	for _, s := range b.Spans {
		if s.TraceID == id {
			out.Spans = append(out.Spans, s)
		}
	}
	return out
}

func ids(b *span.Batch) []span.TraceID {
	var out []span.TraceID
	for _, s := range b.Spans {
		if !slices.Contains(out, s.TraceID) {
			out = append(out, s.TraceID)
		}
	}
	return out
}

func wantTraces(t testing.TB, s *pebblestore.Store, b *span.Batch) {
	t.Helper()
	for _, id := range ids(b) {
		got, err := s.Trace(ctx, id, spanstore.Window{})
		if err != nil {
			t.Fatalf("trace %s: %v", id, err)
		}
		if have, want := dump(t, got), dump(t, traceOf(b, id)); have != want {
			t.Fatalf("trace %s:\n%s\nwant\n%s", id, have, want)
		}
	}
}

func TestTracesComeBack(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Index.SegmentSpans = 500 // sealed and live ones
	s := open(t, cfg, pebblestore.Deps{})
	g := newShop(1, noon)
	var all []*span.Batch
	for range 12 {
		b := g.batch(20)
		put(t, s, b)
		all = append(all, b)
	}
	for _, b := range all {
		wantTraces(t, s, b)
	}
	if _, err := s.Trace(ctx, span.TraceID{9}, spanstore.Window{}); !errors.Is(err, spanstore.ErrNotFound) {
		t.Errorf("unknown trace: got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg, pebblestore.Deps{})
	for _, b := range all {
		wantTraces(t, s, b)
	}
	got, err := s.Services(ctx)
	if want := []string{"cart", "checkout", "frontend", "inventory", "payment"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("services %v, %v", got, err)
	}
	ops, err := s.Operations(ctx, "cart", span.KindServer)
	if err != nil || len(ops) != 1 || ops[0] != (spanstore.Operation{Name: "GET /cart", Kind: span.KindServer}) {
		t.Errorf("operations %v, %v", ops, err)
	}
}

// TestSearch asks the same of the store, before and after its segments are sealed and
// after it was closed, as of all spans one by one.
func TestSearch(t *testing.T) {
	yes, no := true, false
	queries := map[string]spanstore.Query{
		"service":            {Service: "cart", Limit: 10},
		"operation":          {Service: "cart", Operation: "GET /cart", Limit: 7},
		"kind":               {Service: "payment", Kind: span.KindClient, Limit: 5},
		"everything":         {Limit: 1000},
		"error":              {Error: &yes, Limit: 20},
		"no error":           {Service: "frontend", Error: &no, Limit: 3},
		"slow":               {MinDuration: 40 * time.Millisecond, Limit: 20},
		"between":            {Service: "cart", MinDuration: 5 * time.Millisecond, MaxDuration: 6 * time.Millisecond, Limit: 50},
		"root":               {Root: true, Limit: 4},
		"tag":                {Service: "cart", Where: []spanstore.Condition{{Key: "http.response.status_code", Op: spanstore.Equal, Value: "500"}}, Limit: 20},
		"old name of tag":    {Service: "cart", Where: []spanstore.Condition{{Key: "http.status_code", Op: spanstore.Equal, Value: "500"}}, Limit: 20},
		"error tag":          {Service: "cart", Where: []spanstore.Condition{{Key: "error", Op: spanstore.Equal, Value: "true"}}, Limit: 20},
		"bool tag":           {Service: "cart", Where: []spanstore.Condition{{Key: "cache.hit", Op: spanstore.Equal, Value: "true"}}, Limit: 20},
		"resource tag":       {Where: []spanstore.Condition{{Key: "k8s.node.name", Op: spanstore.Equal, Value: "node-1"}}, Limit: 20},
		"two tags, one span": {Where: []spanstore.Condition{{Key: "http.route", Op: spanstore.Equal, Value: "/cart/{id}"}, {Key: "error", Op: spanstore.Equal, Value: "true"}}, Limit: 20},
		"greater":            {Service: "cart", Where: []spanstore.Condition{{Key: "http.response.body.size", Op: spanstore.Greater, Value: "19000"}}, Limit: 20},
		"pattern":            {Service: "cart", Where: []spanstore.Condition{{Key: "enduser.id", Op: spanstore.Match, Value: "user-.*7"}}, Limit: 20},
		"nobody":             {Service: "nobody", Limit: 20},
		"time":               {Service: "cart", Start: noon.Add(20 * time.Millisecond), End: noon.Add(60 * time.Millisecond), Limit: 100},
	}
	cfg := config(t.TempDir())
	cfg.Index.SegmentSpans = 700
	s := open(t, cfg, pebblestore.Deps{})
	g := newShop(2, noon)
	all := &span.Batch{}
	for range 10 {
		b := g.batch(20)
		put(t, s, b)
		base := len(all.Resources)
		all.Resources = append(all.Resources, b.Resources...)
		all.Scopes = b.Scopes
		for _, sp := range b.Spans {
			sp.Resource += base
			all.Spans = append(all.Spans, sp)
		}
	}
	check := func(t *testing.T) {
		for name, q := range queries {
			t.Run(name, func(t *testing.T) {
				var got []span.TraceID
				notes, err := s.Find(ctx, q, func(b *span.Batch) error {
					if len(b.Spans) != 10 {
						t.Errorf("%d spans of a trace of 10", len(b.Spans))
					}
					got = append(got, b.Spans[0].TraceID)
					return nil
				})
				if err != nil || notes.Partial != "" {
					t.Fatal(err, notes)
				}
				if want := oneByOne(q, all); !slices.Equal(got, want) {
					t.Errorf("got %d traces %v, want %d %v", len(got), got, len(want), want)
				}
				found, _, err := s.FindIDs(ctx, q)
				if err != nil || !slices.Equal(found, got) {
					t.Errorf("ids %v, %v, want %v", found, err, got)
				}
			})
		}
	}
	t.Run("live and sealed", check)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg, pebblestore.Deps{})
	t.Run("reopened", check)
}

func oneByOne(q spanstore.Query, all *span.Batch) []span.TraceID {
	newest := map[span.TraceID]uint64{}
	for i := range all.Spans {
		if spanstore.Matches(q, all, i) {
			newest[all.Spans[i].TraceID] = max(newest[all.Spans[i].TraceID], all.Spans[i].Start)
		}
	}
	var out []span.TraceID
	for id := range newest {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b span.TraceID) int { return cmp.Compare(newest[b], newest[a]) })
	return out[:min(len(out), q.Limit)]
}

func TestScanLimit(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Scan.Spans = 100
	s := open(t, cfg, pebblestore.Deps{})
	put(t, s, newShop(3, noon).batch(100))
	notes, err := s.Find(ctx, spanstore.Query{Limit: 5, Where: []spanstore.Condition{{Key: "enduser.id", Op: spanstore.Match, Value: "nobody"}}}, func(*span.Batch) error { return nil })
	if err != nil || !notes.Scanned || notes.Partial == "" {
		t.Errorf("got %+v, %v, want a scan that was cut short", notes, err)
	}
}

func TestSpansAreStoredOnce(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Index.SegmentSpans = 300
	s := open(t, cfg, pebblestore.Deps{})
	g := newShop(4, time.Now())
	b := g.batch(20)
	put(t, s, b)
	if got := put(t, s, b); got.Duplicate != len(b.Spans) || got.Stored != 0 {
		t.Errorf("sent again: %+v", got)
	}
	more := g.batch(20)
	more.Spans = append(more.Spans, b.Spans[:50]...)
	got := put(t, s, more)
	if got.Duplicate != 50 || len(got.New) != 250 || !got.New[0] || got.New[249] {
		t.Errorf("half new: %+v", got)
	}
	other := &span.Batch{Resources: b.Resources, Scopes: b.Scopes, Spans: []span.Span{b.Spans[0]}}
	other.Spans[0].Name = "another"
	if got := put(t, s, other); got.Stored != 1 {
		t.Errorf("same id with another name: %+v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg, pebblestore.Deps{})
	if got := put(t, s, b); got.Stored != 0 {
		t.Errorf("sent again after a restart: %+v", got)
	}
	trace, err := s.Trace(ctx, b.Spans[0].TraceID, spanstore.Window{})
	if err != nil || len(trace.Spans) != 11 {
		t.Errorf("%d spans, %v, want the 10 and the one of another name", len(trace.Spans), err)
	}
}

func TestLateSpansJoinTheirTrace(t *testing.T) {
	c := &clock{noon}
	s := open(t, config(t.TempDir()), pebblestore.Deps{Now: c.now})
	b := newShop(5, noon).batch(1)
	for i := range 10 { // one by one, over five partitions
		one := &span.Batch{Resources: b.Resources, Scopes: b.Scopes, Spans: b.Spans[i : i+1]}
		put(t, s, one)
		if i%2 == 1 {
			c.at = c.at.Add(time.Hour)
			s.Maintain()
		}
	}
	wantTraces(t, s, b)
	s.Tidy()
	wantTraces(t, s, b)
	if n := len(s.Status().Partitions); n != 6 {
		t.Errorf("%d partitions, want 6", n)
	}
	got, _, err := s.FindIDs(ctx, spanstore.Query{Operation: b.Spans[0].Name, Service: "frontend", Limit: 3})
	if err != nil || len(got) != 1 {
		t.Errorf("found %v, %v", got, err)
	}
}

func TestReplay(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Index.SegmentSpans = 200
	cfg.Memory.RecentSpans = 1024
	replayed := 0
	deps := pebblestore.Deps{Replay: func(b *span.Batch, at time.Time) { replayed += len(b.Spans) }}
	s := open(t, cfg, deps)
	g := newShop(6, time.Now())
	put(t, s, g.batch(100))
	since := s.Seq()
	s.Settle(since)
	for range 10 {
		put(t, s, g.batch(30))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	deps.Since = since
	open(t, cfg, deps)
	if replayed != 3000 {
		t.Errorf("%d spans replayed, want the 3000 after the position", replayed)
	}
}

func TestLinks(t *testing.T) {
	c := &clock{noon}
	cfg := config(t.TempDir())
	s := open(t, cfg, pebblestore.Deps{Now: c.now})
	add := func(at time.Time, links ...spanstore.Dependency) {
		t.Helper()
		if err := s.AddLinks(ctx, at, links); err != nil {
			t.Fatal(err)
		}
	}
	add(noon, spanstore.Dependency{Parent: "a", Child: "b", Calls: 3}, spanstore.Dependency{Parent: "b", Child: "c", Calls: 300})
	add(noon.Add(20*time.Second), spanstore.Dependency{Parent: "a", Child: "b", Calls: 4})
	add(noon.Add(10*time.Minute), spanstore.Dependency{Parent: "a", Child: "b", Calls: 10})
	c.at = c.at.Add(time.Hour)
	s.Maintain()
	s.Tidy()
	add(c.at, spanstore.Dependency{Parent: "a", Child: "", Calls: 1})
	check := func(w spanstore.Window, want string) {
		t.Helper()
		got, err := s.Dependencies(ctx, w)
		if fmt.Sprint(got) != want || err != nil {
			t.Errorf("got %v, %v, want %s", got, err, want)
		}
	}
	check(spanstore.Window{}, "[{a  1} {a b 17} {b c 300}]")
	check(spanstore.Window{Start: noon.Add(5 * time.Minute), End: noon.Add(15 * time.Minute)}, "[{a b 10}]")
	check(spanstore.Window{End: noon.Add(time.Minute)}, "[{a b 7} {b c 300}]")
}

func TestBadConfig(t *testing.T) {
	cfg := pebblestore.DefaultConfig()
	var f conf.Faults
	cfg.Validate(&f)
	if err := f.Err(); err != nil {
		t.Errorf("the default is faulty: %v", err)
	}
	cfg.Partition = conf.Duration(time.Second)
	cfg.Retention.Keep = []pebblestore.Keep{{Time: conf.Duration(time.Hour)}}
	cfg.Validate(&f)
	want := `partition: got 1s, want 1m or more
retention.keep[0].time: got 1h, want longer than retention.time (2d), which has to be set
retention.keep[0].where: got "nothing", want at least one of service, operation, error, min_duration, attributes`
	if err := f.Err(); err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
