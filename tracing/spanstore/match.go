package spanstore

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"time"

	"github.com/weir-dev/weir/tracing/span"
)

// Matches tells whether span i of the batch is one that q asks for. A pattern that
// does not compile matches nothing; who asks more than once makes a [Matcher].
func Matches(q Query, b *span.Batch, i int) bool {
	m, err := NewMatcher(q)
	return err == nil && m.Match(b, i)
}

// Matcher is a query made ready to be asked of many spans, by many at once.
type Matcher struct {
	q          Query
	start, end uint64 // Unix nanoseconds, both inclusive
	where      []condition
}

// NewMatcher refuses an operator it does not know and a pattern that is none.
func NewMatcher(q Query) (*Matcher, error) {
	m := &Matcher{q: q, start: nanos(q.Start, 0), end: nanos(q.End, math.MaxUint64)}
	for _, c := range q.Where {
		made, err := newCondition(c)
		if err != nil {
			return nil, fmt.Errorf("condition on attribute %q: %w", c.Key, err)
		}
		m.where = append(m.where, made)
	}
	return m, nil
}

func nanos(t time.Time, open uint64) uint64 {
	switch {
	case t.IsZero():
		return open
	case t.Unix() < 0:
		return 0
	case t.Year() > 2500: // past what 64 bits of nanoseconds hold
		return math.MaxUint64
	}
	return uint64(t.UnixNano())
}

// Match tells whether span i of the batch fulfils everything at once; the limit is
// not its matter.
func (m *Matcher) Match(b *span.Batch, i int) bool {
	q, s := &m.q, &b.Spans[i]
	if s.Start < m.start || s.Start > m.end {
		return false
	}
	if q.Operation != "" && s.Name != q.Operation || q.Kind != span.KindUnspecified && s.Kind != q.Kind {
		return false
	}
	if q.Service != "" && resource(b, s).Service != q.Service {
		return false
	}
	d := s.Duration()
	if q.MinDuration > 0 && d < uint64(q.MinDuration) || q.MaxDuration > 0 && d > uint64(q.MaxDuration) {
		return false
	}
	if q.Error != nil && *q.Error != (s.Status == span.StatusError) {
		return false
	}
	if q.Root && !s.Parent.IsZero() {
		return false
	}
	for k := range m.where {
		if !m.where[k].match(b, s) {
			return false
		}
	}
	return true
}

// nobody stands for the resource of a span that names none in the batch.
var nobody span.Resource

func resource(b *span.Batch, s *span.Span) *span.Resource {
	if s.Resource < 0 || s.Resource >= len(b.Resources) {
		return &nobody
	}
	return &b.Resources[s.Resource]
}

// condition is a [Condition] made ready. A key may have several values, in the span,
// its resource and its events: a positive operator asks that one of them fulfils it,
// a negative one that there is one and that none is what it excludes.
type condition struct {
	Condition
	also    string // the other name of an aliased attribute; empty: none
	number  float64
	whole   int64
	isNum   bool
	isWhole bool
	re      *regexp.Regexp
	negated bool
}

// aliases are attributes that were renamed and that Jaeger's translation of spans
// gives under the new name, whichever the span has.
var aliases = map[string]string{
	"http.status_code":          "http.response.status_code",
	"http.response.status_code": "http.status_code",
}

// Aliases are the names under which an attribute is looked for: its own first.
func Aliases(key string) []string {
	if also := aliases[key]; also != "" {
		return []string{key, also}
	}
	return []string{key}
}

func newCondition(c Condition) (condition, error) {
	out := condition{Condition: c, also: aliases[c.Key]}
	switch c.Op {
	case Equal, Exists:
	case NotEqual:
		out.negated = true
	case Less, LessEq, Greater, GreatEq:
		if n, err := strconv.ParseInt(c.Value, 10, 64); err == nil {
			out.whole, out.isWhole = n, true
		}
		if n, err := strconv.ParseFloat(c.Value, 64); err == nil {
			out.number, out.isNum = n, true
		}
	case Match, NotMatch:
		re, err := regexp.Compile("^(?s:" + c.Value + ")$")
		if err != nil {
			return out, err
		}
		out.re, out.negated = re, c.Op == NotMatch
	default:
		return out, fmt.Errorf("operator %q is not known, want one of = != < <= > >= =~ !~ exists", c.Op)
	}
	return out, nil
}

