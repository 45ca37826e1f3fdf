package pack

import (
	"encoding/binary"
	"math"
)

// cursor reads a string of bytes and remembers that it was asked for more than there
// is; then it gives zeros.
type cursor struct {
	buf string
	at  int
	bad bool
}

func (c *cursor) byte() byte {
	if c.at >= len(c.buf) {
		c.bad = true
		return 0
	}
	b := c.buf[c.at]
	c.at++
	return b
}

func (c *cursor) uvarint() uint64 {
	if c.at < len(c.buf) && c.buf[c.at] < 0x80 {
		c.at++
		return uint64(c.buf[c.at-1])
	}
	return c.longUvarint()
}

func (c *cursor) longUvarint() (v uint64) {
	for shift := uint(0); shift < 64; shift += 7 {
		b := c.byte()
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	c.bad = true
	return 0
}

func (c *cursor) uint32() uint32 {
	v := c.uvarint()
	if v > math.MaxUint32 {
		c.bad = true
		return 0
	}
	return uint32(v)
}

// count reads how many things follow, of a known least size, which bounds it.
func (c *cursor) count(size int) int {
	v := c.uvarint()
	if size > 0 && v > uint64(len(c.buf)-c.at)/uint64(size) || v > math.MaxInt32 {
		c.bad = true
		return 0
	}
	return int(v)
}

func (c *cursor) take(n int) string {
	if n < 0 || n > len(c.buf)-c.at {
		c.bad = true
		c.at = len(c.buf)
		return ""
	}
	c.at += n
	return c.buf[c.at-n : c.at]
}

func (c *cursor) rest() string { return c.take(len(c.buf) - c.at) }

func (c *cursor) str() string { return c.take(c.count(1)) }

func (c *cursor) fixed64() uint64 {
	s := c.take(8)
	if len(s) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64([]byte(s))
}

func (c *cursor) end(what string) error {
	if c.bad {
		return errorf("%s goes beyond its %d bytes", what, len(c.buf))
	}
	if c.at != len(c.buf) {
		return errorf("%s ends %d bytes early", what, len(c.buf)-c.at)
	}
	return nil
}
