package rollup

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
)

// readChunks returns the columns of one series of one rung.
func readChunks(t testing.TB, chunks []AggrChunk, resolution int64) *Columns {
	t.Helper()
	c := &Columns{}
	c.Reset(needAll)
	for _, chunk := range chunks {
		require.NoError(t, c.AppendAggr(chunk, resolution, math.MinInt64+1, math.MaxInt64))
	}
	return c
}

// A stamp within a window says that the series went stale only if that is so: after
// the last sample there came a marker, and nothing else in the window.
func TestEndedIsWhatTheSamplesSay(t *testing.T) {
	const mint, maxt = 19_000 * day, 19_000*day + 30*hour + 10*minute
	for _, what := range seriesKinds {
		t.Run(what, func(t *testing.T) {
			ended := 0
			for seed := range uint64(40) {
				samples := randomSeries(rand.New(rand.NewPCG(seed, 16)), what, 1500, mint, maxt)
				_, out := fold(t, encode(t, samples, false, seed%2 == 0), mint, maxt, nil)
				for i, r := range ladder {
					c := readChunks(t, out[i], r)
					points := naive(samples, mint, maxt, r)
					require.Equal(t, len(points), c.Len())
					at := 0 // of the sample after the point
					for k, p := range points {
						for at < len(samples) && samples[at].t <= p.samples[len(p.samples)-1].t {
							at++
						}
						last := samples[at-1].t
						edge := windowEnd(last, r)
						want := at < len(samples) && samples[at].stale() &&
							(k+1 == len(points) || windowEnd(points[k+1].end, r) != edge) &&
							last < edge-1 && (last+1)%minute != 0
						require.Equal(t, want, c.Ended[k], "seed %d, resolution %d, point %d at %d, last sample %d", seed, r, k, p.end, last)
						if want {
							ended++
							require.Equal(t, last, c.End[k])
							require.GreaterOrEqual(t, c.Gone[k], edge)
						}
					}
				}
			}
			require.Greater(t, ended, 10)
		})
	}
}

func TestEndedAtOddities(t *testing.T) {
	hist := func(n float64, hint histogram.CounterResetHint) *histogram.FloatHistogram {
		return &histogram.FloatHistogram{
			CounterResetHint: hint, Count: n, Sum: n,
			PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []float64{n},
		}
	}
	number := func(seconds ...int64) (out []sample) {
		for _, s := range seconds {
			out = append(out, sample{t: s * 1000, v: float64(s)})
		}
		return out
	}
	count := func(n float64, seconds ...int64) (out []sample) {
		for i, s := range seconds {
			out = append(out, sample{t: s * 1000, h: hist(n+float64(i), histogram.UnknownCounterReset)})
		}
		return out
	}
	gauge := func(n float64, seconds ...int64) []sample {
		out := count(n, seconds...)
		for _, s := range out {
			s.h.CounterResetHint = histogram.GaugeType
		}
		return out
	}
	stale := func(second int64) []sample {
		return []sample{{t: second * 1000, v: math.Float64frombits(value.StaleNaN)}}
	}
	staleHist := func(second int64) []sample {
		return []sample{{t: second * 1000, h: &histogram.FloatHistogram{Sum: math.Float64frombits(value.StaleNaN)}}}
	}
	for name, c := range map[string]struct {
		samples     []sample
		fine, hours []int64 // seconds of the stamps that are Ended
	}{
		"in its window":          {concat(number(30, 60, 90), stale(120), number(400)), []int64{90}, nil},
		"in the next window":     {concat(number(200, 230, 260, 290), stale(320), number(4000)), []int64{290}, []int64{290}},
		"in a far window":        {concat(number(30, 60, 90), stale(1500), number(4000)), []int64{90}, []int64{90}},
		"at the edge":            {concat(number(240, 270, 300), stale(330)), nil, []int64{300}},
		"back in its window":     {concat(number(30), stale(60), number(90, 120)), nil, nil},
		"twice":                  {concat(number(30), stale(60), stale(90), stale(400)), []int64{30}, []int64{30}},
		"histograms":             {concat(count(1, 30, 60, 90), staleHist(320), count(9, 4000)), []int64{90}, []int64{90}},
		"histograms, float mark": {concat(count(1, 30, 60, 90), stale(320)), []int64{90}, []int64{90}},
		"gauge histograms":       {concat(gauge(1, 30, 60, 90), staleHist(320), gauge(1, 4000)), []int64{90}, []int64{90}},
		"lone first histogram":   {count(1, 30, 60, 90), nil, nil},
		"only one histogram":     {count(1, 30), nil, nil},
		"lone histogram, gone":   {concat(count(1, 30), staleHist(60), count(2, 400, 430)), []int64{30}, nil},
		"reset":                  {concat(count(9, 30, 60), count(1, 90, 120)), nil, nil},
		"to float":               {concat(count(9, 30, 60), number(90, 120)), nil, nil},
		"to histogram":           {concat(number(30, 60), count(1, 90, 120)), nil, nil},
		"to gauge":               {concat(count(9, 30, 60), gauge(1, 90, 120)), nil, nil},
		// Blocks are of half an hour, which ends within windows of an hour.
		"over a block's end":   {number(1700, 1790, 1900), nil, nil},
		"until a block's end":  {number(1700, 1790), nil, nil},
		"gone at block's end":  {concat(number(1700, 1790), stale(1799), number(9000)), []int64{1790}, []int64{1790}},
		"back after the block": {concat(number(1600, 1640), stale(1700), number(1900)), []int64{1640}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for i, chunks := range foldBlocks(t, c.samples, 0, 30*minute, 3*hour, false) {
				want := [][]int64{c.fine, c.hours}[i]
				_, joined := join(t, ladder[i], chunks, 0, 3*hour)
				for how, chunks := range [][]AggrChunk{chunks, joined} {
					var got []int64
					cols := readChunks(t, chunks, ladder[i])
					for k, ended := range cols.Ended {
						if ended {
							got = append(got, cols.End[k]/1000)
						}
					}
					require.Equal(t, want, got, "resolution %d, joined %d", ladder[i], how)
				}
			}
		})
	}
}

