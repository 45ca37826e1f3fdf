package tracing

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weir-dev/weir/tracing/span"
)

// The marks of a span that is stored otherwise than it was sent, or is odd.
const (
	truncatedKey = "weir.truncated" // what was cut or repaired: "attributes, attribute_value db.statement"
	warningKey   = "weir.warning"
)

const (
	// maxKeyBytes bounds the key of an attribute. unmeasured: semantic conventions
	// stay below 60.
	maxKeyBytes = 1 << 10
	// maxNotes bounds the mark of one span.
	maxNotes = 16
	// maxShown bounds the bytes of an array or map that is turned into text to be cut:
	// decoded it takes 20 times as much.
	maxShown = 1 << 20
)

// cleaner makes the spans of one request fit to store: bounded, and in UTF-8. It works
// in the batch's memory.
type cleaner struct {
	limits *Limits
	latest uint64 // Unix nanoseconds a span may start and end at
	ledger *ledger
	notes  []string // of what is at hand
	seen   uint16   // changes of what is at hand, a bit each
}

// sanitize cuts and repairs what of b exceeds the limits, marks it where it does, and
// tells by refused[i] whether, and why, span i cannot be stored; 0 is no reason.
func (c *cleaner) sanitize(b *span.Batch, refused []outcome) {
	for i := range b.Resources {
		c.resource(&b.Resources[i])
	}
	for i := range b.Scopes {
		s := &b.Scopes[i]
		c.name(&s.Name)
		c.name(&s.Version)
		c.name(&s.SchemaURL)
		c.attrs(&s.Attrs, &s.Dropped)
		c.mark(&s.Attrs)
	}
	for i := range b.Spans {
		refused[i] = c.span(&b.Spans[i])
	}
}

func (c *cleaner) resource(r *span.Resource) {
	service := -1
	for i := range r.Attrs {
		if a := &r.Attrs[i]; a.Key == "service.name" && a.Value.Type == span.TypeString && a.Value.Str != "" {
			service = i
			break
		}
	}
	if service < 0 {
		c.note(noService, "")
		c.count() // not a truncation
	} else if service >= c.limits.MaxAttributes && c.limits.MaxAttributes > 0 {
		r.Attrs[0], r.Attrs[service] = r.Attrs[service], r.Attrs[0]
	}
	c.name(&r.SchemaURL)
	c.attrs(&r.Attrs, &r.Dropped)
	c.text(&r.Service, int(c.limits.MaxAttributeBytes), cutValue, "service.name")
	c.mark(&r.Attrs)
}

func (c *cleaner) span(s *span.Span) outcome {
	switch {
	case s.TraceID.IsZero() || s.ID.IsZero():
		return zeroID
	case s.Start > c.latest || s.End > c.latest:
		return tooNew
	}
	c.name(&s.Name)
	c.name(&s.State)
	c.name(&s.Message)
	c.attrs(&s.Attrs, &s.DroppedAttrs)
	if most := c.limits.MaxEvents; most > 0 && len(s.Events) > most {
		s.DroppedEvents += uint32(len(s.Events) - most)
		s.Events = s.Events[:most:most]
		c.note(cutEvents, "")
	}
	for i := range s.Events {
		e := &s.Events[i]
		c.name(&e.Name)
		c.attrs(&e.Attrs, &e.Dropped)
	}
	if most := c.limits.MaxLinks; most > 0 && len(s.Links) > most {
		s.DroppedLinks += uint32(len(s.Links) - most)
		s.Links = s.Links[:most:most]
		c.note(cutLinks, "")
	}
	for i := range s.Links {
		l := &s.Links[i]
		c.name(&l.State)
		c.attrs(&l.Attrs, &l.Dropped)
	}
	if c.seen != 0 {
		c.mark(&s.Attrs)
	}
	if s.End < s.Start {
		c.ledger.changed[backwards].Add(1)
		s.Attrs = append(s.Attrs, span.Attr{Key: warningKey, Value: span.StringValue(early(s))})
	}
	return 0
}

// early says by how much a span ends before it starts.
func early(s *span.Span) string {
	if d := s.Start - s.End; d < 1<<62 {
		return fmt.Sprintf("ends %v before it starts", time.Duration(d))
	}
	return "ends before it starts"
}

