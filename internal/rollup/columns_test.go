package rollup

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

const (
	testFine   = 5 * 60_000
	testCoarse = 60 * 60_000
	needAll    = NeedCount | NeedSum | NeedMin | NeedMax | NeedInc | NeedLast
)

// float is a sample of a test's series.
type float struct {
	t int64
	v float64
}

// walk makes a series of some hours with an uneven pace. Its oddities: resets, gaps,
// stale markers, NaN.
type walk struct {
	name                  string
	gauge, whole          bool
	reset, gap, stale, na float64 // chances a sample
}

var walks = []walk{
	{name: "counter", whole: true},
	{name: "broken counter", whole: false},
	{name: "counter with resets", whole: true, reset: 0.01},
	{name: "counter with many resets", whole: true, reset: 0.2},
	{name: "counter with all", reset: 0.02, gap: 0.01, stale: 0.005, na: 0.02},
	{name: "gauge", gauge: true},
	{name: "gauge with all", gauge: true, gap: 0.01, stale: 0.005, na: 0.02},
	{name: "sparse counter", whole: true, reset: 0.01, gap: 0.5},
}

func (w walk) series(r *rand.Rand, start, end int64) (out []float) {
	v := float64(r.IntN(1000))
	for t := start + r.Int64N(60_000); t < end; t += 15_000 {
		at := t + r.Int64N(2_000)
		if r.IntN(10) == 0 { // on the edge of a window
			at = max(t, (t+testFine-1)/testFine*testFine) - int64(r.IntN(2))
			t = at
		}
		switch p := r.Float64(); {
		case p < w.stale:
			out = append(out, float{at, math.Float64frombits(value.StaleNaN)})
			t += r.Int64N(2 * testCoarse)
			continue
		case p < w.stale+w.gap:
			t += r.Int64N(3 * testFine)
		case p < w.stale+w.gap+w.reset:
			v = 0
		}
		step := r.ExpFloat64() * 10
		if w.gauge {
			step = r.NormFloat64()
		}
		if w.whole {
			step = math.Floor(step)
		}
		v += step
		if r.Float64() < w.na {
			out = append(out, float{at, math.NaN()})
			continue
		}
		out = append(out, float{at, v})
	}
	return out
}

// sorted also drops one of two samples that the edges put at one time.
func sorted(s []float) []float {
	slices.SortStableFunc(s, func(a, b float) int { return int(a.t - b.t) })
	return slices.CompactFunc(s, func(a, b float) bool { return a.t == b.t })
}

// rungsOf rolls the series up block by block and returns the chunks of both rungs.
func rungsOf(t testing.TB, s []float, borders []int64) (chunks [2][]AggrChunk) {
	f, err := NewFolder([]int64{testFine, testCoarse}, func(rung int, _, _ int64, c AggrChunk) error {
		chunks[rung] = append(chunks[rung], slices.Clone(c))
		return nil
	})
	require.NoError(t, err)
	for i := range borders[1:] {
		f.Begin(borders[i], borders[i+1], 3)
		for _, data := range xorChunks(t, s, borders[i], borders[i+1]) {
			require.NoError(t, f.Fold(chunkenc.EncXOR, data, nil))
		}
		require.NoError(t, f.End())
	}
	return chunks
}

func xorChunks(t testing.TB, s []float, from, to int64) (out [][]byte) {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for _, p := range s {
		if p.t < from || p.t >= to {
			continue
		}
		app.Append(0, p.t, p.v)
		if c.NumSamples() == 120 {
			out = append(out, c.Bytes())
			c = chunkenc.NewXORChunk()
			app, err = c.Appender()
			require.NoError(t, err)
		}
	}
	if c.NumSamples() > 0 {
		out = append(out, c.Bytes())
	}
	return out
}

// iterator reads the series as chunkenc does.
func iterator(t testing.TB, s []float) chunkenc.Iterator {
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for _, p := range s {
		app.Append(0, p.t, p.v)
	}
	return c.Iterator(nil)
}

// fill reads the spans into c.
func fill(t testing.TB, c *Columns, need Need, s []float, chunks [2][]AggrChunk, spans []Span) {
	c.Reset(need)
	for _, span := range spans {
		if span.Resolution == Raw {
			require.NoError(t, c.AppendRaw(iterator(t, s), span.After, span.Until))
			continue
		}
		rung := 0
		if span.Resolution == testCoarse {
			rung = 1
		}
		for _, chunk := range chunks[rung] {
			require.NoError(t, c.AppendAggr(chunk, span.Resolution, span.After, span.Until))
		}
	}
}

