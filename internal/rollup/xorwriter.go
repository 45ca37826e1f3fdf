package rollup

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// xorWriter encodes samples as [chunkenc.EncXOR] does, bit for bit, into a buffer
// it keeps from chunk to chunk.
//
// Why: chunkenc's appender writes a bit or a byte at a time and allocates a chunk
// each; five of them a point cost more than folding the samples behind it.
type xorWriter struct {
	buf      []byte // header and whole words
	acc      uint64 // bits not yet in buf, from the top
	free     uint   // bits of acc not used, 1 to 64
	n        int    // samples
	t        int64
	delta    uint64
	v        uint64
	leading  uint // of the XOR window; noWindow before the first
	trailing uint
}

const noWindow = 0xff

func (w *xorWriter) reset() {
	w.buf = append(w.buf[:0], 0, 0)
	w.acc, w.free, w.n = 0, 64, 0
	w.t, w.delta, w.v = 0, 0, 0
	w.leading, w.trailing = noWindow, 0
}

// put appends the low n bits of b, 1 to 64; the others must be zero.
func (w *xorWriter) put(b uint64, n uint) {
	if n < w.free {
		w.free -= n
		w.acc |= b << w.free
		return
	}
	n -= w.free
	w.buf = binary.BigEndian.AppendUint64(w.buf, w.acc|b>>n)
	w.free = 64 - n
	w.acc = b << w.free // nothing for a shift of 64
}

// size is what finish will return, in bytes.
func (w *xorWriter) size() int { return len(w.buf) + int(64-w.free+7)/8 }

// finish returns the chunk's data, valid until the next reset. Nothing may be
// appended before that.
func (w *xorWriter) finish() []byte {
	binary.BigEndian.PutUint16(w.buf, uint16(w.n))
	var last [8]byte
	binary.BigEndian.PutUint64(last[:], w.acc)
	w.buf = append(w.buf, last[:(64-w.free+7)/8]...)
	return w.buf
}

// append appends a sample. A chunk holds at most 65535; the callers stop long before.
func (w *xorWriter) append(t int64, v float64) {
	switch w.n {
	case 0:
		w.varint(uint64(t)<<1 ^ uint64(t>>63))
		w.put(math.Float64bits(v), 64)
		w.v = math.Float64bits(v)
	case 1:
		w.delta = uint64(t - w.t)
		w.varint(w.delta)
		w.value(math.Float64bits(v), 0, 0)
	default:
		delta := uint64(t - w.t)
		code, n := xorTimeCode(int64(delta - w.delta))
		if n == 4+64 {
			w.put(0b1111, 4)
			w.put(delta-w.delta, 64)
			code, n = 0, 0
		}
		w.delta = delta
		w.value(math.Float64bits(v), code, n)
	}
	w.t = t
	w.n++
}

func (w *xorWriter) varint(u uint64) {
	for ; u >= 0x80; u >>= 7 {
		w.put(u&0x7f|0x80, 8)
	}
	w.put(u, 8)
}

// value appends n bits of code, at most 24, and v's difference to the value before.
func (w *xorWriter) value(v, code uint64, n uint) {
	x := v ^ w.v
	w.v = v
	if x == 0 {
		w.put(code<<1, n+1)
		return
	}
	leading := min(uint(bits.LeadingZeros64(x)), 31)
	trailing := uint(bits.TrailingZeros64(x))
	if w.leading != noWindow && leading >= w.leading && trailing >= w.trailing {
		w.put(code<<2|0b10, n+2)
		w.put(x>>w.trailing, 64-w.leading-w.trailing)
		return
	}
	w.leading, w.trailing = leading, trailing
	width := 64 - leading - trailing
	w.put(code<<13|0b11<<11|uint64(leading)<<6|uint64(width&63), n+13)
	w.put(x>>trailing, width)
}

// xorTimeCode returns a delta of deltas' bits and their number, 68 when the
// delta must follow whole.
func xorTimeCode(dod int64) (code uint64, n uint) {
	switch {
	case dod == 0:
		return 0, 1
	case -(1<<13-1) <= dod && dod <= 1<<13:
		return 0b10<<14 | uint64(dod)&(1<<14-1), 2 + 14
	case -(1<<16-1) <= dod && dod <= 1<<16:
		return 0b110<<17 | uint64(dod)&(1<<17-1), 3 + 17
	case -(1<<19-1) <= dod && dod <= 1<<19:
		return 0b1110<<20 | uint64(dod)&(1<<20-1), 4 + 20
	}
	return 0, 4 + 64
}
