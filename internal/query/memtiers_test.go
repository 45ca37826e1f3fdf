package query

import (
	"cmp"
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/rollup"
)

const (
	msMinute = int64(60_000)
	msHour   = 60 * msMinute
	// The history begins at 2025-01-01 and has four days, the last two hours of
	// which are in no rollup.
	historyStart = int64(1_735_689_600_000)
	historyEnd   = historyStart + 96*msHour
	blockMillis  = 2 * msHour
)

// memTiers stands for internal/store/tiers: rollups of a real database, made block
// by block by the real folder and kept in memory. What it says it holds is set by
// the test.
type memTiers struct {
	db     *tsdb.DB
	series []labels.Labels // in label order
	chunks map[int64]map[uint64][]memChunk
	held   []rollup.Holding
	opened int // series sets open now
}

type memChunk struct {
	mint, maxt int64
	data       rollup.AggrChunk
}

// newMemTiers rolls up the blocks of db between from and until into 5m and 1h.
func newMemTiers(t testing.TB, db *tsdb.DB, from, until int64) *memTiers {
	t.Helper()
	resolutions := []int64{5 * msMinute, msHour}
	m := &memTiers{db: db, chunks: map[int64]map[uint64][]memChunk{5 * msMinute: {}, msHour: {}}}
	var at uint64
	folder, err := rollup.NewFolder(resolutions, func(rung int, mint, maxt int64, c rollup.AggrChunk) error {
		of := m.chunks[resolutions[rung]]
		of[at] = append(of[at], memChunk{mint, maxt, slices.Clone(c)})
		return nil
	})
	require.NoError(t, err)
	all := map[uint64]labels.Labels{}
	for mint := from; mint < until; mint += blockMillis {
		q, err := db.ChunkQuerier(mint, mint+blockMillis-1)
		require.NoError(t, err)
		set := q.Select(t.Context(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
		for set.Next() {
			ls := set.At().Labels()
			at = ls.Hash()
			all[at] = ls
			folder.Begin(mint, mint+blockMillis, 3)
			for it := set.At().Iterator(nil); it.Next(); {
				require.NoError(t, folder.Fold(it.At().Chunk.Encoding(), it.At().Chunk.Bytes(), nil))
			}
			require.NoError(t, folder.End())
		}
		require.NoError(t, set.Err())
		require.NoError(t, q.Close())
	}
	m.series = slices.SortedFunc(maps.Values(all), labels.Compare)
	return m
}

func (m *memTiers) Holdings(context.Context, int64, int64, ...*labels.Matcher) ([]rollup.Holding, error) {
	return m.held, nil
}

func (m *memTiers) Columns(_ context.Context, s rollup.Selection) (rollup.SeriesSet, error) {
	set := &memSet{m: m, s: s, at: -1}
	for _, ls := range m.series {
		if !slices.ContainsFunc(s.Matchers, func(x *labels.Matcher) bool { return !x.Matches(ls.Get(x.Name)) }) {
			set.series = append(set.series, ls)
		}
	}
	m.opened++
	return set, nil
}

type memSet struct {
	m      *memTiers
	s      rollup.Selection
	series []labels.Labels
	at     int
	read   rollup.ReadStats
	err    error
}

func (s *memSet) Next() bool                        { s.at++; return s.at < len(s.series) }
func (s *memSet) Labels() labels.Labels             { return s.series[s.at] }
func (s *memSet) Read() rollup.ReadStats            { return s.read }
func (s *memSet) Err() error                        { return s.err }
func (s *memSet) Warnings() annotations.Annotations { return nil }
func (s *memSet) Close() error                      { s.m.opened--; return nil }

func (s *memSet) Columns(c *rollup.Columns) error {
	c.Reset(s.s.Need)
	s.read.Series++
	for _, span := range s.s.Spans {
		before := c.Len()
		if span.Resolution == rollup.Raw {
			if err := s.raw(c, span); err != nil {
				return err
			}
			s.read.Samples += c.Len() - before
			continue
		}
		for _, chunk := range s.m.chunks[span.Resolution][s.series[s.at].Hash()] {
			if chunk.maxt > span.After && chunk.mint <= span.Until {
				s.read.Bytes += len(chunk.data)
				if err := c.AppendAggr(chunk.data, span.Resolution, span.After, span.Until); err != nil {
					return err
				}
			}
		}
		s.read.Points += c.Len() - before
	}
	return nil
}

func (s *memSet) raw(c *rollup.Columns, span rollup.Span) error {
	q, err := s.m.db.Querier(span.After+1, span.Until)
	if err != nil {
		return err
	}
	defer q.Close()
	var ms []*labels.Matcher
	s.series[s.at].Range(func(l labels.Label) { ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, l.Name, l.Value)) })
	set := q.Select(context.Background(), true, nil, ms...)
	for set.Next() {
		if labels.Equal(set.At().Labels(), s.series[s.at]) {
			return c.AppendRaw(set.At().Iterator(nil), span.After, span.Until)
		}
	}
	return set.Err()
}

