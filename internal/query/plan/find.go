package plan

import (
	"math"

	"github.com/prometheus/prometheus/promql/parser"
)

// Timestamp is the Func of a selector below timestamp(), which asks when the
// newest sample was taken and not what it is.
const Timestamp = "timestamp"

// Selector is one place of a query where series are read.
type Selector struct {
	// Expr is what is answered: a call such as rate(x[5m]), a selector, or a range
	// that no function reads.
	Expr   parser.Expr
	Vector *parser.VectorSelector

	// Func is the function that reads the range, "" for a selector without one,
	// [Timestamp] for one below timestamp(). absent_over_time is present_over_time
	// here, and absent above it.
	Func   string
	Params []float64 // arguments of Func beside the range
	Range  int64     // milliseconds; without a range, the lookback
	// Grid is the times at which the engine asks for it, and Shift by how many
	// milliseconds the data asked for is older than that (offset and @).
	Grid  Grid
	Shift int64

	// Why says in a few words why only samples can answer; empty if windows can.
	Why string

	slot   *parser.Expr
	matrix *parser.MatrixSelector
	absent *parser.Call
}

// Env is what Find must know beside the expression.
type Env struct {
	Grid         Grid  // of the query; an instant query has one time
	Lookback     int64 // milliseconds
	SubqueryStep func(rangeMillis int64) int64
	// Answers reports whether windows can answer a function over a range.
	Answers func(fn string) bool
}

// Find returns the selectors of *root in the order of the text. *root must come
// from promql.PreprocessExpr. What the engine never evaluates is left out.
func Find(root *parser.Expr, env Env) []*Selector {
	f := finder{env: env}
	f.expr(root, env.Grid, "")
	return f.found
}

type finder struct {
	env   Env
	found []*Selector
}

func (f *finder) expr(slot *parser.Expr, g Grid, why string) {
	if g.Steps() == 0 {
		return
	}
	switch e := (*slot).(type) {
	case *parser.StepInvariantExpr:
		f.expr(&e.Expr, g.invariant(), why)
	case *parser.ParenExpr:
		f.expr(&e.Expr, g, why)
	case *parser.UnaryExpr:
		f.expr(&e.Expr, g, why)
	case *parser.BinaryExpr:
		f.expr(&e.LHS, g, why)
		f.expr(&e.RHS, g, why)
	case *parser.AggregateExpr:
		if e.Param != nil {
			f.expr(&e.Param, g, why)
		}
		f.expr(&e.Expr, g, why)
	case *parser.SubqueryExpr:
		f.expr(&e.Expr, g.subquery(e, f.env.SubqueryStep), why)
	case *parser.Call:
		f.call(slot, e, g, why)
	case *parser.VectorSelector:
		f.add(&Selector{Expr: e, Vector: e, Range: f.env.Lookback, Grid: g, Why: why, slot: slot})
	case *parser.MatrixSelector:
		if why == "" {
			why = "a range of samples is asked for as it is"
		}
		f.matrix(&Selector{Expr: e, Grid: g, Why: why, slot: slot}, e)
	}
}

func (f *finder) call(slot *parser.Expr, e *parser.Call, g Grid, why string) {
	switch e.Func.Name {
	case "info":
		// Its second argument is only syntax, and it looks for modifiers in the first.
		f.expr(&e.Args[0], g, "info() reads the modifiers of its selectors")
		return
	case "timestamp", "start_timestamp":
		vs, ok := e.Args[0].(*parser.VectorSelector)
		if !ok {
			break
		}
		if e.Func.Name != Timestamp {
			why = "only samples have a start"
		}
		f.add(&Selector{Expr: e, Vector: vs, Func: Timestamp, Range: f.env.Lookback, Grid: g, Why: why, slot: slot})
		return
	}
	s := &Selector{Expr: e, Func: e.Func.Name, Grid: g, Why: why, slot: slot}
	var over *parser.MatrixSelector
	for i := range e.Args {
		if m, ok := e.Args[i].(*parser.MatrixSelector); ok && over == nil {
			over = m
			continue
		}
		if v, ok := constant(e.Args[i]); ok {
			s.Params = append(s.Params, v)
			continue
		}
		if s.Why == "" {
			s.Why = "an argument of " + s.Func + " changes from step to step"
		}
		f.expr(&e.Args[i], g, why)
	}
	if over == nil {
		return
	}
	if s.Func == "absent_over_time" {
		s.Func, s.absent, s.slot = "present_over_time", e, &e.Args[0]
	}
	f.matrix(s, over)
}

// matrix adds s, which reads the range m.
func (f *finder) matrix(s *Selector, m *parser.MatrixSelector) {
	s.Vector, s.Range, s.matrix = m.VectorSelector.(*parser.VectorSelector), m.Range.Milliseconds(), m
	if s.Why == "" && !f.env.Answers(s.Func) {
		s.Why = s.Func + " is answered from samples only"
	}
	f.add(s)
}

func (f *finder) add(s *Selector) {
	v := s.Vector
	s.Shift = s.Grid.shift(v.Timestamp, v.OriginalOffset.Milliseconds())
	switch {
	case s.Why != "":
	case v.Anchored || v.Smoothed:
		s.Why = "anchored and smoothed ranges need samples"
	case v.Timestamp != nil && !s.Grid.single():
		s.Why = "@ outside of what is evaluated once"
	}
	if s.Func == "predict_linear" && len(s.Params) == 1 {
		// It predicts from the time of evaluation, not from that of the data.
		s.Params[0] += float64(s.Shift) / 1000
	}
	f.found = append(f.found, s)
}

// constant folds arithmetic on numbers.
func constant(e parser.Expr) (float64, bool) {
	switch e := e.(type) {
	case *parser.NumberLiteral:
		return e.Val, true
	case *parser.ParenExpr:
		return constant(e.Expr)
	case *parser.StepInvariantExpr:
		return constant(e.Expr)
	case *parser.UnaryExpr:
		v, ok := constant(e.Expr)
		if e.Op == parser.SUB {
			v = -v
		}
		return v, ok
	case *parser.BinaryExpr:
		l, ok := constant(e.LHS)
		r, also := constant(e.RHS)
		if !ok || !also {
			return 0, false
		}
		return arithmetic(e.Op, l, r)
	}
	return 0, false
}

func arithmetic(op parser.ItemType, l, r float64) (float64, bool) {
	switch op {
	case parser.ADD:
		return l + r, true
	case parser.SUB:
		return l - r, true
	case parser.MUL:
		return l * r, true
	case parser.DIV:
		return l / r, true
	case parser.MOD:
		return math.Mod(l, r), true
	case parser.POW:
		return math.Pow(l, r), true
	}
	return 0, false
}

// Data is the times of the data asked for: the grid, moved by offset and @.
func (s *Selector) Data() Grid { return s.Grid.at(s.Shift) }

// Stretch is the time that is read: samples in (after, until].
func (s *Selector) Stretch() (after, until int64) {
	g := s.Data()
	return g.Start - s.Range, g.End
}

// KeepsName reports whether the answer has the metric name of the series.
func (s *Selector) KeepsName() bool {
	switch s.Func {
	case "", "last_over_time", "first_over_time":
		return true
	}
	return false
}
