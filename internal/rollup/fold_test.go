package rollup

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/stretchr/testify/require"
)

var ladder = []int64{5 * minute, hour}

// fold folds raw chunks as one series of a block and reads the points back.
func fold(t testing.TB, chunks []rawChunk, mint, maxt int64, deleted tombstones.Intervals) (points [][]point, out [][]AggrChunk) {
	t.Helper()
	points, out = make([][]point, len(ladder)), make([][]AggrChunk, len(ladder))
	f, err := NewFolder(ladder, func(rung int, mint, maxt int64, c AggrChunk) error {
		if n := len(points[rung]); n > 0 {
			require.Greater(t, mint, points[rung][n-1].end, "chunks overlap")
		}
		points[rung] = append(points[rung], decode(t, c, mint, maxt)...)
		out[rung] = append(out[rung], append(AggrChunk(nil), c...))
		return nil
	})
	require.NoError(t, err)
	f.Begin(mint, maxt, ^uint64(0))
	for _, c := range chunks {
		require.NoError(t, f.Fold(c.enc, c.data, deleted))
	}
	require.NoError(t, f.End())
	return points, out
}

func requireClose(t testing.TB, want, got, scale float64, msg string) {
	t.Helper()
	if math.Float64bits(want) == math.Float64bits(got) || math.IsNaN(want) && math.IsNaN(got) || want == got {
		return
	}
	require.InDelta(t, want, got, 1e-12*(scale+math.Abs(want)), msg)
}

// requireNaive compares points with what their samples say.
func requireNaive(t testing.TB, want []naivePoint, got []point) {
	t.Helper()
	require.Equal(t, len(want), len(got), "points")
	for i, w := range want {
		g := got[i]
		msg := fmt.Sprintf("point %d at %d", i, w.end)
		require.Equal(t, w.end, g.end, msg)
		require.Equal(t, w.kind, g.kind, msg)
		require.Equal(t, float64(len(w.samples)), g.count, msg)
		if w.kind != kindFloat {
			requireNaiveHistogram(t, w, g, msg)
			continue
		}
		_, sum, least, most := w.aggregates()
		requireClose(t, sum, g.sum, 1e6, msg+" sum")
		requireClose(t, least, g.min, 0, msg+" min")
		requireClose(t, most, g.max, 0, msg+" max")
	}
}

func requireNaiveHistogram(t testing.TB, w naivePoint, g point, msg string) {
	t.Helper()
	sum := w.samples[0].h.Copy()
	for _, s := range w.samples[1:] {
		var err error
		sum, _, _, err = sum.Add(s.h)
		require.NoError(t, err)
	}
	requireSameHistogram(t, sum, g.histSum, msg+" sum")
	requireSameHistogram(t, w.samples[len(w.samples)-1].h, g.histCounter, msg+" counter")
	if w.kind == kindHistogram {
		if w.reset {
			require.True(t, g.firstInChunk, msg)
			require.Equal(t, histogram.CounterReset, g.hint, msg)
		} else {
			require.NotEqual(t, histogram.CounterReset, g.hint, msg)
		}
	}
}

func requireSameHistogram(t testing.TB, want, got *histogram.FloatHistogram, msg string) {
	t.Helper()
	want, got = want.Copy().Compact(0), got.Copy().Compact(0)
	require.True(t, want.Equals(got), "%s:\nwant %s\ngot  %s", msg, want, got)
}

// requireRises checks that what readers make of the counter parts, chunk by chunk,
// is what the numbers among the samples rose, point by point and in total.
func requireRises(t testing.TB, samples []sample, points []point) {
	t.Helper()
	i, last := 0, math.NaN() // of the samples
	prev, seen := math.NaN(), math.NaN()
	for k, p := range points {
		var want, got float64
		for ; i < len(samples) && samples[i].t <= p.end; i++ {
			s := samples[i]
			if s.h != nil || s.stale() || math.IsNaN(s.v) {
				continue
			}
			want += counterRise(last, s.v)
			last = s.v
		}
		if p.kind != kindFloat {
			continue
		}
		if p.firstInChunk {
			got = counterRise(seen, p.first) + p.counter - p.first
		} else {
			got = p.counter - prev
		}
		if math.IsNaN(p.first) {
			got = 0
		} else {
			prev, seen = p.counter, p.last
		}
		requireClose(t, want, got, 1e3, fmt.Sprintf("rise of point %d at %d", k, p.end))
	}
}