func TestColumnsSayWhatTheSamplesSay(t *testing.T) {
	for _, w := range walks {
		t.Run(w.name, func(t *testing.T) {
			for seed := range uint64(25) {
				r := rand.New(rand.NewPCG(seed, 1))
				start := 1_700_000_000_000/testCoarse*testCoarse - int64(r.IntN(3))*testFine
				end := start + int64(30+r.IntN(60))*testCoarse/2
				s := sorted(w.series(r, start, end))
				borders := blockBorders(r, start, end)
				chunks := rungsOf(t, s, borders)
				spans := someSpans(r, start, end)
				var c Columns
				fill(t, &c, needAll, s, chunks, spans)
				msg := fmt.Sprintf("seed %d, borders %d, spans %v", seed, borders, spans)
				checkColumns(t, w, &c, s, spans, msg)
				checkAlone(t, &c, s, chunks, spans, msg)
			}
		})
	}
}

// blockBorders cuts the time into blocks, sometimes within a window.
func blockBorders(r *rand.Rand, start, end int64) []int64 {
	out := []int64{start}
	for at := start; ; {
		at = (at/testCoarse + 2) * testCoarse
		if r.IntN(8) == 0 {
			at += r.Int64N(testCoarse)
		}
		if at >= end {
			return append(out, end+1)
		}
		out = append(out, at)
	}
}

// someSpans is the oldest from 1h, then from 5m, the newest raw; or less than that.
func someSpans(r *rand.Rand, start, end int64) []Span {
	hour := func(lo, hi int64) int64 { return (lo + r.Int64N(hi-lo+1)) / testCoarse * testCoarse }
	a := hour(start, end)
	b := hour(a, end)
	if r.IntN(4) == 0 {
		a = start - testCoarse
	}
	if r.IntN(4) == 0 {
		b = a
	}
	if r.IntN(4) == 0 {
		b = end
	}
	from := start - testCoarse
	if r.IntN(2) == 0 {
		from = hour(start, max(a, start))
	}
	spans := []Span{{from, a, testCoarse}, {max(a, from), b, testFine}, {max(b, a, from), end, Raw}}
	return slices.DeleteFunc(spans, func(s Span) bool { return s.After >= s.Until })
}

func checkColumns(t *testing.T, w walk, c *Columns, s []float, spans []Span, msg string) {
	t.Helper()
	n := len(c.End)
	for _, col := range [][]float64{c.Count, c.Sum, c.Min, c.Max, c.Inc, c.Last} {
		require.Len(t, col, n, msg)
	}
	require.Len(t, c.Ended, n, msg)
	require.Len(t, c.Gone, n, msg)
	require.Zero(t, c.Skipped, msg)
	i := 0 // of the next sample
	for i < len(s) && len(spans) > 0 && s[i].t <= spans[0].After {
		i++
	}
	prev := lastNumber(s[:i])
	counted := 0
	for k := range n {
		at := fmt.Sprintf("%s: point %d of %d, (%d, %d]", msg, k, n, c.Start[k], c.End[k])
		if k > 0 {
			require.GreaterOrEqual(t, c.Start[k], c.End[k-1], at)
		}
		var in []float
		stale := false
		for ; i < len(s) && s[i].t <= c.End[k]; i++ {
			if !value.IsStaleNaN(s[i].v) {
				in = append(in, s[i])
			}
		}
		if i < len(s) {
			stale = value.IsStaleNaN(s[i].v)
		}
		require.NotEmpty(t, in, at)
		counted += len(in)
		if c.Start[k] < c.End[k] {
			require.Greater(t, in[0].t, c.Start[k], at)
		}
		checkPoint(t, w, c, k, in, at)
		if prev == nil && k == 0 {
			prev = firstNumber(in)
		}
		want := 0.0
		for _, p := range in {
			if p.v == p.v {
				if prev != nil {
					want += rise(*prev, p.v)
				}
				prev = &p.v
			}
		}
		require.InDelta(t, want, c.Inc[k], 1e-9*(1e3+math.Abs(want)), at)
		if c.Ended[k] && !stale {
			// Only where a block was cut at an odd time.
			require.NotEqual(t, c.End[k], in[len(in)-1].t, at)
		}
	}
	total := 0
	for _, p := range s {
		if len(spans) > 0 && p.t > spans[0].After && p.t <= spans[len(spans)-1].Until && !value.IsStaleNaN(p.v) {
			total++
		}
	}
	require.Equal(t, total, counted, msg)
}

