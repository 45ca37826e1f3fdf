package rollup

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/stretchr/testify/require"
)

// join joins the chunks of blocks that follow each other and reads the points back.
func join(t testing.TB, resolution int64, chunks []AggrChunk, mint, maxt int64) (points []point, out []AggrChunk) {
	t.Helper()
	j := NewJoiner(resolution, func(mint, maxt int64, c AggrChunk) error {
		if n := len(points); n > 0 {
			require.Greater(t, mint, points[n-1].end, "chunks overlap")
		}
		points = append(points, decode(t, c, mint, maxt)...)
		out = append(out, append(AggrChunk(nil), c...))
		return nil
	})
	j.Begin(mint, maxt)
	for _, c := range chunks {
		require.NoError(t, j.Join(c))
	}
	require.NoError(t, j.End())
	return points, out
}

// foldBlocks folds samples as blocks of the given length each and returns the
// chunks of all, a slice a rung.
func foldBlocks(t testing.TB, samples []sample, start, length, end int64, integers bool) (out [][]AggrChunk) {
	t.Helper()
	out = make([][]AggrChunk, len(ladder))
	for mint := start; mint < end; mint += length {
		var in []sample
		for _, s := range samples {
			if s.t >= mint && s.t < mint+length {
				in = append(in, s)
			}
		}
		_, chunks := fold(t, encode(t, in, integers, false), mint, mint+length, nil)
		for i := range out {
			out[i] = append(out[i], chunks[i]...)
		}
	}
	return out
}

// requireWindows checks that the points of each window are together what its samples
// say, however many there are.
func requireWindows(t testing.TB, samples []sample, points []point, r int64) {
	t.Helper()
	type key struct {
		end  int64
		kind kind
	}
	want, got := map[key]*naivePoint{}, map[key]*point{}
	for _, s := range samples {
		if s.stale() {
			continue
		}
		k := key{windowEnd(s.t, r), s.kind()}
		if want[k] == nil {
			want[k] = &naivePoint{}
		}
		want[k].samples = append(want[k].samples, s)
	}
	for _, p := range points {
		k := key{windowEnd(p.end, r), p.kind}
		g := got[k]
		if g == nil {
			got[k] = &p
			continue
		}
		g.count += p.count
		g.sum += p.sum
		g.min, g.max = windowMin(g.min, p.min), -windowMin(-g.max, -p.max)
		if p.kind != kindFloat {
			sum, _, _, err := g.histSum.Copy().Add(p.histSum)
			require.NoError(t, err)
			g.histSum, g.histCounter = sum, p.histCounter
		}
	}
	require.Len(t, got, len(want))
	for k, w := range want {
		g, msg := got[k], fmt.Sprint("window ", k.end)
		require.NotNil(t, g, msg)
		require.Equal(t, float64(len(w.samples)), g.count, msg)
		if k.kind != kindFloat {
			sum := w.samples[0].h.Copy()
			for _, s := range w.samples[1:] {
				var err error
				sum, _, _, err = sum.Add(s.h)
				require.NoError(t, err)
			}
			requireSameHistogram(t, sum, g.histSum, msg)
			continue
		}
		_, sum, least, most := w.aggregates()
		requireClose(t, sum, g.sum, 1e6, msg)
		requireClose(t, least, g.min, 0, msg)
		requireClose(t, most, g.max, 0, msg)
	}
}

func windowMin(a, b float64) float64 {
	if b < a || math.IsNaN(a) {
		return b
	}
	return a
}

// requireHistogramRises checks that the observations a reader counts from point to
// point are those of the samples.
func requireHistogramRises(t testing.TB, samples []sample, points []point) {
	t.Helper()
	var (
		i         int
		last      *histogram.FloatHistogram
		prev      *histogram.FloatHistogram
		want, got float64
	)
	for k, p := range points {
		for ; i < len(samples) && samples[i].t <= p.end; i++ {
			s := samples[i]
			if s.kind() != kindHistogram || s.stale() {
				continue
			}
			if last == nil || !s.h.DetectReset(last) {
				if last != nil {
					want += s.h.Count - last.Count
				}
			} else {
				want += s.h.Count
			}
			last = s.h
		}
		if p.kind != kindHistogram {
			continue
		}
		h := p.histCounter.Copy()
		h.CounterResetHint = histogram.UnknownCounterReset
		switch {
		case p.firstInChunk && p.hint == histogram.CounterReset, prev != nil && h.DetectReset(prev):
			require.True(t, p.firstInChunk, "a reset within a chunk")
			got += h.Count
		case prev != nil:
			got += h.Count - prev.Count
		}
		prev = h
		require.Equal(t, want, got, "rise up to point %d at %d", k, p.end)
	}
}

