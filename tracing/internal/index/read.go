package index

import (
	"encoding/binary"
	"math/bits"
)

// reader reads a page and remembers that it was asked for more than there is; then it
// gives zeros.
type reader struct {
	buf []byte
	at  int
	bad bool
}

func (r *reader) byte() byte {
	if r.at >= len(r.buf) {
		r.bad = true
		return 0
	}
	r.at++
	return r.buf[r.at-1]
}

func (r *reader) uvarint() uint64 {
	if r.at < len(r.buf) && r.buf[r.at] < 0x80 {
		r.at++
		return uint64(r.buf[r.at-1])
	}
	v, n := binary.Uvarint(r.buf[min(r.at, len(r.buf)):])
	if n <= 0 {
		r.bad = true
		r.at = len(r.buf)
		return 0
	}
	r.at += n
	return v
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.buf)-r.at) {
		r.bad = true
		r.at = len(r.buf)
		return nil
	}
	r.at += int(n)
	return r.buf[r.at-int(n) : r.at]
}

func (r *reader) strings() []string {
	var l []string
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		l = append(l, string(r.take(r.uvarint())))
	}
	return l
}

func (r *reader) fault() error {
	if r.bad {
		return errorf("goes beyond its %d bytes", len(r.buf))
	}
	return nil
}

func (r *reader) end() error {
	if err := r.fault(); err != nil {
		return err
	}
	if r.at != len(r.buf) {
		return errorf("%d of its %d bytes are left over", len(r.buf)-r.at, len(r.buf))
	}
	return nil
}

// rowSet has a bit for each row of a segment.
type rowSet []uint64

func newRowSet(rows int) rowSet { return make(rowSet, rows/64+1) }

func (s rowSet) rows() int { return len(s) * 64 }

func (s rowSet) has(row int) bool { return s[row>>6]>>(row&63)&1 != 0 }

// add refuses rows that there is no room for.
func (s rowSet) add(from, n uint64) bool {
	end := from + n
	if end > uint64(s.rows()) {
		return false
	}
	for from < end {
		bit := from & 63
		k := min(64-bit, end-from)
		s[from>>6] |= ^uint64(0) >> (64 - k) << bit
		from += k
	}
	return true
}

// or takes rows of another set, which may be shorter.
func (s rowSet) or(o rowSet) {
	for i, w := range o {
		s[i] |= w
	}
}

// and tells whether any row is left.
func (s rowSet) and(o rowSet) bool {
	left := uint64(0)
	for i := range s {
		s[i] &= o[i]
		left |= s[i]
	}
	return left != 0
}

func (s rowSet) andNot(o rowSet) {
	for i := range s {
		s[i] &^= o[i]
	}
}

// count of rows from a multiple of 64.
func (s rowSet) count(from, n int) (sum int) {
	for _, w := range s[from/64 : min((from+n)/64, len(s))] {
		sum += bits.OnesCount64(w)
	}
	return sum
}