func (c *condition) match(b *span.Batch, s *span.Span) bool {
	found, hit := false, false
	see := func(v span.Value) bool {
		found = true
		hit = c.test(v)
		return hit
	}
	_ = c.each(b, s, see)
	if c.negated {
		return found && !hit
	}
	return hit
}

// each calls see with the values of the key until it says that it has seen enough.
func (c *condition) each(b *span.Batch, s *span.Span, see func(span.Value) bool) bool {
	if c.attrs(s.Attrs, see) || c.translated(b, s, see) || c.attrs(resource(b, s).Attrs, see) {
		return true
	}
	for i := range s.Events {
		e := &s.Events[i]
		if c.attrs(e.Attrs, see) || c.Key == "event" && e.Name != "" && see(text(e.Name)) {
			return true
		}
	}
	return false
}

func (c *condition) attrs(attrs []span.Attr, see func(span.Value) bool) bool {
	for i := range attrs {
		k := attrs[i].Key
		if (k == c.Key || c.also != "" && k == c.also) && see(attrs[i].Value) {
			return true
		}
	}
	return false
}

// translated gives the tags that Jaeger makes of the fields of a span.
func (c *condition) translated(b *span.Batch, s *span.Span, see func(span.Value) bool) bool {
	switch c.Key {
	case "error":
		return s.Status == span.StatusError && see(span.Value{Type: span.TypeBool, Num: 1})
	case "span.kind":
		name := KindName(s.Kind)
		return name != "" && see(text(name))
	case "otel.status_code":
		switch s.Status {
		case span.StatusOK:
			return see(text("OK"))
		case span.StatusError:
			return see(text("ERROR"))
		}
	case "otel.status_description":
		return s.Message != "" && see(text(s.Message))
	case "w3c.tracestate":
		return s.State != "" && see(text(s.State))
	case "otel.scope.name", "otel.scope.version":
		if s.Scope < 0 || s.Scope >= len(b.Scopes) {
			return false
		}
		v := b.Scopes[s.Scope].Name
		if c.Key == "otel.scope.version" {
			v = b.Scopes[s.Scope].Version
		}
		return v != "" && see(text(v))
	}
	return false
}

// KindName is the value of Jaeger's tag "span.kind"; empty where the span has none.
func KindName(k span.Kind) string {
	switch k {
	case span.KindInternal:
		return "internal"
	case span.KindServer:
		return "server"
	case span.KindClient:
		return "client"
	case span.KindProducer:
		return "producer"
	case span.KindConsumer:
		return "consumer"
	}
	return ""
}

func text(s string) span.Value { return span.Value{Type: span.TypeString, Str: s} }

func (c *condition) test(v span.Value) bool {
	switch c.Op {
	case Exists:
		return true
	case Equal, NotEqual:
		return equal(v, c.Value)
	case Match, NotMatch:
		if v.Type == span.TypeString {
			return c.re.MatchString(v.Str)
		}
		return c.re.MatchString(v.Text())
	}
	order, ok := c.compare(v)
	if !ok {
		return false
	}
	switch c.Op {
	case Less:
		return order < 0
	case LessEq:
		return order <= 0
	case Greater:
		return order > 0
	}
	return order >= 0
}

// equal compares the value as text, without making the text of the common types.
func equal(v span.Value, want string) bool {
	switch v.Type {
	case span.TypeString:
		return v.Str == want
	case span.TypeBool:
		return want == "true" && v.Num != 0 || want == "false" && v.Num == 0
	case span.TypeInt:
		var buf [20]byte
		return string(strconv.AppendInt(buf[:0], int64(v.Num), 10)) == want
	}
	return v.Text() == want
}

// compare orders a value against the condition's: as numbers when both are (a string
// that reads as a number is one), as text when the condition's is not a number.
func (c *condition) compare(v span.Value) (int, bool) {
	var n float64
	switch v.Type {
	case span.TypeInt:
		if c.isWhole {
			return order(int64(v.Num), c.whole), true
		}
		n = float64(int64(v.Num))
	case span.TypeDouble:
		n = math.Float64frombits(v.Num)
	case span.TypeString:
		if !c.isNum {
			return order(v.Str, c.Value), true
		}
		parsed, err := strconv.ParseFloat(v.Str, 64)
		if err != nil {
			return 0, false
		}
		n = parsed
	default:
		return 0, false
	}
	if !c.isNum || math.IsNaN(n) || math.IsNaN(c.number) {
		return 0, false
	}
	return order(n, c.number), true
}

func order[T int64 | float64 | string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
