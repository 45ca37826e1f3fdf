package search

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Comparison sets two sets of traces against each other, operation by operation: of
// two windows, or of two values of an attribute in one window.
//
// Of values, a set is the traces in which the last selector of the query stands for a
// span of that value. All spans of a trace count, but of one that is in both sets only
// those that have the attribute with that value.
type Comparison struct {
	Attribute string `json:"attribute,omitempty"` // empty: of windows
	A         Side   `json:"a"`                   // what B is compared with
	B         Side   `json:"b"`
	// Operations are ordered by how much the time that a trace spends in them changed.
	Operations []Delta `json:"operations"`
	// Tests is how many were made. What they call significant has p < 0.01 / Tests: one
	// chance in a hundred that any of them is so by accident.
	Tests int `json:"tests"`
}

// Side is one of two sets.
type Side struct {
	Value  string    `json:"value,omitempty"`
	Start  time.Time `json:"start"`
	End    time.Time `json:"end"`
	Sample Sample    `json:"sample"`
}

// Delta is what became of an operation.
type Delta struct {
	Service   string     `json:"service"`
	Operation string     `json:"operation"`
	A         *Operation `json:"a"` // null: not there
	B         *Operation `json:"b"`
	// Few tells that a side has less calls than can be tested.
	Few bool `json:"few,omitempty"`
	// Of B less A. A test that was not made has no p.
	P50        Change `json:"p50"`
	P95        Change `json:"p95"`
	Rate       Change `json:"rate"`
	ErrorRatio Change `json:"errorRatio"`
	// TimePerTrace is seconds in this operation divided by the traces of the set.
	TimePerTrace Change `json:"timePerTrace"`
}

// Change of a figure.
type Change struct {
	A float64 `json:"a"`
	B float64 `json:"b"`
	// P is the chance that sets that do not differ would differ by so much or more.
	P           *float64 `json:"p,omitempty"`
	Significant bool     `json:"significant,omitempty"`
}

const (
	// fewCalls on a side are not tested: the 95th percentile of less is the largest.
	fewCalls = 20
	// level of significance of all tests together.
	level = 0.01
)

// comparing is what was asked to be compared.
type comparing struct {
	attribute string
	values    [2]string
	queries   [2]*Query        // of the values
	window    spanstore.Window // of A, where no attribute is named
}

func readComparing(p *parameters, r *analysisRequest) (*comparing, error) {
	c := &comparing{attribute: p.values.Get("compare"), values: [2]string{p.values.Get("a"), p.values.Get("b")}}
	windowed := p.values.Get("compare_start") + p.values.Get("compare_end")
	switch {
	case c.attribute != "" && windowed != "":
		return nil, badf(`invalid parameter "compare": compare either two values of an attribute or, with compare_start and compare_end, two windows`)
	case c.attribute == "" && windowed == "":
		if c.values[0]+c.values[1] != "" {
			return nil, badf(`invalid parameter "compare": got values a and b, want the attribute that has them`)
		}
		return nil, nil
	case c.attribute == "":
		if p.values.Get("compare_start") == "" || p.values.Get("compare_end") == "" {
			return nil, badf(`invalid parameter "compare_start": want it and compare_end both`)
		}
		var err error
		c.window, err = p.window("compare_start", "compare_end")
		return c, err
	case c.values[0] == c.values[1] || c.values[0] == "" || c.values[1] == "":
		return nil, badf(`invalid parameter "a": got %q and %q, want two values of %s that differ`, c.values[0], c.values[1], c.attribute)
	}
	var err error
	for k, value := range c.values {
		if c.queries[k], err = r.q.narrowed(c.attribute, value); err != nil {
			return nil, badf(`invalid parameter "compare": %s`, err)
		}
	}
	return c, nil
}

// narrowed is q with one more term of its last selector: a key that equals value.
func (q *Query) narrowed(key, value string) (*Query, error) {
	if key == "duration" || key == "root" {
		return nil, badf("got %s, want an attribute, service, operation, kind or status", key)
	}
	t := term{key: key, plain: isField(key), op: spanstore.Equal, value: value}
	text := t.String()
	chains := slices.Clone(q.chains)
	last := &chains[len(chains)-1]
	last.selectors = slices.Clone(last.selectors)
	end := &last.selectors[len(last.selectors)-1]
	if (*end).text != "" {
		text = (*end).text + " && " + text
	}
	*end = &selector{text: text}
	return Parse((&Query{chains: chains}).String())
}

func (h *handler) compare(ctx context.Context, r *analysisRequest, a *Analysis) (*Comparison, error) {
	out := &Comparison{Attribute: r.compare.attribute}
	sides := [2]*Side{&out.A, &out.B}
	var found [2]*operations
	for k, side := range sides {
		found[k] = newOperations()
		if err := h.side(ctx, r, k, side, found[k], &a.Notes); err != nil {
			return nil, err
		}
		if found[k].folded {
			a.Notes.partial("there are more distinct names than are told apart; the rest is under " + otherName)
		}
		a.Sample.Traces += side.Sample.Traces
		a.Sample.Spans += side.Sample.Spans
		a.Sample.Covered += side.Sample.Covered
	}
	a.Sample.Complete = out.A.Sample.Complete && out.B.Sample.Complete
	out.deltas(found, r.top)
	return out, nil
}

