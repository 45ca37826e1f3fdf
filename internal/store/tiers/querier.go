package tiers

import (
	"context"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/weir-dev/weir/internal/rollup"
)

// Querier reads what the TSDB does not have between mint and maxt, both inclusive:
// raw blocks of the bucket, and where there are none, the finest rung there is, a
// point of which is then a sample at its end with its last value. It is nil when
// there is no such time.
func (t *Tiers) Querier(mint, maxt int64) storage.Querier {
	db := t.deps.DB()
	if db == nil {
		return nil
	}
	t.mu.RLock()
	raw := t.seen
	q := &querier{t: t, gaps: t.gaps(db.Head(), raw)}
	for _, gap := range q.gaps {
		if c := gap.cut(span{mint, plus(maxt, 1)}); len(t.finest(c)) > 0 || slices.ContainsFunc(t.far, func(e *entry) bool { return e.overlaps(c) }) {
			q.old = append(q.old, c)
		}
	}
	t.mu.RUnlock()
	if len(q.old) == 0 {
		return nil
	}
	return q
}

// ChunkQuerier is Querier in chunks.
func (t *Tiers) ChunkQuerier(mint, maxt int64) storage.ChunkQuerier {
	q := t.Querier(mint, maxt)
	if q == nil {
		return nil
	}
	return chunkQuerier{q}
}

type chunkQuerier struct{ storage.Querier }

func (q chunkQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.ChunkSeriesSet {
	return storage.NewSeriesSetToChunkSet(q.Querier.Select(ctx, sorted, hints, ms...))
}

// StartTime is the time of the oldest data there is, on disk or in the bucket.
func (t *Tiers) StartTime() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	from := int64(math.MaxInt64)
	for _, r := range t.rungs {
		if len(r.segs) > 0 {
			from = min(from, r.segs[0].from)
		}
	}
	for _, e := range t.far {
		from = min(from, e.from)
	}
	return from
}

type querier struct {
	t    *Tiers
	gaps []span            // that the TSDB leaves
	old  []span            // what of them is asked for and known
	open []storage.Querier // of indexes
	sets []*seriesSet
}

// Select implements [storage.Querier]; series are always sorted.
func (q *querier) Select(ctx context.Context, _ bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	if hints != nil && hints.Func == "series" { // only the labels are asked for
		merged, err := q.indexes(ctx)
		if err != nil {
			return storage.ErrSeriesSet(err)
		}
		return merged.Select(ctx, true, hints, ms...)
	}
	var spans []rollup.Span
	for _, s := range q.old {
		if hints != nil {
			s = s.cut(span{hints.Start, plus(hints.End, 1)})
		}
		if !s.empty() {
			spans = append(spans, rollup.Span{After: plus(s.from, -1), Until: s.to - 1})
		}
	}
	if len(spans) == 0 {
		return storage.EmptySeriesSet()
	}
	set, err := q.t.columns(ctx, rollup.Selection{Spans: spans, Need: rollup.NeedCount | rollup.NeedLast, Matchers: ms})
	if err != nil {
		return storage.ErrSeriesSet(err)
	}
	q.sets = append(q.sets, set)
	return &sampleSet{from: set, gaps: q.gaps}
}

// LabelValues implements [storage.LabelQuerier].
func (q *querier) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	merged, err := q.indexes(ctx)
	if err != nil {
		return nil, nil, err
	}
	return merged.LabelValues(ctx, name, hints, ms...)
}

// LabelNames implements [storage.LabelQuerier].
func (q *querier) LabelNames(ctx context.Context, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	merged, err := q.indexes(ctx)
	if err != nil {
		return nil, nil, err
	}
	return merged.LabelNames(ctx, hints, ms...)
}

// indexes opens each block that has old time, for its labels.
func (q *querier) indexes(ctx context.Context) (storage.Querier, error) {
	for _, e := range q.t.entriesIn(q.old) {
		b := e.open
		if e.far() {
			var err error
			if b, err = q.t.deps.remote().OpenRemote(ctx, e.ULID()); err != nil {
				return nil, err
			}
			defer b.Release()
		}
		one, err := tsdb.NewBlockQuerier(b, e.from, e.to-1)
		if err != nil {
			return nil, err
		}
		q.open = append(q.open, one)
	}
	return storage.NewMergeQuerier(q.open, nil, storage.ChainedSeriesMerge), nil
}

