package pack

import (
	"encoding/binary"
	"math/bits"

	"github.com/weir-dev/weir/tracing/span"
)

// Dict remembers what repeats, per partition of the store.
type Dict interface {
	// ID is the number of a string that the dictionary has or finds worth adding. If
	// it is neither, the string is written where it stands. The string is borrowed,
	// and may be binary.
	ID(s string) (id uint32, ok bool)
	// String is the inverse of ID. The string stays valid for good.
	String(id uint32) (string, error)
	// Resource is the number of an encoded resource or scope, each stored once. The
	// bytes are borrowed.
	Resource(enc []byte) (id uint64)
	// ResourceBytes is the inverse of Resource. The bytes are read before the next call.
	ResourceBytes(id uint64) ([]byte, error)
}

const (
	// version is the low half of a fragment's first byte.
	version = 1
	// inMicros marks a fragment whose starts and durations are whole microseconds
	// apart, as most SDKs but Go's have them: that is 2.5 bytes a span.
	inMicros = 0x10

	// First byte of a span: kind, status, parent, extras.
	kindBits, kindEscape      = 0x07, 7
	statusShift, statusEscape = 3, 3
	parentShift               = 5
	hasExtras                 = 0x80

	parentNone = 0 // zero id
	parentRef  = 1 // span of the fragment, by index
	parentRaw  = 2 // 8 bytes
	parentSame = 3 // that of the span before
)

// Extras, what few spans have.
const (
	extraNegative = 1 << iota // ends before it starts
	extraState
	extraMessage
	extraEvents
	extraLinks
	extraDropped
)

// mapFrom is the number of spans, and of groups, from which one is looked up in a map;
// below, comparing all is as fast. Unmeasured: fragments have 1 to 10.
const mapFrom = 32

// Append appends the fragment of the spans, which are all of one trace.
func Append(dst []byte, d Dict, b *span.Batch, spans []int) []byte {
	var a Appender
	a.Begin(d, b)
	return a.Append(dst, spans)
}

// Appender appends the fragments of one batch and remembers what it has asked the
// dictionary already. The zero value is ready; it is for one goroutine.
type Appender struct {
	dict  Dict
	batch *span.Batch

	resources, scopes []uint64 // the dictionary's number by index in the batch
	haveRes, haveSc   []bool
	lists             [listSlots]keyList
	epoch             uint32

	// Of the fragment at hand.
	groups  []group
	byGroup map[group]int
	ids     []uint64
	byID    map[uint64]int
	// Three streams, so that what traces of one kind have in common lies together and
	// compresses as one: structure and dictionary numbers, measures, raw bytes.
	s, n, r []byte
	enc     []byte
}

type group struct{ resource, scope int }

// Begin is called before the first fragment of a batch, and again where the dictionary
// or anything in the batch has changed.
func (a *Appender) Begin(d Dict, b *span.Batch) {
	a.dict, a.batch = d, b
	a.resources = cleared(a.resources, len(b.Resources))
	a.haveRes = cleared(a.haveRes, len(b.Resources))
	a.scopes = cleared(a.scopes, len(b.Scopes))
	a.haveSc = cleared(a.haveSc, len(b.Scopes))
	a.epoch++
	if a.epoch == 0 { // lists of 2^32 batches ago would pass for this one's
		a.lists = [listSlots]keyList{}
		a.epoch = 1
	}
}

