package rollup

import (
	"math"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

const (
	// maxPoints bounds the points of an aggregate chunk: a query decodes whole chunks,
	// and 240 points are 20 hours of 5m. Points of floats take 3 to 36 bytes
	// (BenchmarkFold), so that many stay well below maxChunkBytes.
	maxPoints = 240
	// maxChunkBytes is where a new chunk is started before the next point. Thanos
	// reads 16,000 bytes for a chunk whose size it does not know; a point of floats
	// takes at most 110 more, one of histograms can take some thousand.
	maxChunkBytes = 12_000
)

// floatChunk is an aggregate chunk of floats in the making.
//
// The counter part follows Thanos' convention: the time and value of the first
// sample; then an entry a point, the value the counter would have had it never
// fallen; then the true last value under the last entry's time. Samples that are
// NaN are passed over. So that the first entry is a number, points before a series'
// first number have a chunk of their own, where all entries are NaN.
type floatChunk struct {
	parts  [numAggregates]xorWriter
	points int
	number bool    // the counter part has numbers
	base   float64 // sum of all values the counter fell from
	last   float64 // the counter's true last value
	mint   int64
	maxt   int64
	out    []byte
}

func (c *floatChunk) reset() {
	for i := range c.parts {
		c.parts[i].reset()
	}
	c.points, c.number, c.base, c.last = 0, false, 0, 0
}

func (c *floatChunk) full() bool {
	return c.points >= maxPoints || c.size() > maxChunkBytes
}

func (c *floatChunk) size() (n int) {
	for i := range c.parts {
		n += c.parts[i].size()
	}
	return n
}

// add appends the four plain aggregates of a point; its counter must follow.
func (c *floatChunk) add(end int64, values [Counter]float64) {
	if c.points == 0 {
		c.mint = end
	}
	c.maxt = end
	c.points++
	if first := &c.parts[Count]; first.n >= 2 {
		delta := uint64(end - first.t)
		if code, n := xorTimeCode(int64(delta - first.delta)); n != 4+64 {
			for i, v := range values {
				w := &c.parts[i]
				w.value(math.Float64bits(v), code, n)
				w.t, w.delta = end, delta
				w.n++
			}
			return
		}
	}
	for i, v := range values {
		c.parts[i].append(end, v)
	}
}

// start begins the counter part with the first sample's time and value.
func (c *floatChunk) start(t int64, v float64) {
	c.number, c.base, c.last = !math.IsNaN(v), 0, v
	c.mint = min(c.mint, t)
	c.parts[Counter].append(t, v)
}

// rise appends the counter's value at the last point's end.
func (c *floatChunk) rise() { c.parts[Counter].append(c.maxt, c.base+c.last) }

// finish returns the chunk, valid until the next finish, and begins another one.
func (c *floatChunk) finish() AggrChunk {
	c.parts[Counter].append(c.maxt, c.last)
	c.out = c.out[:0]
	for i := range c.parts {
		c.out = appendPart(c.out, chunkenc.EncXOR, c.parts[i].finish())
	}
	c.reset()
	return c.out
}