// counterRise is what a counter rose from a to b; the first value of all is no rise.
func counterRise(a, b float64) float64 {
	switch {
	case math.IsNaN(a) || math.IsNaN(b):
		return 0
	case b < a:
		return b
	case a == b:
		return 0
	}
	return b - a
}

func TestFoldIsWhatTheSamplesSay(t *testing.T) {
	const start = 19_000 * day
	for _, what := range seriesKinds {
		t.Run(what, func(t *testing.T) {
			for seed := range uint64(60) {
				r := rand.New(rand.NewPCG(seed, 11))
				mint := start - []int64{0, hour, 7 * minute, 1}[seed%4]
				maxt := mint + []int64{2 * hour, 30 * hour, 2*hour + 13, 47 * minute}[seed/4%4]
				samples := randomSeries(r, what, 1500, mint, maxt)
				chunks := encode(t, samples, seed%2 == 0, seed%3 == 0)
				points, _ := fold(t, chunks, mint, maxt, nil)
				for i, r := range ladder {
					requireNaive(t, naive(samples, mint, maxt, r), points[i])
					if what != "odd" {
						requireRises(t, samples, points[i])
					}
				}
			}
		})
	}
}

// thanosTotal is the total rise that Thanos' convention gives for the counter parts of
// chunks in time order: a value at a later time counts what it is above the last, or
// whole if it is below; a value at the same time only tells what the last one truly was.
func thanosTotal(t testing.TB, chunks []AggrChunk) float64 {
	var total, last float64
	lastT, begun := int64(0), false
	for _, c := range chunks {
		enc, data, err := c.Part(Counter)
		require.NoError(t, err)
		chunk, err := chunkenc.FromData(enc, data)
		require.NoError(t, err)
		for it := chunk.Iterator(nil); it.Next() != chunkenc.ValNone; {
			at, v := it.At()
			switch {
			case math.IsNaN(v):
				continue
			case !begun:
				begun = true
			case at > lastT:
				total += counterRise(last, v)
			case at < lastT:
				continue
			}
			lastT, last = at, v
		}
	}
	return total
}

func TestThanosCountsTheTrueRise(t *testing.T) {
	const start, end = 19_000 * day, 19_000*day + 40*hour
	for _, what := range []string{"counter", "gauge", "late number"} {
		for seed := range uint64(30) {
			r := rand.New(rand.NewPCG(seed, 13))
			samples := randomSeries(r, what, 8000, start, end)
			want, last := 0.0, math.NaN()
			for _, s := range samples {
				if !math.IsNaN(s.v) {
					want += counterRise(last, s.v)
					last = s.v
				}
			}
			for i, chunks := range foldBlocks(t, samples, start, 2*hour, end, false) {
				if what == "gauge" {
					// Below zero, a fall's whole value is no rise; the chunks agree by points only.
					continue
				}
				require.InEpsilon(t, 1+want, 1+thanosTotal(t, chunks), 1e-12)
				_, joined := join(t, ladder[i], chunks, start, end)
				require.InEpsilon(t, 1+want, 1+thanosTotal(t, joined), 1e-12)
			}
		}
	}
}

func TestFoldInfinity(t *testing.T) {
	const start = 19_000 * day
	at := func(w int64, vs ...float64) (out []sample) {
		for i, v := range vs {
			out = append(out, sample{t: start + w*5*minute + 1 + int64(i), v: v})
		}
		return out
	}
	inf := math.Inf(1)
	samples := slices.Concat(at(0, 1, 2), at(1, 3, inf), at(2, 3, 4), at(3, 7), at(4, 8, inf, 5), at(5, 9), at(6, inf), at(7, inf, inf), at(8, 4))
	points, _ := fold(t, encode(t, samples, false, false), start, start+hour, nil)
	requireNaive(t, naive(samples, start, start+hour, 5*minute), points[0])
	var rises []float64
	last, prev := math.NaN(), 0.0
	for i, p := range points[0] {
		if p.firstInChunk {
			rises = append(rises, counterRise(last, p.first)+counterRise(p.first, p.counter))
		} else {
			rises = append(rises, counterRise(prev, p.counter))
		}
		prev = p.counter
		if i+1 == len(points[0]) || points[0][i+1].firstInChunk {
			last = p.last
		}
	}
	require.Equal(t, []float64{1, inf, 4, 3, inf, 4, inf, 0, 4}, rises)
}

