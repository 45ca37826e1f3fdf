package index

import (
	"math/bits"
	"slices"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Search gives the traces with the newest spans that q selects, newest first, at most
// limit of them; 0 is no limit, and that of q does not count.
func (b *Builder) Search(q spanstore.Query, limit int) ([]Hit, Exactness) {
	r := b.snapshot()
	ask := ask(&b.cfg, &q)
	ask.Verify = ask.Verify || r.anyOver() && len(q.Where) > len(ask.Unserved)
	met := r.shapesMeet(&ask)
	whole := uint64(1)<<len(ask.clauses) - 1
	if len(ask.clauses) == maxClauses {
		whole = ^uint64(0)
	}
	var attributes uint64
	for i, c := range ask.clauses {
		if c.attribute {
			attributes |= 1 << i
		}
	}
	found := newNewest(limit, len(r.start), len(r.traces))
	// What came last is likely the newest, after which the rest is passed over.
	for i := len(r.shape) - 1; i >= 0; i-- {
		sh := r.shape[i]
		open := whole &^ met[sh]
		if open&^attributes != 0 {
			continue
		}
		if s := r.start[i]; s < ask.start || s > ask.end || s < found.floor {
			continue
		}
		if d := r.length[i]; d < ask.short || d > ask.long {
			continue
		}
		if open != 0 && !r.meets(i, &ask, open) || ask.noError && r.shapes[sh].status == span.StatusError {
			continue
		}
		found.offer(r.trace[i], r.start[i])
	}
	found.prune()
	hits := make([]Hit, len(found.found))
	for i, f := range found.found {
		hits[i] = Hit{r.traces[f.trace], f.start}
	}
	return hits, ask.Exactness
}

func (r *rows) anyOver() bool {
	return len(r.over) > 0 || slices.ContainsFunc(r.groups, func(g senders) bool { return g.over })
}

// shapesMeet tells for each shape the clauses that all its spans meet.
func (r *rows) shapesMeet(ask *question) []uint64 {
	groups := make([]uint64, len(r.groups))
	for i := range r.groups {
		g := &r.groups[i]
		for k, c := range ask.clauses {
			if c.attribute && g.over || hasAny(g.terms, c.terms) {
				groups[i] |= 1 << k
			}
		}
	}
	met := make([]uint64, len(r.shapes))
	var own [4]uint32
	for i := range r.shapes {
		met[i] = groups[r.shapes[i].group]
		terms := r.shapes[i].appendTerms(own[:0])
		for k, c := range ask.clauses {
			if hasAny(terms, c.terms) {
				met[i] |= 1 << k
			}
		}
	}
	return met
}

// appendTerms appends those that are not its group's.
func (s *shape) appendTerms(dst []uint32) []uint32 {
	dst = append(dst, s.term, kindTerm(s.kind), statusTerm(s.status))
	if s.root {
		dst = append(dst, termRoot)
	}
	return dst
}

// meets tells whether the terms of a row meet the clauses that are open.
func (r *rows) meets(i int, ask *question, open uint64) bool {
	from := uint32(0)
	if i > 0 {
		from = r.ends[i-1]
	}
	terms := r.terms[from:r.ends[i]]
	for open != 0 {
		k := bits.TrailingZeros64(open)
		open &= open - 1
		if !hasAny(terms, ask.clauses[k].terms) {
			_, over := slices.BinarySearch(r.over, uint32(i))
			return over
		}
	}
	return true
}

func hasAny(terms, wanted []uint32) bool {
	for _, want := range wanted {
		for _, t := range terms {
			if t == want {
				return true
			}
		}
	}
	return false
}
