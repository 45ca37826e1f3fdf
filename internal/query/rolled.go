package query

import (
	"context"
	"errors"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/schema"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/weir-dev/weir/internal/query/plan"
	"github.com/weir-dev/weir/internal/rollup"
	"github.com/weir-dev/weir/internal/rollup/rangefn"
)

// rolledStorage is the storage of one query. It answers the selectors that were
// put in the place of calls, and lets the storage behind it answer the others.
type rolledStorage struct {
	storage.Queryable
	tiers      Tiers
	maxSamples int
	planned    map[*labels.Matcher]*planned
	given      int // samples in answers so far
}

// put replaces p in the statement.
func (s *rolledStorage) put(p *planned) {
	if s.planned == nil {
		s.planned = map[*labels.Matcher]*planned{}
	}
	s.planned[p.Replace()] = p
}

// spend counts samples against query.max_samples, as the engine does.
func (s *rolledStorage) spend(n int) error {
	if s.given += n; s.given > s.maxSamples {
		return promql.ErrTooManySamples("query execution")
	}
	return nil
}

func (s *rolledStorage) Querier(mint, maxt int64) (storage.Querier, error) {
	if len(s.planned) == 0 {
		return s.Queryable.Querier(mint, maxt)
	}
	return &rolledQuerier{rolledStorage: s, mint: mint, maxt: maxt}, nil
}

// rolledQuerier opens the storage behind only if something is asked of it.
type rolledQuerier struct {
	*rolledStorage
	mint, maxt int64
	behind     storage.Querier
	sets       []*rolledSet
}

func (q *rolledQuerier) open() (storage.Querier, error) {
	var err error
	if q.behind == nil {
		q.behind, err = q.Queryable.Querier(q.mint, q.maxt)
	}
	return q.behind, err
}

func (q *rolledQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	if len(ms) > 0 {
		if p := q.planned[ms[0]]; p != nil {
			set := &rolledSet{ctx: ctx, storage: q.rolledStorage, planned: p}
			q.sets = append(q.sets, set)
			return set
		}
	}
	behind, err := q.open()
	if err != nil {
		return storage.ErrSeriesSet(err)
	}
	return behind.Select(ctx, sorted, hints, ms...)
}

func (q *rolledQuerier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	behind, err := q.open()
	if err != nil {
		return nil, nil, err
	}
	return behind.LabelValues(ctx, name, hints, ms...)
}

func (q *rolledQuerier) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	behind, err := q.open()
	if err != nil {
		return nil, nil, err
	}
	return behind.LabelNames(ctx, hints, ms...)
}

func (q *rolledQuerier) Close() error {
	var errs []error
	for _, s := range q.sets {
		errs = append(errs, s.close())
	}
	if q.behind != nil {
		errs = append(errs, q.behind.Close())
	}
	return errors.Join(errs...)
}

// errSameLabelset is what the engine says when series differ only by the name that
// a function drops.
var errSameLabelset = errors.New("vector cannot contain metrics with the same labelset")

// rolledSet is the answer to one planned selector, evaluated series by series as
// the engine takes them. It is read when the engine first asks.
type rolledSet struct {
	ctx     context.Context // of Select, as in every SeriesSet of upstream
	storage *rolledStorage
	*planned

	from     rollup.SeriesSet
	columns  rollup.Columns
	result   rangefn.Result
	current  *rolledSeries
	seen     map[uint64]struct{} // hashes of the labels given
	warnings annotations.Annotations
	err      error
}

func (s *rolledSet) At() storage.Series                { return s.current }
func (s *rolledSet) Err() error                        { return s.err }
func (s *rolledSet) Warnings() annotations.Annotations { return s.warnings }

func (s *rolledSet) Next() bool {
	if s.err != nil {
		return false
	}
	if s.from == nil {
		s.from, s.err = s.storage.tiers.Columns(s.ctx, rollup.Selection{
			Spans: s.choice.Spans, Need: s.need, Matchers: s.Vector.LabelMatchers,
		})
		if s.err != nil {
			s.from = nil
			return false
		}
	}
	for s.from.Next() {
		if s.err = interrupted(s.ctx.Err(), "query execution"); s.err != nil {
			return false
		}
		if s.current, s.err = s.evaluate(); s.err != nil {
			return false
		}
		if s.current != nil {
			return true
		}
	}
	s.err = s.from.Err()
	s.warnings.Merge(s.from.Warnings())
	return false
}

