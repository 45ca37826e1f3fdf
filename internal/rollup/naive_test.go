package rollup

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// sample is a raw sample: of a histogram if h is set, else a float.
type sample struct {
	t int64
	v float64
	h *histogram.FloatHistogram
}

func (s sample) stale() bool {
	return s.h == nil && value.IsStaleNaN(s.v) || s.h != nil && value.IsStaleNaN(s.h.Sum)
}

func (s sample) kind() kind {
	switch {
	case s.h == nil:
		return kindFloat
	case s.h.CounterResetHint == histogram.GaugeType:
		return kindGauge
	}
	return kindHistogram
}

// rawChunk is a chunk as the TSDB would have it.
type rawChunk struct {
	enc  chunkenc.Encoding
	data []byte
}

// encode makes raw chunks of samples, at most 50 in each; integers says to make
// integer histograms, which they then must be.
func encode(t testing.TB, samples []sample, integers, starts bool) (chunks []rawChunk) {
	t.Helper()
	var (
		c   chunkenc.Chunk
		app chunkenc.Appender
		was kind
		n   int
	)
	for _, s := range samples {
		if c == nil || n == 50 || s.kind() != was {
			e := map[kind]chunkenc.ValueType{kindFloat: chunkenc.ValFloat, kindHistogram: chunkenc.ValFloatHistogram, kindGauge: chunkenc.ValFloatHistogram}[s.kind()]
			if integers && e == chunkenc.ValFloatHistogram {
				e = chunkenc.ValHistogram
			}
			var err error
			if c != nil {
				chunks = append(chunks, rawChunk{c.Encoding(), c.Bytes()})
			}
			c, err = e.NewChunk(starts, starts)
			require.NoError(t, err)
			app, err = c.Appender()
			require.NoError(t, err)
			was, n = s.kind(), 0
		}
		n++
		var fresh chunkenc.Chunk
		var recoded bool
		var err error
		switch {
		case s.h == nil:
			app.Append(s.t-1, s.t, s.v)
		case integers:
			fresh, recoded, app, err = app.AppendHistogram(nil, 0, s.t, integer(s.h), false)
		default:
			fresh, recoded, app, err = app.AppendFloatHistogram(nil, 0, s.t, s.h.Copy(), false)
		}
		require.NoError(t, err)
		if fresh != nil {
			if !recoded {
				chunks = append(chunks, rawChunk{c.Encoding(), c.Bytes()})
				n = 1
			}
			c = fresh
		}
	}
	if c != nil {
		chunks = append(chunks, rawChunk{c.Encoding(), c.Bytes()})
	}
	return chunks
}

// integer makes an integer histogram of one whose counts are whole.
func integer(h *histogram.FloatHistogram) *histogram.Histogram {
	deltas := func(counts []float64) (ds []int64) {
		last := int64(0)
		for _, c := range counts {
			ds, last = append(ds, int64(c)-last), int64(c)
		}
		return ds
	}
	return &histogram.Histogram{
		CounterResetHint: h.CounterResetHint, Schema: h.Schema, ZeroThreshold: h.ZeroThreshold,
		ZeroCount: uint64(h.ZeroCount), Count: uint64(h.Count), Sum: h.Sum,
		PositiveSpans: h.PositiveSpans, NegativeSpans: h.NegativeSpans,
		PositiveBuckets: deltas(h.PositiveBuckets), NegativeBuckets: deltas(h.NegativeBuckets),
		CustomValues: h.CustomValues,
	}
}

// naivePoint is what a point must be, computed from its samples alone.
type naivePoint struct {
	end     int64
	kind    kind
	samples []sample
	reset   bool // histograms: the first sample is below the last of the point before
}

// naive groups samples into points by the rules of FORMAT.md, read one by one: what
// belongs together shares a window, and nothing that ends points lies between.
func naive(samples []sample, mint, maxt, r int64) (points []naivePoint) {
	stop := func(i int) bool { // does samples[i] end the point before?
		s := samples[i]
		if s.stale() {
			return true
		}
		p := points[len(points)-1]
		last := p.samples[len(p.samples)-1]
		return s.kind() != p.kind ||
			p.kind == kindHistogram && s.h.DetectReset(last.h) ||
			p.kind != kindFloat && s.h.UsesCustomBuckets() != last.h.UsesCustomBuckets()
	}
	open, alone := false, false
	for i, s := range samples {
		if s.t < mint || s.t >= maxt {
			continue
		}
		ends := len(points) > 0 && stop(i)
		if n := len(points) - 1; open && (s.stale() || s.t <= points[n].end) && (ends || alone) {
			points[n].end = points[n].samples[len(points[n].samples)-1].t
		}
		if s.stale() {
			open = false
			continue
		}
		if !open || ends || alone || s.t > points[len(points)-1].end {
			first := len(points) == 0 || points[len(points)-1].kind != s.kind()
			end := int64(math.Ceil(float64(s.t)/float64(r))) * r
			points = append(points, naivePoint{end: min(end, maxt-1), kind: s.kind(), reset: !first && s.kind() == kindHistogram && ends})
			alone = first && s.kind() == kindHistogram
			open = true
		}
		p := &points[len(points)-1]
		p.samples = append(p.samples, s)
	}
	return points
}

