package search

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// bounds are a window in Unix nanoseconds, both inclusive.
type bounds struct{ start, end uint64 }

func (w bounds) holds(at uint64) bool { return w.start <= at && at <= w.end }

// boundsOf a window whose ends are given.
func boundsOf(w spanstore.Window) bounds { return bounds{nanos(w.Start), nanos(w.End)} }

func nanos(t time.Time) uint64 {
	switch {
	case t.Unix() < 0:
		return 0
	case t.Year() > 2200: // within what time.Time gives as nanoseconds
		return math.MaxInt64
	}
	return uint64(t.UnixNano())
}

// instant is the time of Unix nanoseconds, as far as 63 bits of them go.
func instant(at uint64) time.Time { return time.Unix(0, int64(min(at, math.MaxInt64))).UTC() }

func seconds(nanos uint64) float64 { return float64(nanos) / 1e9 }

// lead is the selector that the store is asked for: that which leaves the fewest.
func (q *Query) lead() *selector {
	var lead *selector
	for _, c := range q.chains {
		for _, s := range c.selectors {
			if lead == nil || s.weight() > lead.weight() {
				lead = s
			}
		}
	}
	return lead
}

// match gives the spans of a trace that the last selectors of q's chains stand for;
// none: q does not select the trace.
func (q *Query) match(b *span.Batch, w bounds) []int32 {
	var t *tree
	var all []int32
	var seen []bool // where chains may meet
	for k := range q.chains {
		c := &q.chains[k]
		if t == nil && len(c.selectors) > 1 {
			t = newTree(b)
		}
		hits := c.match(b, t, w)
		if hits == nil {
			return nil
		}
		if len(q.chains) == 1 {
			return hits
		}
		if seen == nil {
			seen = make([]bool, len(b.Spans))
		}
		for _, i := range hits {
			if !seen[i] {
				seen[i] = true
				all = append(all, i)
			}
		}
	}
	return all
}

// Notes say how an answer came about.
type Notes struct {
	// Scanned is true where spans were read one by one for want of an index.
	Scanned bool `json:"scanned"`
	// Partial says why something may be missing; empty: nothing is.
	Partial string `json:"partial,omitempty"`
	// Examined counts the traces that were looked at.
	Examined int `json:"examined"`
}

func (n *Notes) add(o spanstore.Notes) {
	n.Scanned = n.Scanned || o.Scanned
	n.partial(o.Partial)
}

func (n *Notes) partial(why string) {
	if n.Partial == "" {
		n.Partial = why
	}
}

const (
	// firstPage is the least number of traces that the store is asked for at a time
	// where some of them may not be what is searched for.
	firstPage = 32
	// maxPage bounds the traces that the store holds for one asking: at 10 spans each a
	// tenth of what the embedded one keeps in memory.
	maxPage = 512
	// maxSame bounds the traces that may start in one nanosecond.
	maxSame = 8192
)

var errEnough = errors.New("enough traces")

// pager goes through the traces that a query selects, newest first.
type pager struct {
	reader spanstore.Reader
	q      *Query
	lead   *selector
	whole  bounds // of all selectors
	part   bounds // of the lead: from where it goes on
	slice  bounds // the part as it was at first
	most   int    // traces it may look at
	// seen may be shared by pagers of one window.
	seen   map[span.TraceID]struct{}
	notes  *Notes
	simple bool // all that the store finds is selected
	ended  bool // there is nothing left, or it stopped
	cut    bool // it stopped before its time; notes say why
}

func newPager(r spanstore.Reader, q *Query, w bounds, most int, notes *Notes) *pager {
	p := &pager{
		reader: r, q: q, lead: q.lead(), whole: w, part: w,
		most: most, seen: map[span.TraceID]struct{}{}, notes: notes,
	}
	p.simple = len(q.chains) == 1 && len(q.chains[0].selectors) == 1 && !p.lead.verified()
	return p
}

// next calls yield with up to n further traces and their spans that the query stands
// for. The batch is the callee's.
func (p *pager) next(ctx context.Context, n int, yield func(*span.Batch, []int32)) error {
	size := min(n, maxPage)
	if !p.simple {
		size = max(size, firstPage)
	}
	for n > 0 && !p.ended {
		before, oldest, fresh := p.part.end, uint64(math.MaxUint64), 0
		found, count, err := 0, 0, error(nil)
		query := p.lead.query
		query.Start, query.End, query.Limit = instant(p.part.start), instant(p.part.end), size
		var notes spanstore.Notes
		notes, err = p.reader.Find(ctx, query, func(b *span.Batch) error {
			count++
			if len(b.Spans) == 0 {
				return nil
			}
			oldest = min(oldest, p.newest(b, before))
			id := b.Spans[0].TraceID
			if _, again := p.seen[id]; again {
				return nil
			}
			if p.notes.Examined >= p.most {
				p.stop(fmt.Sprintf("the search stopped after %d traces; a shorter window or a narrower query finds the rest", p.most))
				return errEnough
			}
			p.seen[id] = struct{}{}
			p.notes.Examined++
			fresh++
			if hits := p.q.match(b, p.whole); hits != nil {
				yield(b, hits)
				if found++; found == n {
					return errEnough
				}
			}
			return nil
		})
		p.notes.add(notes)
		n -= found
		switch {
		case err != nil && !errors.Is(err, errEnough):
			return err
		case notes.Partial != "":
			p.stop("")
		case err == nil && count < size:
			p.ended = true
		}
		// On with what is older; traces of the same nanosecond come again.
		if oldest < before {
			p.part.end = oldest
		} else if fresh == 0 && !p.ended && err == nil {
			if size *= 4; size > maxSame {
				p.stop("too many traces start in the same nanosecond")
			}
			continue
		}
		size = min(max(2*size, firstPage), max(maxPage, size))
	}
	return nil
}

// stop ends it before its time.
func (p *pager) stop(why string) {
	p.ended, p.cut = true, true
	if why != "" {
		p.notes.partial(why)
	}
}

// newest is when the newest span of a trace starts that the lead stands for, no later
// than the end of what was asked; that end if there is none after all.
func (p *pager) newest(b *span.Batch, latest uint64) uint64 {
	start, found := uint64(0), false
	for i := range b.Spans {
		at := b.Spans[i].Start
		if at <= latest && at >= p.part.start && (!found || at > start) && p.lead.match.Match(b, i) {
			start, found = at, true
		}
	}
	if !found {
		return latest
	}
	return start
}

// covered is the time in nanoseconds of the window that p has gone through.
func (p *pager) covered(w bounds) uint64 {
	if p.ended && !p.cut {
		return w.end - w.start
	}
	return w.end - min(p.part.end, w.end)
}
