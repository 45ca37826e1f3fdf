package span

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
)

// Encode appends b as TracesData. Spans of one resource and scope are put together;
// resources and scopes without a span are left out. Resource and Scope of every span
// must be in range.
//
// A message is written from its end to its start, so that its length is known when its
// turn comes; dst is grown to an upper bound before.
func (b *Batch) Encode(dst []byte) []byte {
	at := len(dst)
	dst = slices.Grow(dst, b.bound())
	w := writer{b: dst[at:cap(dst)]}
	w.i = len(w.b)
	b.write(&w)
	n := copy(w.b, w.b[w.i:])
	return dst[:at+n]
}

// writer fills b from its end.
type writer struct {
	b []byte
	i int // the first byte written
}

func (w *writer) varint(u uint64) {
	n := (bits.Len64(u|1) + 6) / 7
	w.i -= n
	binary.PutUvarint(w.b[w.i:w.i+n], u)
}

func (w *writer) raw(s string) {
	w.i -= len(s)
	copy(w.b[w.i:], s)
}

func (w *writer) tag(num, wt int) { w.varint(uint64(num<<3 | wt)) }

// str writes a string or bytes field, unless it is empty.
func (w *writer) str(num int, s string) {
	if s != "" {
		w.strAlways(num, s)
	}
}

func (w *writer) strAlways(num int, s string) {
	w.raw(s)
	w.varint(uint64(len(s)))
	w.tag(num, wireLen)
}

func (w *writer) uint(num int, u uint64) {
	if u != 0 {
		w.varint(u)
		w.tag(num, wireVarint)
	}
}

func (w *writer) fixed64(num int, u uint64) {
	if u != 0 {
		w.i -= 8
		binary.LittleEndian.PutUint64(w.b[w.i:], u)
		w.tag(num, wireFixed64)
	}
}

func (w *writer) fixed32(num int, u uint32) {
	if u != 0 {
		w.i -= 4
		binary.LittleEndian.PutUint32(w.b[w.i:], u)
		w.tag(num, wireFixed32)
	}
}

// id writes an id, unless it is zero.
func (w *writer) id(num int, id []byte) {
	for _, c := range id {
		if c != 0 {
			w.i -= len(id)
			copy(w.b[w.i:], id)
			w.varint(uint64(len(id)))
			w.tag(num, wireLen)
			return
		}
	}
}

// message ends a message that was written from end on.
func (w *writer) message(num, end int) {
	w.varint(uint64(end - w.i))
	w.tag(num, wireLen)
}

func (b *Batch) write(w *writer) {
	order := b.order()
	at := func(i int) *Span {
		if order != nil {
			i = order[i]
		}
		return &b.Spans[i]
	}
	for i := len(b.Spans) - 1; i >= 0; {
		r, end := at(i).Resource, w.i
		w.str(3, b.Resources[r].SchemaURL)
		for i >= 0 && at(i).Resource == r {
			s, end := at(i).Scope, w.i
			w.str(3, b.Scopes[s].SchemaURL)
			for i >= 0 && at(i).Resource == r && at(i).Scope == s {
				w.span(at(i))
				i--
			}
			w.scope(&b.Scopes[s])
			w.message(2, end)
		}
		w.resource(&b.Resources[r])
		w.message(1, end)
	}
}

// order sorts spans by resource and scope; it is nil if they are.
func (b *Batch) order() []int {
	byPlace := func(x, y Span) int {
		return cmp.Or(cmp.Compare(x.Resource, y.Resource), cmp.Compare(x.Scope, y.Scope))
	}
	sorted := true
	for i := 1; i < len(b.Spans) && sorted; i++ {
		p, s := &b.Spans[i-1], &b.Spans[i]
		sorted = p.Resource < s.Resource || p.Resource == s.Resource && p.Scope <= s.Scope
	}
	if sorted {
		return nil
	}
	order := make([]int, len(b.Spans))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return byPlace(b.Spans[i], b.Spans[j]) })
	return order
}

func (w *writer) resource(r *Resource) {
	end := w.i
	w.uint(2, uint64(r.Dropped))
	w.attrs(1, r.Attrs)
	w.message(1, end)
}

func (w *writer) scope(s *Scope) {
	end := w.i
	w.uint(4, uint64(s.Dropped))
	w.attrs(3, s.Attrs)
	w.str(2, s.Version)
	w.str(1, s.Name)
	w.message(1, end)
}