func (p naivePoint) aggregates() (count, sum, least, most float64) {
	least, most = math.NaN(), math.NaN()
	for _, s := range p.samples {
		count++
		sum += s.v
		if s.v < least || math.IsNaN(least) {
			least = s.v
		}
		if s.v > most || math.IsNaN(most) {
			most = s.v
		}
	}
	return count, sum, least, most
}

// point is a point as it was read back with chunkenc.
type point struct {
	end                  int64
	kind                 kind
	count, sum, min, max float64
	counter              float64
	histSum, histCounter *histogram.FloatHistogram
	firstInChunk         bool
	firstT               int64   // of the chunk's counter
	first, last          float64 // of the chunk's counter
	mint, maxt           int64   // of the chunk
	hint                 histogram.CounterResetHint
}

// decode reads a chunk with chunkenc and checks all that must hold in every chunk.
func decode(t testing.TB, c AggrChunk, mint, maxt int64) (points []point) {
	t.Helper()
	floats := func(a Aggregate) (ts []int64, vs []float64) {
		enc, data, err := c.Part(a)
		require.NoError(t, err)
		require.Equal(t, chunkenc.EncXOR, enc)
		chunk, err := chunkenc.FromData(enc, data)
		require.NoError(t, err)
		it := chunk.Iterator(nil)
		for it.Next() != chunkenc.ValNone {
			tt, v := it.At()
			ts, vs = append(ts, tt), append(vs, v)
		}
		require.NoError(t, it.Err())
		return ts, vs
	}
	hists := func(a Aggregate) (ts []int64, hs []*histogram.FloatHistogram) {
		enc, data, err := c.Part(a)
		require.NoError(t, err)
		require.Equal(t, chunkenc.EncFloatHistogram, enc)
		chunk, err := chunkenc.FromData(enc, data)
		require.NoError(t, err)
		it := chunk.Iterator(nil)
		for it.Next() != chunkenc.ValNone {
			tt, h := it.AtFloatHistogram(nil)
			ts, hs = append(ts, tt), append(hs, h)
		}
		require.NoError(t, it.Err())
		return ts, hs
	}
	ends, counts := floats(Count)
	require.NotEmpty(t, ends)
	require.Equal(t, len(ends), c.NumSamples())
	require.LessOrEqual(t, len(ends), maxPoints)
	require.Less(t, len(c), 16_000)
	require.Equal(t, ends[len(ends)-1], maxt)
	for i, end := range ends {
		points = append(points, point{
			end: end, count: counts[i], firstInChunk: i == 0, mint: mint, maxt: maxt,
			kind: kindFloat,
		})
	}
	if enc, _, err := c.Part(Sum); err == nil && enc != chunkenc.EncXOR {
		require.Equal(t, ends[0], mint)
		ts, hs := hists(Sum)
		require.Equal(t, ends, ts)
		for i := range points {
			require.Equal(t, histogram.GaugeType, hs[i].CounterResetHint)
			points[i].kind, points[i].histSum = kindHistogram, hs[i]
		}
		for _, a := range []Aggregate{Min, Max} {
			_, _, err := c.Part(a)
			require.ErrorIs(t, err, ErrNoAggregate)
		}
		ts, hs = hists(Counter)
		require.Equal(t, ends, ts)
		for i := range points {
			p := &points[i]
			if p.histCounter, p.hint = hs[i], hs[i].CounterResetHint; p.hint == histogram.GaugeType {
				p.kind = kindGauge
			}
			require.Equal(t, points[0].kind, p.kind)
		}
		_, data, err := c.Part(Counter)
		require.NoError(t, err)
		chunk, err := chunkenc.FromData(chunkenc.EncFloatHistogram, data)
		require.NoError(t, err)
		points[0].hint = map[chunkenc.CounterResetHeader]histogram.CounterResetHint{
			chunkenc.CounterReset: histogram.CounterReset, chunkenc.NotCounterReset: histogram.NotCounterReset,
			chunkenc.UnknownCounterReset: histogram.UnknownCounterReset, chunkenc.GaugeType: histogram.GaugeType,
		}[chunk.(*chunkenc.FloatHistogramChunk).GetCounterResetHeader()]
		return points
	}
	columns := map[Aggregate][]float64{}
	for _, a := range []Aggregate{Sum, Min, Max} {
		ts, vs := floats(a)
		require.Equal(t, ends, ts)
		columns[a] = vs
	}
	ts, counter := floats(Counter)
	require.Equal(t, ends, ts[1:len(ts)-1])
	require.Equal(t, ends[len(ends)-1], ts[len(ts)-1])
	require.Equal(t, mint, ts[0])
	require.LessOrEqual(t, ts[0], ends[0])
	for i := range points {
		p := &points[i]
		p.sum, p.min, p.max = columns[Sum][i], columns[Min][i], columns[Max][i]
		p.counter, p.firstT, p.first, p.last = counter[i+1], ts[0], counter[0], counter[len(counter)-1]
	}
	return points
}

