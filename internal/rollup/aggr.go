package rollup

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// EncAggr is the encoding byte of aggregate chunks, the one Thanos uses.
const EncAggr = chunkenc.Encoding(0xff)

// Aggregate names a part of an [AggrChunk].
type Aggregate uint8

// The aggregates, numbered in the order of their parts.
const (
	Count Aggregate = iota
	Sum
	Min
	Max
	Counter
	numAggregates
)

// String returns the name Thanos gives the aggregate.
func (a Aggregate) String() string {
	if a >= numAggregates {
		return fmt.Sprintf("aggregate %d", uint8(a))
	}
	return [numAggregates]string{"count", "sum", "min", "max", "counter"}[a]
}

// ErrNoAggregate is returned by [AggrChunk.Part] when the chunk leaves the
// aggregate out: histograms have no min and max.
var ErrNoAggregate = errors.New("aggregate chunk has no such part")

// AggrChunk is the data of an aggregate chunk, without the encoding byte, length
// and checksum that frame it in a segment file. It is a [chunkenc.Chunk] that
// cannot be appended to and has no samples of its own: read its parts.
type AggrChunk []byte

var errNoSamples = errors.New("an aggregate chunk has parts, not samples")

// Part finds one aggregate's chunk. The data is a slice of c. The error is
// [ErrNoAggregate], or says what is wrong with the bytes.
func (c AggrChunk) Part(a Aggregate) (enc chunkenc.Encoding, data []byte, err error) {
	if a >= numAggregates {
		return 0, nil, fmt.Errorf("%w: %s", ErrNoAggregate, a)
	}
	rest := []byte(c)
	for p := Count; ; p++ {
		size, n := binary.Uvarint(rest)
		if n <= 0 {
			return 0, nil, fmt.Errorf("aggregate chunk of %d bytes: no length of part %s at byte %d", len(c), p, len(c)-len(rest))
		}
		rest = rest[n:]
		if size == 0 {
			if p == a {
				return 0, nil, ErrNoAggregate
			}
			continue
		}
		if size >= uint64(len(rest)) { // the encoding byte is not in the size
			return 0, nil, fmt.Errorf("aggregate chunk of %d bytes: part %s at byte %d claims %d bytes", len(c), p, len(c)-len(rest), size)
		}
		if p == a {
			return chunkenc.Encoding(rest[0]), rest[1 : 1+size : 1+size], nil
		}
		rest = rest[1+size:]
	}
}

// appendPart appends the next part; the first call writes [Count]. Empty data
// leaves the aggregate out.
func appendPart(dst []byte, enc chunkenc.Encoding, data []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(data)))
	if len(data) == 0 {
		return dst
	}
	dst = append(dst, byte(enc))
	return append(dst, data...)
}

// Bytes returns the chunk's data, not a copy.
func (c AggrChunk) Bytes() []byte { return c }

// Encoding returns [EncAggr].
func (AggrChunk) Encoding() chunkenc.Encoding { return EncAggr }

// NumSamples returns the number of points, 0 for a chunk without counts.
func (c AggrChunk) NumSamples() int {
	_, data, err := c.Part(Count)
	if err != nil || len(data) < 2 {
		return 0
	}
	return int(binary.BigEndian.Uint16(data))
}

// Appender returns an error.
func (AggrChunk) Appender() (chunkenc.Appender, error) { return nil, errNoSamples }

// Iterator returns an iterator that is at its end with an error.
func (AggrChunk) Iterator(chunkenc.Iterator) chunkenc.Iterator {
	return noSamples{chunkenc.NewNopIterator()}
}

// Compact does nothing.
func (AggrChunk) Compact() {}

// Reset makes c the chunk with the given data.
func (c *AggrChunk) Reset(data []byte) { *c = data }

type noSamples struct{ chunkenc.Iterator }

func (noSamples) Err() error { return errNoSamples }