func concat(parts ...[]sample) (out []sample) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// At each moment before its marker, a series at an even pace is not yet gone.
func TestGoneIsNotBeforeTheMarker(t *testing.T) {
	for _, pace := range []int64{1000, 15_000, 60_000, 100_000} {
		for last := range int64(600) {
			var samples []sample
			end := 20*minute + last*1000
			for at := end % pace; at <= end; at += pace {
				samples = append(samples, sample{t: at, v: 1})
			}
			samples = append(samples, sample{t: end + pace, v: math.Float64frombits(value.StaleNaN)})
			_, out := fold(t, encode(t, samples, false, false), 0, 2*hour, nil)
			for i, r := range ladder {
				c := readChunks(t, out[i], r)
				n := c.Len() - 1
				if end%r == 0 {
					require.False(t, c.Ended[n])
					continue
				}
				msg := fmt.Sprintf("resolution %d, pace %d, last %d", r, pace, end)
				require.True(t, c.Ended[n], msg)
				require.GreaterOrEqual(t, c.Gone[n], end+pace, msg)
				require.LessOrEqual(t, c.Gone[n], max(windowEnd(end, r), end+5*minute), msg)
			}
		}
	}
}

// The last value of gauges is exact, and their rises are no less than nothing.
func TestColumnsOfGaugeHistograms(t *testing.T) {
	const start, end = 19_000 * day, 19_000*day + 30*hour
	for seed := range uint64(20) {
		samples := randomSeries(rand.New(rand.NewPCG(seed, 17)), "gauge histogram", 2000, start, end)
		for i, chunks := range foldBlocks(t, samples, start, 2*hour, end, seed%2 == 0) {
			_, joined := join(t, ladder[i], chunks, start, end)
			require.Less(t, len(joined), len(chunks))
			for _, chunks := range [][]AggrChunk{chunks, joined} {
				c := readChunks(t, chunks, ladder[i])
				at := 0
				for k, end := range c.End {
					var last *histogram.FloatHistogram
					for ; at < len(samples) && samples[at].t <= end; at++ {
						if !samples[at].stale() {
							last = samples[at].h
						}
					}
					require.NotNil(t, last)
					require.Equal(t, histogram.GaugeType, c.HistLast[k].CounterResetHint)
					requireSameHistogram(t, last, c.HistLast[k], fmt.Sprint("point at ", end))
					for it := c.HistInc[k].AllBucketIterator(); it.Next(); {
						require.GreaterOrEqual(t, it.At().Count, 0.0)
					}
				}
			}
		}
	}
}

// A sum loses nothing to the order of its samples, within a window and between them.
func TestSumsAreCompensated(t *testing.T) {
	for _, pace := range []int64{1000, 61_000} {
		samples := []sample{{t: pace, v: 1e17}}
		for i := range int64(40) {
			samples = append(samples, sample{t: (i + 2) * pace, v: 0.1})
		}
		samples = append(samples, sample{t: 42 * pace, v: -1e17})
		_, out := fold(t, encode(t, samples, false, false), 0, 2*hour, nil)
		c := readChunks(t, out[1], hour)
		require.Len(t, c.Sum, 1)
		require.InDelta(t, 4.0, c.Sum[0], 1e-12)
	}
	huge := math.MaxFloat64
	for _, vs := range [][3]float64{{huge, -huge, 1}, {-huge, huge, huge}, {huge, huge, -huge}, {math.Inf(1), 1, 2}, {math.Inf(1), math.Inf(-1), 2}} {
		samples := []sample{{t: 1, v: vs[0]}, {t: 2, v: vs[1]}, {t: 3, v: vs[2]}}
		_, out := fold(t, encode(t, samples, false, false), 0, 2*hour, nil)
		want := vs[0] + vs[1] + vs[2]
		if want != want {
			want = math.NaN()
		}
		require.Equal(t, math.Float64bits(want), math.Float64bits(readChunks(t, out[0], 5*minute).Sum[0]), "sum of %g", vs)
	}
}
