package span

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"
)

// ErrMalformed is wrapped by every error that says bytes are not the protobuf message
// they should be. Nothing of such a body may be used.
var ErrMalformed = errors.New("malformed protobuf")

// Wire types of the protobuf encoding.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireLen     = 2
	wireFixed32 = 5
)

// fields reads one message field by field. Offsets are those of the whole body.
type fields struct {
	b       []byte // the body up to the message's end
	i       int    // offset behind the field
	from    int    // offset of the field's tag
	lo, hi  int    // value of a length-delimited field
	u       uint64 // value of a varint, fixed64 or fixed32 field
	num     int32
	wt      int8
	message string
	err     error
}

func open(message string, b []byte, lo, hi int) fields {
	return fields{b: b[:hi], i: lo, message: message}
}

// inner opens the message that is the value of f's field.
func (f *fields) inner(message string) fields { return open(message, f.b, f.lo, f.hi) }

// next moves on to the next field. It returns false at the end and after an error.
func (f *fields) next() bool {
	if f.err != nil || f.i >= len(f.b) {
		return false
	}
	f.from = f.i
	tag, i := uvarint(f.b, f.i)
	if i < 0 {
		return f.cut(i)
	}
	f.num, f.wt = int32(tag>>3), int8(tag&7)
	if f.num <= 0 {
		f.num = 0
		return f.fail("no field has this number")
	}
	switch f.wt {
	case wireLen:
		n, lo := uvarint(f.b, i)
		if lo < 0 {
			return f.cut(lo)
		}
		if n > uint64(len(f.b)-lo) {
			return f.cut(-1)
		}
		f.lo, f.hi = lo, lo+int(n)
		f.i = f.hi
	case wireVarint:
		if f.u, f.i = uvarint(f.b, i); f.i < 0 {
			return f.cut(f.i)
		}
	case wireFixed64:
		if len(f.b)-i < 8 {
			return f.cut(-1)
		}
		f.u, f.i = binary.LittleEndian.Uint64(f.b[i:]), i+8
	case wireFixed32:
		if len(f.b)-i < 4 {
			return f.cut(-1)
		}
		f.u, f.i = uint64(binary.LittleEndian.Uint32(f.b[i:])), i+4
	default: // groups (3, 4) are older than OTLP, and the collector misreads them
		return f.fail("wire type %d, want 0, 1, 2 or 5", f.wt)
	}
	return true
}

// is checks the wire type of a field with a meaning.
func (f *fields) is(wt int8) bool {
	if f.wt != wt {
		return f.fail("wire type %d, want %d", f.wt, wt)
	}
	return true
}

// fail ends the reading, with what is wrong with the current field.
func (f *fields) fail(format string, args ...any) bool {
	f.err = fmt.Errorf("%w: %s field %d at byte %d: %s", ErrMalformed, f.message, f.num, f.from, fmt.Sprintf(format, args...))
	return false
}

// cut is fail for what uvarint says of a number that is none.
func (f *fields) cut(code int) bool {
	if code == -1 {
		return f.fail("its message ends inside of it")
	}
	return f.fail("a number of more than 10 bytes")
}

// str is the value of a length-delimited field; it shares the body's memory.
func (f *fields) str() string { return unsafe.String(unsafe.SliceData(f.b[f.lo:f.hi]), f.hi-f.lo) }

// uvarint reads the varint at b[i:] and returns it with the offset behind it; -1 if b
// ends before it does, -2 if it is too long.
func uvarint(b []byte, i int) (uint64, int) {
	if i < len(b) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	return uvarintSlow(b, i)
}

func uvarintSlow(b []byte, i int) (uint64, int) {
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		if i >= len(b) {
			return 0, -1
		}
		c := b[i]
		i++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, i
		}
	}
	return 0, -2
}

// bytesOf views s as bytes, which must not be written to.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
