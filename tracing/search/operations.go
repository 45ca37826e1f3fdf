package search

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/weir-dev/weir/tracing/span"
)

// Operation is what the spans of one name of a service took. Times are in seconds.
type Operation struct {
	Service   string  `json:"service"`
	Operation string  `json:"operation"`
	Calls     int     `json:"calls"`
	Errors    int     `json:"errors"`
	Traces    int     `json:"traces"`
	Rate      float64 `json:"rate"` // calls a second
	Total     float64 `json:"totalTime"`
	Self      float64 `json:"selfTime"`     // no child ran
	Critical  float64 `json:"criticalTime"` // on the critical path of its trace
	P50       float64 `json:"p50"`
	P95       float64 `json:"p95"`
	Max       float64 `json:"max"`
}

const (
	// otherName stands for what is not told apart.
	otherName = "_other"
	// maxOperations that are told apart. unmeasured: far above what a system has, far
	// below what addresses in span names would make.
	maxOperations = 10_000
)

func over(spans int) string {
	return "the analysis stopped after " + strconv.Itoa(spans) + " spans; a shorter window or a lower limit has all of its traces"
}

type operationKey struct{ service, name string }

// operation gathers an [Operation].
type operation struct {
	durations             []uint64 // nanoseconds
	errors, traces, last  int      // last: the number of the trace that was counted last
	total, self, critical uint64
}

// operations gathers what all spans of traces took.
type operations struct {
	by     map[operationKey]*operation
	traces int
	folded bool
	tree   *tree // of the trace that was taken last
}

func newOperations() *operations { return &operations{by: map[operationKey]*operation{}} }

// take counts all spans of a trace.
func (o *operations) take(b *span.Batch) {
	o.takeSome(b, func(int) bool { return true })
}

// takeSome counts the spans of a trace that counts is true of.
func (o *operations) takeSome(b *span.Batch, counts func(i int) bool) {
	o.traces++
	o.tree = newTree(b)
	times, _ := o.tree.critical()
	for i := range b.Spans {
		if !counts(i) {
			continue
		}
		s := &b.Spans[i]
		op := o.of(b, s)
		op.durations = append(op.durations, s.Duration())
		op.total += s.Duration()
		op.self += o.tree.self(int32(i))
		op.critical += times[i]
		if s.Status == span.StatusError {
			op.errors++
		}
		if op.last != o.traces {
			op.last = o.traces
			op.traces++
		}
	}
}

func (o *operations) of(b *span.Batch, s *span.Span) *operation {
	key := operationKey{service(b, s), s.Name}
	op := o.by[key]
	if op != nil {
		return op
	}
	if len(o.by) >= maxOperations {
		o.folded = true
		key = operationKey{otherName, otherName}
		if op = o.by[key]; op != nil {
			return op
		}
	}
	op = &operation{}
	o.by[operationKey{strings.Clone(key.service), strings.Clone(key.name)}] = op
	return op
}

// sortings are the ways to order operations, most first.
var sortings = map[string]func(*Operation) float64{
	"self":     func(o *Operation) float64 { return o.Self },
	"total":    func(o *Operation) float64 { return o.Total },
	"critical": func(o *Operation) float64 { return o.Critical },
	"calls":    func(o *Operation) float64 { return float64(o.Calls) },
}

func (o *operations) rows(sort string, top int, covered float64) []Operation {
	rows := make([]Operation, 0, len(o.by))
	for key, op := range o.by {
		rows = append(rows, op.row(key, covered))
	}
	by := sortings[sort]
	slices.SortFunc(rows, func(a, b Operation) int {
		return cmp.Or(cmp.Compare(by(&b), by(&a)), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Operation, b.Operation))
	})
	return rows[:min(top, len(rows))]
}

func (op *operation) row(key operationKey, covered float64) Operation {
	slices.Sort(op.durations)
	r := Operation{
		Service: text(key.service), Operation: text(key.name), Calls: len(op.durations), Errors: op.errors, Traces: op.traces,
		Total: seconds(op.total), Self: seconds(op.self), Critical: seconds(op.critical),
		P50: quantile(op.durations, .5), P95: quantile(op.durations, .95), Max: quantile(op.durations, 1),
	}
	if covered > 0 {
		r.Rate = float64(r.Calls) / covered
	}
	return r
}

// quantile of sorted nanoseconds, in seconds, between the two nearest as PromQL's
// quantile; 0 of none.
func quantile(sorted []uint64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := q * float64(len(sorted)-1)
	lo := int(math.Floor(rank))
	hi := min(lo+1, len(sorted)-1)
	weight := rank - float64(lo)
	return (float64(sorted[lo])*(1-weight) + float64(sorted[hi])*weight) / 1e9
}