func checkPoint(t *testing.T, w walk, c *Columns, k int, in []float, at string) {
	t.Helper()
	var sum, lo, hi float64
	lo, hi = math.NaN(), math.NaN()
	for _, p := range in {
		sum += p.v
		if p.v < lo || lo != lo {
			lo = p.v
		}
		if p.v > hi || hi != hi {
			hi = p.v
		}
	}
	require.Equal(t, float64(len(in)), c.Count[k], at)
	same(t, lo, c.Min[k], at)
	same(t, hi, c.Max[k], at)
	if sum != sum {
		require.True(t, math.IsNaN(c.Sum[k]), at)
	} else {
		require.InDelta(t, sum, c.Sum[k], 1e-9*(1+math.Abs(sum)), at)
	}
	last := in[len(in)-1].v
	switch {
	case lo != lo:
		require.True(t, math.IsNaN(c.Last[k]), at)
	case w.reset == 0 && !w.gauge && last == last && lo > 0:
		require.Equal(t, last, c.Last[k], at)
	case !w.gauge && w.na == 0 && c.Last[k] != last:
		// It is the true value or, where that is not known, the mean.
		require.InDelta(t, sum/float64(len(in)), c.Last[k], 1e-9*(1+math.Abs(sum)), at)
	default:
		require.GreaterOrEqual(t, c.Last[k], lo, at)
		require.LessOrEqual(t, c.Last[k], hi, at)
	}
}

func same(t *testing.T, want, got float64, msg string) {
	t.Helper()
	if want != got && !(want != want && got != got) {
		require.Equal(t, want, got, msg)
	}
}

func firstNumber(s []float) *float64 {
	for _, p := range s {
		if p.v == p.v {
			return &p.v
		}
	}
	return nil
}

func lastNumber(s []float) *float64 {
	for _, p := range slices.Backward(s) {
		if p.v == p.v {
			return &p.v
		}
	}
	return nil
}

// checkAlone asks for each column by itself and wants what all of them have.
func checkAlone(t *testing.T, all *Columns, s []float, chunks [2][]AggrChunk, spans []Span, msg string) {
	t.Helper()
	var c Columns
	for need, cols := range map[Need]func(*Columns) []float64{
		NeedCount: func(c *Columns) []float64 { return c.Count },
		NeedSum:   func(c *Columns) []float64 { return c.Sum },
		NeedMin:   func(c *Columns) []float64 { return c.Min },
		NeedMax:   func(c *Columns) []float64 { return c.Max },
		NeedInc:   func(c *Columns) []float64 { return c.Inc },
		NeedLast:  func(c *Columns) []float64 { return c.Last },
	} {
		fill(t, &c, need, s, chunks, spans)
		require.Equal(t, all.Start, c.Start, msg)
		require.Equal(t, all.End, c.End, msg)
		for i, v := range cols(all) {
			same(t, v, cols(&c)[i], fmt.Sprintf("need %d, point %d: %s", need, i, msg))
		}
		if need == NeedLast {
			require.Equal(t, all.Ended, c.Ended, msg)
			require.Equal(t, all.Gone, c.Gone, msg)
		}
	}
}

func TestColumnsEndWithTheSeries(t *testing.T) {
	stale := math.Float64frombits(value.StaleNaN)
	s := []float{{60_000, 1}, {75_000, 2}, {90_000, stale}, {testFine + 1000, 7}, {testFine + 16_000, 8}}
	chunks := rungsOf(t, s, []int64{0, testCoarse})
	var c Columns
	fill(t, &c, NeedLast, s, chunks, []Span{{0, testCoarse, testFine}})
	require.Equal(t, []int64{0, testFine}, c.Start)
	require.Equal(t, []int64{75_000, 2 * testFine}, c.End)
	require.Equal(t, []bool{true, false}, c.Ended)
	require.Equal(t, int64(testFine), c.Gone[0])

	// In the coarser rung it came back within the window.
	fill(t, &c, NeedLast, s, chunks, []Span{{0, testCoarse, testCoarse}})
	require.Equal(t, []int64{75_000, testCoarse}, c.End) // the block's last millisecond, and nothing after it
	require.Equal(t, []bool{false, false}, c.Ended)

	fill(t, &c, NeedLast, s, chunks, []Span{{0, testCoarse, Raw}})
	require.Equal(t, []bool{false, true, false, false}, c.Ended)
	require.Equal(t, int64(90_000), c.Gone[1])
}

