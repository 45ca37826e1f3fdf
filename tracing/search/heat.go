package search

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Heatmap counts the spans that the query stands for by when they started and how long
// they took. Of a query with a structure these are the spans of its last selectors.
type Heatmap struct {
	By     string    `json:"by,omitempty"` // attribute of the groups
	Start  time.Time `json:"start"`        // of the first column
	Step   float64   `json:"step"`         // seconds
	Bounds []float64 `json:"bounds"`       // of the buckets: seconds, each the most that belongs; 0: no bound
	Groups []Heat    `json:"groups"`       // that with most spans first
}

// Heat is the spans of one value of an attribute.
type Heat struct {
	Value string  `json:"value"`
	None  bool    `json:"none,omitempty"`  // the spans have no such attribute
	Other bool    `json:"other,omitempty"` // of all values that have no group
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P95   float64 `json:"p95"`
	Cells [][]int `json:"cells"` // columns of buckets
}

const (
	maxColumns = 200 // what a wide terminal or a panel shows
	maxGroups  = 50
	// maxValues that are told apart before the largest groups are known.
	maxValues = 10_000
)

// heatBounds are 1, 2 and 5 of each decade from 1µs to 1000s, in nanoseconds.
var heatBounds = func() (list []uint64) {
	for decade := uint64(time.Microsecond); decade <= uint64(100*time.Second); decade *= 10 {
		list = append(list, decade, 2*decade, 5*decade)
	}
	return append(list, uint64(1000*time.Second))
}()

type groupKey struct {
	value       string
	none, other bool
}

type heatGroup struct {
	durations []uint64
	cells     map[[2]int]int // column, bucket
}

// heat gathers a [Heatmap].
type heat struct {
	w         bounds
	by        string
	columns   int
	groups    map[groupKey]*heatGroup
	low, high int // buckets in use
	folded    bool
}

func newHeat(r *analysisRequest) *heat {
	return &heat{
		w: boundsOf(r.w), by: r.by, columns: r.columns,
		groups: map[groupKey]*heatGroup{}, low: len(heatBounds), high: -1,
	}
}

func (h *heat) take(b *span.Batch, hits []int32) {
	for _, i := range hits {
		s := &b.Spans[i]
		if !h.w.holds(s.Start) {
			continue // the clock was corrected
		}
		column := min(int(float64(s.Start-h.w.start)/float64(h.w.end-h.w.start+1)*float64(h.columns)), h.columns-1)
		bucket, _ := slices.BinarySearch(heatBounds, s.Duration())
		h.low, h.high = min(h.low, bucket), max(h.high, bucket)
		g := h.group(b, s)
		g.durations = append(g.durations, s.Duration())
		g.cells[[2]int{column, bucket}]++
	}
}

func (h *heat) group(b *span.Batch, s *span.Span) *heatGroup {
	var key groupKey
	if h.by != "" {
		value, ok := attribute(b, s, h.by)
		key = groupKey{value: value, none: !ok}
	}
	g := h.groups[key]
	if g != nil {
		return g
	}
	if len(h.groups) >= maxValues {
		h.folded = true
		key = groupKey{value: otherName, other: true}
		if g = h.groups[key]; g != nil {
			return g
		}
	}
	g = &heatGroup{cells: map[[2]int]int{}}
	key.value = strings.Clone(key.value)
	h.groups[key] = g
	return g
}

// done makes the map, with the largest groups.
func (h *heat) done(most int) *Heatmap {
	m := &Heatmap{By: h.by, Start: instant(h.w.start), Step: seconds(h.w.end-h.w.start) / float64(h.columns), Bounds: []float64{}, Groups: []Heat{}}
	if h.high < 0 {
		return m
	}
	for k := h.low; k <= h.high; k++ {
		bound := 0.
		if k < len(heatBounds) {
			bound = seconds(heatBounds[k])
		}
		m.Bounds = append(m.Bounds, bound)
	}
	keys := make([]groupKey, 0, len(h.groups))
	for key := range h.groups {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b groupKey) int {
		return cmp.Or(order(a.other, b.other), cmp.Compare(len(h.groups[b].durations), len(h.groups[a].durations)),
			order(a.none, b.none), cmp.Compare(a.value, b.value))
	})
	if len(keys) > most { // the last place is for the rest
		rest := &heatGroup{cells: map[[2]int]int{}}
		for _, key := range keys[most-1:] {
			rest.add(h.groups[key])
		}
		key := groupKey{value: otherName, other: true}
		h.groups[key] = rest
		keys = append(keys[:most-1], key)
	}
	for _, key := range keys {
		m.Groups = append(m.Groups, h.row(key))
	}
	return m
}

func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func (g *heatGroup) add(o *heatGroup) {
	g.durations = append(g.durations, o.durations...)
	for cell, n := range o.cells {
		g.cells[cell] += n
	}
}

func (h *heat) row(key groupKey) Heat {
	g := h.groups[key]
	slices.Sort(g.durations)
	row := Heat{
		Value: text(key.value), None: key.none, Other: key.other, Count: len(g.durations),
		P50: quantile(g.durations, .5), P95: quantile(g.durations, .95), Cells: make([][]int, h.columns),
	}
	for c := range row.Cells {
		row.Cells[c] = make([]int, h.high-h.low+1)
		for k := range row.Cells[c] {
			row.Cells[c][k] = g.cells[[2]int{c, h.low + k}]
		}
	}
	return row
}

// attribute is the value of a key for a span as text: one of its fields, as in a query,
// or an attribute of the span or its resource.
func attribute(b *span.Batch, s *span.Span, key string) (string, bool) {
	switch key {
	case "service":
		return service(b, s), true
	case "operation", "name":
		return s.Name, true
	case "kind":
		kind := spanstore.KindName(s.Kind)
		return kind, kind != ""
	case "status":
		for name, status := range statuses {
			if status == s.Status {
				return name, true
			}
		}
	}
	for _, name := range spanstore.Aliases(key) {
		for _, a := range s.Attrs {
			if a.Key == name {
				return a.Value.Text(), true
			}
		}
	}
	if s.Resource >= 0 && s.Resource < len(b.Resources) {
		for _, a := range b.Resources[s.Resource].Attrs {
			if a.Key == key {
				return a.Value.Text(), true
			}
		}
	}
	return "", false
}
