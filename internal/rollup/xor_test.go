package rollup

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// xorData encodes samples with chunkenc.
func xorData(t testing.TB, ts []int64, vs []float64) []byte {
	t.Helper()
	c := chunkenc.NewXORChunk()
	app, err := c.Appender()
	require.NoError(t, err)
	for i := range ts {
		app.Append(0, ts[i], vs[i])
	}
	return c.Bytes()
}

// shapes are the kinds of float series that tests and benchmarks use.
var shapes = []struct {
	name string
	next func(r *rand.Rand, i int, last float64) float64
}{
	{"constant", func(*rand.Rand, int, float64) float64 { return 1 }},
	{"counter", func(r *rand.Rand, _ int, last float64) float64 { return last + float64(r.IntN(100)) }},
	{"slow_counter", func(r *rand.Rand, _ int, last float64) float64 { return last + float64(r.IntN(8)/6) }},
	{"float_counter", func(r *rand.Rand, _ int, last float64) float64 { return last + r.Float64() }},
	{"gauge", func(r *rand.Rand, _ int, _ float64) float64 { return float64(r.IntN(1000)) }},
	{"float_gauge", func(r *rand.Rand, _ int, last float64) float64 { return 0.9*last + r.NormFloat64() }},
}

// shaped returns n samples at 15 s, each up to jitter ms late.
func shaped(r *rand.Rand, shape, n int, start, jitter int64) (ts []int64, vs []float64) {
	v := float64(r.IntN(1e6))
	for i := range n {
		v = shapes[shape].next(r, i, v)
		t := start + int64(i)*15_000
		if jitter > 0 {
			t += r.Int64N(jitter)
		}
		ts, vs = append(ts, t), append(vs, v)
	}
	return ts, vs
}

// oddities are values that encodings get wrong.
var oddities = []float64{
	0, math.Copysign(0, -1), 1, -1, math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat64,
	math.SmallestNonzeroFloat64, math.Float64frombits(value.StaleNaN), math.Float64frombits(^uint64(0)),
}

func oddSamples(r *rand.Rand, n int) (ts []int64, vs []float64) {
	t := r.Int64() - r.Int64()
	for range n {
		t += int64(r.Uint64() >> r.IntN(64))
		v := oddities[r.IntN(len(oddities))]
		if r.IntN(2) == 0 {
			v = math.Float64frombits(r.Uint64() >> r.IntN(64) << r.IntN(64))
		}
		ts, vs = append(ts, t), append(vs, v)
	}
	return ts, vs
}

func readAll(x *XOR, batch int) (ts []int64, vs []float64) {
	bt, bv := make([]int64, batch), make([]float64, batch)
	for {
		n := x.Read(bt, bv)
		if n == 0 {
			return ts, vs
		}
		ts, vs = append(ts, bt[:n]...), append(vs, bv[:n]...)
	}
}

func requireSameFloats(t testing.TB, want, got []float64) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, math.Float64bits(want[i]), math.Float64bits(got[i]), "value %d: want %v, got %v", i, want[i], got[i])
	}
}

func TestXORReadsAndWritesWhatChunkencDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var x XOR
	var w xorWriter
	for i := range 3000 {
		n := r.IntN(300)
		ts, vs := oddSamples(r, n)
		if i%2 == 0 {
			ts, vs = shaped(r, r.IntN(len(shapes)), n, r.Int64N(1<<42), r.Int64N(3))
		}
		data := xorData(t, ts, vs)

		w.reset()
		for k := range ts {
			w.append(ts[k], vs[k])
			require.LessOrEqual(t, w.size(), len(data))
		}
		require.Equal(t, len(data), w.size())
		require.Equal(t, data, w.finish())

		x.Reset(data)
		gotT, gotV := readAll(&x, 1+r.IntN(100))
		require.NoError(t, x.Err())
		require.True(t, len(ts) == 0 || fmt.Sprint(ts) == fmt.Sprint(gotT))
		requireSameFloats(t, vs, gotV)

		x.Reset(data)
		for k := range ts {
			require.True(t, x.Next())
			gotT, gotV := x.At()
			require.Equal(t, ts[k], gotT)
			require.Equal(t, math.Float64bits(vs[k]), math.Float64bits(gotV))
		}
		require.False(t, x.Next())
		require.NoError(t, x.Err())
	}
}

func TestXORRefusesCutData(t *testing.T) {
	ts, vs := shaped(rand.New(rand.NewPCG(3, 4)), 3, 50, 1e12, 3)
	data := xorData(t, ts, vs)
	var x XOR
	for n := range data {
		x.Reset(bytes.Clone(data[:n:n]))
		got, gotV := readAll(&x, 16)
		require.Error(t, x.Err(), "%d of %d bytes", n, len(data))
		require.Less(t, len(got), len(ts))
		requireSameFloats(t, vs[:len(got)], gotV)
	}
}

func FuzzXOR(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for i := range shapes {
		ts, vs := shaped(r, i, 40, 1e12, 2)
		f.Add(xorData(f, ts, vs))
	}
	f.Add(xorData(f, []int64{math.MinInt64, 0, math.MaxInt64}, []float64{1, 2, math.Inf(1)}))
	f.Add([]byte{0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		var x XOR
		x.Reset(data)
		ts, vs := readAll(&x, 7)
		if len(data) < xorHeader {
			require.Error(t, x.Err())
			return
		}
		// chunkenc may read some bits beside cut data, so of an erroneous chunk only
		// the samples before the error are compared.
		it := (func() chunkenc.Iterator {
			c, err := chunkenc.FromData(chunkenc.EncXOR, data)
			require.NoError(t, err)
			return c.Iterator(nil)
		})()
		for i := range ts {
			require.Equal(t, chunkenc.ValFloat, it.Next(), "sample %d of %d: %v", i, len(ts), it.Err())
			wantT, wantV := it.At()
			require.Equal(t, wantT, ts[i])
			require.Equal(t, math.Float64bits(wantV), math.Float64bits(vs[i]))
		}
		if x.Err() == nil {
			require.Equal(t, chunkenc.ValNone, it.Next())
			require.NoError(t, it.Err())
		}
	})
}

func BenchmarkXOR(b *testing.B) {
	const chunks = 200 // so that branches are not learnt by heart
	for i, s := range shapes {
		r := rand.New(rand.NewPCG(7, 8))
		var data [chunks][]byte
		for k := range data {
			ts, vs := shaped(r, i, 120, 1e12, 0)
			data[k] = xorData(b, ts, vs)
		}
		b.Run("ours/"+s.name, func(b *testing.B) {
			var x XOR
			ts, vs := make([]int64, 256), make([]float64, 256)
			b.ReportAllocs()
			for k := 0; b.Loop(); k++ {
				x.Reset(data[k%chunks])
				if x.Read(ts, vs) != 120 {
					b.Fatal(x.Err())
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/120, "ns/sample")
		})
		b.Run("chunkenc/"+s.name, func(b *testing.B) {
			c := chunkenc.NewXORChunk()
			var it chunkenc.Iterator
			for k := 0; b.Loop(); k++ {
				c.Reset(data[k%chunks])
				it = c.Iterator(it)
				for it.Next() != chunkenc.ValNone {
					_, _ = it.At()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/120, "ns/sample")
		})
	}
}