// TestColumnsLeaveAChunkInItsMiddle cuts from 1h to samples that end before the next
// hour does, so that what the chunk says of that hour is of no use.
func TestColumnsLeaveAChunkInItsMiddle(t *testing.T) {
	for _, resets := range [][]int{nil, {100}, {700}, {800, 900}, {100, 101}} {
		var s []float
		v := 50.0
		for i := range 960 {
			if v += 3; slices.Contains(resets, i) {
				v = 2
			}
			s = append(s, float{int64(i)*30_000 + 7, v})
		}
		chunks := rungsOf(t, s, []int64{0, 8 * testCoarse})
		var c Columns
		fill(t, &c, NeedInc, s, chunks, []Span{{-1, 5 * testCoarse, testCoarse}, {5 * testCoarse, 5*testCoarse + 600_000, Raw}})
		want, got := 0.0, 0.0
		for i := range s[1:] {
			if s[i+1].t <= 5*testCoarse+600_000 {
				want += rise(s[i].v, s[i+1].v)
			}
		}
		for _, d := range c.Inc {
			got += d
		}
		require.InDelta(t, want, got, 1e-6, "resets at %d", resets)
	}
}

func TestColumnsSkipWhatOverlaps(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	s := sorted(walks[2].series(r, 0, 8*testCoarse))
	chunks := rungsOf(t, s, []int64{0, 2 * testCoarse, 4 * testCoarse, 8 * testCoarse})
	var once, twice Columns
	fill(t, &once, needAll, s, chunks, []Span{{-1, 8 * testCoarse, testFine}})
	doubled := chunks
	doubled[0] = nil
	for _, c := range chunks[0] {
		doubled[0] = append(doubled[0], c, c)
	}
	fill(t, &twice, needAll, s, doubled, []Span{{-1, 8 * testCoarse, testFine}})
	require.Equal(t, len(chunks[0]), twice.Skipped)
	require.Equal(t, once.End, twice.End)
	require.Equal(t, once.Inc, twice.Inc)
	require.Equal(t, once.Count, twice.Count)
}

// TestColumnsOfNaNAndInfinity has points before the first number, which are not in
// the counter part, chunks without one, and a counter that overflows.
func TestColumnsOfNaNAndInfinity(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for name, v := range map[string]func(i int) float64{
		"numbers after NaN": func(i int) float64 {
			if i < 500 {
				return nan
			}
			return float64(3*i%200 + 1)
		},
		"NaN after numbers": func(i int) float64 {
			if i > 500 {
				return nan
			}
			return float64(i)
		},
		"a block of NaN": func(i int) float64 {
			if i >= 470 && i < 1000 {
				return nan
			}
			return float64(i + 1)
		},
		"only NaN": func(int) float64 { return nan },
	} {
		t.Run(name, func(t *testing.T) {
			var s []float
			for i := range 1900 {
				s = append(s, float{int64(i)*15_000 + 7, v(i)})
			}
			chunks := rungsOf(t, s, []int64{0, 2 * testCoarse, 4 * testCoarse, 8 * testCoarse})
			w := walk{gauge: true, na: 1}
			for _, spans := range [][]Span{
				{{-1, 8 * testCoarse, testFine}}, {{-1, 8 * testCoarse, testCoarse}}, {{testCoarse, 8 * testCoarse, testFine}},
				{{-1, 3 * testCoarse, testCoarse}, {3 * testCoarse, 5 * testCoarse, testFine}, {5 * testCoarse, 8 * testCoarse, Raw}},
			} {
				var c Columns
				fill(t, &c, needAll, s, chunks, spans)
				require.NotZero(t, c.Len())
				checkColumns(t, w, &c, s, spans, fmt.Sprint(name, spans))
				checkAlone(t, &c, s, chunks, spans, name)
			}
		})
	}
	// After infinity, what the counter rises by is known again.
	s := []float{{1, 1}, {2, inf}, {testFine + 1, inf}, {2*testFine + 1, 5}, {3*testFine + 1, 9}}
	var c Columns
	fill(t, &c, NeedInc, s, rungsOf(t, s, []int64{0, testCoarse}), []Span{{-1, testCoarse, testFine}})
	require.Equal(t, inf, c.Inc[0])
	require.True(t, math.IsNaN(c.Inc[1]) || math.IsInf(c.Inc[1], 0) || c.Inc[1] == 0)
	require.Equal(t, []float64{5, 4}, c.Inc[2:])
}

func TestColumnsRefuseCorruptChunks(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	s := sorted(walks[2].series(r, 0, 2*testCoarse))
	chunk := rungsOf(t, s, []int64{0, 2 * testCoarse})[0][0]
	var c Columns
	for n := range len(chunk) {
		c.Reset(needAll)
		require.Error(t, c.AppendAggr(chunk[:n], testFine, -1, testCoarse), "%d bytes", n)
	}
	c.Reset(needAll)
	require.ErrorContains(t, c.AppendAggr(chunk, 0, -1, testCoarse), "resolution")
	require.NoError(t, c.AppendAggr(chunk, testFine, -1, 2*testCoarse))
}
