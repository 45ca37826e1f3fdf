package search

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/weir-dev/weir/tracing/span"
)

// Found is the answer of a search.
type Found struct {
	Query  string    `json:"query"` // in its normal form
	Start  time.Time `json:"start"` // of the window
	End    time.Time `json:"end"`
	Traces []Summary `json:"traces"` // that which starts last first
	// More is true where the limit left traces out.
	More  bool  `json:"more"`
	Notes Notes `json:"notes"`
}

// Summary is a trace in a line.
type Summary struct {
	TraceID string `json:"traceID"`
	// Service and operation of the first span that names no parent, else of the first
	// whose parent is missing.
	RootService   string    `json:"rootService"`
	RootOperation string    `json:"rootOperation"`
	RootMissing   bool      `json:"rootMissing,omitempty"`
	Start         time.Time `json:"startTime"`
	Duration      float64   `json:"duration"` // seconds, from the first start to the last end
	Spans         int       `json:"spanCount"`
	Errors        int       `json:"errorCount"`
	// Matched counts the spans that the query stands for.
	Matched  int            `json:"matchedCount,omitempty"`
	Services []ServiceCount `json:"services"` // by name

	start uint64
}

// ServiceCount counts the spans of a service in a trace.
type ServiceCount struct {
	Name   string `json:"name"`
	Spans  int    `json:"spanCount"`
	Errors int    `json:"errorCount"`
}

// service of a span, in the memory of the batch.
func service(b *span.Batch, s *span.Span) string {
	if s.Resource < 0 || s.Resource >= len(b.Resources) {
		return ""
	}
	return b.Resources[s.Resource].Service
}

// text copies a string out of a batch, for JSON.
func text(s string) string { return strings.Clone(strings.ToValidUTF8(s, "\uFFFD")) }

// extent is when the first span starts and the last ends.
func extent(b *span.Batch) (first, last uint64) {
	for i := range b.Spans {
		s := &b.Spans[i]
		if i == 0 || s.Start < first {
			first = s.Start
		}
		last = max(last, end(s))
	}
	return first, last
}

func summarize(b *span.Batch) Summary {
	if len(b.Spans) == 0 {
		return Summary{Services: []ServiceCount{}}
	}
	first, last := extent(b)
	sum := Summary{
		TraceID: b.Spans[0].TraceID.String(), Start: instant(first), Duration: seconds(last - first),
		Spans: len(b.Spans), start: first,
	}
	services := map[string]*ServiceCount{}
	for i := range b.Spans {
		s := &b.Spans[i]
		name := service(b, s)
		count := services[name]
		if count == nil {
			count = &ServiceCount{Name: text(name)}
			services[name] = count
		}
		count.Spans++
		if s.Status == span.StatusError {
			count.Errors++
			sum.Errors++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		sum.Services = append(sum.Services, *services[name])
	}
	root := &b.Spans[rootOf(b)]
	sum.RootService, sum.RootOperation, sum.RootMissing = text(service(b, root)), text(root.Name), !root.Parent.IsZero()
	return sum
}

// rootOf finds the main root without making the tree.
func rootOf(b *span.Batch) int {
	ids := make(map[span.ID]struct{}, len(b.Spans))
	for i := range b.Spans {
		ids[b.Spans[i].ID] = struct{}{}
	}
	rank := func(i int) int {
		s := &b.Spans[i]
		if s.Parent.IsZero() {
			return 0
		}
		if _, ok := ids[s.Parent]; !ok {
			return 1
		}
		return 2
	}
	best := 0
	for i := 1; i < len(b.Spans); i++ {
		x, y := &b.Spans[i], &b.Spans[best]
		if cmp.Or(cmp.Compare(rank(i), rank(best)), cmp.Compare(x.Start, y.Start), slices.Compare(x.ID[:], y.ID[:])) < 0 {
			best = i
		}
	}
	return best
}

// newestFirst orders summaries.
func newestFirst(a, b Summary) int {
	return cmp.Or(cmp.Compare(b.start, a.start), cmp.Compare(a.TraceID, b.TraceID))
}

func sortSummaries(list []Summary) { slices.SortFunc(list, newestFirst) }
