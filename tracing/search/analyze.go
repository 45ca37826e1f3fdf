package search

import (
	"context"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Analysis tells what is in the traces of a window that a query selects: either the
// first three lists, or the comparison of two such sets.
type Analysis struct {
	Query      string      `json:"query"` // in its normal form
	Start      time.Time   `json:"start"`
	End        time.Time   `json:"end"`
	Sample     Sample      `json:"sample"`
	Operations []Operation `json:"operations,omitempty"`
	Errors     []Signature `json:"errors,omitempty"`
	Heatmap    *Heatmap    `json:"heatmap,omitempty"`
	Comparison *Comparison `json:"comparison,omitempty"`
	Notes      Notes       `json:"notes"`
}

// Sample says on what an analysis stands.
type Sample struct {
	Traces int `json:"traces"`
	Spans  int `json:"spans"`
	// Complete is true where these are all traces that the query selects.
	Complete bool `json:"complete"`
	// Covered is the seconds of the window of which all traces are in the sample; rates
	// are over these. The rest is spread over the window.
	Covered float64 `json:"coveredSeconds"`
}

const (
	// slices of a window have an equal share of a sample that cannot hold all, so that
	// it is not of the newest traces alone.
	sampleSlices = 16
	// defaultSample answers within a second or so where traces have some ten spans.
	defaultSample = 1000
	defaultTop    = 20
	// maxTop bounds the rows of each list.
	maxTop = 500
)

// analysisRequest is one that was read.
type analysisRequest struct {
	q       *Query
	w       spanstore.Window
	sample  int
	top     int
	sort    string
	by      string // attribute of the heat map's groups; empty: one group
	columns int
	groups  int
	compare *comparing
}

// analyze reads q, start, end, limit (of traces), top (rows of a list), sort (self,
// total, critical or calls), by, columns and groups (of the heat map), and for a
// comparison either compare_start and compare_end (the window compared with), or
// compare (an attribute) with its values a and b.
func (h *handler) analyze(ctx context.Context, p *parameters) (any, Notes, error) {
	r, err := h.readAnalysis(p)
	if err != nil {
		return nil, Notes{}, err
	}
	a := &Analysis{Query: r.q.String(), Start: r.w.Start, End: r.w.End}
	if r.compare != nil {
		a.Comparison, err = h.compare(ctx, r, a)
		return a, a.Notes, err
	}
	total, heat := newOperations(), newHeat(r)
	signatures := newSignatures()
	a.Sample, err = h.sample(ctx, r, r.q, r.w, &a.Notes, func(b *span.Batch, hits []int32) {
		heat.take(b, hits)
		total.take(b)
		signatures.take(b, total.tree)
	})
	if err != nil {
		return nil, Notes{}, err
	}
	a.Operations = total.rows(r.sort, r.top, a.Sample.Covered)
	a.Errors = signatures.rows(r.top)
	a.Heatmap = heat.done(r.groups)
	for _, folded := range []bool{total.folded, signatures.folded, heat.folded} {
		if folded {
			a.Notes.partial("there are more distinct names than are told apart; the rest is under " + otherName)
		}
	}
	return a, a.Notes, nil
}

func (h *handler) readAnalysis(p *parameters) (*analysisRequest, error) {
	r := &analysisRequest{sort: p.values.Get("sort"), by: p.values.Get("by")}
	var err error
	if r.q, err = p.query(); err != nil {
		return nil, err
	}
	if r.w, err = p.window("start", "end"); err != nil {
		return nil, err
	}
	for _, c := range []struct {
		name            string
		field           *int
		otherwise, most int
	}{
		{"limit", &r.sample, defaultSample, h.Limits.MaxSample},
		{"top", &r.top, defaultTop, maxTop},
		{"columns", &r.columns, 24, maxColumns},
		{"groups", &r.groups, 8, maxGroups},
	} {
		if *c.field, err = p.count(c.name, c.otherwise, c.most); err != nil {
			return nil, err
		}
	}
	if r.sort == "" {
		r.sort = "self"
	}
	if sortings[r.sort] == nil {
		return nil, badf(`invalid parameter "sort": got %q, want self, total, critical or calls`, r.sort)
	}
	r.compare, err = readComparing(p, r)
	return r, err
}

// sample gives the traces of a window to take, all or as many as the request wants.
// Each slice of the window gets its share; what one leaves goes to the others.
func (h *handler) sample(ctx context.Context, r *analysisRequest, q *Query, w spanstore.Window, notes *Notes, take func(*span.Batch, []int32)) (Sample, error) {
	var s Sample
	var fault error
	whole := boundsOf(w)
	pages := h.pages(q, whole, notes)
	feed := func(b *span.Batch, hits []int32) {
		if fault != nil || s.Spans > h.Limits.MaxSpans {
			return
		}
		s.Traces++
		s.Spans += len(b.Spans)
		var adjusted *span.Batch
		if adjusted, fault = h.adjusted(b); fault != nil {
			return
		}
		if adjusted != b {
			hits = q.match(adjusted, whole) // spans may be in another order
		}
		take(adjusted, hits)
	}
	for left := r.sample; left > 0; {
		open := 0
		for _, p := range pages {
			if !p.ended {
				open++
			}
		}
		if open == 0 {
			break
		}
		for _, p := range pages {
			if p.ended || left == 0 {
				continue
			}
			before := s.Traces
			if err := p.next(ctx, (left+open-1)/open, feed); err != nil {
				return s, err
			}
			if fault != nil {
				return s, fault
			}
			if s.Spans > h.Limits.MaxSpans {
				notes.partial(over(h.Limits.MaxSpans))
				left = 0
			}
			left = max(0, left-(s.Traces-before))
			open--
		}
	}
	covered := uint64(0)
	s.Complete = notes.Partial == ""
	for _, p := range pages {
		s.Complete = s.Complete && p.ended
		covered += p.covered(p.slice)
	}
	s.Covered = seconds(covered)
	return s, nil
}

// pages of the slices of a window, that of the newest first.
func (h *handler) pages(q *Query, whole bounds, notes *Notes) (pages []*pager) {
	n := uint64(sampleSlices)
	if whole.end-whole.start < uint64(sampleSlices*time.Millisecond) {
		n = 1
	}
	first := newPager(h.Reader, q, whole, h.Limits.MaxExamined, notes)
	length := (whole.end - whole.start) / n
	for i := range n {
		p := *first
		p.slice = bounds{whole.end - (i+1)*length, whole.end - i*length}
		if i == n-1 {
			p.slice.start = whole.start
		}
		p.part = p.slice
		if i > 0 {
			p.part.end-- // both ends belong to a part
		}
		pages = append(pages, &p)
	}
	return pages
}
