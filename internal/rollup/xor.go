package rollup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// XOR decodes the data of chunks of encoding [chunkenc.EncXOR], ours and the
// TSDB's.
//
// Why:   [chunkenc]'s iterator takes a call or two a sample and keeps its state in
// memory between them; this one loads 64 bits wherever the next sample begins.
// Owns:  nothing; the data is borrowed until the next Reset.
// Holds: it never reads beside the data, and any data gives samples or an error.
// Cost:  no allocation; BenchmarkXOR has it beside chunkenc's.
//
// Use either Read, or Next and At, between two calls of Reset. The zero value is
// an empty chunk.
type XOR struct {
	data  []byte
	end   uint // bits that are there
	total int  // samples, by the header
	err   error
	cursor

	// The last samples are decoded from a copy with zeros behind, so that loads
	// need no care for the end.
	inTail bool
	tail   [tailBytes]byte

	at, have int
	ts       [nextBatch]int64
	vs       [nextBatch]float64
}

// cursor is a place between two samples.
type cursor struct {
	read  int  // samples
	pos   uint // of the next bit
	t     int64
	delta uint64
	v     uint64
	shift uint // trailing zeros of the current XOR window
	width uint // its bits, 1 to 64
}

const (
	xorHeader = 2 // bytes: the number of samples, big-endian
	// maxSample is the most bytes the loads of one sample can touch, counted from the
	// byte of its first bit: 4+64 bits of time, 13 of control and 64 of value, begun
	// at any bit, the last of them loaded with the 8 bytes around it.
	maxSample = (7+4+64+13+64)/8 + 8 + 1
	// tailBytes holds what a sample that starts within maxSample of the end touches.
	tailBytes = 2 * maxSample
	// nextBatch is how many samples Next decodes at a time: enough to make the call
	// cheap, few enough that reading one sample is not dear; unmeasured.
	nextBatch = 16
)

var errXORShort = errors.New("the data ends within a sample")

// Reset starts reading the data of another chunk.
func (x *XOR) Reset(data []byte) {
	x.data, x.end, x.total, x.err = data, uint(len(data))*8, 0, nil
	x.cursor = cursor{pos: xorHeader * 8, width: 64}
	x.inTail = false
	x.at, x.have = 0, 0
	if len(data) < xorHeader {
		x.err = fmt.Errorf("xor chunk of %d bytes has no header", len(data))
		return
	}
	x.total = int(binary.BigEndian.Uint16(data))
}

// Len returns how many samples the chunk claims to have.
func (x *XOR) Len() int { return x.total }

// Err returns why reading ended before all samples were read, or nil.
func (x *XOR) Err() error { return x.err }

// Next moves to the next sample, or returns false at the end or at an error.
func (x *XOR) Next() bool {
	if x.at+1 < x.have {
		x.at++
		return true
	}
	x.at, x.have = 0, x.Read(x.ts[:], x.vs[:])
	return x.have > 0
}

// At returns the current sample's time, in Unix milliseconds, and value.
func (x *XOR) At() (int64, float64) { return x.ts[x.at], x.vs[x.at] }

// Read decodes as many samples as both slices hold and returns how many, fewer
// only at the chunk's end or at an error.
func (x *XOR) Read(ts []int64, vs []float64) int {
	n := min(len(ts), len(vs), x.total-x.read)
	if x.err != nil || n <= 0 {
		return 0
	}
	done := 0
	for ; x.read < 2 && done < n; done++ {
		if !x.readHead() {
			return done
		}
		ts[done], vs[done] = x.t, math.Float64frombits(x.v)
	}
	ts, vs = ts[:n], vs[:n]
	if !x.inTail {
		done = x.readBody(x.data, ts, vs, done)
		if done == n {
			return n
		}
		x.enterTail()
	}
	return x.readTail(ts, vs, done)
}

// readHead reads the first or second sample, which have whole times or deltas.
func (x *XOR) readHead() bool {
	if x.read == 0 {
		u, n := binary.Uvarint(x.data[x.pos/8:])
		rest := x.data[min(len(x.data), xorHeader+max(n, 0)):]
		if n <= 0 || len(rest) < 8 {
			return x.fail()
		}
		x.t = int64(u>>1) ^ -int64(u&1)
		x.v = binary.BigEndian.Uint64(rest)
		x.pos += uint(n+8) * 8
		x.read = 1
		return true
	}
	u, n := binary.Uvarint(x.data[x.pos/8:])
	if n <= 0 {
		return x.fail()
	}
	x.delta = u
	x.t += int64(u)
	x.pos += uint(n) * 8
	// The second value's bits are decoded by the common code, with a time that
	// is made to stand still.
	return x.readSecond()
}

// readSecond reads the value of the second sample.
func (x *XOR) readSecond() bool {
	var buf [maxSample]byte
	copy(buf[:], x.data[x.pos/8:])
	w := binary.BigEndian.Uint64(buf[:])
	switch {
	case w>>63 == 0:
		x.pos++
	case w>>62 == 0b10:
		x.v ^= bitsAt(buf[:], 2, x.width) << x.shift
		x.pos += 2 + x.width
	default:
		x.window(w)
		x.v ^= bitsAt(buf[:], 13, x.width) << x.shift
		x.pos += 13 + x.width
	}
	if x.pos > x.end {
		return x.fail()
	}
	x.read = 2
	return true
}

