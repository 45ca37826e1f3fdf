package pack

import (
	"encoding/binary"
	"math"

	"github.com/weir-dev/weir/tracing/span"
)

// How a string is written: these, or a number of the dictionary plus codeDict.
const (
	codeRaw    = iota // length, and bytes among the raw
	codeEmpty         //
	codeHex           // lower case; length in bytes, and half as many among the raw
	codeUUID          // lower case; 16 raw bytes
	codeNumber        // decimal; among the measures
	codeTail          // a string, and a decimal number among the measures
	codeDict   = 8
)

// How attributes begin: these, or a number of the dictionary plus listDict.
const (
	listNone = iota
	listInline
	listDict
)

const (
	// maxDictBytes is the longest string that the dictionary is asked for. Statements
	// of databases repeat and are some hundred bytes; documents do not repeat.
	maxDictBytes = 2048
	// maxListKeys is the longest key list that goes into the dictionary. It bounds
	// what a few damaged bytes can make Decode allocate: 256 attributes a reference.
	maxListKeys = 256
	// minHex is the shortest string of hex digits that is packed without asking the
	// dictionary; a shorter one may be a word, or a short name of a version.
	minHex = 12
	// minDigits and maxDigits are the same for decimal digits: ports and status codes
	// repeat, and 18 digits always fit 64 bits.
	minDigits, maxDigits = 5, 18
	// listSlots bounds the key lists remembered in a batch. The services of a request
	// have some dozen.
	listSlots = 256
	// maxShortInt is the largest that goes with the structure, where codes and ports
	// that repeat compress; the others are measures.
	maxShortInt = 1<<14 - 2
)

// keyList is the keys and types of the attributes of a span, in their order. They are
// the same for all spans of an operation, so they go to the dictionary as one.
type keyList struct {
	epoch uint32
	hash  uint64
	attrs []span.Attr // of the span that was first, for comparing
	enc   []byte      // listInline and what follows, or listDict plus the number

	// What stood last in this place, and its number in the dictionary.
	name last
	last []last
}

type last struct {
	s    string
	code uint64
}

// list finds or makes the key list of some attributes; nil: there are none.
func (a *Appender) list(attrs []span.Attr) *keyList {
	if len(attrs) == 0 {
		return nil
	}
	h := uint64(len(attrs))
	for i := range attrs {
		key := attrs[i].Key
		v := uint64(len(key))<<8 | uint64(attrs[i].Value.Type)
		if len(key) >= 8 {
			v ^= load64(key, len(key)-8) ^ load64(key, 0)<<4
		} else if len(key) > 0 {
			v ^= uint64(key[0])<<16 | uint64(key[len(key)/2])<<24 | uint64(key[len(key)-1])<<32
		}
		h = mix(h, v)
	}
	l := &a.lists[h%listSlots]
	if l.epoch != a.epoch || l.hash != h || !sameKeys(l.attrs, attrs) {
		a.newList(l, h, attrs)
	}
	return l
}

func sameKeys(a, b []span.Attr) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Key != b[i].Key || a[i].Value.Type != b[i].Value.Type {
			return false
		}
	}
	return true
}

func (a *Appender) newList(l *keyList, h uint64, attrs []span.Attr) {
	l.epoch, l.hash, l.attrs, l.name = a.epoch, h, attrs, last{}
	l.last = cleared(l.last, len(attrs))
	a.enc = binary.AppendUvarint(a.enc[:0], uint64(len(attrs)))
	known := len(attrs) <= maxListKeys
	for i := range attrs {
		var ok bool
		a.enc, ok = a.appendKey(a.enc, attrs[i].Key)
		known = known && ok
		a.enc = append(a.enc, byte(attrs[i].Value.Type))
	}
	if known {
		if id, ok := a.dict.ID(string(a.enc)); ok {
			l.enc = binary.AppendUvarint(l.enc[:0], uint64(id)+listDict)
			return
		}
	}
	l.enc = append(append(l.enc[:0], listInline), a.enc...)
}

