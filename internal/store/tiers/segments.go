package tiers

import "slices"

// segments says for each stretch of time which blocks of one rung answer for it.
// Blocks on disk go before those of the bucket; of what is left, a block that
// another shadows is not asked.
func segments(blocks []*entry) []segment {
	var edges []int64
	for _, e := range blocks {
		edges = append(edges, e.from, e.to)
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	var out []segment
	for i := 1; i < len(edges); i++ {
		s := span{edges[i-1], edges[i]}
		by := answering(blocks, s)
		if len(by) == 0 {
			continue
		}
		if n := len(out); n > 0 && out[n-1].to == s.from && slices.Equal(out[n-1].by, by) {
			out[n-1].to = s.to
			continue
		}
		out = append(out, segment{s, by})
	}
	return out
}

func answering(blocks []*entry, s span) (by []*entry) {
	for _, e := range blocks {
		if s.within(e.span) {
			by = append(by, e)
		}
	}
	if slices.ContainsFunc(by, func(e *entry) bool { return !e.far() }) {
		by = slices.DeleteFunc(by, func(e *entry) bool { return e.far() })
	}
	all := slices.Clone(by)
	return slices.DeleteFunc(by, func(e *entry) bool {
		return slices.ContainsFunc(all, func(o *entry) bool { return shadows(o, e) })
	})
}

// shadows says whether a answers for all of its time instead of b. It does when it
// was rolled from raw data that had been compacted or rewritten, with what b was
// rolled from among it: then it has all that b has there, and late samples besides.
// Blocks that share nothing add up; such are late samples to raw data that was
// gone by then. In the bucket the merged block replaces its parts.
func shadows(a, b *entry) bool {
	if a == b || a.ULID().Compare(b.ULID()) <= 0 || !shares(a, b) {
		return false
	}
	return a.replaces() || a.far() && b.far() && b.within(a.span)
}

func shares(a, b *entry) bool {
	for id := range a.sources {
		if b.sources[id] {
			return true
		}
	}
	return false
}

// cutSegments returns what of a rung's segments lies in s.
func (r *rung) cutSegments(s span) (out []segment) {
	for _, g := range r.segs {
		if c := g.cut(s); !c.empty() {
			out = append(out, segment{c, g.by})
		}
	}
	return out
}