// close gives back what the set holds. It may be called before the set is read.
func (s *rolledSet) close() error {
	if s.from == nil {
		return nil
	}
	s.read = s.from.Read()
	return s.from.Close()
}

// evaluate returns the answer for the current series, nil if there is none.
func (s *rolledSet) evaluate() (*rolledSeries, error) {
	if err := s.from.Columns(&s.columns); err != nil {
		return nil, err
	}
	if len(s.columns.End) > s.storage.maxSamples {
		return nil, promql.ErrTooManySamples("query execution")
	}
	series := &rolledSeries{labels: s.from.Labels(), step: s.Grid.Step}
	mixed := 0
	for _, part := range s.choice.Parts {
		if err := s.call(part); err != nil {
			return nil, err
		}
		series.append(&s.result, s.Shift)
		mixed += s.result.Mixed
	}
	if mixed > 0 {
		s.warnings.Add(annotations.NewMixedFloatsHistogramsWarning(series.labels.Get(model.MetricNameLabel), s.Vector.PositionRange()))
	}
	if len(series.values) == 0 {
		return nil, nil
	}
	s.values += series.samples
	if err := s.storage.spend(series.samples); err != nil {
		return nil, err
	}
	s.annotate(series)
	if s.KeepsName() {
		return series, nil
	}
	series.labels = series.labels.DropReserved(schema.IsMetadataLabel)
	if s.seen == nil {
		s.seen = map[uint64]struct{}{}
	}
	hash := series.labels.Hash()
	if _, ok := s.seen[hash]; ok {
		return nil, errSameLabelset
	}
	s.seen[hash] = struct{}{}
	return series, nil
}

// call evaluates the function on a part of the data grid.
func (s *rolledSet) call(part plan.Part) error {
	if s.Func == plan.Timestamp {
		timestamps(&s.columns, part, &s.result)
		return nil
	}
	grid := rangefn.Grid{Start: part.Grid.Start, End: part.Grid.End, Step: part.Grid.Step}
	return rangefn.Call{Func: s.Func, Params: s.Params, Range: part.Range}.Eval(&s.columns, grid, &s.result)
}

// annotate adds what the engine says of a function or a series as such. What it
// says of single samples cannot be known from windows.
func (s *rolledSet) annotate(series *rolledSeries) {
	switch s.Func {
	case "rate", "increase":
		name := series.labels.Get(model.MetricNameLabel)
		if name != "" && series.floats && !looksLikeCounter(name) {
			s.warnings.Add(annotations.NewPossibleNonCounterInfo(name, s.Vector.PositionRange()))
		}
	case "quantile_over_time":
		if q := s.Params[0]; !(q >= 0 && q <= 1) {
			if call, ok := s.Expr.(*parser.Call); ok {
				s.warnings.Add(annotations.NewInvalidQuantileWarning(q, call.Args[0].PositionRange()))
			}
		}
	}
}

func looksLikeCounter(name string) bool {
	for _, suffix := range []string{"_total", "_sum", "_count", "_bucket"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// timestampBound is what a window knows of the time of its last sample.
const timestampBound = "the end of the newest window, at most one window after the sample"

// timestamps is timestamp() of a plain selector: when the newest sample at each
// time was taken, in seconds. Of a window that has not ended it knows no more than
// that a sample may be that new.
func timestamps(c *rollup.Columns, part plan.Part, out *rangefn.Result) {
	out.T, out.V = out.T[:0], out.V[:0]
	next := 0 // first point with a sample that may be newer than t
	for t := part.Grid.Start; t <= part.Grid.End; t += part.Grid.Step {
		for next < len(c.End) && (c.Start[next] < t || c.End[next] <= t) {
			next++
		}
		if next == 0 {
			continue
		}
		last := next - 1
		newest := min(c.End[last], t)
		if newest <= t-part.Range || c.Count[last] == 0 || c.Ended[last] && t >= c.Gone[last] {
			continue
		}
		out.T = append(out.T, t)
		out.V = append(out.V, float64(newest)/1000)
	}
}
