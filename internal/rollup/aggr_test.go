package rollup

import (
	"bytes"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

func TestAggrChunkParts(t *testing.T) {
	xor := xorData(t, []int64{1, 2}, []float64{3, 4})
	var b []byte
	b = appendPart(b, chunkenc.EncXOR, xor)
	b = appendPart(b, chunkenc.EncFloatHistogram, bytes.Repeat([]byte{7}, 300))
	b = appendPart(b, 0, nil)
	b = appendPart(b, 0, nil)
	b = appendPart(b, chunkenc.EncXOR, []byte{9})
	c := AggrChunk(b)
	require.Equal(t, EncAggr, c.Encoding())
	require.Equal(t, 2, c.NumSamples())

	for a, want := range map[Aggregate]struct {
		enc  chunkenc.Encoding
		data []byte
	}{Count: {chunkenc.EncXOR, xor}, Sum: {chunkenc.EncFloatHistogram, bytes.Repeat([]byte{7}, 300)}, Counter: {chunkenc.EncXOR, []byte{9}}} {
		enc, data, err := c.Part(a)
		require.NoError(t, err)
		require.Equal(t, want.enc, enc)
		require.Equal(t, want.data, data)
		require.Equal(t, len(data), cap(data), "an append would write into the next part")
	}
	for _, a := range []Aggregate{Min, Max, Counter + 1} {
		_, _, err := c.Part(a)
		require.ErrorIs(t, err, ErrNoAggregate)
	}
	for n := range b {
		_, _, err := AggrChunk(b[:n]).Part(Counter)
		require.Error(t, err)
		require.NotErrorIs(t, err, ErrNoAggregate)
		require.LessOrEqual(t, AggrChunk(b[:n]).NumSamples(), 2)
	}

	_, err := c.Appender()
	require.Error(t, err)
	it := c.Iterator(nil)
	require.Equal(t, chunkenc.ValNone, it.Next())
	require.ErrorContains(t, it.Err(), "parts, not samples")
}

func TestPool(t *testing.T) {
	p := NewPool()
	c, err := p.Get(EncAggr, []byte{0, 0, 0, 0, 0})
	require.NoError(t, err)
	require.Equal(t, EncAggr, c.Encoding())
	require.NoError(t, p.Put(c))
	c, err = p.Get(chunkenc.EncXOR, xorData(t, []int64{1}, []float64{2}))
	require.NoError(t, err)
	require.Equal(t, 1, c.NumSamples())
	require.NoError(t, p.Put(c))
	_, err = p.Get(0x77, nil)
	require.Error(t, err)
}
