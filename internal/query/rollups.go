package query

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-dev/weir/internal/query/plan"
	"github.com/weir-dev/weir/internal/rollup"
	"github.com/weir-dev/weir/internal/rollup/rangefn"
)

// resolver is a PromQL engine that chooses for every selector of a query the
// resolution to answer it from:
//
//	New…Query  the engine parses; its statement is kept at hand
//	Exec       plan.Find and plan.Choose for each selector; where rollups are used,
//	           the statement gets a plain selector in the place of the call on them
//	Select     rolledStorage answers that selector: columns of the tiers, evaluated
//	           on the times at which the engine will ask (package rangefn)
//
// All else is Prometheus' engine, which keeps the text of the query as it was, so
// that logs and errors show that. A query none of whose selectors is answered from
// rollups runs as if this type were not there.
type resolver struct {
	promql.QueryEngine
	tiers      Tiers
	timeout    time.Duration // of planning
	minStretch int64         // milliseconds, query.rollups.min_range
	maxSamples int
	metrics    *rollupMetrics
}

func (e *resolver) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	r := e.newQuery(ctx, q)
	var err error
	r.Query, err = e.QueryEngine.NewInstantQuery(ctx, r.storage, opts, qs, ts)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (e *resolver) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, step time.Duration) (promql.Query, error) {
	r := e.newQuery(ctx, q)
	var err error
	r.Query, err = e.QueryEngine.NewRangeQuery(ctx, r.storage, opts, qs, start, end, step)
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (e *resolver) newQuery(ctx context.Context, q storage.Queryable) *rolledQuery {
	return &rolledQuery{
		resolver: e,
		request:  requestOf(ctx),
		storage:  &rolledStorage{Queryable: q, tiers: e.tiers, maxSamples: e.maxSamples},
	}
}

// rolledQuery is a query that is planned when it is executed.
type rolledQuery struct {
	promql.Query
	resolver *resolver
	request  *request
	storage  *rolledStorage
	planned  []*planned
}

// planned is a selector and from where it is answered.
type planned struct {
	*plan.Selector
	choice plan.Choice
	held   []rollup.Holding
	text   string // what is answered, as it reads in the query
	need   rollup.Need
	exact  bool   // aligned windows give what samples give
	bound  string // on the error, for people

	read   rollup.ReadStats // set when the query is done
	values int              // given to the engine
}

// rolled reports whether rollups answer the selector.
func (p *planned) rolled() bool { return p.Why == "" && p.choice.Rolled() }

func (q *rolledQuery) Exec(ctx context.Context) *promql.Result {
	if err := q.prepare(ctx); err != nil {
		return &promql.Result{Err: err}
	}
	res := q.Query.Exec(ctx)
	res.Err = unwrapped(res.Err)
	q.tell(&res.Warnings)
	q.resolver.metrics.count(q.planned)
	q.request.planned = q.planned
	return res
}

// prepare plans the query and rewrites its statement.
func (q *rolledQuery) prepare(ctx context.Context) error {
	stmt, ok := q.Statement().(*parser.EvalStmt)
	if !ok {
		return nil
	}
	var err error
	if q.planned, err = q.resolver.plan(ctx, stmt, q.request.source); err != nil {
		return err
	}
	for _, p := range q.planned {
		switch {
		case p.rolled():
			q.storage.put(p)
		case p.Why != "" && p.choice.Rolled():
			p.Widen(p.choice.Coarsest())
		}
	}
	return nil
}

// plan decides for every selector of stmt from where it is answered.
func (e *resolver) plan(ctx context.Context, stmt *parser.EvalStmt, s source) ([]*planned, error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	found := plan.Find(&stmt.Expr, plan.Env{
		Grid: plan.Grid{
			Start: timestamp.FromTime(stmt.Start), End: timestamp.FromTime(stmt.End),
			Step: max(stmt.Interval.Milliseconds(), 1),
		},
		Lookback:     stmt.LookbackDelta.Milliseconds(),
		SubqueryStep: func(int64) int64 { return subqueryStep.Milliseconds() },
		Answers: func(fn string) bool {
			_, _, _, ok := rangefn.Describe(fn)
			return ok
		},
	})
	all := make([]*planned, 0, len(found))
	for _, sel := range found {
		p := &planned{Selector: sel, text: sel.Expr.String()}
		after, until := sel.Stretch()
		var err error
		p.held, err = e.tiers.Holdings(ctx, after+1, until, sel.Vector.LabelMatchers...)
		if ended := interrupted(err, "query planning"); ended != nil {
			return nil, ended
		}
		if err != nil {
			return nil, fmt.Errorf("look up what is held of %s: %w", sel.Vector, err)
		}
		e.choose(p, stmt, s)
		all = append(all, p)
	}
	return all, nil
}

func (e *resolver) choose(p *planned, stmt *parser.EvalStmt, s source) {
	rules := plan.Rules{MinStretch: e.minStretch, MaxSource: s.limit(stmt.Interval)}
	switch {
	case p.Why != "":
		rules.MaxSource = 0 // samples, and where they are gone what stands in for them
	case p.Func == plan.Timestamp:
		p.need, p.bound = rollup.NeedCount|rollup.NeedLast, timestampBound
	default:
		var kind rangefn.Kind
		p.need, kind, p.bound, _ = rangefn.Describe(p.Func)
		p.exact = kind == rangefn.Exact
	}
	rules.Exact = p.exact
	if p.need&rollup.NeedInc != 0 {
		rules.Lead = stmt.LookbackDelta.Milliseconds()
	}
	p.choice = plan.Choose(p.Selector, p.held, rules)
	if p.Why != "" {
		p.choice.Why = p.Why
	}
}

// interrupted is how the engine says that a query ran out of time or was given up,
// nil if err is neither.
func interrupted(err error, during string) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return promql.ErrQueryTimeout(during)
	case errors.Is(err, context.Canceled):
		return promql.ErrQueryCanceled(during)
	}
	return nil
}

// unwrapped takes off what the engine puts around errors of our own, so that they
// read as its own do.
func unwrapped(err error) error {
	if errors.Is(err, errSameLabelset) {
		return errSameLabelset
	}
	if e, ok := errors.AsType[promql.ErrTooManySamples](err); ok {
		return e
	}
	if e, ok := errors.AsType[promql.ErrQueryTimeout](err); ok {
		return e
	}
	if e, ok := errors.AsType[promql.ErrQueryCanceled](err); ok {
		return e
	}
	return err
}