// entriesIn are the blocks that answer for any of spans.
func (t *Tiers) entriesIn(spans []span) (out []*entry) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, g := range t.finestOf(spans, always) {
		for _, e := range g.by {
			if !slices.Contains(out, e) {
				out = append(out, e)
			}
		}
	}
	for _, e := range t.far {
		if slices.ContainsFunc(spans, e.overlaps) {
			out = append(out, e)
		}
	}
	return out
}

// Close implements [storage.Querier].
func (q *querier) Close() error {
	for _, s := range q.sets {
		_ = s.Close() // releases blocks, and nothing else that can fail
	}
	for _, o := range q.open {
		_ = o.Close()
	}
	return nil
}

// sampleSet turns points into samples.
type sampleSet struct {
	from    *seriesSet
	gaps    []span
	columns rollup.Columns
	samples []chunks.Sample
}

func (s *sampleSet) Next() bool {
	for s.from.Next() {
		if s.from.Columns(&s.columns) != nil {
			return false
		}
		if s.samples = samplesOf(&s.columns, s.gaps); len(s.samples) > 0 {
			return true
		}
	}
	return false
}

// samplesOf returns a sample a point, at its end, and where the series went stale a
// marker when it was gone, unless it is back by then.
func samplesOf(c *rollup.Columns, gaps []span) (out []chunks.Sample) {
	for i, end := range c.End {
		t := lastIn(gaps, c.Start[i], end)
		isHist := i < len(c.HistLast) && c.HistLast[i] != nil
		switch {
		case isHist:
			out = append(out, sample{t: t, fh: c.HistLast[i]})
		case c.Count[i] > 0:
			out = append(out, sample{t: t, v: c.Last[i]})
		}
		if !c.Ended[i] {
			continue
		}
		gone := inGap(gaps, t, c.Gone[i])
		if gone <= t || i+1 < len(c.End) && c.End[i+1] <= gone {
			continue
		}
		stale := math.Float64frombits(value.StaleNaN)
		if isHist {
			out = append(out, sample{t: gone, fh: &histogram.FloatHistogram{Sum: stale}})
		} else {
			out = append(out, sample{t: gone, v: stale})
		}
	}
	return out
}

// lastIn returns end, or if that is before it, the last time of the gap that the point
// (start, end] lies in: a window that a block's end cut off reaches into the time that
// the TSDB has.
func lastIn(gaps []span, start, end int64) int64 {
	t := end
	for _, g := range gaps {
		if g.from <= end && start < g.to-1 {
			t = min(end, g.to-1)
		}
	}
	return t
}

// inGap returns gone, or if that is before it, the last time of the gap that t is in:
// the marker was in the same block, so it came before the gap's end, after which the
// TSDB may have the series again.
func inGap(gaps []span, t, gone int64) int64 {
	for _, g := range gaps {
		if g.from <= t && t < g.to {
			return min(gone, g.to-1)
		}
	}
	return gone
}

func (s *sampleSet) At() storage.Series {
	samples := s.samples
	return &storage.SeriesEntry{Lset: s.from.Labels(), SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
		return storage.NewListSeriesIteratorWithCopy(sampleSlice(samples)) // the engine changes histograms
	}}
}

type sampleSlice []chunks.Sample

func (s sampleSlice) Get(i int) chunks.Sample { return s[i] }
func (s sampleSlice) Len() int                { return len(s) }

// sample is a [chunks.Sample].
type sample struct {
	t  int64
	v  float64
	fh *histogram.FloatHistogram
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.v }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return s.fh }

func (s sample) Type() chunkenc.ValueType {
	if s.fh != nil {
		return chunkenc.ValFloatHistogram
	}
	return chunkenc.ValFloat
}

func (s sample) Copy() chunks.Sample {
	if s.fh != nil {
		s.fh = s.fh.Copy()
	}
	return s
}

func (s *sampleSet) Err() error                        { return s.from.Err() }
func (s *sampleSet) Warnings() annotations.Annotations { return s.from.Warnings() }
