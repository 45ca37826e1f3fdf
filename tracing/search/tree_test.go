package search

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weir-dev/weir/tracing/span"
)

// sp is a span in a line: id, parent, start, end; ids are small numbers, 0 none.
type sp struct {
	id, parent byte
	start, end uint64
	kind       span.Kind
}

func batch(list ...sp) *span.Batch {
	b := &span.Batch{Resources: []span.Resource{{Service: "s"}}}
	for _, s := range list {
		b.Spans = append(b.Spans, span.Span{
			TraceID: span.TraceID{1}, ID: span.ID{7: s.id}, Parent: span.ID{7: s.parent},
			Name: fmt.Sprint("op", s.id), Start: s.start, End: s.end, Kind: s.kind,
		})
	}
	return b
}

func TestTree(t *testing.T) {
	for name, c := range map[string]struct {
		spans    []sp
		order    string // index:depth
		self     []uint64
		critical []uint64
	}{
		"empty": {},
		"one":   {[]sp{{id: 1, end: 10}}, "0:0 ", []uint64{10}, []uint64{10}},
		"sequence": {
			[]sp{{id: 1, end: 100}, {id: 3, parent: 1, start: 50, end: 90}, {id: 2, parent: 1, start: 10, end: 40}},
			"0:0 2:1 1:1 ", []uint64{30, 40, 30}, []uint64{30, 40, 30},
		},
		"siblings at once: the one that ends last is waited for": {
			[]sp{{id: 1, end: 20}, {id: 2, parent: 1, start: 0, end: 10}, {id: 3, parent: 1, start: 5, end: 12}},
			"0:0 1:1 2:1 ", []uint64{8, 10, 7}, []uint64{13, 0, 7},
		},
		"a child that outlives its parent": {
			[]sp{{id: 1, end: 20}, {id: 2, parent: 1, start: 10, end: 500}, {id: 3, parent: 2, start: 15, end: 400}},
			"0:0 1:1 2:2 ", []uint64{10, 105, 385}, []uint64{10, 5, 5},
		},
		"a child after its parent": {
			[]sp{{id: 1, end: 20}, {id: 2, parent: 1, start: 30, end: 40}},
			"0:0 1:1 ", []uint64{20, 10}, []uint64{20, 0},
		},
		"orphans come after, the root is the root": {
			[]sp{{id: 2, parent: 9, start: 0, end: 5}, {id: 1, start: 2, end: 10}},
			"0:0 1:0 ", []uint64{5, 8}, []uint64{0, 8},
		},
		"orphans alone":      {[]sp{{id: 2, parent: 9, start: 3, end: 5}, {id: 1, parent: 8, start: 2, end: 10}}, "1:0 0:0 ", []uint64{2, 8}, []uint64{0, 8}},
		"its own parent":     {[]sp{{id: 1, parent: 1, end: 4}}, "0:0 ", []uint64{4}, []uint64{4}},
		"circle":             {[]sp{{id: 1, parent: 2, start: 1, end: 4}, {id: 2, parent: 1, start: 2, end: 3}}, "0:0 1:1 ", []uint64{2, 1}, []uint64{2, 1}},
		"circle with a tail": {[]sp{{id: 3, parent: 2, end: 4}, {id: 1, parent: 2, start: 1, end: 4}, {id: 2, parent: 1, start: 2, end: 3}}, "1:0 2:1 0:2 ", []uint64{4, 2, 0}, []uint64{1, 2, 0}},
		"ends before it starts": {
			[]sp{{id: 1, start: 5, end: 2}, {id: 2, parent: 1, start: 5, end: 9}},
			"0:0 1:1 ", []uint64{0, 4}, []uint64{0, 0},
		},
		"client and server share an id": {
			[]sp{{id: 1, end: 10}, {id: 2, parent: 1, start: 2, end: 7, kind: span.KindServer}, {id: 2, parent: 1, start: 1, end: 8, kind: span.KindClient}, {id: 3, parent: 2, start: 3, end: 4}},
			"0:0 2:1 1:2 3:3 ", []uint64{3, 4, 2, 1}, []uint64{3, 4, 2, 1},
		},
	} {
		tr := newTree(batch(c.spans...))
		order := ""
		tr.each(func(i int32, depth int) { order += fmt.Sprintf("%d:%d ", i, depth) })
		var self []uint64
		for i := range tr.parent {
			self = append(self, tr.self(int32(i)))
		}
		critical, _ := tr.critical()
		if order != c.order || !slices.Equal(self, c.self) || !slices.Equal(critical, c.critical) {
			t.Errorf("%s:\n got %q, self %v, critical %v\nwant %q, self %v, critical %v", name, order, self, critical, c.order, c.self, c.critical)
		}
	}
}

// Whatever a trace looks like: each span is shown once, and the critical path is as
// long as the root.
func TestTreeOfAnything(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var spans []sp
		for range 1 + rnd.IntN(12) {
			start := rnd.Uint64N(50)
			spans = append(spans, sp{byte(1 + rnd.IntN(12)), byte(rnd.IntN(13)), start, start + rnd.Uint64N(40), span.Kind(rnd.IntN(5))})
		}
		tr := newTree(batch(spans...))
		seen := make([]int, len(spans))
		tr.each(func(i int32, _ int) { seen[i]++ })
		if slices.Min(seen) != 1 || slices.Max(seen) != 1 {
			t.Fatalf("%v: shown %v times", spans, seen)
		}
		times, _ := tr.critical()
		sum := uint64(0)
		for _, at := range times {
			sum += at
		}
		if root := tr.b.Spans[tr.main]; sum != root.End-root.Start {
			t.Fatalf("%v: the critical path takes %d, root %d to %d", spans, sum, root.Start, root.End)
		}
	}
}

// A trace as deep as it is long takes no stack and no time.
func TestDeepTree(t *testing.T) {
	const n = 100_000
	b := &span.Batch{}
	for i := range uint64(n) {
		b.Spans = append(b.Spans, span.Span{ID: id(i + 1), Parent: id(i), Start: i, End: 2*n - i})
	}
	tr := newTree(b)
	deepest := 0
	tr.each(func(_ int32, depth int) { deepest = max(deepest, depth) })
	times, _ := tr.critical()
	if deepest != n-1 || times[0] != 2 {
		t.Errorf("got depth %d and %d on the root", deepest, times[0])
	}
}

func id(n uint64) (id span.ID) {
	for k := range 8 {
		id[7-k] = byte(n >> (8 * k))
	}
	return id
}
