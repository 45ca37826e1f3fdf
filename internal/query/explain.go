package query

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/weir-dev/weir/internal/query/plan"
	"github.com/weir-dev/weir/internal/rollup"
)

// Explanation is what /api/v1/query/explain answers: the tree of a query, and for
// each of its selectors from where it would be answered.
type Explanation struct {
	Query string  `json:"query"`
	Start float64 `json:"start"` // Unix seconds
	End   float64 `json:"end"`   // Unix seconds
	Step  float64 `json:"step"`  // seconds; 0 for an instant query
	// Root of the expression. What reads no series is left out.
	Root *ExplanationNode `json:"root,omitempty"`
	// Ran is set when the query was run (analyze=1).
	Ran *RunReport `json:"ran,omitempty"`
}

// ExplanationNode is an operator or function with the nodes it reads, or a
// selector.
type ExplanationNode struct {
	Expr     string               `json:"expr"`
	Selector *SelectorExplanation `json:"selector,omitempty"`
	Children []*ExplanationNode   `json:"children,omitempty"`
}

// SelectorExplanation is what is known of a selector before the query runs.
type SelectorExplanation struct {
	SelectorReport
	// Times of the data that it is evaluated at, offset and @ applied.
	First float64 `json:"first"` // Unix seconds
	Last  float64 `json:"last"`  // Unix seconds
	Step  float64 `json:"step"`  // seconds; of one time only, 0
	Range string  `json:"range"` // or the lookback
	// Held is what each tier holds of the series around that time.
	Held []HeldReport `json:"held"`
}

// HeldReport is a stretch of time that a tier holds.
type HeldReport struct {
	Resolution string   `json:"resolution"`
	From       *float64 `json:"from,omitempty"` // Unix seconds; without: as long ago as you like
	To         *float64 `json:"to,omitempty"`   // Unix seconds; without: until now
	Partial    bool     `json:"partial,omitempty"`
}

// RunReport is what running the query gave.
type RunReport struct {
	Seconds float64 `json:"seconds"`
	Series  int     `json:"series"`
	Samples int     `json:"samples"`
}

// serveExplain answers /api/v1/query/explain. It takes the parameters of query or
// of query_range, and analyze=1 to run the query as well.
func (a *API) serveExplain(w http.ResponseWriter, r *http.Request) {
	in, err := parseExplain(r, a.deps.Now())
	if err != nil {
		a.refuse(w, r, http.StatusBadRequest, "bad_data", err)
		return
	}
	ctx := r.Context()
	if in.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, in.timeout)
		defer cancel()
	}
	qry, err := in.prepare(ctx, queueBound{a.queries, a.cfg.Timeout.Std()}, a.deps.Storage)
	if err != nil {
		status, kind := explainFault(err)
		if kind == "execution" { // it has not come to that
			status, kind, err = http.StatusBadRequest, "bad_data", fmt.Errorf("invalid parameter %q: %w", "query", err)
		}
		a.refuse(w, r, status, kind, err)
		return
	}
	defer qry.Close()
	answer, err := a.explain(ctx, in, qry)
	if err != nil {
		status, kind := explainFault(err)
		a.refuse(w, r, status, kind, err)
		return
	}
	a.respond(w, r, http.StatusOK, answer)
}

// explain plans qry and, if asked to, runs it.
func (a *API) explain(ctx context.Context, in explainInput, qry promql.Query) (*v1.Response, error) {
	stmt := qry.Statement().(*parser.EvalStmt)
	e, ok := a.queries.(*resolver)
	if !ok {
		e = &resolver{tiers: samplesOnly{}, timeout: a.cfg.Timeout.Std()}
	}
	all, err := e.plan(ctx, stmt, requestOf(ctx).source)
	if err != nil {
		return nil, err
	}
	out := &Explanation{
		Query: in.query, Start: seconds(stmt.Start.UnixMilli()), End: seconds(stmt.End.UnixMilli()), Step: stmt.Interval.Seconds(),
	}
	nodes := make([]*SelectorExplanation, len(all))
	at := map[parser.Expr]*ExplanationNode{}
	for i, p := range all {
		nodes[i] = p.explain()
		at[p.Expr] = &ExplanationNode{Expr: p.text, Selector: nodes[i]}
	}
	out.Root = explainTree(stmt.Expr, at)
	answer := &v1.Response{Status: "success", Data: out}
	if !in.analyze {
		return answer, nil
	}
	begun := a.deps.Now()
	res := qry.Exec(ctx)
	if res.Err != nil {
		return nil, res.Err
	}
	out.Ran = &RunReport{Seconds: a.deps.Now().Sub(begun).Seconds()}
	out.Ran.Series, out.Ran.Samples = sizeOf(res.Value)
	if q, ok := qry.(*rolledQuery); ok {
		for i, p := range q.planned { // the same selectors in the same order
			nodes[i].SelectorReport = *p.report(true)
		}
	}
	answer.Warnings, answer.Infos = res.Warnings.AsStrings(in.query, 10, 10) // as many as upstream tells
	return answer, nil
}

// explainTree returns the nodes of expr that lead to selectors, nil if there are
// none.
func explainTree(expr parser.Expr, at map[parser.Expr]*ExplanationNode) *ExplanationNode {
	switch e := expr.(type) {
	case *parser.ParenExpr:
		return explainTree(e.Expr, at)
	case *parser.StepInvariantExpr:
		return explainTree(e.Expr, at)
	}
	node, found := at[expr]
	if !found {
		node = &ExplanationNode{Expr: shortExpr(expr)}
	}
	for child := range parser.ChildrenIter(expr) {
		if c, ok := child.(parser.Expr); ok {
			if n := explainTree(c, at); n != nil && n != node {
				node.Children = append(node.Children, n)
			}
		}
	}
	if !found && node.Children == nil {
		return nil
	}
	return node
}

