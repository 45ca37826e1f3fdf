package pack

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/weir-dev/weir/tracing/span"
)

// ErrCorrupt is within the errors of [Decode] that blame the fragment or what the
// dictionary has for it. Those that do not are the dictionary's own.
var ErrCorrupt = errors.New("damaged fragment")

func errorf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}

// Decode appends the spans of a fragment of a trace to a batch, which then shares no
// memory with data. After an error the batch has the spans that it had before.
func Decode(d Dict, id span.TraceID, data []byte, into *span.Batch) error {
	var dec Decoder
	dec.Begin(d, into)
	return dec.Decode(id, data)
}

// Decoder decodes several fragments into one batch and has a resource that they share
// there only once. The zero value is ready; it is for one goroutine.
type Decoder struct {
	dict Dict
	into *span.Batch

	resources, scopes map[uint64]int
	lists             map[uint32][]span.Attr // keys and types
	slab              []span.Attr
	left              int // spans of the fragment still to read, this one included

	text    strings.Builder // never copied: Decoder is used by pointer
	groups  []group
	refs    []int
	s, n, r cursor
	err     error
}

// Begin is called before the first fragment of a batch.
func (d *Decoder) Begin(dict Dict, into *span.Batch) {
	d.dict, d.into = dict, into
	if d.resources == nil {
		d.resources, d.scopes, d.lists = map[uint64]int{}, map[uint64]int{}, map[uint32][]span.Attr{}
	}
	clear(d.resources)
	clear(d.scopes)
	clear(d.lists)
}

// Decode appends the spans of a fragment.
func (d *Decoder) Decode(id span.TraceID, data []byte) error {
	had := len(d.into.Spans)
	d.err = nil
	if err := d.fragment(id, data); err != nil {
		clear(d.into.Spans[had:])
		d.into.Spans = d.into.Spans[:had]
		return fmt.Errorf("trace %s: %w", id, err)
	}
	return nil
}

// minSpan is the bytes that a span has at least: its id, seven numbers.
const minSpan = 8 + 7

func (d *Decoder) fragment(id span.TraceID, data []byte) error {
	c := cursor{buf: string(data)}
	head := c.byte()
	if head&^inMicros != version {
		return errorf("first byte %#x, want version %d", head, version)
	}
	unit := uint64(1)
	if head&inMicros != 0 {
		unit = 1000
	}
	n := c.count(minSpan)
	structure, measures := c.count(1), c.count(1)
	base := c.fixed64()
	d.s = cursor{buf: c.take(structure)}
	d.n = cursor{buf: c.take(measures)}
	d.r = cursor{buf: c.rest()}
	if c.bad {
		return errorf("its head promises more than its %d bytes", len(data))
	}
	if err := d.readGroups(); err != nil {
		return err
	}
	first := len(d.into.Spans)
	d.into.Spans = append(d.into.Spans, make([]span.Span, n)...)
	spans := d.into.Spans[first:]
	d.refs = d.refs[:0]
	for i := range spans {
		spans[i].TraceID = id
		d.left = n - i
		d.span(&spans[i], i, n, base, unit)
		if d.err != nil {
			return d.err
		}
		if d.s.bad || d.n.bad || d.r.bad {
			return errorf("span %d of %d goes beyond the %d bytes", i, n, len(data))
		}
	}
	d.resolve(spans)
	return nil
}

func (d *Decoder) readGroups() error {
	d.groups = d.groups[:0]
	n := d.s.count(2)
	d.into.Resources = slices.Grow(d.into.Resources, n)
	d.into.Scopes = slices.Grow(d.into.Scopes, min(n, 4))
	for range n {
		resource, err := d.resource(d.s.uvarint())
		if err != nil {
			return err
		}
		scope, err := d.scope(d.s.uvarint())
		if err != nil {
			return err
		}
		d.groups = append(d.groups, group{resource, scope})
	}
	return nil
}