// Querier is the store's plain reading: samples where raw is held, elsewhere the
// last value of each point of the finest tier that is.
func (m *memTiers) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := m.db.Querier(mint, maxt)
	return &memQuerier{q, m, mint, maxt}, err
}

func (m *memTiers) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	return m.db.ChunkQuerier(mint, maxt)
}

type memQuerier struct {
	storage.Querier
	m          *memTiers
	mint, maxt int64
}

func (q *memQuerier) Select(ctx context.Context, sorted bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	if len(q.m.held) == 1 && q.m.held[0].Resolution == rollup.Raw {
		return q.Querier.Select(ctx, sorted, hints, ms...)
	}
	until := q.mint - 1
	sel := rollup.Selection{Need: rollup.NeedLast | rollup.NeedCount, Matchers: ms}
	for _, h := range slices.Backward(q.m.held) { // coarsest, and so oldest, first
		from, to := max(h.Held[0].MinT-1, until), min(h.Held[0].MaxT, q.maxt)
		if next := q.m.finer(h.Resolution); next != nil {
			to = min(to, next.Held[0].MinT-1)
		}
		if from < to {
			sel.Spans = append(sel.Spans, rollup.Span{After: from, Until: to, Resolution: h.Resolution})
			until = to
		}
	}
	from, err := q.m.Columns(ctx, sel)
	if err != nil {
		return storage.ErrSeriesSet(err)
	}
	defer from.Close()
	var list []storage.Series
	for from.Next() {
		var c rollup.Columns
		if err := from.Columns(&c); err != nil {
			return storage.ErrSeriesSet(err)
		}
		s := promql.Series{Metric: from.Labels()}
		for i, t := range c.End {
			switch {
			case c.Count[i] == 0:
			case i < len(c.HistLast) && c.HistLast[i] != nil:
				s.Histograms = append(s.Histograms, promql.HPoint{T: t, H: c.HistLast[i]})
			default:
				s.Floats = append(s.Floats, promql.FPoint{T: t, F: c.Last[i]})
			}
		}
		list = append(list, promql.NewStorageSeries(s))
	}
	return &listSet{list: list}
}

func (m *memTiers) finer(r int64) *rollup.Holding {
	i := slices.IndexFunc(m.held, func(h rollup.Holding) bool { return h.Resolution == r })
	if i <= 0 {
		return nil
	}
	return &m.held[i-1]
}

type listSet struct {
	list []storage.Series
	at   storage.Series
}

func (s *listSet) Next() bool {
	if len(s.list) == 0 {
		return false
	}
	s.at, s.list = s.list[0], s.list[1:]
	return true
}
func (s *listSet) At() storage.Series              { return s.at }
func (*listSet) Err() error                        { return nil }
func (*listSet) Warnings() annotations.Annotations { return nil }