// randomSeries makes n samples in [mint, maxt) with everything that can happen to a
// series of the given kind, which "mixed" changes on the way.
func randomSeries(r *rand.Rand, what string, n int, mint, maxt int64) (samples []sample) {
	t := mint + r.Int64N(minute)
	v, h := 0.0, newHistogram(r, what)
	for range n {
		switch r.IntN(60) {
		case 0:
			t += r.Int64N(3 * hour)
		case 1:
			t += minute - t%minute // on the edges of windows
		default:
			t += 1 + r.Int64N(30_000)
		}
		if t >= maxt {
			break
		}
		s := sample{t: t}
		is := what
		if what == "mixed" {
			is = []string{"counter", "histogram", "gauge histogram"}[t/(20*minute)%3]
		}
		switch is {
		case "counter":
			if v += float64(r.IntN(20)); r.IntN(40) == 0 {
				v = float64(r.IntN(10))
			}
			s.v = v
		case "gauge":
			s.v = float64(r.IntN(2000) - 1000)
		case "odd":
			s.v = []float64{math.NaN(), math.Inf(1), math.Inf(-1), 0, 1, 2, 3, math.NaN()}[r.IntN(8)]
		case "not a number", "late number":
			s.v = math.NaN()
			if is == "late number" && len(samples) > n/2 {
				s.v = float64(r.IntN(5))
			}
		default:
			h = nextHistogram(r, is, h)
			s.h = h.Copy()
		}
		if r.IntN(50) == 0 {
			if s.v = math.Float64frombits(value.StaleNaN); s.h != nil {
				s.h = &histogram.FloatHistogram{Sum: s.v, CounterResetHint: s.h.CounterResetHint}
				s.v = 0
			}
		}
		samples = append(samples, s)
	}
	return samples
}

var seriesKinds = []string{
	"counter", "gauge", "odd", "not a number", "late number", "mixed",
	"histogram", "custom histogram", "gauge histogram", "changing histogram",
}

func newHistogram(r *rand.Rand, what string) *histogram.FloatHistogram {
	h := &histogram.FloatHistogram{
		Schema: 1, ZeroThreshold: 0.001,
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}, {Offset: 1, Length: 2}}, PositiveBuckets: make([]float64, 4),
		NegativeSpans: []histogram.Span{{Offset: 2, Length: 1}}, NegativeBuckets: make([]float64, 1),
	}
	switch what {
	case "custom histogram":
		h = &histogram.FloatHistogram{
			Schema: histogram.CustomBucketsSchema, CustomValues: []float64{1, 2, 5, 10},
			PositiveSpans: []histogram.Span{{Length: 5}}, PositiveBuckets: make([]float64, 5),
		}
		if r.IntN(3) == 0 {
			h.CustomValues = []float64{1, 3, 5, 10}
		}
	case "gauge histogram":
		h.CounterResetHint = histogram.GaugeType
	case "changing histogram":
		h.Schema = int32(r.IntN(3))
		h.ZeroThreshold = []float64{0.001, 0.002}[r.IntN(2)]
		h.PositiveSpans[1].Offset = int32(r.IntN(4))
	}
	return h
}

// nextHistogram observes a few more values, or starts anew.
func nextHistogram(r *rand.Rand, what string, h *histogram.FloatHistogram) *histogram.FloatHistogram {
	if is := h.CounterResetHint == histogram.GaugeType; r.IntN(40) == 0 || is != (what == "gauge histogram") || is {
		h = newHistogram(r, what)
	}
	h = h.Copy()
	for _, bs := range [][]float64{h.PositiveBuckets, h.NegativeBuckets} {
		for i := range bs {
			n := float64(r.IntN(5))
			bs[i] += n
			h.Count += n
			h.Sum += n * float64(i+1)
		}
	}
	return h
}
