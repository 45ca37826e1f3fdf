package shop

import "google.golang.org/protobuf/encoding/protowire"

// hole is a place in a message whose bytes are written anew for each body. All are of
// fixed width, so that nothing before or behind them moves.
type hole struct {
	at   int32 // offset
	kind holeKind
	span int32 // which span of the template; its trace says the rest
}

type holeKind uint8

const (
	traceID  holeKind = iota // 16 bytes
	spanID                   // 8 bytes, of hole.span
	start                    // fixed64, nanoseconds
	end                      // fixed64
	thrown                   // fixed64, just before the end
	order                    // 16 hex digits that no other trace has
	user                     // 6 digits, some more often than others
	product                  // 5 digits
	address                  // the last 2 of 4 numbers, 7 characters, of the user
	bodySize                 // varint of 3 bytes
	threadID                 // varint of 1 byte
)

// message is a protobuf message in the making, with the holes in what it has.
type message struct {
	data  []byte
	holes []hole
}

func (m *message) bytes(field protowire.Number, v string) {
	m.data = protowire.AppendTag(m.data, field, protowire.BytesType)
	m.data = protowire.AppendString(m.data, v)
}

func (m *message) varint(field protowire.Number, v uint64) {
	m.data = protowire.AppendTag(m.data, field, protowire.VarintType)
	m.data = protowire.AppendVarint(m.data, v)
}

func (m *message) fixed32(field protowire.Number, v uint32) {
	m.data = protowire.AppendTag(m.data, field, protowire.Fixed32Type)
	m.data = protowire.AppendFixed32(m.data, v)
}

// message appends sub, whose holes come along.
func (m *message) message(field protowire.Number, sub *message) {
	m.data = protowire.AppendTag(m.data, field, protowire.BytesType)
	m.data = protowire.AppendVarint(m.data, uint64(len(sub.data)))
	for _, h := range sub.holes {
		h.at += int32(len(m.data))
		m.holes = append(m.holes, h)
	}
	m.data = append(m.data, sub.data...)
}

// holeBytes appends a field of bytes that has before, a hole of width n, and behind.
func (m *message) holeBytes(field protowire.Number, kind holeKind, span int32, before string, n int, behind string) {
	m.data = protowire.AppendTag(m.data, field, protowire.BytesType)
	m.data = protowire.AppendVarint(m.data, uint64(len(before)+n+len(behind)))
	m.data = append(m.data, before...)
	m.open(kind, span, n)
	m.data = append(m.data, behind...)
}

func (m *message) holeTime(field protowire.Number, kind holeKind, span int32) {
	m.data = protowire.AppendTag(m.data, field, protowire.Fixed64Type)
	m.open(kind, span, 8)
}

func (m *message) holeVarint(field protowire.Number, kind holeKind, span int32, n int) {
	m.data = protowire.AppendTag(m.data, field, protowire.VarintType)
	m.open(kind, span, n)
}

func (m *message) open(kind holeKind, span int32, n int) {
	m.holes = append(m.holes, hole{at: int32(len(m.data)), kind: kind, span: span})
	m.data = append(m.data, make([]byte, n)...)
}