// history is a database with four days of all that selectors meet: counters with
// resets, gauges, holes, series that end or begin, NaN, every kind of histogram.
func history(t testing.TB) *tsdb.DB {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.MinBlockDuration, opts.MaxBlockDuration = 1000*msHour, 1000*msHour // all in the head
	db, err := tsdb.Open(t.TempDir(), nil, prometheus.NewRegistry(), opts, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.DisableCompactions()
	h := &historian{r: rand.New(rand.NewPCG(1, 2)), counters: map[string]float64{}, refs: map[string]storage.SeriesRef{}}
	for ts := historyStart + 7_000; ts <= historyEnd; ts += 30_000 {
		h.app, h.ts, h.i = db.Appender(t.Context()), ts, (ts-historyStart)/30_000
		h.scrape()
		require.NoError(t, h.err)
		require.NoError(t, h.app.Commit())
	}
	return db
}

type historian struct {
	r        *rand.Rand
	app      storage.Appender
	ts, i    int64
	counters map[string]float64
	hists    [3]*histogram.Histogram
	refs     map[string]storage.SeriesRef
	err      error
}

func (h *historian) add(v float64, ls ...string) {
	set := labels.FromStrings(ls...)
	ref, err := h.app.Append(h.refs[set.String()], set, h.ts, v)
	h.refs[set.String()], h.err = ref, cmp.Or(h.err, err)
}

func (h *historian) addHistogram(hist *histogram.Histogram, fh *histogram.FloatHistogram, ls ...string) {
	_, err := h.app.AppendHistogram(0, labels.FromStrings(ls...), h.ts, hist, fh)
	h.err = cmp.Or(h.err, err)
}

// count adds to a counter, which begins anew every reset samples.
func (h *historian) count(mean float64, reset int64, ls ...string) {
	key := labels.FromStrings(ls...).String()
	if h.counters[key] += math.Round(h.r.Float64() * 2 * mean); reset > 0 && h.i%reset == reset-1 {
		h.counters[key] = 3
	}
	h.add(h.counters[key], ls...)
}

func (h *historian) scrape() {
	hours := float64(h.ts-historyStart) / float64(msHour)
	for i, room := range []string{"cellar", "hall", "roof"} {
		h.add(20+float64(i)*5+8*math.Sin(hours/4)+h.r.Float64(), "__name__", "temp", "room", room)
		h.add(float64(20+10*i), "__name__", "limit", "room", room)
	}
	for _, job := range []string{"a", "b"} {
		for _, instance := range []string{"0", "1"} {
			for i, code := range []string{"200", "500"} {
				h.count(100/float64(1+9*i), 0, "__name__", "requests_total", "job", job, "instance", instance, "code", code)
			}
			up := 1.0
			if instance == "1" && h.i%700 > 650 {
				up = 0
			}
			h.add(up, "__name__", "up", "job", job, "instance", instance)
		}
		h.classic(job)
	}
	h.add(1, "__name__", "build_info", "instance", "0", "version", "1.0")
	h.add(1, "__name__", "build_info", "instance", "1", "version", "1.1")
	h.count(50, 997, "__name__", "resets_total", "k", "0")
	h.count(5, 331, "__name__", "resets_total", "k", "1")
	h.count(40, 0, "__name__", "slow_total")
	h.add(pick(h.i%50 == 0, math.NaN(), float64(h.i%10)), "__name__", "nans")
	if hours < 30 || hours > 33.3 {
		h.add(float64(h.i%17), "__name__", "gaps")
		h.count(30, 0, "__name__", "gaps_total")
	}
	switch gone := 40.2; {
	case hours < gone:
		h.add(7, "__name__", "ended")
		h.count(20, 0, "__name__", "ended_total")
	case hours < gone+1.0/120:
		h.add(stale(), "__name__", "ended")
		h.add(stale(), "__name__", "ended_total")
	}
	if hours > 60.4 {
		h.add(3, "__name__", "late", "job", "a")
	}
	h.native()
}

func (h *historian) classic(job string) {
	var sum float64
	for i, le := range []string{"0.1", "0.2", "0.5", "1", "+Inf"} {
		key := "bucket" + job + le
		sum += math.Round(h.r.Float64() * float64(20-3*i))
		h.counters[key] += sum
		h.add(h.counters[key], "__name__", "duration_seconds_bucket", "job", job, "le", le)
	}
	h.add(h.counters["bucket"+job+"+Inf"], "__name__", "duration_seconds_count", "job", job)
	h.counters["sum"+job] += sum / 4
	h.add(h.counters["sum"+job], "__name__", "duration_seconds_sum", "job", job)
}

// native appends a histogram that is reset now and then, one that is a gauge, and
// one with buckets of its own.
func (h *historian) native() {
	if h.hists[0] == nil || h.i%1500 == 1499 {
		h.hists[0] = &histogram.Histogram{
			Schema: 1, ZeroThreshold: 1e-3, PositiveSpans: []histogram.Span{{Offset: -6, Length: 4}, {Offset: 1, Length: 2}},
			PositiveBuckets: make([]int64, 6),
		}
	}
	if h.hists[1] == nil {
		h.hists[1] = &histogram.Histogram{
			Schema: histogram.CustomBucketsSchema, CustomValues: []float64{0.1, 0.5, 1},
			PositiveSpans: []histogram.Span{{Length: 4}}, PositiveBuckets: make([]int64, 4),
		}
	}
	for _, hist := range h.hists[:2] {
		at := h.r.IntN(len(hist.PositiveBuckets))
		n := int64(1 + h.r.IntN(9))
		hist.PositiveBuckets[at] += n // deltas: one bucket more means the next as much less
		if at+1 < len(hist.PositiveBuckets) {
			hist.PositiveBuckets[at+1] -= n
		}
		hist.Count += uint64(n)
		hist.Sum += float64(n) / float64(at+2)
	}
	h.addHistogram(h.hists[0].Copy(), nil, "__name__", "native_seconds", "job", "a")
	h.addHistogram(h.hists[1].Copy(), nil, "__name__", "native_custom")
	gauge := h.hists[0].ToFloat(nil)
	gauge.Mul(1 + h.r.Float64()).CounterResetHint = histogram.GaugeType
	h.addHistogram(nil, gauge, "__name__", "native_gauge")
}

func pick[T any](first bool, a, b T) T {
	if first {
		return a
	}
	return b
}
