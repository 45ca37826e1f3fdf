package rollup

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

// goldenSeries are short enough to be checked by hand against FORMAT.md. A sample a
// minute, from start on, in a block of two hours.
func goldenSeries(start int64) map[string][]sample {
	every := func(n int, f func(i int) sample) (out []sample) {
		for i := range n {
			s := f(i)
			s.t = start + int64(i)*minute
			out = append(out, s)
		}
		return out
	}
	hist := func(n int, hint histogram.CounterResetHint) *histogram.FloatHistogram {
		v := float64(n)
		return &histogram.FloatHistogram{
			CounterResetHint: hint, Schema: 0, ZeroThreshold: 0.001, ZeroCount: v, Count: 4 * v, Sum: 10 * v,
			PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}}, PositiveBuckets: []float64{v, 2 * v},
		}
	}
	stale := math.Float64frombits(value.StaleNaN)
	return map[string][]sample{
		// Up by one, reset at minute 17.
		"counter": every(120, func(i int) sample { return sample{v: float64(i % 17 % 100)} }),
		// NaN until minute 22, infinite at 31, stale at 43, gone at 60.
		"gauge": every(60, func(i int) sample {
			switch {
			case i < 22:
				return sample{v: math.NaN()}
			case i == 31:
				return sample{v: math.Inf(1)}
			case i == 43:
				return sample{v: stale}
			}
			return sample{v: float64(i%5) - 2.5}
		}),
		// Reset at minute 33.
		"histogram": every(66, func(i int) sample {
			return sample{h: hist(i%33+1, histogram.UnknownCounterReset)}
		}),
		"histogram_gauge": every(20, func(i int) sample { return sample{h: hist(i%3+1, histogram.GaugeType)} }),
		"histogram_to_float": every(20, func(i int) sample {
			if i < 8 {
				return sample{h: hist(i+1, histogram.UnknownCounterReset)}
			}
			return sample{v: float64(i)}
		}),
	}
}

func TestGoldenChunks(t *testing.T) {
	const start = 1_700_006_400_000 // a multiple of two hours
	for name, samples := range goldenSeries(start) {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			_, out := fold(t, encode(t, samples, false, false), start, start+2*hour, nil)
			for i, chunks := range out {
				for _, c := range chunks {
					writeGolden(t, &b, ladder[i], c)
				}
			}
			path := filepath.Join("testdata", "golden", name+".txt")
			if *update {
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), b.String(), "run with -update and look at the difference")
		})
	}
}

func writeGolden(t *testing.T, b *strings.Builder, resolution int64, c AggrChunk) {
	fmt.Fprintf(b, "resolution %d, %d points, %d bytes\n", resolution, c.NumSamples(), len(c))
	for a := Count; a <= Counter; a++ {
		enc, data, err := c.Part(a)
		if err != nil {
			require.ErrorIs(t, err, ErrNoAggregate)
			fmt.Fprintf(b, "  %-7s none\n", a)
			continue
		}
		fmt.Fprintf(b, "  %-7s %02x %x\n", a, byte(enc), data)
	}
	_, counts, err := c.Part(Count)
	require.NoError(t, err)
	var x XOR
	x.Reset(counts)
	x.Next()
	first, _ := x.At()
	for _, p := range decode(t, c, goldenMint(t, c, first), lastEnd(t, c)) {
		fmt.Fprintf(b, "  %d: ", p.end)
		switch p.kind {
		case kindFloat:
			fmt.Fprintf(b, "count %v sum %v min %v max %v counter %v (%v at %d to %v)\n", p.count, p.sum, p.min, p.max, p.counter, p.first, p.firstT, p.last)
		default:
			fmt.Fprintf(b, "count %v sum %v counter %v\n", p.count, p.histSum, p.histCounter)
		}
	}
	b.WriteByte('\n')
}

// goldenMint is a chunk's first timestamp: that of the counter's first entry in one of
// floats, else of the first point.
func goldenMint(t *testing.T, c AggrChunk, first int64) int64 {
	if _, _, err := c.Part(Min); err != nil {
		return first
	}
	_, data, err := c.Part(Counter)
	require.NoError(t, err)
	var x XOR
	x.Reset(data)
	require.True(t, x.Next())
	at, _ := x.At()
	return at
}

func lastEnd(t *testing.T, c AggrChunk) (end int64) {
	_, data, err := c.Part(Count)
	require.NoError(t, err)
	var x XOR
	for x.Reset(data); x.Next(); {
		end, _ = x.At()
	}
	return end
}
