package index

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// question is a query in terms.
type question struct {
	start, end  uint64 // inclusive
	short, long uint64 // duration, inclusive
	clauses     []clause
	noError     bool
	Exactness
}

// clause asks that a span has one of its terms.
type clause struct {
	terms []uint32
	// attribute clauses are also met by spans of which not all terms were kept;
	// the others are the same for all spans of a shape.
	attribute bool
}

// maxClauses bounds the work and lets a word say which are met.
const maxClauses = 64

// ask puts the clauses that leave the fewest spans first.
func ask(cfg *Config, q *spanstore.Query) question {
	out := question{
		start: nanos(q.Start, 0), end: nanos(q.End, math.MaxUint64),
		short: 0, long: math.MaxUint64,
	}
	if q.MinDuration > 0 {
		out.short = uint64(q.MinDuration)
	}
	if q.MaxDuration > 0 {
		out.long = uint64(q.MaxDuration)
	}
	for _, c := range q.Where {
		// Room is left for the five clauses that are no conditions.
		if terms := cfg.condition(&c); terms != nil && len(out.clauses) < maxClauses-5 {
			out.clauses = append(out.clauses, clause{terms: terms, attribute: true})
		} else {
			out.Unserved = append(out.Unserved, fmt.Sprintf("%s %s %q", c.Key, c.Op, c.Value))
		}
	}
	if q.Operation != "" {
		out.one(termOf(hashText(seedOperation, q.Operation)))
	}
	if q.Service != "" {
		out.one(termOf(hashText(seedService, q.Service)))
	}
	out.Verify = len(out.clauses) > 0
	if q.Root {
		out.one(termRoot)
	}
	if q.Error != nil {
		if out.noError = !*q.Error; *q.Error {
			out.one(statusTerm(span.StatusError))
		}
	}
	if q.Kind != span.KindUnspecified {
		out.one(kindTerm(q.Kind))
		out.Verify = out.Verify || q.Kind >= kindOther
	}
	return out
}

func (q *question) one(term uint32) {
	q.clauses = append(q.clauses, clause{terms: []uint32{term}})
}

// condition gives the terms of which a span has one if it meets the condition; nil
// where the index does not know.
func (c *Config) condition(w *spanstore.Condition) []uint32 {
	if w.Op != spanstore.Equal || len(w.Value) > c.MaxValueBytes {
		return nil
	}
	for _, key := range spanstore.Aliases(w.Key) {
		if !c.has(key) {
			return nil
		}
	}
	terms := []uint32{termOf(hashText(hashKey(w.Key), w.Value))}
	switch {
	case w.Key == "error" && w.Value == "true",
		w.Key == "otel.status_code" && w.Value == "ERROR":
		terms = append(terms, statusTerm(span.StatusError))
	case w.Key == "otel.status_code" && w.Value == "OK":
		terms = append(terms, statusTerm(span.StatusOK))
	case w.Key == "span.kind":
		for k := span.KindInternal; k <= span.KindConsumer; k++ {
			if spanstore.KindName(k) == w.Value {
				terms = append(terms, kindTerm(k))
			}
		}
	}
	return terms
}

// nanos of a bound, as spanstore.Matches takes it.
func nanos(t time.Time, open uint64) uint64 {
	switch {
	case t.IsZero():
		return open
	case t.Unix() < 0:
		return 0
	case t.Year() > 2500: // past what 64 bits of nanoseconds hold
		return math.MaxUint64
	}
	return uint64(t.UnixNano())
}

// newest collects the traces of the newest spans.
type newest struct {
	limit int // 0: all
	found []found
	floor uint64 // spans before are of no interest
	few   map[uint32]int
	many  []uint32 // index in found, plus 1
}

type found struct {
	trace uint32
	start uint64
}

// newNewest expects so many spans of so many traces.
func newNewest(limit, spans, traces int) *newest {
	n := &newest{limit: limit}
	if spans < traces/8 {
		n.few = make(map[uint32]int, min(spans, 2*limit+64))
	} else {
		n.many = make([]uint32, traces)
	}
	return n
}

func (n *newest) offer(trace uint32, start uint64) {
	if start < n.floor {
		return
	}
	if at := n.at(trace); at >= 0 {
		n.found[at].start = max(n.found[at].start, start)
		return
	}
	n.put(trace, len(n.found)+1)
	n.found = append(n.found, found{trace, start})
	if n.limit > 0 && len(n.found) >= 2*n.limit+256 {
		n.prune()
	}
}

func (n *newest) at(trace uint32) int {
	if n.many != nil {
		return int(n.many[trace]) - 1
	}
	return n.few[trace] - 1
}

func (n *newest) put(trace uint32, at int) {
	switch {
	case n.many != nil:
		n.many[trace] = uint32(at)
	case at == 0:
		delete(n.few, trace)
	default:
		n.few[trace] = at
	}
}

// full tells that no span before a time can matter any more.
func (n *newest) full(before uint64) bool {
	if n.limit <= 0 || len(n.found) < n.limit {
		return false
	}
	n.prune()
	return before < n.floor
}

func (n *newest) sort() {
	slices.SortFunc(n.found, func(a, b found) int {
		switch {
		case a.start != b.start && a.start > b.start, a.start == b.start && a.trace < b.trace:
			return -1
		}
		return 1
	})
}

func (n *newest) prune() {
	n.sort()
	if n.limit > 0 && len(n.found) > n.limit {
		for _, f := range n.found[n.limit:] {
			n.put(f.trace, 0)
		}
		n.found = n.found[:n.limit]
	}
	if len(n.found) == n.limit && n.limit > 0 {
		n.floor = n.found[n.limit-1].start
	}
	for i, f := range n.found {
		n.put(f.trace, i+1)
	}
}
