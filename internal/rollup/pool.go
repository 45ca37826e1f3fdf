package rollup

import "github.com/prometheus/prometheus/tsdb/chunkenc"

// NewPool returns a pool that knows [EncAggr] and leaves the other encodings to
// [chunkenc.NewPool]. Give it to whatever opens blocks of rollups with the TSDB's
// own readers, which refuse the encoding otherwise.
func NewPool() chunkenc.Pool { return pool{chunkenc.NewPool()} }

type pool struct{ samples chunkenc.Pool }

// Get returns a chunk over b.
func (p pool) Get(e chunkenc.Encoding, b []byte) (chunkenc.Chunk, error) {
	if e == EncAggr {
		c := AggrChunk(b)
		return &c, nil
	}
	return p.samples.Get(e, b)
}

// Put takes a chunk back. An aggregate chunk is a slice header and not kept.
func (p pool) Put(c chunkenc.Chunk) error {
	if c.Encoding() == EncAggr {
		return nil
	}
	return p.samples.Put(c)
}