func (d *Decoder) resource(id uint64) (int, error) {
	if at, ok := d.resources[id]; ok {
		return at, nil
	}
	enc, err := d.dict.ResourceBytes(id)
	if err != nil {
		return 0, fmt.Errorf("resource %d: %w", id, err)
	}
	r, err := decodeResource(enc)
	if err != nil {
		return 0, fmt.Errorf("resource %d: %w", id, err)
	}
	at := len(d.into.Resources)
	d.into.Resources = append(d.into.Resources, r)
	d.resources[id] = at
	return at, nil
}

func (d *Decoder) scope(id uint64) (int, error) {
	if at, ok := d.scopes[id]; ok {
		return at, nil
	}
	enc, err := d.dict.ResourceBytes(id)
	if err != nil {
		return 0, fmt.Errorf("scope %d: %w", id, err)
	}
	s, err := decodeScope(enc)
	if err != nil {
		return 0, fmt.Errorf("scope %d: %w", id, err)
	}
	at := len(d.into.Scopes)
	d.into.Scopes = append(d.into.Scopes, s)
	d.scopes[id] = at
	return at, nil
}

func (d *Decoder) span(s *span.Span, i, n int, base, unit uint64) {
	s.Start = base + d.n.uvarint()*unit
	length := d.n.uvarint() * unit
	copy(s.ID[:], d.r.take(8))

	head := d.s.byte()
	s.Kind = span.Kind(head & kindBits)
	if s.Kind == kindEscape {
		s.Kind = span.Kind(d.s.byte())
	}
	s.Status = span.Status(head >> statusShift & 3)
	if s.Status == statusEscape {
		s.Status = span.Status(d.s.byte())
	}
	d.parent(s, n, head>>parentShift&3)
	g := d.s.uvarint()
	if g >= uint64(len(d.groups)) {
		d.fail("span %d is of resource %d of %d", i, g, len(d.groups))
		return
	}
	s.Resource, s.Scope = d.groups[g].resource, d.groups[g].scope
	s.Flags = d.s.uint32()
	var extras uint32
	if head&hasExtras != 0 {
		extras = d.s.uint32()
	}
	if extras&extraNegative != 0 {
		length = -length
	}
	s.End = s.Start + length
	s.Name = d.str()
	s.Attrs = d.attrs()
	if extras != 0 {
		d.extras(s, extras)
	}
}

// Where a span's parent is to be had once all spans are read, if not an index.
const (
	refDone = -1
	refSame = -2
)

// parent reads one; that of a span further on is known only when that has been read.
func (d *Decoder) parent(s *span.Span, spans int, how byte) {
	ref := refDone
	switch how {
	case parentRaw:
		copy(s.Parent[:], d.r.take(8))
	case parentSame:
		ref = refSame
	case parentRef:
		at := d.s.uvarint()
		if at >= uint64(spans) {
			d.fail("parent is span %d of %d", at, spans)
			return
		}
		ref = int(at)
	}
	d.refs = append(d.refs, ref)
}

func (d *Decoder) resolve(spans []span.Span) {
	for i, ref := range d.refs {
		switch {
		case ref >= 0:
			spans[i].Parent = spans[ref].ID
		case ref == refSame && i > 0:
			spans[i].Parent = spans[i-1].Parent
		}
	}
}

func (d *Decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = errorf(format, args...)
	}
}

func (d *Decoder) extras(s *span.Span, mask uint32) {
	if mask&extraState != 0 {
		s.State = d.str()
	}
	if mask&extraMessage != 0 {
		s.Message = d.str()
	}
	if mask&extraDropped != 0 {
		s.DroppedAttrs = d.s.uint32()
		s.DroppedEvents = d.s.uint32()
		s.DroppedLinks = d.s.uint32()
	}
	if mask&extraEvents != 0 {
		d.events(s)
	}
	if mask&extraLinks != 0 {
		d.links(s)
	}
}

func (d *Decoder) events(s *span.Span) {
	n := d.s.count(3)
	if n == 0 {
		return
	}
	s.Events = make([]span.Event, n)
	for i := range s.Events {
		e := &s.Events[i]
		e.Time = s.Start + unzigzag(d.n.uvarint())
		e.Dropped = d.s.uint32()
		e.Name = d.str()
		e.Attrs = d.attrs()
		if d.stuck() {
			return
		}
	}
}

