package search

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/weir-dev/weir/tracing/span"
)

// tree is the spans of a trace under their parents. A span whose parent is not there,
// or that would close a circle, is a root. Indices are those of the batch.
type tree struct {
	b      *span.Batch
	parent []int32 // -1: a root
	kids   [][]int32
	roots  []int32
	main   int32 // the first root that names no parent, else the first; -1: no spans
	// byStart has all spans by their start, then id. Kids and roots are in that order.
	byStart []int32
}

func newTree(b *span.Batch) *tree {
	t := &tree{b: b, parent: parents(b), kids: make([][]int32, len(b.Spans)), main: -1}
	t.byStart = make([]int32, len(b.Spans))
	for i := range t.byStart {
		t.byStart[i] = int32(i)
	}
	slices.SortStableFunc(t.byStart, func(x, y int32) int {
		a, b := &b.Spans[x], &b.Spans[y]
		return cmp.Or(cmp.Compare(a.Start, b.Start), bytes.Compare(a.ID[:], b.ID[:]))
	})
	t.cut()
	counts := make([]int32, len(b.Spans))
	for _, p := range t.parent {
		if p >= 0 {
			counts[p]++
		}
	}
	all, used := make([]int32, len(b.Spans)), int32(0)
	for i, n := range counts {
		t.kids[i] = all[used : used : used+n]
		used += n
	}
	for _, i := range t.byStart {
		if p := t.parent[i]; p >= 0 {
			t.kids[p] = append(t.kids[p], i)
			continue
		}
		t.roots = append(t.roots, i)
		if t.main < 0 || b.Spans[i].Parent.IsZero() && !b.Spans[t.main].Parent.IsZero() {
			t.main = i
		}
	}
	return t
}

// parents finds the parent of each span. Client and server of one call may share an id,
// as Zipkin's do: the server is then below the client, and what names that id as its
// parent below the server.
func parents(b *span.Batch) []int32 {
	ids := make(map[span.ID]int32, len(b.Spans))
	clients := make(map[span.ID]int32)
	for i := range b.Spans {
		s := &b.Spans[i]
		other, taken := ids[s.ID]
		if !taken || b.Spans[other].Kind == span.KindClient {
			ids[s.ID] = int32(i)
		}
		if taken {
			for _, k := range []int32{other, int32(i)} {
				if b.Spans[k].Kind == span.KindClient {
					clients[s.ID] = k
				}
			}
		}
	}
	parent := make([]int32, len(b.Spans))
	for i := range b.Spans {
		s := &b.Spans[i]
		parent[i] = -1
		if client, ok := clients[s.ID]; ok && s.Kind == span.KindServer {
			parent[i] = client
		} else if p, ok := ids[s.Parent]; ok && !s.Parent.IsZero() && int(p) != i {
			parent[i] = p
		}
	}
	return parent
}

// cut makes a root of the first span of each circle.
func (t *tree) cut() {
	const unknown, under, safe = 0, 1, 2
	state := make([]uint8, len(t.parent))
	var path []int32
	for _, i := range t.byStart {
		path = path[:0]
		for at := i; ; at = t.parent[at] {
			if state[at] == safe {
				break
			}
			if state[at] == under { // on the path already: a circle
				t.parent[t.first(at)] = -1
				break
			}
			state[at] = under
			path = append(path, at)
			if t.parent[at] < 0 {
				break
			}
		}
		for _, at := range path {
			state[at] = safe
		}
	}
}

// first is the span of a circle that starts first.
func (t *tree) first(in int32) int32 {
	first := in
	for at := t.parent[in]; at != in; at = t.parent[at] {
		a, b := &t.b.Spans[at], &t.b.Spans[first]
		if cmp.Or(cmp.Compare(a.Start, b.Start), bytes.Compare(a.ID[:], b.ID[:]), cmp.Compare(at, first)) < 0 {
			first = at
		}
	}
	return first
}

// each calls visit with all spans, parents before their children, and how deep they are.
func (t *tree) each(visit func(i int32, depth int)) {
	type entry struct {
		i     int32
		depth int
	}
	var todo []entry
	for r := len(t.roots) - 1; r >= 0; r-- {
		todo = append(todo, entry{t.roots[r], 0})
	}
	for len(todo) > 0 {
		e := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		visit(e.i, e.depth)
		kids := t.kids[e.i]
		for k := len(kids) - 1; k >= 0; k-- {
			todo = append(todo, entry{kids[k], e.depth + 1})
		}
	}
}

// end is that of a span which may end before it starts.
func end(s *span.Span) uint64 { return max(s.Start, s.End) }

// self is the time in nanoseconds in which a span ran and none of its children did.
func (t *tree) self(i int32) uint64 {
	s := &t.b.Spans[i]
	at, stop, self := s.Start, end(s), uint64(0)
	for _, k := range t.kids[i] { // by start
		kid := &t.b.Spans[k]
		if kid.Start >= stop {
			break
		}
		if kid.Start > at {
			self += kid.Start - at
		}
		at = max(at, min(end(kid), stop))
	}
	return self + stop - at
}

// critical is the time in nanoseconds that each span was on the critical path of the
// main root: going back from its end, the child that ended last, then what ended last
// before that began, as Jaeger's interface shows it. The times add up to the duration
// of that root; spans not on the path have 0, and are not in on.
func (t *tree) critical() (times []uint64, on []bool) {
	times, on = make([]uint64, len(t.parent)), make([]bool, len(t.parent))
	if t.main < 0 {
		return times, on
	}
	type stretch struct {
		i        int32
		from, to uint64
	}
	root := &t.b.Spans[t.main]
	todo := []stretch{{t.main, root.Start, end(root)}}
	var kids []stretch
	for len(todo) > 0 {
		at := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		on[at.i] = true
		kids = kids[:0]
		for _, k := range t.kids[at.i] {
			kid := &t.b.Spans[k]
			if from, to := max(kid.Start, at.from), min(end(kid), at.to); from < to {
				kids = append(kids, stretch{k, from, to})
			}
		}
		slices.SortStableFunc(kids, func(a, b stretch) int {
			return cmp.Or(cmp.Compare(b.to, a.to), cmp.Compare(b.from, a.from))
		})
		now := at.to
		for _, kid := range kids {
			if kid.to <= now {
				times[at.i] += now - kid.to
				todo = append(todo, kid)
				now = kid.from
			}
		}
		times[at.i] += now - at.from
	}
	return times, on
}

// match gives the spans that c's last selector stands for; nil: c is not in the trace.
// The tree may be nil for a chain of one.
func (c *chain) match(b *span.Batch, t *tree, w bounds) []int32 {
	var found []bool // of the selector before
	var hits []int32
	for k, s := range c.selectors {
		hits = hits[:0]
		var under []bool
		if k > 0 {
			under = t.under(found, c.below[k-1])
		}
		for i := range b.Spans {
			if (under == nil || under[i]) && w.holds(b.Spans[i].Start) && s.matches(b, i) {
				hits = append(hits, int32(i))
			}
		}
		if len(hits) == 0 {
			return nil
		}
		if k < len(c.selectors)-1 {
			found = make([]bool, len(b.Spans))
			for _, i := range hits {
				found[i] = true
			}
		}
	}
	return hits
}

// under marks the children of what is marked, or all that is below.
func (t *tree) under(marked []bool, below bool) []bool {
	under := make([]bool, len(marked))
	t.each(func(i int32, _ int) {
		if p := t.parent[i]; p >= 0 {
			under[i] = marked[p] || below && under[p]
		}
	})
	return under
}
