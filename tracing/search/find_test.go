package search

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// What is found by index and page by page is what looking at each trace finds.
func TestFindsWhatIsThere(t *testing.T) {
	g := newShop(1)
	all := g.traces(600, 0, 30*time.Minute)
	h := newHandler(deps(stored(t, all)))
	w := spanstore.Window{Start: noon.Add(5 * time.Minute), End: noon.Add(25 * time.Minute)}
	for _, text := range []string{
		"", "root", "service=cart", "service!=cart", "service=~\"c.*|payment\" && kind=server", "status=error && kind=server",
		"status!=error && kind=client", "status=unset && service=payment", "status=ok", `operation="POST /pay"`, `operation=~"POST.*"`,
		`operation!="GET /" && service=frontend && duration>20ms`, "duration>=15ms && duration<=16ms && service=cart", "duration<=0s", "duration>70ms && root",
		"http.status_code>=502", "http.response.status_code=500 && region=eu", "exception.type=TimeoutError", "region", "nothing",
		"{service=frontend} -> {service=cart}", "{service=frontend && kind=server} -> {service=cart}", "{service=frontend && kind=server} ->> {service=cart && status=error}",
		"{root} -> {kind=client && status=error} -> {region=us}", "{service=payment} ->> {service=cart}",
		"{service=payment && status=error} && {service=cart && status=error}", "{root && duration>60ms} && {service=cart} && {service=payment}",
		"{} -> {} -> {} -> {}", "{} ->> {} ->> {}", "{root} ->> {operation=~\"POST.*\"}",
	} {
		q, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, b := range all {
			if naive(q, b, w) {
				want = append(want, b.Spans[0].TraceID.String())
			}
		}
		slices.Sort(want)
		found, err := h.find(context.Background(), q, w, 1000)
		if err != nil || found.Notes.Partial != "" || found.More {
			t.Fatalf("%s: %v, %+v", text, err, found.Notes)
		}
		var got []string
		for i, s := range found.Traces {
			got = append(got, s.TraceID)
			if i > 0 && s.Start.After(found.Traces[i-1].Start) {
				t.Errorf("%s: trace %d starts after the one before", text, i)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: found %d traces, want %d", text, len(got), len(want))
		}
		if want := len(want); want > 7 {
			few, err := h.find(context.Background(), q, w, 7)
			if err != nil || len(few.Traces) != 7 || !few.More {
				t.Errorf("%s: %d of %d, more %v, %v", text, len(few.Traces), want, few.More, err)
			}
		}
		t.Logf("%-60s %d traces", text, len(want))
	}
}

// naive tells whether a query selects a trace by trying all ways to place its
// selectors.
func naive(q *Query, b *span.Batch, w spanstore.Window) bool {
	in := boundsOf(w)
	parent := func(i int) int {
		return slices.IndexFunc(b.Spans, func(s span.Span) bool { return s.ID == b.Spans[i].Parent })
	}
	for _, c := range q.chains {
		var place func(k, at int) bool
		place = func(k, at int) bool {
			if k == len(c.selectors) {
				return true
			}
			for i := range b.Spans {
				fits := k == 0
				for p := parent(i); !fits && p >= 0; p = parent(p) {
					fits = p == at
					if !c.below[k-1] {
						break
					}
				}
				if fits && in.holds(b.Spans[i].Start) && c.selectors[k].matches(b, i) && place(k+1, i) {
					return true
				}
			}
			return false
		}
		if !place(0, -1) {
			return false
		}
	}
	return true
}

// The newest are found however few match, and no more is looked at than allowed.
func TestFindIsBounded(t *testing.T) {
	d := deps(stored(t, newShop(1).traces(300, 0, 30*time.Minute)))
	d.Limits.MaxExamined = 100
	q, err := Parse(`operation=~"nothing.*"`)
	if err != nil {
		t.Fatal(err)
	}
	found, err := newHandler(d).find(context.Background(), q, spanstore.Window{Start: noon, End: noon.Add(time.Hour)}, 10)
	if err != nil || found.Notes.Examined != 100 || found.Notes.Partial != "the search stopped after 100 traces; a shorter window or a narrower query finds the rest" {
		t.Errorf("got %v and %+v", err, found.Notes)
	}
}

// Traces that start in the same nanosecond are all found.
func TestFindSameStart(t *testing.T) {
	g := newShop(1)
	var all []*span.Batch
	for range 200 {
		all = append(all, g.trace(0))
	}
	h := newHandler(deps(stored(t, all)))
	q, err := Parse(`{root && operation=~"GET.*"} ->> {}`)
	if err != nil {
		t.Fatal(err)
	}
	found, err := h.find(context.Background(), q, spanstore.Window{Start: noon, End: noon.Add(time.Hour)}, 1000)
	if err != nil || len(found.Traces) != 200 {
		t.Errorf("got %v and %d traces, %+v", err, len(found.Traces), found.Notes)
	}
}