func (d *Decoder) links(s *span.Span) {
	n := d.s.count(5)
	if n == 0 {
		return
	}
	s.Links = make([]span.Link, n)
	for i := range s.Links {
		l := &s.Links[i]
		if d.s.byte() == linkInTrace {
			l.TraceID = s.TraceID
		} else {
			copy(l.TraceID[:], d.r.take(16))
		}
		copy(l.ID[:], d.r.take(8))
		l.Flags = d.s.uint32()
		l.Dropped = d.s.uint32()
		l.State = d.str()
		l.Attrs = d.attrs()
		if d.stuck() {
			return
		}
	}
}

func (d *Decoder) stuck() bool {
	return d.err != nil || d.s.bad || d.n.bad || d.r.bad
}

// list gives the keys and types of attributes.
func (d *Decoder) list() []span.Attr {
	code := d.s.uvarint()
	switch {
	case code == listNone:
		return nil
	case code == listInline:
		return d.keys(&d.s)
	case code-listDict > math.MaxUint32:
		d.fail("key list %d is no number of the dictionary", code)
		return nil
	}
	id := uint32(code - listDict)
	if l, ok := d.lists[id]; ok {
		return l
	}
	enc, err := d.dict.String(id)
	if err != nil {
		d.err = errors.Join(d.err, err)
		return nil
	}
	c := cursor{buf: enc}
	l := d.keys(&c)
	if err := c.end("key list"); err != nil {
		d.err = errors.Join(d.err, err)
		return nil
	}
	if len(l) > maxListKeys {
		d.fail("key list %d has %d keys", id, len(l))
		return nil
	}
	d.lists[id] = l
	return l
}

func (d *Decoder) keys(c *cursor) []span.Attr {
	l := make([]span.Attr, c.count(2))
	for i := range l {
		if code := c.uvarint(); code == codeRaw {
			l[i].Key = c.str()
		} else {
			l[i].Key = d.known(code)
		}
		l[i].Value.Type = span.Type(c.byte())
	}
	return l
}

// known gives a string of the dictionary.
func (d *Decoder) known(code uint64) string {
	id := code - codeDict
	if id > math.MaxUint32 {
		d.fail("string code %d", code)
		return ""
	}
	s, err := d.dict.String(uint32(id))
	if err != nil {
		d.err = errors.Join(d.err, err)
	}
	return s
}

// slabAttrs is how many attributes are allocated at once at most, 12 KiB: with fewer,
// allocation shows in the time a span takes; with more, who keeps one span of a trace
// keeps much beside it. Unmeasured.
const slabAttrs = 256

func (d *Decoder) attrs() []span.Attr {
	l := d.list()
	if len(l) == 0 || d.stuck() {
		return nil
	}
	if len(d.slab) < len(l) {
		d.slab = make([]span.Attr, max(len(l), min(slabAttrs, d.left*len(l))))
	}
	attrs := d.slab[:len(l):len(l)]
	d.slab = d.slab[len(l):]
	for i := range attrs {
		attrs[i].Key = l[i].Key
		v := &attrs[i].Value
		v.Type = l[i].Value.Type
		switch v.Type {
		case span.TypeEmpty:
		case span.TypeString, span.TypeArray, span.TypeMap, span.TypeBytes:
			v.Str = d.str()
		case span.TypeBool:
			v.Num = d.s.uvarint()
		case span.TypeInt:
			v.Num = d.integer()
		case span.TypeDouble:
			v.Num = d.double()
		default:
			v.Num = d.integer()
			v.Str = d.str()
		}
	}
	return attrs
}

func (d *Decoder) integer() uint64 {
	if short := d.s.uvarint(); short != 0 {
		return unzigzag(short - 1)
	}
	return unzigzag(d.n.uvarint())
}

func (d *Decoder) double() uint64 {
	if d.s.byte() == doubleInt {
		return math.Float64bits(float64(int64(unzigzag(d.n.uvarint()))))
	}
	return d.r.fixed64()
}