// appendKey appends a key of a list, and tells whether the dictionary has it.
func (a *Appender) appendKey(dst []byte, key string) ([]byte, bool) {
	if len(key) <= maxDictBytes && key != "" {
		if id, ok := a.dict.ID(key); ok {
			return binary.AppendUvarint(dst, uint64(id)+codeDict), true
		}
	}
	dst = append(dst, codeRaw)
	return appendString(dst, key), false
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// name writes the name of what has the attributes.
func (a *Appender) name(l *keyList, s string) {
	if l == nil {
		a.str(s)
		return
	}
	a.again(&l.name, s)
}

// again writes a string that is likely the same as last time.
func (a *Appender) again(l *last, s string) {
	if l.code != 0 && l.s == s {
		a.s = binary.AppendUvarint(a.s, l.code)
		return
	}
	if code := a.str(s); code >= codeDict {
		l.s, l.code = s, code
	}
}

func (a *Appender) attrs(l *keyList, attrs []span.Attr) {
	if l == nil {
		a.s = append(a.s, listNone)
		return
	}
	a.s = append(a.s, l.enc...)
	for i := range attrs {
		v := &attrs[i].Value
		switch v.Type {
		case span.TypeEmpty:
		case span.TypeString, span.TypeArray, span.TypeMap, span.TypeBytes:
			a.again(&l.last[i], v.Str)
		case span.TypeBool:
			a.s = binary.AppendUvarint(a.s, v.Num)
		case span.TypeInt:
			a.integer(v.Num)
		case span.TypeDouble:
			a.double(v.Num)
		default:
			a.integer(v.Num)
			a.str(v.Str)
		}
	}
}

func (a *Appender) integer(v uint64) {
	if z := zigzag(v); z <= maxShortInt {
		a.s = binary.AppendUvarint(a.s, z+1)
	} else {
		a.s = append(a.s, 0)
		a.n = binary.AppendUvarint(a.n, z)
	}
}

// How a double is written.
const (
	doubleRaw = iota
	doubleInt
)

func (a *Appender) double(v uint64) {
	f := math.Float64frombits(v)
	if i := int64(f); f > -1<<53 && f < 1<<53 && math.Float64bits(float64(i)) == v {
		a.s = append(a.s, doubleInt)
		a.n = binary.AppendUvarint(a.n, zigzag(uint64(i)))
		return
	}
	a.s = append(a.s, doubleRaw)
	a.r = binary.BigEndian.AppendUint64(a.r, v)
}

// str writes a string and tells how.
func (a *Appender) str(s string) uint64 {
	if s == "" {
		a.s = append(a.s, codeEmpty)
		return codeEmpty
	}
	if c := s[0]; c <= '9' && c >= '0' || c >= 'a' && c <= 'f' {
		if a.packed(s) {
			return codeHex
		}
	}
	if len(s) <= maxDictBytes {
		if id, ok := a.dict.ID(s); ok {
			a.s = binary.AppendUvarint(a.s, uint64(id)+codeDict)
			return uint64(id) + codeDict
		}
		if a.tail(s) {
			return codeTail
		}
	}
	a.s = binary.AppendUvarint(append(a.s, codeRaw), uint64(len(s)))
	a.r = append(a.r, s...)
	return codeRaw
}

// packed writes ids: a UUID, hex digits or decimal ones.
func (a *Appender) packed(s string) bool {
	if len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' {
		a.s = append(a.s, codeUUID)
		at := len(a.r)
		for _, part := range [...]string{s[:8], s[9:13], s[14:18], s[19:23], s[24:]} {
			if !a.hex(part) {
				a.s, a.r = a.s[:len(a.s)-1], a.r[:at]
				return false
			}
		}
		return true
	}
	if n, ok := decimal(s); ok && len(s) >= minDigits {
		a.s = append(a.s, codeNumber)
		a.n = binary.AppendUvarint(a.n, n)
		return true
	}
	if len(s) >= minHex && len(s)%2 == 0 && a.hex(s) {
		a.s = binary.AppendUvarint(append(a.s, codeHex), uint64(len(s)/2))
		return true
	}
	return false
}

// tail writes a string that ends in a number, such as user-4711: its beginning repeats.
func (a *Appender) tail(s string) bool {
	at := len(s)
	for at > 0 && len(s)-at < maxDigits && s[at-1] >= '0' && s[at-1] <= '9' {
		at--
	}
	for at < len(s) && s[at] == '0' {
		at++
	}
	if at == 0 || len(s)-at < 3 {
		return false
	}
	id, ok := a.dict.ID(s[:at])
	if !ok {
		return false
	}
	n, _ := decimal(s[at:])
	a.s = binary.AppendUvarint(append(a.s, codeTail), uint64(id)+codeDict)
	a.n = binary.AppendUvarint(a.n, n)
	return true
}

// decimal reads a number that is written as strconv would.
func decimal(s string) (n uint64, ok bool) {
	if len(s) > maxDigits || s[0] == '0' {
		return 0, false
	}
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + uint64(c)
	}
	return n, true
}

// hex appends the bytes of hex digits to the raw ones.
func (a *Appender) hex(s string) bool {
	at := len(a.r)
	for i := 0; i < len(s); i += 2 {
		hi, lo := nibble(s[i]), nibble(s[i+1])
		if hi|lo > 15 {
			a.r = a.r[:at]
			return false
		}
		a.r = append(a.r, hi<<4|lo)
	}
	return true
}

func nibble(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}