// window takes the XOR window from the 13 control bits at the top of w.
func (x *XOR) window(w uint64) { x.width, x.shift = xorWindow(w) }

func xorWindow(w uint64) (width, shift uint) {
	leading := uint(w>>57) & 31
	width = uint(w>>51) & 63
	if width == 0 {
		width = 64
	}
	// A window that does not fit 64 bits is corrupt. As in chunkenc, the value
	// is then shifted away.
	return width, (64 - leading - width) & 0xff
}

// bitsAt returns n bits, 1 to 64, that begin at bit pos of b. There must be nine
// bytes from where they begin.
func bitsAt(b []byte, pos, n uint) uint64 {
	b = b[pos/8:]
	s := pos & 7
	w := binary.BigEndian.Uint64(b)<<s | uint64(b[8])>>(8-s)
	return w >> (64 - n)
}

// enterTail copies what is left, at most maxSample bytes, before zeros.
func (x *XOR) enterTail() {
	from := min(x.pos/8, uint(len(x.data)))
	x.tail = [tailBytes]byte{}
	copy(x.tail[:], x.data[from:])
	x.pos -= from * 8
	x.end -= from * 8
	x.inTail = true
}

// readTail decodes the last samples. Only where they run into the zeros behind the
// data does it go back and take them one by one, to see how many are whole.
func (x *XOR) readTail(ts []int64, vs []float64, done int) int {
	before := x.cursor
	if n := x.readBody(x.tail[:], ts, vs, done); x.pos <= x.end {
		return n
	}
	for x.cursor = before; ; done++ {
		before = x.cursor
		if x.readBody(x.tail[:], ts[:done+1], vs[:done+1], done); x.pos > x.end {
			x.cursor = before
			x.fail()
			return done
		}
	}
}

func (x *XOR) fail() bool {
	x.err = fmt.Errorf("xor chunk of %d bytes, sample %d of %d: %w", len(x.data), x.read+1, x.total, errXORShort)
	return false
}

// readBody decodes samples ts[done:], those from the third on, as long as a whole
// one is sure to lie within data, and returns how many of ts are there then.
func (x *XOR) readBody(data []byte, ts []int64, vs []float64, done int) int {
	if len(data) < maxSample {
		return done
	}
	var (
		pos   = x.pos
		last  = uint(len(data)-maxSample)*8 + 7 // bit a sample may begin at
		t     = x.t
		delta = x.delta
		v     = x.v
		shift = x.shift
		width = x.width
		first = done
	)
	vs = vs[:len(ts)]
	for done < len(ts) && pos <= last {
		w := binary.BigEndian.Uint64(data[pos>>3:]) << (pos & 7) // 57 bits are good
		if w>>62 == 0 {
			// Two zero bits are a sample like the last, and seldom alone.
			same := min(bits.LeadingZeros64(w|1<<(64-57))/2, len(ts)-done)
			pos += 2 * uint(same)
			f := math.Float64frombits(v)
			for range same {
				t += int64(delta)
				ts[done], vs[done] = t, f
				done++
			}
			continue
		}
		if w>>63 == 0 {
			t += int64(delta)
			w <<= 1
			pos++
		} else {
			dod, n := xorTime(data, w, pos)
			delta += uint64(dod)
			t += int64(delta)
			pos += n
			w = binary.BigEndian.Uint64(data[pos>>3:]) << (pos & 7)
		}
		switch {
		case w>>63 == 0:
			pos++
		case w>>62 == 0b10:
			// 57 good bits, one for the time and two of control leave 54.
			if width <= 54 {
				v ^= (w << 2 >> (64 - width)) << shift
			} else {
				v ^= bitsAt(data, pos+2, width) << shift
			}
			pos += 2 + width
		default:
			width, shift = xorWindow(w)
			if width <= 43 {
				v ^= (w << 13 >> (64 - width)) << shift
			} else {
				v ^= bitsAt(data, pos+13, width) << shift
			}
			pos += 13 + width
		}
		ts[done], vs[done] = t, math.Float64frombits(v)
		done++
	}
	x.pos, x.t, x.delta, x.v, x.shift, x.width = pos, t, delta, v, shift, width
	x.read += done - first
	return done
}

// xorTime reads a delta of deltas that is not zero. w holds the bits from pos on.
func xorTime(data []byte, w uint64, pos uint) (dod int64, n uint) {
	switch {
	case w>>62 == 0b10:
		dod, n = int64(w<<2>>(64-14)), 14
	case w>>61 == 0b110:
		dod, n = int64(w<<3>>(64-17)), 17
	case w>>60 == 0b1110:
		dod, n = int64(w<<4>>(64-20)), 20
	default:
		return int64(bitsAt(data, pos+4, 64)), 4 + 64
	}
	// The range is -(2^(n-1)-1) to 2^(n-1): the middle value is positive.
	if dod > 1<<(n-1) {
		dod -= 1 << n
	}
	return dod, n + [...]uint{14: 2, 17: 3, 20: 4}[n]
}