func (c *cleaner) attrs(attrs *[]span.Attr, dropped *uint32) {
	if most := c.limits.MaxAttributes; most > 0 && len(*attrs) > most {
		*dropped += uint32(len(*attrs) - most)
		*attrs = (*attrs)[:most:most]
		c.note(cutAttributes, "")
	}
	most := int(c.limits.MaxAttributeBytes)
	for i := range *attrs {
		a := &(*attrs)[i]
		c.text(&a.Key, maxKeyBytes, cutName, "")
		switch v := &a.Value; v.Type {
		case span.TypeString:
			c.text(&v.Str, most, cutValue, a.Key)
		case span.TypeBytes:
			if most > 0 && len(v.Str) > most {
				v.Str = v.Str[:most]
				c.note(cutValue, a.Key)
			}
		case span.TypeArray, span.TypeMap:
			c.nested(v, most, a.Key)
		}
	}
}

// nested makes text of an array or map that is too large, and cuts that.
func (c *cleaner) nested(v *span.Value, most int, key string) {
	if most > 0 && len(v.Str) > most {
		text := fmt.Sprintf("array or map of %d bytes", len(v.Str))
		if len(v.Str) <= maxShown {
			text = v.Text()
		}
		*v = span.StringValue(text)
		c.note(cutValue, key)
		c.text(&v.Str, most, cutValue, key)
		return
	}
	if !utf8.ValidString(v.Str) { // which lengths and numbers in it may be the cause of
		if repaired, did := repair(*v); did {
			*v = repaired
			c.note(badUTF8, key)
		}
	}
}

// repair is v with all strings in UTF-8, and whether that made a difference.
func repair(v span.Value) (span.Value, bool) {
	changed := false
	switch v.Type {
	case span.TypeString:
		if utf8.ValidString(v.Str) {
			return v, false
		}
		return span.StringValue(strings.ToValidUTF8(v.Str, "\uFFFD")), true
	case span.TypeArray:
		elements, _ := v.Elements() // Decode has checked it
		for i, e := range elements {
			r, did := repair(e)
			elements[i], changed = r, changed || did
		}
		if changed {
			v = span.ArrayValue(elements...)
		}
	case span.TypeMap:
		entries, _ := v.Entries()
		for i, e := range entries {
			r, did := repair(e.Value)
			key := strings.ToValidUTF8(e.Key, "\uFFFD")
			changed = changed || did || key != e.Key
			entries[i] = span.Attr{Key: key, Value: r}
		}
		if changed {
			v = span.MapValue(entries...)
		}
	}
	return v, changed
}

func (c *cleaner) name(s *string) { c.text(s, int(c.limits.MaxAttributeBytes), cutName, "") }

// text cuts s to most bytes, between characters, and repairs what is not UTF-8.
func (c *cleaner) text(s *string, most int, cut change, key string) {
	if most > 0 && len(*s) > most {
		*s = prefix(*s, most)
		c.note(cut, key)
	}
	if utf8.ValidString(*s) {
		return
	}
	*s = strings.ToValidUTF8(*s, "\uFFFD")
	if most > 0 && len(*s) > most { // it has become longer
		*s = prefix(*s, most)
	}
	c.note(badUTF8, key)
}

// prefix is the first at most n bytes of s, less those of a character cut in two.
func prefix(s string, n int) string {
	for i := n; i > n-utf8.UTFMax && i > 0; i-- {
		if utf8.RuneStart(s[i]) {
			return s[:i]
		}
	}
	return s[:n]
}

// note remembers what was changed of what is at hand.
func (c *cleaner) note(what change, key string) {
	if key == "" && c.seen&(1<<what) != 0 {
		return
	}
	c.seen |= 1 << what
	if len(c.notes) == maxNotes {
		return
	}
	text := what.String()
	if key != "" {
		text += " " + prefix(key+" ", min(len(key), 64))
	}
	c.notes = append(c.notes, text)
}

// mark writes what was noted among attributes, and forgets it.
func (c *cleaner) mark(attrs *[]span.Attr) {
	if c.seen == 0 {
		return
	}
	text := strings.ToValidUTF8(strings.Join(c.notes, ", "), "\uFFFD")
	*attrs = append(*attrs, span.Attr{Key: truncatedKey, Value: span.StringValue(text)})
	c.count()
}

// count counts what was noted, and forgets it.
func (c *cleaner) count() {
	for what := range numChanges {
		if c.seen&(1<<what) != 0 {
			c.ledger.changed[what].Add(1)
		}
	}
	c.seen, c.notes = 0, c.notes[:0]
}
