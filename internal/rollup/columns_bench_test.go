package rollup

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
)

func FuzzColumns(f *testing.F) {
	r := rand.New(rand.NewPCG(4, 4))
	for _, w := range walks {
		for _, chunks := range rungsOf(f, sorted(w.series(r, 0, 2*testCoarse)), []int64{0, 2 * testCoarse}) {
			for _, c := range chunks {
				f.Add([]byte(c), uint8(needAll))
			}
		}
	}
	folder, err := NewFolder([]int64{testFine}, func(_ int, _, _ int64, c AggrChunk) error {
		f.Add([]byte(slices.Clone(c)), uint8(needAll))
		return nil
	})
	require.NoError(f, err)
	for _, hint := range []histogram.CounterResetHint{histogram.UnknownCounterReset, histogram.GaugeType} {
		c := chunkenc.NewFloatHistogramChunk()
		app, err := c.Appender()
		require.NoError(f, err)
		for i := range 10 {
			h := tsdbutil.GenerateTestFloatHistogram(int64(i))
			h.CounterResetHint = hint
			_, _, app, err = app.AppendFloatHistogram(nil, 0, int64(i+1)*60_000, h, true)
			require.NoError(f, err)
		}
		folder.Begin(0, testCoarse, 1)
		require.NoError(f, folder.Fold(c.Encoding(), c.Bytes(), nil))
		require.NoError(f, folder.End())
	}
	f.Fuzz(func(t *testing.T, chunk []byte, need uint8) {
		var c Columns
		c.Reset(Need(need) & needAll)
		if c.AppendAggr(chunk, testFine, 60_000, testCoarse) != nil {
			return
		}
		_ = c.AppendAggr(chunk, testCoarse, 0, 2*testCoarse)
	})
}

func TestColumnsDoNotAllocate(t *testing.T) {
	s, chunks := quarter(t)
	var c Columns
	spans := []Span{{0, 90 * 24 * testCoarse, testFine}}
	for _, need := range []Need{NeedInc, needAll} {
		fill(t, &c, need, s, chunks, spans)
		require.Zero(t, testing.AllocsPerRun(5, func() {
			c.Reset(need)
			for _, chunk := range chunks[0] {
				if err := c.AppendAggr(chunk, testFine, 0, math.MaxInt64); err != nil {
					t.Fatal(err)
				}
			}
		}), "need %d", need)
	}
}

// quarter is 90 days of a counter in blocks of 15 days, rolled up.
func quarter(t testing.TB) ([]float, [2][]AggrChunk) {
	r := rand.New(rand.NewPCG(5, 5))
	var s []float
	v := 0.0
	for at := int64(1000); at < 90*24*testCoarse; at += 60_000 {
		v += math.Floor(r.ExpFloat64() * 100)
		s = append(s, float{at, v})
	}
	var borders []int64
	for d := int64(0); d <= 90; d += 15 {
		borders = append(borders, d*24*testCoarse)
	}
	return s, rungsOf(t, s, borders)
}

func BenchmarkColumns(b *testing.B) {
	_, chunks := quarter(b)
	for name, need := range map[string]Need{"inc": NeedInc, "max": NeedMax, "last": NeedLast, "all": needAll} {
		b.Run(name, func(b *testing.B) {
			var c Columns
			points := 0
			b.ReportAllocs()
			for b.Loop() {
				c.Reset(need)
				for _, chunk := range chunks[0] {
					if err := c.AppendAggr(chunk, testFine, 0, math.MaxInt64); err != nil {
						b.Fatal(err)
					}
				}
				points += c.Len()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(points), "ns/point")
		})
	}
}