func TestFoldPassesOverDeletedSamples(t *testing.T) {
	const start = 19_000 * day
	for _, what := range seriesKinds {
		for seed := range uint64(20) {
			r := rand.New(rand.NewPCG(seed, 14))
			samples := randomSeries(r, what, 1500, start, start+6*hour)
			deleted := tombstones.Intervals{}
			for at := int64(start); at < start+6*hour; at += 2 * minute {
				if r.IntN(3) == 0 {
					deleted = deleted.Add(tombstones.Interval{Mint: at, Maxt: at + r.Int64N(10*minute)})
				}
			}
			var left []sample
			for _, s := range samples {
				if !(tombstones.Interval{Mint: s.t, Maxt: s.t}).IsSubrange(deleted) {
					left = append(left, s)
				}
			}
			points, _ := fold(t, encode(t, samples, false, false), start, start+6*hour, deleted)
			for i, r := range ladder {
				requireNaive(t, naive(left, start, start+6*hour, r), points[i])
			}
		}
	}
}

func TestFoldOnlyWantedRungs(t *testing.T) {
	const start = 19_000 * day
	samples := randomSeries(rand.New(rand.NewPCG(1, 15)), "counter", 1500, start, start+6*hour)
	chunks := encode(t, samples, false, false)
	both, _ := fold(t, chunks, start, start+6*hour, nil)
	for mask := range uint64(4) {
		got := map[int][]point{}
		f, err := NewFolder(ladder, func(rung int, mint, maxt int64, c AggrChunk) error {
			got[rung] = append(got[rung], decode(t, c, mint, maxt)...)
			return nil
		})
		require.NoError(t, err)
		f.Begin(start, start+6*hour, mask)
		for _, c := range chunks {
			require.NoError(t, f.Fold(c.enc, c.data, nil))
		}
		require.NoError(t, f.End())
		for rung := range ladder {
			if mask>>rung&1 == 0 {
				require.Empty(t, got[rung])
				continue
			}
			require.Len(t, got[rung], len(both[rung]))
			for i, w := range both[rung] {
				require.Equal(t, w.end, got[rung][i].end)
				require.Equal(t, w.counter, got[rung][i].counter)
			}
		}
	}
}

func TestNewFolderRefuses(t *testing.T) {
	for want, resolutions := range map[string][]int64{
		"got 0 resolutions": {}, "want more than 0": {0}, "no multiple of 300000 ms": {300_000, 400_000},
		"no multiple of 3600000 ms": {3_600_000, 300_000},
	} {
		_, err := NewFolder(resolutions, nil)
		require.ErrorContains(t, err, want)
	}
}

func TestFoldErrors(t *testing.T) {
	good := xorData(t, []int64{1, 2, 3}, []float64{1, 2, 3})
	f, err := NewFolder(ladder, func(int, int64, int64, AggrChunk) error { return errors.New("disk full") })
	require.NoError(t, err)
	for _, c := range []struct {
		enc  chunkenc.Encoding
		data []byte
		want string
	}{
		{chunkenc.EncXOR, good, "fold chunk 2 of the series (encoding 1, "},
		{chunkenc.EncXOR, good, "sample at 1 after one at 3"},
		{chunkenc.EncXOR, xorData(t, []int64{4, 5, 6}, []float64{1, 2, 3})[:12], "sample 2 of 3: the data ends within a sample"},
		{chunkenc.EncHistogram, []byte{0}, "1 bytes are less than a chunk's header"},
		{chunkenc.EncFloatHistogram, []byte{0, 1, 0, 0xff}, "histogram layout is cut short"},
		{EncAggr, good, "encoding is not one of samples"},
	} {
		f.Begin(0, 1000, 1)
		require.NoError(t, f.Fold(chunkenc.EncXOR, good, nil))
		require.ErrorContains(t, f.Fold(c.enc, c.data, nil), c.want)
	}
	f.Begin(0, 1000, 1)
	require.NoError(t, f.Fold(chunkenc.EncXOR, good, nil))
	require.ErrorContains(t, f.End(), "disk full")
	require.EqualValues(t, 3*7+1, f.Samples()) // one before the cut
}