func TestJoinIsWhatTheSamplesSay(t *testing.T) {
	const start = 19_000 * day
	for _, what := range seriesKinds {
		t.Run(what, func(t *testing.T) {
			for seed := range uint64(20) {
				r := rand.New(rand.NewPCG(seed, 12))
				length := []int64{2 * hour, 90 * minute, 37 * minute}[seed%3]
				end := start + 30*length
				samples := randomSeries(r, what, 12_000, start, end)
				for i, chunks := range foldBlocks(t, samples, start, length, end, seed%2 == 0) {
					points, joined := join(t, ladder[i], chunks, start, end)
					require.LessOrEqual(t, len(joined), len(chunks))
					// Once more, as when merged blocks are merged.
					again, _ := join(t, ladder[i], joined, start, end)
					for _, points := range [][]point{points, again} {
						requireWindows(t, samples, points, ladder[i])
						requireHistogramRises(t, samples, points)
						if what != "odd" {
							requireRises(t, samples, points)
						}
					}
				}
			}
		})
	}
}

// oneAWindow merges the points that share a window where a full chunk ended in it.
func oneAWindow(points []point, r int64) (out []point) {
	for _, p := range points {
		if n := len(out) - 1; n >= 0 && windowEnd(out[n].end, r) == windowEnd(p.end, r) && p.firstInChunk {
			q := &out[n]
			q.end, q.counter = p.end, p.counter
			q.count, q.sum, q.min, q.max = q.count+p.count, q.sum+p.sum, min(q.min, p.min), max(q.max, p.max)
			continue
		}
		out = append(out, p)
	}
	return out
}

// A series without anything out of the ordinary, joined from short blocks, is what
// one long block would have been rolled to, but for where chunks begin.
func TestJoinIsWhatOneBlockWouldBe(t *testing.T) {
	const start, end = 19_000 * day, 19_001 * day
	for shape := range shapes[:3] {
		r := rand.New(rand.NewPCG(21, uint64(shape)))
		ts, vs := shaped(r, shape, int(day/15_000), start, 0) // on the edges
		var samples []sample
		for i := range ts {
			samples = append(samples, sample{t: ts[i], v: vs[i]})
		}
		want, _ := fold(t, encode(t, samples, false, false), start, end, nil)
		for i, chunks := range foldBlocks(t, samples, start, 2*hour, end, false) {
			got, joined := join(t, ladder[i], chunks, start, end)
			got = oneAWindow(got, ladder[i])
			require.Equal(t, len(want[i]), len(got))
			require.LessOrEqual(t, len(joined), len(chunks)/5)
			for k, w := range want[i] {
				g := got[k]
				require.Equal(t, [5]float64{w.count, w.sum, w.min, w.max}, [5]float64{g.count, g.sum, g.min, g.max})
				require.Equal(t, w.end, g.end)
				if k < 200 { // in the first chunk of both
					require.Equal(t, w.counter, g.counter)
				}
			}
		}
	}
}

func TestJoinRefuses(t *testing.T) {
	ts, vs := shaped(rand.New(rand.NewPCG(1, 1)), 1, 120, 19_000*day, 0)
	_, out := fold(t, []rawChunk{{1, xorData(t, ts, vs)}}, 19_000*day, 19_001*day, nil)
	chunk := out[0][0]
	j := NewJoiner(5*minute, func(int64, int64, AggrChunk) error { return nil })

	j.Begin(19_000*day, 19_001*day)
	require.NoError(t, j.Join(chunk))
	require.ErrorContains(t, j.Join(chunk), "join aggregate chunk 2 of the series")

	j.Begin(0, day)
	require.ErrorContains(t, j.Join(chunk), "outside the block's range")

	for n := range chunk {
		j.Begin(19_000*day, 19_001*day)
		require.Error(t, j.Join(chunk[:n:n]))
	}
}
