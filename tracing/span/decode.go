package span

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"
)

// maxDepth bounds how deep arrays and maps of attributes may lie in each other, and so
// the stack that a body can ask for. Real ones are less than 10 deep; the generated
// decoders of other languages stop at 100.
const maxDepth = 64

// Decode reads an ExportTraceServiceRequest or TracesData. What b held is gone, also
// after an error, which wraps [ErrMalformed] and names message, field and byte, or
// wraps [ErrTooLarge]. The strings of b lie in body afterwards: see Own.
//
// Fields that OTLP does not have, and entity references of resources, are skipped. A
// kind or status that it does not have reads as unspecified. Bytes that are not UTF-8
// are kept. Ids must have 16 and 8 bytes, or none, which reads as zeros.
func (b *Batch) Decode(body []byte) error {
	b.Reset()
	b.used = 0
	f := open("TracesData", body, 0, len(body))
	for f.next() {
		if f.num == 1 && f.is(wireLen) && b.take(&f, sizeResource) {
			f.err = b.resourceSpans(&f)
		}
	}
	if f.err != nil {
		b.Reset()
	}
	return f.err
}

// Reset makes b empty and keeps its memory, but none of the strings.
func (b *Batch) Reset() {
	clear(b.Resources)
	clear(b.Scopes)
	clear(b.Spans)
	clear(b.attrs)
	clear(b.nested)
	clear(b.events)
	clear(b.links)
	*b = Batch{
		MaxBytes: b.MaxBytes, Resources: b.Resources[:0], Scopes: b.Scopes[:0], Spans: b.Spans[:0],
		attrs: b.attrs[:0], nested: b.nested[:0], events: b.events[:0], links: b.links[:0],
	}
}

// Size is the bytes that an empty b holds on to.
func (b *Batch) Size() int {
	return cap(b.Resources)*sizeResource + cap(b.Scopes)*sizeScope + cap(b.Spans)*sizeSpan +
		(cap(b.attrs)+cap(b.nested))*sizeAttr + cap(b.events)*sizeEvent + cap(b.links)*sizeLink
}

const (
	sizeResource = int(unsafe.Sizeof(Resource{}))
	sizeScope    = int(unsafe.Sizeof(Scope{}))
	sizeSpan     = int(unsafe.Sizeof(Span{}))
	sizeAttr     = int(unsafe.Sizeof(Attr{}))
	sizeEvent    = int(unsafe.Sizeof(Event{}))
	sizeLink     = int(unsafe.Sizeof(Link{}))
)

// ErrTooLarge is wrapped by the error of a Decode that met MaxBytes.
var ErrTooLarge = errors.New("decoded spans take too much memory")

// take notes n bytes of memory for the current field of f.
func (b *Batch) take(f *fields, n int) bool {
	if b.used += n; b.used > b.MaxBytes && b.MaxBytes > 0 {
		f.err = fmt.Errorf("%w: more than %d bytes after %d of %d bytes", ErrTooLarge, b.MaxBytes, f.from, len(f.b))
		return false
	}
	return true
}

// attribute appends a KeyValue to dst.
func (b *Batch) attribute(parent *fields, dst *[]Attr) error {
	if !b.take(parent, sizeAttr) {
		return parent.err
	}
	return attribute(parent, dst)
}

func (b *Batch) resourceSpans(parent *fields) error {
	r := len(b.Resources)
	b.Resources = append(b.Resources, Resource{})
	scopes, old := 0, false
	f := parent.inner("ResourceSpans")
	for f.next() {
		switch f.num {
		case 1:
			if f.is(wireLen) {
				f.err = b.resource(&f, &b.Resources[r])
			}
		case 2:
			if f.is(wireLen) && b.take(&f, sizeScope) {
				f.err = b.scopeSpans(&f, r)
				scopes++
			}
		case 3:
			if f.is(wireLen) {
				b.Resources[r].SchemaURL = f.str()
			}
		case 1000: // scopes as they were before OTLP 0.15, for receivers that know no others
			old = f.is(wireLen)
		}
	}
	if f.err == nil && old && scopes == 0 {
		return b.oldScopeSpans(parent, r)
	}
	return f.err
}

func (b *Batch) oldScopeSpans(parent *fields, r int) error {
	f := parent.inner("ResourceSpans")
	for f.next() {
		if f.num == 1000 && b.take(&f, sizeScope) {
			f.err = b.scopeSpans(&f, r)
		}
	}
	return f.err
}

func (b *Batch) resource(parent *fields, r *Resource) error {
	lo := again(&b.attrs, r.Attrs)
	f := parent.inner("Resource")
	for f.next() {
		switch f.num {
		case 1:
			if f.is(wireLen) {
				f.err = b.attribute(&f, &b.attrs)
			}
		case 2:
			if f.is(wireVarint) {
				r.Dropped = uint32(f.u)
			}
		case 3:
			if f.is(wireLen) {
				f.err = entityRef(&f)
			}
		}
	}
	r.Attrs = since(b.attrs, lo)
	r.Service = serviceOf(r.Attrs)
	return f.err
}

// serviceOf returns the service.name among the attributes of a resource.
func serviceOf(attrs []Attr) string {
	for i := range attrs {
		if attrs[i].Key == "service.name" {
			if attrs[i].Value.Type == TypeString {
				return attrs[i].Value.Str
			}
			return ""
		}
	}
	return ""
}

// entityRef checks what is not kept.
func entityRef(parent *fields) error {
	f := parent.inner("EntityRef")
	for f.next() {
		if f.num <= 4 {
			f.is(wireLen)
		}
	}
	return f.err
}

func (b *Batch) scopeSpans(parent *fields, resource int) error {
	s := len(b.Scopes)
	b.Scopes = append(b.Scopes, Scope{})
	f := parent.inner("ScopeSpans")
	for f.next() {
		switch f.num {
		case 1:
			if f.is(wireLen) {
				f.err = b.scope(&f, &b.Scopes[s])
			}
		case 2:
			if f.is(wireLen) && b.take(&f, sizeSpan) {
				b.Spans = append(b.Spans, Span{Resource: resource, Scope: s})
				f.err = b.span(&f, &b.Spans[len(b.Spans)-1])
			}
		case 3:
			if f.is(wireLen) {
				b.Scopes[s].SchemaURL = f.str()
			}
		}
	}
	return f.err
}

func (b *Batch) scope(parent *fields, s *Scope) error {
	lo := again(&b.attrs, s.Attrs)
	f := parent.inner("InstrumentationScope")
	for f.next() {
		switch f.num {
		case 1:
			if f.is(wireLen) {
				s.Name = f.str()
			}
		case 2:
			if f.is(wireLen) {
				s.Version = f.str()
			}
		case 3:
			if f.is(wireLen) {
				f.err = b.attribute(&f, &b.attrs)
			}
		case 4:
			if f.is(wireVarint) {
				s.Dropped = uint32(f.u)
			}
		}
	}
	s.Attrs = since(b.attrs, lo)
	return f.err
}

// again puts attributes that a message had already to the end of dst, where those of
// its second part will follow: parts of a message are merged.
func again(dst *[]Attr, had []Attr) (lo int) {
	lo = len(*dst)
	*dst = append(*dst, had...)
	return lo
}

// since is all from lo on; who appends to it writes elsewhere.
func since[T any](s []T, lo int) []T {
	if lo == len(s) {
		return nil
	}
	return slices.Clip(s[lo:])
}
