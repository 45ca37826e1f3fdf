package span

func (b *Batch) span(parent *fields, s *Span) error {
	attrs, events, links := len(b.attrs), len(b.events), len(b.links)
	f := parent.inner("Span")
	for f.next() {
		switch f.num {
		case 9:
			if f.is(wireLen) {
				f.err = b.attribute(&f, &b.attrs)
			}
		case 11:
			if f.is(wireLen) && b.take(&f, sizeEvent) {
				b.events = append(b.events, Event{})
				f.err = b.event(&f, &b.events[len(b.events)-1])
			}
		case 13:
			if f.is(wireLen) && b.take(&f, sizeLink) {
				b.links = append(b.links, Link{})
				f.err = b.link(&f, &b.links[len(b.links)-1])
			}
		case 15:
			if f.is(wireLen) {
				f.err = status(&f, s)
			}
		default:
			s.plain(&f)
		}
	}
	s.Attrs, s.Events, s.Links = since(b.attrs, attrs), since(b.events, events), since(b.links, links)
	return f.err
}

// plain reads the fields that are no messages.
func (s *Span) plain(f *fields) {
	switch f.num {
	case 1:
		f.traceID(&s.TraceID)
	case 2:
		f.id(&s.ID)
	case 3:
		if f.is(wireLen) {
			s.State = f.str()
		}
	case 4:
		f.id(&s.Parent)
	case 5:
		if f.is(wireLen) {
			s.Name = f.str()
		}
	case 6:
		if f.is(wireVarint) {
			s.Kind = Kind(known(f.u, uint64(KindConsumer)))
		}
	case 7:
		if f.is(wireFixed64) {
			s.Start = f.u
		}
	case 8:
		if f.is(wireFixed64) {
			s.End = f.u
		}
	case 10:
		f.uint32(&s.DroppedAttrs)
	case 12:
		f.uint32(&s.DroppedEvents)
	case 14:
		f.uint32(&s.DroppedLinks)
	case 16:
		f.flags(&s.Flags)
	}
}

func status(parent *fields, s *Span) error {
	f := parent.inner("Status")
	for f.next() {
		switch f.num {
		case 2:
			if f.is(wireLen) {
				s.Message = f.str()
			}
		case 3:
			if f.is(wireVarint) {
				s.Status = Status(known(f.u, uint64(StatusError)))
			}
		}
	}
	return f.err
}

func (b *Batch) event(parent *fields, e *Event) error {
	lo := len(b.nested)
	f := parent.inner("Span.Event")
	for f.next() {
		switch f.num {
		case 1:
			if f.is(wireFixed64) {
				e.Time = f.u
			}
		case 2:
			if f.is(wireLen) {
				e.Name = f.str()
			}
		case 3:
			if f.is(wireLen) {
				f.err = b.attribute(&f, &b.nested)
			}
		case 4:
			f.uint32(&e.Dropped)
		}
	}
	e.Attrs = since(b.nested, lo)
	return f.err
}

func (b *Batch) link(parent *fields, l *Link) error {
	lo := len(b.nested)
	f := parent.inner("Span.Link")
	for f.next() {
		switch f.num {
		case 1:
			f.traceID(&l.TraceID)
		case 2:
			f.id(&l.ID)
		case 3:
			if f.is(wireLen) {
				l.State = f.str()
			}
		case 4:
			if f.is(wireLen) {
				f.err = b.attribute(&f, &b.nested)
			}
		case 5:
			f.uint32(&l.Dropped)
		case 6:
			f.flags(&l.Flags)
		}
	}
	l.Attrs = since(b.nested, lo)
	return f.err
}

func (f *fields) traceID(id *TraceID) {
	switch {
	case !f.is(wireLen):
	case f.hi-f.lo == len(id):
		*id = TraceID(f.b[f.lo:f.hi])
	case f.hi == f.lo:
		*id = TraceID{}
	default:
		f.fail("a trace id of %d bytes, want 16", f.hi-f.lo)
	}
}

func (f *fields) id(id *ID) {
	switch {
	case !f.is(wireLen):
	case f.hi-f.lo == len(id):
		*id = ID(f.b[f.lo:f.hi])
	case f.hi == f.lo:
		*id = ID{}
	default:
		f.fail("a span id of %d bytes, want 8", f.hi-f.lo)
	}
}

func (f *fields) uint32(v *uint32) {
	if f.is(wireVarint) {
		*v = uint32(f.u)
	}
}

func (f *fields) flags(v *uint32) {
	if f.is(wireFixed32) {
		*v = uint32(f.u)
	}
}

// known returns the number of an enum's value, 0 for one above last. An enum is 32
// bits of a varint.
func known(u, last uint64) uint64 {
	if u = uint64(uint32(u)); u > last {
		return 0
	}
	return u
}

// attribute appends a KeyValue to dst, however large that becomes.
func attribute(parent *fields, dst *[]Attr) error {
	*dst = append(*dst, Attr{})
	return keyValue(parent, &(*dst)[len(*dst)-1], 0)
}

func keyValue(parent *fields, a *Attr, depth int) error {
	f := parent.inner("KeyValue")
	for f.next() {
		switch f.num {
		case 1:
			if f.is(wireLen) {
				a.Key = f.str()
			}
		case 2:
			if f.is(wireLen) {
				f.err = anyValue(&f, &a.Value, depth)
			}
		case 3: // index of the key among a profile's strings
			f.is(wireVarint)
		}
	}
	return f.err
}

// anyValue reads an AnyValue into v. What lies in an array or map is checked and left
// as it is.
func anyValue(parent *fields, v *Value, depth int) error {
	f := parent.inner("AnyValue")
	for f.next() {
		switch f.num {
		case 1:
			if f.is(wireLen) {
				*v = Value{Type: TypeString, Str: f.str()}
			}
		case 2:
			if f.is(wireVarint) {
				*v = BoolValue(f.u != 0)
			}
		case 3:
			if f.is(wireVarint) {
				*v = Value{Type: TypeInt, Num: f.u}
			}
		case 4:
			if f.is(wireFixed64) {
				*v = Value{Type: TypeDouble, Num: f.u}
			}
		case 5, 6:
			if f.is(wireLen) {
				f.err = checkNested(&f, depth+1)
				*v = Value{Type: TypeArray + Type(f.num-5), Str: f.str()}
			}
		case 7:
			if f.is(wireLen) {
				*v = Value{Type: TypeBytes, Str: f.str()}
			}
		case 8: // index of a string among those of a profile: here there are none
			if f.is(wireVarint) {
				*v = Value{}
			}
		}
	}
	return f.err
}

// checkNested reads an ArrayValue (field 5 of AnyValue) or KeyValueList (field 6).
func checkNested(parent *fields, depth int) error {
	if depth > maxDepth {
		parent.fail("arrays and maps more than %d deep", maxDepth)
		return parent.err
	}
	f := parent.inner([...]string{"ArrayValue", "KeyValueList"}[parent.num-5])
	for f.next() {
		if f.num != 1 || !f.is(wireLen) {
			continue
		}
		var a Attr
		if parent.num == 5 {
			f.err = anyValue(&f, &a.Value, depth)
		} else {
			f.err = keyValue(&f, &a, depth)
		}
	}
	return f.err
}
