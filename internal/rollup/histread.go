package rollup

import (
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// noTime stands for "no sample yet".
const noTime = math.MinInt64

// histReaders opens chunks with chunkenc's iterators, one kept for each encoding.
type histReaders struct {
	chunks [chunkenc.EncFloatHistogramST + 1]chunkenc.Chunk
	its    [chunkenc.EncFloatHistogramST + 1]chunkenc.Iterator
	part   partIterator
}

// open returns an iterator over a histogram part of an aggregate chunk, valid until
// the next call.
func (r *histReaders) open(enc chunkenc.Encoding, data []byte) (chunkenc.Iterator, error) {
	it, err := r.openRaw(enc, data)
	if err != nil {
		return nil, err
	}
	r.part = partIterator{Iterator: it, hint: resetHint(data)}
	return &r.part, nil
}

// partIterator gives the first value the hint in the chunk's head. chunkenc keeps it
// back, for it does not know whether the chunk before is still the one it was
// written after; in an aggregate chunk it tells of the samples, not of a chunk.
type partIterator struct {
	chunkenc.Iterator
	hint histogram.CounterResetHint
	read int
}

func (p *partIterator) Next() chunkenc.ValueType {
	p.read++
	return p.Iterator.Next()
}

func (p *partIterator) AtFloatHistogram(h *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	t, h := p.Iterator.AtFloatHistogram(h)
	if p.read == 1 {
		h.CounterResetHint = p.hint
	}
	return t, h
}

// openRaw returns an iterator over samples, valid until the next call with the same
// encoding. chunkenc believes what the head of the data claims; openRaw looks first.
func (r *histReaders) openRaw(enc chunkenc.Encoding, data []byte) (chunkenc.Iterator, error) {
	if int(enc) >= len(r.chunks) || !chunkenc.IsValidEncoding(enc) {
		return nil, fmt.Errorf("encoding %d is not one of samples", enc)
	}
	if len(data) < histHeader {
		return nil, fmt.Errorf("%d bytes are less than a chunk's header", len(data))
	}
	if enc != chunkenc.EncXOR && enc != chunkenc.EncXOR2 {
		if err := checkLayout(enc, data); err != nil {
			return nil, err
		}
	}
	if r.chunks[enc] == nil {
		c, err := chunkenc.NewEmptyChunk(enc)
		if err != nil {
			return nil, err
		}
		r.chunks[enc] = c
	}
	r.chunks[enc].Reset(data)
	r.its[enc] = r.chunks[enc].Iterator(r.its[enc])
	return r.its[enc], nil
}

var errLayout = errors.New("histogram layout is cut short")

// checkLayout refuses what would hang or crash chunkenc and the histogram arithmetic
// beyond recovering. It bounds what is allocated by the bytes that are there, for
// chunkenc's iterator makes a bucket for each that the spans claim.
func checkLayout(enc chunkenc.Encoding, data []byte) error {
	if data[0] == 0 && data[1] == 0 {
		return nil
	}
	b := bitReader{data: data[histHeader:]}
	if b.take(8) == 255 {
		// [histogram.FloatHistogram.Add] would never end for NaN.
		if z := math.Float64frombits(b.take(64)); !(z >= 0 && z <= math.MaxFloat64) {
			return fmt.Errorf("histogram layout has a zero threshold of %v", z)
		}
	}
	b.varbit() // schema
	var buckets uint64
	for range 2 { // positive and negative
		spans := b.varbit()
		if spans > uint64(len(data))*8 {
			return fmt.Errorf("histogram layout claims %d spans in %d bytes", spans, len(data))
		}
		for i := range spans {
			buckets += uint64(uint32(b.varbit()))
			if offset := int32(b.signed()); offset < 0 && i > 0 {
				return fmt.Errorf("histogram layout has a span with offset %d", offset)
			}
		}
	}
	if b.short {
		return errLayout
	}
	bits := uint64(1) // a count of 0 in an integer histogram
	if enc == chunkenc.EncFloatHistogram || enc == chunkenc.EncFloatHistogramST {
		bits = 64
	}
	if left := uint64(len(b.data))*8 - uint64(b.pos); buckets > left/bits {
		return fmt.Errorf("histogram layout claims %d buckets in %d bytes", buckets, len(data))
	}
	return nil
}

// bitReader reads the variable bits of histogram chunks. Past the end it reads
// zeros and says so.
type bitReader struct {
	data  []byte
	pos   uint
	short bool
}

func (b *bitReader) take(n uint) (v uint64) {
	for ; n > 0; n-- {
		v <<= 1
		if b.pos >= uint(len(b.data))*8 {
			b.short = true
			continue
		}
		v |= uint64(b.data[b.pos/8] >> (7 - b.pos%8) & 1)
		b.pos++
	}
	return v
}

// width reads the unary size class of a number and returns its bits.
func (b *bitReader) width() uint {
	sizes := [...]uint{0, 3, 6, 9, 12, 18, 25, 56, 64}
	class := 0
	for class < len(sizes)-1 && b.take(1) == 1 {
		class++
	}
	return sizes[class]
}

func (b *bitReader) varbit() uint64 { return b.take(b.width()) }

func (b *bitReader) signed() int64 {
	n := b.width()
	v := int64(b.take(n))
	if n > 0 && n < 64 && v > 1<<(n-1) {
		v -= 1 << n
	}
	return v
}