// shortExpr prints a node without what is below it.
func shortExpr(expr parser.Expr) string {
	if e, ok := expr.(interface{ ShortString() string }); ok {
		return strings.TrimSpace(e.ShortString())
	}
	return expr.String()
}

func (p *planned) explain() *SelectorExplanation {
	g := p.Data()
	x := &SelectorExplanation{
		SelectorReport: *p.report(false),
		First:          seconds(g.Start), Last: seconds(g.End), Range: plan.Duration(p.Range),
		Held: []HeldReport{},
	}
	if g.Steps() > 1 {
		x.Step = seconds(g.Step)
	}
	for _, h := range p.held {
		for _, i := range h.Held {
			r := HeldReport{Resolution: resolutionName(h.Resolution), Partial: h.Partial}
			if i.MinT > minSaneTime {
				r.From = new(seconds(i.MinT))
			}
			if i.MaxT < maxSaneTime {
				r.To = new(seconds(i.MaxT))
			}
			x.Held = append(x.Held, r)
		}
	}
	return x
}

// Times beyond these (Unix milliseconds, the years 1653 and 2286) stand for no
// bound at all.
const (
	minSaneTime = -10_000_000_000_000
	maxSaneTime = 10_000_000_000_000
)

// explainInput is the parameters of a request to explain.
type explainInput struct {
	query      string
	start, end time.Time
	step       time.Duration // 0 for an instant query
	timeout    time.Duration // 0: none but the engine's
	opts       promql.QueryOpts
	analyze    bool
}

func (in explainInput) prepare(ctx context.Context, e promql.QueryEngine, s storage.Queryable) (promql.Query, error) {
	if in.step == 0 {
		return e.NewInstantQuery(ctx, s, in.opts, in.query, in.start)
	}
	return e.NewRangeQuery(ctx, s, in.opts, in.query, in.start, in.end, in.step)
}

func parseExplain(r *http.Request, now time.Time) (in explainInput, err error) {
	in.query, in.start = r.FormValue("query"), now
	in.analyze, _ = strconv.ParseBool(r.FormValue("analyze"))
	var lookback time.Duration
	for _, p := range []struct {
		name string
		read func(string) error
	}{
		{"time", func(s string) (err error) { in.start, err = parseTime(s); return err }},
		{"start", func(s string) (err error) { in.start, err = parseTime(s); return err }},
		{"end", func(s string) (err error) { in.end, err = parseTime(s); return err }},
		{"step", func(s string) (err error) { in.step, err = positiveDuration(s); return err }},
		{"timeout", func(s string) (err error) { in.timeout, err = positiveDuration(s); return err }},
		{"lookback_delta", func(s string) (err error) { lookback, err = positiveDuration(s); return err }},
	} {
		if text := r.FormValue(p.name); text != "" {
			if err := p.read(text); err != nil {
				return in, fmt.Errorf("invalid parameter %q: %w", p.name, err)
			}
		}
	}
	ranged := r.FormValue("start") != "" && r.FormValue("end") != "" && in.step > 0
	switch {
	case !ranged && r.FormValue("start")+r.FormValue("end")+r.FormValue("step") != "":
		return in, errors.New(`invalid parameter "start": a range query has start, end and step; for an instant query give time`)
	case ranged && in.end.Before(in.start):
		return in, errors.New(`invalid parameter "end": end timestamp must not be before start time`)
	case ranged && in.end.Sub(in.start)/in.step > maxSteps:
		return in, fmt.Errorf("exceeded maximum resolution of %d points per timeseries: make %q longer", maxSteps, "step")
	}
	in.opts = promql.NewPrometheusQueryOpts(false, lookback)
	return in, nil
}

// maxSteps bounds the times of a range query, as upstream does.
const maxSteps = 11_000

// parseTime reads Unix seconds or RFC 3339, as upstream's parameters.
func parseTime(text string) (time.Time, error) {
	if s, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(s) < maxSaneTime/1000 {
		return time.UnixMilli(int64(math.Round(s * 1000))).UTC(), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("cannot parse %q to a valid timestamp", text)
}

func positiveDuration(text string) (time.Duration, error) {
	d, err := parseDuration(text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("got %s, want more than 0s", text)
	}
	return d, err
}

// explainFault is the status and the error type that upstream would give err.
func explainFault(err error) (status int, kind string) {
	var (
		timeout  promql.ErrQueryTimeout
		canceled promql.ErrQueryCanceled
		broken   promql.ErrStorage
	)
	switch {
	case errors.Is(err, tsdb.ErrNotReady), errors.Is(err, errQueue):
		return http.StatusServiceUnavailable, "unavailable"
	case errors.As(err, &timeout):
		return http.StatusServiceUnavailable, "timeout"
	case errors.As(err, &canceled):
		return statusClientGone, "canceled"
	case errors.As(err, &broken):
		return http.StatusInternalServerError, "internal"
	}
	return http.StatusUnprocessableEntity, "execution"
}

// statusClientGone is what upstream answers to who hangs up.
const statusClientGone = 499

func sizeOf(v parser.Value) (series, samples int) {
	switch v := v.(type) {
	case promql.Vector:
		return len(v), len(v)
	case promql.Matrix:
		for _, s := range v {
			samples += len(s.Floats) + len(s.Histograms)
		}
		return len(v), samples
	}
	return 1, 1
}

// samplesOnly is a storage without rollups.
type samplesOnly struct{ Tiers }

func (samplesOnly) Holdings(context.Context, int64, int64, ...*labels.Matcher) ([]rollup.Holding, error) {
	return []rollup.Holding{{Held: []rollup.Interval{{MinT: math.MinInt64, MaxT: math.MaxInt64}}}}, nil
}
