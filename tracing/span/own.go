package span

import "unsafe"

// Own copies all strings of b out of the memory that they lie in, into memory that
// belongs to b and is never used again for something else, so that what is taken from
// b stays as it is.
func (b *Batch) Own() {
	size := 0
	b.strings(func(s *string) { size += len(*s) })
	memory := make([]byte, 0, size)
	b.strings(func(s *string) {
		lo := len(memory)
		memory = append(memory, *s...)
		*s = unsafe.String(unsafe.SliceData(memory[lo:]), len(*s))
	})
}

// strings calls f with every string of b.
func (b *Batch) strings(f func(*string)) {
	for i := range b.Resources {
		r := &b.Resources[i]
		f(&r.SchemaURL)
		f(&r.Service)
		attrStrings(r.Attrs, f)
	}
	for i := range b.Scopes {
		s := &b.Scopes[i]
		f(&s.Name)
		f(&s.Version)
		f(&s.SchemaURL)
		attrStrings(s.Attrs, f)
	}
	for i := range b.Spans {
		b.Spans[i].strings(f)
	}
}

func (s *Span) strings(f func(*string)) {
	f(&s.State)
	f(&s.Name)
	f(&s.Message)
	attrStrings(s.Attrs, f)
	for i := range s.Events {
		f(&s.Events[i].Name)
		attrStrings(s.Events[i].Attrs, f)
	}
	for i := range s.Links {
		f(&s.Links[i].State)
		attrStrings(s.Links[i].Attrs, f)
	}
}

func attrStrings(attrs []Attr, f func(*string)) {
	for i := range attrs {
		f(&attrs[i].Key)
		f(&attrs[i].Value.Str)
	}
}
