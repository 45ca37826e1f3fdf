package rollup

import (
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
)

// every15 are samples of a counter every 15 seconds in (after, until], 7 seconds behind
// round times.
func every15(after, until int64) (s []float) {
	for t := after/15_000*15_000 + 7000; t <= until; t += 15_000 {
		if t > after {
			s = append(s, float{t, float64(t / 1000)})
		}
	}
	return s
}

// A point that its block's end cut off is for the rest of its window too, until
// something of the series follows there.
func TestColumnsAtTheEndOfABlock(t *testing.T) {
	const h, m = testCoarse, int64(60_000)
	first := every15(0, 37*m) // as promtool, the block ends with its last sample
	stamp := first[len(first)-1].t
	stale := float{50 * m, math.Float64frombits(value.StaleNaN)}
	for name, c := range map[string]struct {
		then       []float
		from       int64 // of the next block
		raw        bool  // it is read as samples
		unknown    bool  // where the block ends
		start, end []int64
		ended      bool // the first point
		gone       int64
	}{
		"nothing follows":               {start: []int64{0}, end: []int64{h}},
		"nothing is known":              {unknown: true, start: []int64{0}, end: []int64{stamp}, ended: true},
		"the next block goes on":        {then: every15(stamp, h+m), from: stamp + 1, start: []int64{0, stamp, h}, end: []int64{stamp, h, 2 * h}},
		"the next sample is at the end": {then: []float{{h, 9000}}, from: stamp + 1, start: []int64{0, stamp}, end: []int64{stamp, h}},
		"the next is a window later":    {then: every15(h, h+m), from: h, start: []int64{0, h}, end: []int64{h, 2 * h}},
		"a sample in the window":        {then: []float{{stamp + 15_000, 9000}}, raw: true, start: []int64{0, stamp + 15_000}, end: []int64{stamp, stamp + 15_000}},
		"a sample after it":             {then: []float{{h + 7000, 9000}}, raw: true, start: []int64{0, h + 7000}, end: []int64{h, h + 7000}},
		"it goes stale in the window":   {then: []float{stale}, raw: true, start: []int64{0}, end: []int64{stamp}, ended: true, gone: 50 * m},
	} {
		t.Run(name, func(t *testing.T) {
			var cols Columns
			cols.Reset(needAll)
			read := func(s []float, mint, maxt int64) {
				for _, chunk := range rungsOf(t, s, []int64{mint, maxt})[1] {
					require.NoError(t, cols.AppendAggr(chunk, h, math.MinInt64+1, math.MaxInt64))
				}
			}
			if !c.unknown {
				cols.BlockEnd = stamp
			}
			read(first, 0, stamp+1)
			switch {
			case c.raw:
				require.NoError(t, cols.AppendRaw(iterator(t, c.then), stamp, math.MaxInt64))
			case len(c.then) > 0:
				cols.BlockEnd = c.then[len(c.then)-1].t
				read(c.then, c.from, cols.BlockEnd+1)
			}
			require.Equal(t, c.start, cols.Start)
			require.Equal(t, c.end, cols.End)
			require.Equal(t, c.ended, cols.Ended[0])
			if c.gone > 0 {
				require.Equal(t, c.gone, cols.Gone[0])
			}
			count, risen := 0.0, 0.0
			for i := range cols.End {
				count, risen = count+cols.Count[i], risen+cols.Inc[i]
			}
			want := len(first) + len(c.then)
			last := append(first, c.then...)[want-1].v
			if name == "it goes stale in the window" {
				want, last = want-1, first[len(first)-1].v
			}
			require.Equal(t, float64(want), count)
			require.InDelta(t, last-first[0].v, risen, 1e-9)
		})
	}
}

// Where blocks are merged, what their ends cut off is stamped like any other window.
func TestJoinAtTheEndOfABlock(t *testing.T) {
	const h, m = testCoarse, int64(60_000)
	first := every15(0, 37*m)
	stamp := first[len(first)-1].t
	for name, c := range map[string]struct {
		then []float
		maxt int64
		want []int64
	}{
		"nothing follows":             {nil, 5 * h, []int64{h}},
		"the merged block ends there": {nil, 40 * m, []int64{40*m - 1}},
		"the next block goes on":      {every15(stamp, h+m), 5 * h, []int64{h, 2 * h}},
		"a window later":              {every15(3*h, 3*h+m), 5 * h, []int64{h, 4 * h}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []int64
			count := 0.0
			j := NewJoiner(h, func(mint, maxt int64, chunk AggrChunk) error {
				for _, p := range decode(t, append(AggrChunk(nil), chunk...), mint, maxt) {
					got, count = append(got, p.end), count+p.count
				}
				return nil
			})
			j.Begin(0, c.maxt)
			join := func(s []float, mint int64) {
				if len(s) == 0 {
					return
				}
				j.BlockEnd = s[len(s)-1].t
				for _, chunk := range rungsOf(t, s, []int64{mint, j.BlockEnd + 1})[1] {
					require.NoError(t, j.Join(chunk))
				}
			}
			join(first, 0)
			join(c.then, stamp+1)
			require.NoError(t, j.End())
			require.Equal(t, c.want, got)
			require.Equal(t, float64(len(first)+len(c.then)), count)
		})
	}
}