func (w *writer) span(s *Span) {
	end := w.i
	w.fixed32(16, s.Flags)
	if s.Status != 0 || s.Message != "" {
		end := w.i
		w.uint(3, uint64(s.Status))
		w.str(2, s.Message)
		w.message(15, end)
	}
	w.uint(14, uint64(s.DroppedLinks))
	for i := len(s.Links) - 1; i >= 0; i-- {
		w.link(&s.Links[i])
	}
	w.uint(12, uint64(s.DroppedEvents))
	for i := len(s.Events) - 1; i >= 0; i-- {
		w.event(&s.Events[i])
	}
	w.uint(10, uint64(s.DroppedAttrs))
	w.attrs(9, s.Attrs)
	w.fixed64(8, s.End)
	w.fixed64(7, s.Start)
	w.uint(6, uint64(s.Kind))
	w.str(5, s.Name)
	w.id(4, s.Parent[:])
	w.str(3, s.State)
	w.id(2, s.ID[:])
	w.id(1, s.TraceID[:])
	w.message(2, end)
}

func (w *writer) event(e *Event) {
	end := w.i
	w.uint(4, uint64(e.Dropped))
	w.attrs(3, e.Attrs)
	w.str(2, e.Name)
	w.fixed64(1, e.Time)
	w.message(11, end)
}

func (w *writer) link(l *Link) {
	end := w.i
	w.fixed32(6, l.Flags)
	w.uint(5, uint64(l.Dropped))
	w.attrs(4, l.Attrs)
	w.str(3, l.State)
	w.id(2, l.ID[:])
	w.id(1, l.TraceID[:])
	w.message(13, end)
}

func (w *writer) attrs(num int, attrs []Attr) {
	for i := len(attrs) - 1; i >= 0; i-- {
		end := w.i
		w.value(2, attrs[i].Value)
		w.str(1, attrs[i].Key)
		w.message(num, end)
	}
}

// value writes an AnyValue as field num.
func (w *writer) value(num int, v Value) {
	end := w.i
	switch v.Type {
	case TypeString:
		w.strAlways(1, v.Str)
	case TypeBool, TypeInt:
		w.varint(v.Num)
		w.tag(int(v.Type), wireVarint)
	case TypeDouble:
		w.i -= 8
		binary.LittleEndian.PutUint64(w.b[w.i:], v.Num)
		w.tag(4, wireFixed64)
	case TypeArray, TypeMap, TypeBytes:
		w.strAlways(int(v.Type), v.Str)
	}
	w.message(num, end)
}

// Upper bounds of what a message takes beside its strings, and the messages in it: a
// tag of 2 bytes, a length of 5 and a number of 10.
const (
	boundTagged  = 7
	boundAttr    = 4*boundTagged + 10
	boundSpan    = 12*boundTagged + 16 + 8 + 8 + 8 + 8 + 4 + 5*10
	boundEvent   = 4*boundTagged + 8 + 10
	boundLink    = 6*boundTagged + 16 + 8 + 4 + 10
	boundGroup   = 6*boundTagged + 10 // of a resource or scope
	boundOutside = 16
)

func (b *Batch) bound() int {
	n := boundOutside
	for i := range b.Spans {
		s := &b.Spans[i]
		n += boundSpan + len(s.State) + len(s.Name) + len(s.Message) + boundAttrs(s.Attrs)
		for j := range s.Events {
			n += boundEvent + len(s.Events[j].Name) + boundAttrs(s.Events[j].Attrs)
		}
		for j := range s.Links {
			n += boundLink + len(s.Links[j].State) + boundAttrs(s.Links[j].Attrs)
		}
	}
	return n + b.boundGroups()
}

// boundGroups bounds the resources and scopes. A scope is written once for each
// resource that it has spans of: in a decoded batch, and one that a store has put
// together, for one; else a run of spans bounds how often.
func (b *Batch) boundGroups() int {
	n, r, s := 0, -1, -1
	for i := range b.Spans {
		at := &b.Spans[i]
		if at.Resource != r {
			x := &b.Resources[at.Resource]
			n += boundGroup + len(x.SchemaURL) + boundAttrs(x.Attrs)
		}
		if at.Resource != r || at.Scope != s {
			x := &b.Scopes[at.Scope]
			n += boundGroup + len(x.SchemaURL) + len(x.Name) + len(x.Version) + boundAttrs(x.Attrs)
		}
		r, s = at.Resource, at.Scope
	}
	return n
}

func boundAttrs(attrs []Attr) int {
	n := boundAttr * len(attrs)
	for i := range attrs {
		n += len(attrs[i].Key) + len(attrs[i].Value.Str)
	}
	return n
}
