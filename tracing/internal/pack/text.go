package pack

import (
	"strconv"
	"strings"
)

// str reads what Appender.str wrote.
func (d *Decoder) str() string {
	switch code := d.s.uvarint(); code {
	case codeRaw:
		return d.r.take(d.s.count(0))
	case codeEmpty:
		return ""
	case codeHex:
		raw := d.r.take(d.s.count(0))
		d.room(2 * len(raw))
		return d.made(d.appendHex(raw))
	case codeUUID:
		return d.uuid(d.r.take(16))
	case codeNumber:
		d.room(maxUint64Digits)
		return d.made(d.appendNumber())
	case codeTail:
		head := d.known(d.s.uvarint())
		d.room(len(head) + maxUint64Digits)
		at := d.text.Len()
		d.text.WriteString(head)
		d.appendNumber()
		return d.made(at)
	default:
		return d.known(code)
	}
}

const (
	maxUint64Digits = 20
	// textBytes is how much is allocated at once for strings that are not in the
	// fragment as they are. Unmeasured: some forty ids.
	textBytes = 1 << 10
)

// room makes sure that a string lies in one piece, and stays there.
func (d *Decoder) room(n int) {
	if d.text.Cap()-d.text.Len() < n {
		d.text = strings.Builder{}
		d.text.Grow(max(n, textBytes))
	}
}

// made is what was written since.
func (d *Decoder) made(from int) string { return d.text.String()[from:] }

func (d *Decoder) appendNumber() (at int) {
	var digits [maxUint64Digits]byte
	at = d.text.Len()
	d.text.Write(strconv.AppendUint(digits[:0], d.n.uvarint(), 10))
	return at
}

func (d *Decoder) uuid(raw string) string {
	if len(raw) != 16 {
		return ""
	}
	d.room(36)
	at := d.appendHex(raw[:4])
	for _, part := range [...]string{raw[4:6], raw[6:8], raw[8:10], raw[10:]} {
		d.text.WriteByte('-')
		d.appendHex(part)
	}
	return d.made(at)
}

func (d *Decoder) appendHex(raw string) (at int) {
	const digits = "0123456789abcdef"
	at = d.text.Len()
	for i := range len(raw) {
		d.text.WriteByte(digits[raw[i]>>4])
		d.text.WriteByte(digits[raw[i]&15])
	}
	return at
}
