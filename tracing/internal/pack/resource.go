package pack

import (
	"encoding/binary"

	"github.com/weir-dev/weir/tracing/span"
)

// First byte of what [Dict.Resource] gets.
const (
	encResource = 'R'
	encScope    = 'S'
)

// Whether a resource's service is that of its attributes.
const (
	serviceOfAttrs = iota
	serviceApart
)

// resource asks for the number of the resource with an index in the batch.
func (a *Appender) resource(i int) uint64 {
	if uint(i) >= uint(len(a.resources)) {
		return a.dict.Resource(appendResource(a.enc[:0], &span.Resource{}))
	}
	if !a.haveRes[i] {
		a.enc = appendResource(a.enc[:0], &a.batch.Resources[i])
		a.resources[i], a.haveRes[i] = a.dict.Resource(a.enc), true
	}
	return a.resources[i]
}

func (a *Appender) scope(i int) uint64 {
	if uint(i) >= uint(len(a.scopes)) {
		return a.dict.Resource(appendScope(a.enc[:0], &span.Scope{}))
	}
	if !a.haveSc[i] {
		a.enc = appendScope(a.enc[:0], &a.batch.Scopes[i])
		a.scopes[i], a.haveSc[i] = a.dict.Resource(a.enc), true
	}
	return a.scopes[i]
}

func appendResource(dst []byte, r *span.Resource) []byte {
	dst = append(dst, encResource)
	dst = binary.AppendUvarint(dst, uint64(r.Dropped))
	dst = appendString(dst, r.SchemaURL)
	if r.Service == serviceOf(r.Attrs) {
		dst = append(dst, serviceOfAttrs)
	} else {
		dst = appendString(append(dst, serviceApart), r.Service)
	}
	return appendPlain(dst, r.Attrs)
}

func appendScope(dst []byte, s *span.Scope) []byte {
	dst = append(dst, encScope)
	dst = binary.AppendUvarint(dst, uint64(s.Dropped))
	dst = appendString(dst, s.SchemaURL)
	dst = appendString(dst, s.Name)
	dst = appendString(dst, s.Version)
	return appendPlain(dst, s.Attrs)
}

func serviceOf(attrs []span.Attr) string {
	for i := range attrs {
		if attrs[i].Key == "service.name" && attrs[i].Value.Type == span.TypeString {
			return attrs[i].Value.Str
		}
	}
	return ""
}

// appendPlain appends attributes without a dictionary.
func appendPlain(dst []byte, attrs []span.Attr) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(attrs)))
	for i := range attrs {
		v := &attrs[i].Value
		dst = appendString(dst, attrs[i].Key)
		dst = append(dst, byte(v.Type))
		switch v.Type {
		case span.TypeEmpty:
		case span.TypeString, span.TypeArray, span.TypeMap, span.TypeBytes:
			dst = appendString(dst, v.Str)
		case span.TypeBool, span.TypeInt:
			dst = binary.AppendUvarint(dst, zigzag(v.Num))
		case span.TypeDouble:
			dst = binary.BigEndian.AppendUint64(dst, v.Num)
		default:
			dst = appendString(binary.AppendUvarint(dst, zigzag(v.Num)), v.Str)
		}
	}
	return dst
}

// decodeResource reads what appendResource wrote. All its strings lie in one.
func decodeResource(enc []byte) (r span.Resource, err error) {
	c := cursor{buf: string(enc)}
	if c.byte() != encResource {
		return r, errorf("resource begins with a byte other than %q", encResource)
	}
	r.Dropped = c.uint32()
	r.SchemaURL = c.str()
	apart := c.byte()
	if apart == serviceApart {
		r.Service = c.str()
	}
	r.Attrs = c.plain()
	if apart == serviceOfAttrs {
		r.Service = serviceOf(r.Attrs)
	}
	return r, c.end("resource")
}

func decodeScope(enc []byte) (s span.Scope, err error) {
	c := cursor{buf: string(enc)}
	if c.byte() != encScope {
		return s, errorf("scope begins with a byte other than %q", encScope)
	}
	s.Dropped = c.uint32()
	s.SchemaURL = c.str()
	s.Name = c.str()
	s.Version = c.str()
	s.Attrs = c.plain()
	return s, c.end("scope")
}

func (c *cursor) plain() []span.Attr {
	n := c.count(2)
	if n == 0 {
		return nil
	}
	attrs := make([]span.Attr, n)
	for i := range attrs {
		at := &attrs[i]
		at.Key = c.str()
		v := &at.Value
		v.Type = span.Type(c.byte())
		switch v.Type {
		case span.TypeEmpty:
		case span.TypeString, span.TypeArray, span.TypeMap, span.TypeBytes:
			v.Str = c.str()
		case span.TypeBool, span.TypeInt:
			v.Num = unzigzag(c.uvarint())
		case span.TypeDouble:
			v.Num = c.fixed64()
		default:
			v.Num = unzigzag(c.uvarint())
			v.Str = c.str()
		}
	}
	return attrs
}
