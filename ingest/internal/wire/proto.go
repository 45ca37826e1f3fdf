package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"
)

// ErrMalformed is wrapped by every error that says a body is not the protobuf
// message its Content-Type announced. Nothing of such a body may be used.
var ErrMalformed = errors.New("malformed protobuf")

var (
	errTruncated = fmt.Errorf("%w: message ends inside a field", ErrMalformed)
	errVarint    = fmt.Errorf("%w: varint longer than 10 bytes", ErrMalformed)
	errField     = fmt.Errorf("%w: field number 0 or negative", ErrMalformed)
	errGroupEnd  = fmt.Errorf("%w: end of a group that was not started", ErrMalformed)
)

// Wire types of the protobuf encoding.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireLen     = 2
	wireGroup   = 3
	wireEnd     = 4
	wireFixed32 = 5
)

func errWireType(message, field string, got int) error {
	return fmt.Errorf("%w: %s.%s has wire type %d", ErrMalformed, message, field, got)
}

// uvarint reads the varint at b[i:] and returns it with the offset behind it.
// A negative offset is an error code for [varintErr].
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

func varintErr(code int) error {
	if code == -1 {
		return errTruncated
	}
	return errVarint
}

// field reads the tag at b[i:].
func field(b []byte, i int) (num int32, wt, next int, err error) {
	tag, next := uvarint(b, i)
	if next < 0 {
		return 0, 0, 0, varintErr(next)
	}
	num, wt = int32(tag>>3), int(tag&7)
	if wt == wireEnd {
		return 0, 0, 0, errGroupEnd
	}
	if num <= 0 {
		return 0, 0, 0, errField
	}
	return num, wt, next, nil
}

// span reads the length at b[i:] and returns the bounds of what it announces.
func span(b []byte, i int) (lo, hi int, err error) {
	n, lo := uvarint(b, i)
	if lo < 0 {
		return 0, 0, varintErr(lo)
	}
	if n > uint64(len(b)-lo) {
		return 0, 0, errTruncated
	}
	return lo, lo + int(n), nil
}

func varint(b []byte, i int) (uint64, int, error) {
	v, next := uvarint(b, i)
	if next < 0 {
		return 0, 0, varintErr(next)
	}
	return v, next, nil
}

func fixed64(b []byte, i int) (uint64, int, error) {
	if len(b)-i < 8 {
		return 0, 0, errTruncated
	}
	return binary.LittleEndian.Uint64(b[i:]), i + 8, nil
}

func float(b []byte, i int) (float64, int, error) {
	v, next, err := fixed64(b, i)
	return math.Float64frombits(v), next, err
}

func zigzag(v uint64) int64 { return int64(v>>1) ^ -int64(v&1) }

// zigzag32 decodes as the 32-bit type does: the upper half of an over-long
// value is cut off before the sign is restored.
func zigzag32(v uint64) int32 { return int32(uint32(v)>>1) ^ -int32(v&1) }

// skip returns the offset behind the value of an unknown field whose tag ended
// at i. Groups are skipped whole.
func skip(b []byte, i, wt int) (int, error) {
	depth := 0
	for {
		switch wt {
		case wireVarint:
			_, next := uvarint(b, i)
			if next < 0 {
				return 0, varintErr(next)
			}
			i = next
		case wireFixed64:
			i += 8
		case wireLen:
			n, lo := uvarint(b, i)
			if lo < 0 {
				return 0, varintErr(lo)
			}
			if n > uint64(len(b)) {
				return 0, errTruncated
			}
			i = lo + int(n)
		case wireGroup:
			depth++
		case wireEnd:
			if depth == 0 {
				return 0, errGroupEnd
			}
			depth--
		case wireFixed32:
			i += 4
		default:
			return 0, fmt.Errorf("%w: wire type %d does not exist", ErrMalformed, wt)
		}
		if i > len(b) {
			return 0, errTruncated
		}
		if depth == 0 {
			return i, nil
		}
		tag, next := uvarint(b, i)
		if next < 0 {
			return 0, varintErr(next)
		}
		i, wt = next, int(tag&7)
	}
}

// view returns b as a string that shares its memory.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