// side samples one set.
func (h *handler) side(ctx context.Context, r *analysisRequest, k int, side *Side, into *operations, notes *Notes) (err error) {
	q, w, c := r.q, r.w, r.compare
	take := func(b *span.Batch, _ []int32) { into.take(b) }
	if c.attribute != "" {
		q, side.Value = c.queries[k], c.values[k]
		whole := boundsOf(w)
		take = func(b *span.Batch, _ []int32) {
			if c.queries[1-k].match(b, whole) == nil {
				into.take(b)
				return
			}
			into.takeSome(b, func(i int) bool {
				value, ok := attribute(b, &b.Spans[i], c.attribute)
				return ok && value == c.values[k]
			})
		}
	} else if k == 0 {
		w = c.window
	}
	own := Notes{}
	side.Start, side.End = w.Start, w.End
	side.Sample, err = h.sample(ctx, r, q, w, &own, take)
	notes.Scanned = notes.Scanned || own.Scanned
	notes.Examined += own.Examined
	notes.partial(own.Partial)
	return err
}

// deltas compares what was found, and tests what there is enough of.
func (c *Comparison) deltas(found [2]*operations, top int) {
	keys := map[operationKey]struct{}{}
	for _, o := range found {
		for key := range o.by {
			keys[key] = struct{}{}
		}
	}
	c.Operations = make([]Delta, 0, len(keys))
	for key := range keys {
		c.Operations = append(c.Operations, c.delta(key, found))
	}
	for i := range c.Operations {
		for _, change := range c.Operations[i].changes() {
			change.Significant = change.P != nil && *change.P < level/float64(c.Tests)
		}
	}
	slices.SortFunc(c.Operations, func(a, b Delta) int {
		return cmp.Or(cmp.Compare(b.TimePerTrace.size(), a.TimePerTrace.size()), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Operation, b.Operation))
	})
	c.Operations = c.Operations[:min(top, len(c.Operations))]
}

func (c Change) size() float64 { return math.Abs(c.B - c.A) }

func (d *Delta) changes() []*Change { return []*Change{&d.P50, &d.P95, &d.Rate, &d.ErrorRatio} }

func (c *Comparison) delta(key operationKey, found [2]*operations) Delta {
	d := Delta{Service: text(key.service), Operation: text(key.name)}
	samples := [2]Sample{c.A.Sample, c.B.Sample}
	var ops [2]*operation
	var rows [2]Operation
	for k := range found {
		ops[k] = found[k].by[key]
		if ops[k] == nil {
			ops[k] = &operation{}
		}
		rows[k] = ops[k].row(key, samples[k].Covered)
	}
	d.P50.set(rows, func(o *Operation, _ Sample) float64 { return o.P50 }, samples)
	d.P95.set(rows, func(o *Operation, _ Sample) float64 { return o.P95 }, samples)
	d.Rate.set(rows, func(o *Operation, _ Sample) float64 { return o.Rate }, samples)
	d.ErrorRatio.set(rows, func(o *Operation, _ Sample) float64 { return ratio(float64(o.Errors), o.Calls) }, samples)
	d.TimePerTrace.set(rows, func(o *Operation, s Sample) float64 { return ratio(o.Total, s.Traces) }, samples)
	for k, o := range []**Operation{&d.A, &d.B} {
		if rows[k].Calls > 0 {
			*o = &rows[k]
		}
	}
	c.test(&d, ops, samples)
	return d
}

func ratio(part float64, of int) float64 {
	if of == 0 {
		return 0
	}
	return part / float64(of)
}

func (c *Change) set(rows [2]Operation, figure func(*Operation, Sample) float64, samples [2]Sample) {
	c.A, c.B = figure(&rows[0], samples[0]), figure(&rows[1], samples[1])
}

// test makes the tests that the sizes of the samples allow. Each call counts as one of
// its own, which those of one trace are not quite; of the rate, each trace does.
func (c *Comparison) test(d *Delta, ops [2]*operation, samples [2]Sample) {
	a, b := ops[0], ops[1]
	tested := func(change *Change, p float64) {
		change.P = &p
		c.Tests++
	}
	if covered := samples[0].Covered + samples[1].Covered; a.traces+b.traces >= fewCalls && samples[0].Covered > 0 && samples[1].Covered > 0 {
		tested(&d.Rate, sharesDiffer(a.traces, a.traces+b.traces, samples[0].Covered/covered))
	}
	if d.Few = len(a.durations) < fewCalls || len(b.durations) < fewCalls; d.Few {
		return
	}
	tested(&d.ErrorRatio, proportionsDiffer(a.errors, len(a.durations), b.errors, len(b.durations)))
	tested(&d.P50, quantilesDiffer(a.durations, b.durations, .5))
	tested(&d.P95, quantilesDiffer(a.durations, b.durations, .95))
}
