package derive

import (
	"math/bits"

	"github.com/weir-dev/weir/tracing/span"
)

// size is the bytes of a span in OTLP protobuf, without those of the field that holds
// it. Resource and scope are not part of it.
func size(s *span.Span) int {
	n := 18 + 10 + 9 + 9 // ids and times
	if s.TraceID.IsZero() {
		n -= 18
	}
	if s.ID.IsZero() {
		n -= 10
	}
	if s.Start == 0 {
		n -= 9
	}
	if s.End == 0 {
		n -= 9
	}
	if !s.Parent.IsZero() {
		n += 10
	}
	n += textField(s.State) + textField(s.Name) + attrsField(s.Attrs)
	if s.Kind != 0 {
		n += 2
	}
	for i := range s.Events {
		e := &s.Events[i]
		n += nested(9 + textField(e.Name) + attrsField(e.Attrs) + number(uint64(e.Dropped)))
	}
	for i := range s.Links {
		l := &s.Links[i]
		size := 18 + 10 + textField(l.State) + attrsField(l.Attrs) + number(uint64(l.Dropped))
		if l.Flags != 0 {
			size += 5
		}
		n += nested(size)
	}
	n += number(uint64(s.DroppedAttrs)) + number(uint64(s.DroppedEvents)) + number(uint64(s.DroppedLinks))
	if s.Status != 0 || s.Message != "" {
		n += nested(textField(s.Message) + number(uint64(s.Status)))
	}
	if s.Flags != 0 {
		n += 6 // field 16 has a tag of two bytes
	}
	return n
}

func varint(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// nested is a message field of n bytes.
func nested(n int) int { return 1 + varint(uint64(n)) + n }

func textField(s string) int {
	if s == "" {
		return 0
	}
	return nested(len(s))
}

func number(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + varint(v)
}

func attrsField(list []span.Attr) (n int) {
	for i := range list {
		a := &list[i]
		n += nested(textField(a.Key) + nested(anyValue(&a.Value)))
	}
	return n
}

func anyValue(v *span.Value) int {
	switch v.Type {
	case span.TypeString, span.TypeArray, span.TypeMap, span.TypeBytes:
		return nested(len(v.Str))
	case span.TypeBool:
		return 2
	case span.TypeInt:
		return 1 + varint(v.Num)
	case span.TypeDouble:
		return 9
	}
	return 0
}