func cleared[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// Append appends the fragment of some spans of the batch, which are all of one trace.
func (a *Appender) Append(dst []byte, spans []int) []byte {
	a.s, a.n, a.r, a.groups = a.s[:0], a.n[:0], a.r[:0], a.groups[:0]
	base, unit := a.survey(spans)
	a.s = binary.AppendUvarint(a.s, uint64(len(a.groups)))
	for _, g := range a.groups {
		a.s = binary.AppendUvarint(a.s, a.resource(g.resource))
		a.s = binary.AppendUvarint(a.s, a.scope(g.scope))
	}
	g := 0
	var parent span.ID
	for i, at := range spans {
		s := &a.batch.Spans[at]
		if want := (group{s.Resource, s.Scope}); a.groups[g] != want {
			g = a.group(want)
		}
		a.span(s, i, g, base, unit, parent)
		parent = s.Parent
	}

	head := byte(version)
	if unit != 1 {
		head |= inMicros
	}
	dst = append(dst, head)
	dst = binary.AppendUvarint(dst, uint64(len(spans)))
	dst = binary.AppendUvarint(dst, uint64(len(a.s)))
	dst = binary.AppendUvarint(dst, uint64(len(a.n)))
	dst = binary.BigEndian.AppendUint64(dst, base)
	dst = append(dst, a.s...)
	dst = append(dst, a.n...)
	return append(dst, a.r...)
}

// survey finds the groups, the earliest start, and the unit of starts and durations.
func (a *Appender) survey(spans []int) (base, unit uint64) {
	a.ids = a.ids[:0]
	a.byID = nil
	for i, at := range spans {
		s := &a.batch.Spans[at]
		if i == 0 || s.Start < base {
			base = s.Start
		}
		a.ids = append(a.ids, binary.LittleEndian.Uint64(s.ID[:]))
		a.group(group{s.Resource, s.Scope})
	}
	if len(spans) >= mapFrom {
		a.byID = make(map[uint64]int, len(spans))
		for i, id := range a.ids {
			a.byID[id] = i
		}
	}
	for _, at := range spans {
		s := &a.batch.Spans[at]
		if (s.Start-base)%1000 != 0 || difference(s)%1000 != 0 {
			return base, 1
		}
	}
	return base, 1000
}

// difference between the ends of a span, whichever comes first.
func difference(s *span.Span) uint64 {
	if s.End < s.Start {
		return s.Start - s.End
	}
	return s.End - s.Start
}

func (a *Appender) group(g group) int {
	if len(a.groups) <= mapFrom {
		for i := range a.groups {
			if a.groups[i] == g {
				return i
			}
		}
	} else if i, ok := a.byGroup[g]; ok {
		return i
	}
	a.groups = append(a.groups, g)
	if len(a.groups) > mapFrom {
		a.indexGroups()
	}
	return len(a.groups) - 1
}

func (a *Appender) indexGroups() {
	from := len(a.groups) - 1
	if from == mapFrom {
		a.byGroup, from = map[group]int{}, 0
	}
	for i, g := range a.groups[from:] {
		a.byGroup[g] = from + i
	}
}

// find gives the index in the fragment of the span with an id.
func (a *Appender) find(id span.ID) (int, bool) {
	want := binary.LittleEndian.Uint64(id[:])
	if a.byID != nil {
		i, ok := a.byID[want]
		return i, ok
	}
	for i, have := range a.ids {
		if have == want {
			return i, true
		}
	}
	return 0, false
}

func (a *Appender) span(s *span.Span, i, g int, base, unit uint64, before span.ID) {
	a.n = binary.AppendUvarint(a.n, (s.Start-base)/unit)
	a.n = binary.AppendUvarint(a.n, difference(s)/unit)
	a.r = append(a.r, s.ID[:]...)

	kind, status := min(byte(s.Kind), kindEscape), min(byte(s.Status), statusEscape)
	head := kind | status<<statusShift
	extras := extrasOf(s)
	if extras != 0 {
		head |= hasExtras
	}
	parent, ref := byte(parentNone), 0
	if !s.Parent.IsZero() {
		if i > 0 && s.Parent == before {
			parent = parentSame
		} else if at, ok := a.find(s.Parent); ok {
			parent, ref = parentRef, at
		} else {
			parent = parentRaw
			a.r = append(a.r, s.Parent[:]...)
		}
	}
	a.s = append(a.s, head|parent<<parentShift)
	if kind == kindEscape {
		a.s = append(a.s, byte(s.Kind))
	}
	if status == statusEscape {
		a.s = append(a.s, byte(s.Status))
	}
	if parent == parentRef {
		a.s = binary.AppendUvarint(a.s, uint64(ref))
	}
	a.s = binary.AppendUvarint(a.s, uint64(g))
	a.s = binary.AppendUvarint(a.s, uint64(s.Flags))
	if extras != 0 {
		a.s = binary.AppendUvarint(a.s, uint64(extras))
	}
	list := a.list(s.Attrs)
	a.name(list, s.Name)
	a.attrs(list, s.Attrs)
	if extras != 0 {
		a.extras(s, extras)
	}
}

func extrasOf(s *span.Span) (mask uint32) {
	if s.End < s.Start {
		mask |= extraNegative
	}
	if s.State != "" {
		mask |= extraState
	}
	if s.Message != "" {
		mask |= extraMessage
	}
	if len(s.Events) > 0 {
		mask |= extraEvents
	}
	if len(s.Links) > 0 {
		mask |= extraLinks
	}
	if s.DroppedAttrs|s.DroppedEvents|s.DroppedLinks != 0 {
		mask |= extraDropped
	}
	return mask
}

func (a *Appender) extras(s *span.Span, mask uint32) {
	if mask&extraState != 0 {
		a.str(s.State)
	}
	if mask&extraMessage != 0 {
		a.str(s.Message)
	}
	if mask&extraDropped != 0 {
		a.s = binary.AppendUvarint(a.s, uint64(s.DroppedAttrs))
		a.s = binary.AppendUvarint(a.s, uint64(s.DroppedEvents))
		a.s = binary.AppendUvarint(a.s, uint64(s.DroppedLinks))
	}
	if mask&extraEvents != 0 {
		a.s = binary.AppendUvarint(a.s, uint64(len(s.Events)))
		for i := range s.Events {
			e := &s.Events[i]
			a.n = binary.AppendUvarint(a.n, zigzag(e.Time-s.Start))
			a.s = binary.AppendUvarint(a.s, uint64(e.Dropped))
			list := a.list(e.Attrs)
			a.name(list, e.Name)
			a.attrs(list, e.Attrs)
		}
	}
	if mask&extraLinks != 0 {
		a.links(s)
	}
}

// Where a link leads.
const (
	linkElsewhere = 0
	linkInTrace   = 1
)

func (a *Appender) links(s *span.Span) {
	a.s = binary.AppendUvarint(a.s, uint64(len(s.Links)))
	for i := range s.Links {
		l := &s.Links[i]
		if l.TraceID == s.TraceID {
			a.s = append(a.s, linkInTrace)
		} else {
			a.s = append(a.s, linkElsewhere)
			a.r = append(a.r, l.TraceID[:]...)
		}
		a.r = append(a.r, l.ID[:]...)
		a.s = binary.AppendUvarint(a.s, uint64(l.Flags))
		a.s = binary.AppendUvarint(a.s, uint64(l.Dropped))
		a.str(l.State)
		a.attrs(a.list(l.Attrs), l.Attrs)
	}
}

// zigzag turns a difference of two clocks into a small number, whichever is ahead.
func zigzag(v uint64) uint64 { return v<<1 ^ uint64(int64(v)>>63) }

func unzigzag(v uint64) uint64 { return v>>1 ^ -(v & 1) }

// load64 is 8 bytes of a string.
func load64(s string, i int) uint64 {
	_ = s[i+7]
	return uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
		uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
}

// mix folds a word into a hash.
func mix(h, v uint64) uint64 {
	hi, lo := bits.Mul64(h^v, 0x9E3779B97F4A7C15)
	return hi ^ lo
}
