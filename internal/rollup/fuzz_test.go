package rollup

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// FuzzAggrChunk reads and joins any bytes: it may be an error, never a panic.
func FuzzAggrChunk(f *testing.F) {
	const start = 19_000 * day
	for i, what := range seriesKinds {
		samples := randomSeries(rand.New(rand.NewPCG(uint64(i), 31)), what, 300, start, start+4*hour)
		for _, chunks := range foldBlocks(f, samples, start, 4*hour, start+4*hour, false) {
			for _, c := range chunks {
				f.Add([]byte(c))
			}
		}
	}
	f.Add([]byte{0, 0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, data []byte) {
		c := AggrChunk(data)
		_ = c.NumSamples()
		for a := Count; a <= Counter; a++ {
			if _, part, err := c.Part(a); err == nil {
				require.NotEmpty(t, part)
				require.Less(t, len(part), len(data))
			}
		}
		j := NewJoiner(5*minute, func(_, _ int64, c AggrChunk) error {
			for _, a := range []Aggregate{Count, Sum} {
				_, _, err := c.Part(a)
				require.NoError(t, err)
			}
			return nil
		})
		j.Begin(math.MinInt64, math.MaxInt64)
		if j.Join(c) == nil {
			_ = j.Join(c) // in most cases no longer in order
			_ = j.End()
		}
	})
}

// FuzzFold folds any bytes as a chunk of any encoding, after a good one.
func FuzzFold(f *testing.F) {
	const start = 19_000 * day
	for i, what := range seriesKinds {
		samples := randomSeries(rand.New(rand.NewPCG(uint64(i), 32)), what, 100, start, start+4*hour)
		for _, integers := range []bool{false, true} {
			for _, c := range encode(f, samples, integers, i%2 == 0) {
				f.Add(byte(c.enc), c.data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, enc byte, data []byte) {
		folder, err := NewFolder(ladder, func(_ int, mint, maxt int64, c AggrChunk) error {
			decode(t, c, mint, maxt)
			return nil
		})
		require.NoError(t, err)
		folder.Begin(math.MinInt64, math.MaxInt64, 3)
		first := xorData(t, []int64{start - 2, start - 1}, []float64{1, 2})
		require.NoError(t, folder.Fold(chunkenc.EncXOR, first, nil))
		if folder.Fold(chunkenc.Encoding(enc), data, nil) == nil {
			// Sums of corrupt histograms may not be encodable.
			_ = folder.End()
		}
	})
}
