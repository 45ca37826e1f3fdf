package search

import (
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// selector is terms that are all true of one span: what the store can look for, and
// the rest.
type selector struct {
	text  string
	query spanstore.Query // without window and limit
	match *spanstore.Matcher
	rest  []func(*span.Span) bool
	// Bounds of the duration in nanoseconds, inclusive: the store's have no 0.
	short, long uint64
	timed       bool
}

// fields are the keys that name what a span is, not an attribute.
var fields = map[string]func(*selector, *scanner, term) error{
	"service":   (*selector).service,
	"operation": (*selector).operation,
	"name":      (*selector).operation,
	"kind":      (*selector).kind,
	"status":    (*selector).status,
	"duration":  (*selector).duration,
	"root":      (*selector).root,
}

func isField(key string) bool { return fields[key] != nil }

func newSelector(sc *scanner, terms []term) (*selector, error) {
	s := &selector{long: math.MaxUint64}
	texts := make([]string, len(terms))
	for i, t := range terms {
		take := (*selector).attribute
		if field := fields[t.key]; t.plain && field != nil {
			take = field
		}
		if err := take(s, sc, t); err != nil {
			return nil, err
		}
		texts[i] = t.String()
	}
	s.text = strings.Join(texts, " && ")
	if s.timed {
		s.query.MinDuration = time.Duration(min(s.short, math.MaxInt64))
		s.query.MaxDuration = time.Duration(min(s.long, math.MaxInt64))
		if s.long > math.MaxInt64 {
			s.query.MaxDuration = 0
		}
	}
	var err error
	s.match, err = spanstore.NewMatcher(s.query)
	if err != nil { // the patterns were compiled before
		return nil, sc.fault(0, "%s", err)
	}
	return s, nil
}

// matches tells whether span i is one that s stands for; the window is not its matter.
func (s *selector) matches(b *span.Batch, i int) bool {
	at := &b.Spans[i]
	if d := at.Duration(); d < s.short || d > s.long {
		return false
	}
	for _, rest := range s.rest {
		if !rest(at) {
			return false
		}
	}
	return s.match.Match(b, i)
}

// verified tells that the store cannot be asked for all of it.
func (s *selector) verified() bool { return len(s.rest) > 0 || s.timed && s.long == 0 }

// weight guesses how few spans are left by what the store looks for.
func (s *selector) weight() (n int) {
	q := &s.query
	for _, c := range q.Where {
		n += 2
		if c.Op == spanstore.Equal {
			n += 4
		}
	}
	for weight, asked := range map[int]bool{
		6: q.Operation != "", 5: q.Error != nil && *q.Error, 3: q.Service != "", 2: q.Root || q.MinDuration > 0,
		1: q.Kind != span.KindUnspecified || q.MaxDuration > 0,
	} {
		if asked {
			n += weight
		}
	}
	return n
}

func (t *term) takes(sc *scanner, ops ...spanstore.Op) error {
	for _, op := range ops {
		if t.op == op {
			return nil
		}
	}
	texts := make([]string, len(ops))
	for i, op := range ops {
		texts[i] = string(op)
	}
	if t.op == spanstore.Exists {
		return sc.fault(t.at, "%s stands alone, want one of %s and a value behind it", t.key, strings.Join(texts, " "))
	}
	return sc.fault(t.at, "got %s%s, want %s with one of %s", t.key, t.op, t.key, strings.Join(texts, " "))
}

func (t *term) pattern(sc *scanner) (*regexp.Regexp, error) {
	if t.op != spanstore.Match && t.op != spanstore.NotMatch {
		return nil, nil
	}
	re, err := regexp.Compile("^(?s:" + t.value + ")$")
	if err != nil {
		return nil, sc.fault(t.valAt, "%q is no pattern of RE2: %s", t.value, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return re, nil
}

func (s *selector) attribute(sc *scanner, t term) error {
	if _, err := t.pattern(sc); err != nil {
		return err
	}
	s.query.Where = append(s.query.Where, spanstore.Condition{Key: t.key, Op: t.op, Value: t.value})
	return nil
}

func (s *selector) service(sc *scanner, t term) error {
	if err := t.takes(sc, spanstore.Equal, spanstore.NotEqual, spanstore.Match, spanstore.NotMatch); err != nil {
		return err
	}
	if t.op == spanstore.Equal && s.query.Service == "" && t.value != "" {
		s.query.Service = t.value
		return nil
	}
	t.key = "service.name"
	return s.attribute(sc, t)
}

func (s *selector) operation(sc *scanner, t term) error {
	if err := t.takes(sc, spanstore.Equal, spanstore.NotEqual, spanstore.Match, spanstore.NotMatch); err != nil {
		return err
	}
	re, err := t.pattern(sc)
	if err != nil {
		return err
	}
	var test func(*span.Span) bool
	switch t.op {
	case spanstore.Equal:
		if s.query.Operation == "" && t.value != "" {
			s.query.Operation = t.value
			return nil
		}
		test = func(at *span.Span) bool { return at.Name == t.value }
	case spanstore.NotEqual:
		test = func(at *span.Span) bool { return at.Name != t.value }
	case spanstore.Match:
		test = func(at *span.Span) bool { return re.MatchString(at.Name) }
	case spanstore.NotMatch:
		test = func(at *span.Span) bool { return !re.MatchString(at.Name) }
	}
	s.rest = append(s.rest, test)
	return nil
}

func (s *selector) kind(sc *scanner, t term) error {
	if err := t.takes(sc, spanstore.Equal, spanstore.NotEqual); err != nil {
		return err
	}
	kind := span.KindUnspecified
	for k := span.KindInternal; k <= span.KindConsumer; k++ {
		if spanstore.KindName(k) == t.value {
			kind = k
		}
	}
	if kind == span.KindUnspecified && t.value != "unspecified" {
		return sc.fault(t.valAt, "got kind %q, want internal, server, client, producer, consumer or unspecified", t.value)
	}
	switch {
	case t.op == spanstore.NotEqual:
		s.rest = append(s.rest, func(at *span.Span) bool { return at.Kind != kind })
	case kind != span.KindUnspecified && s.query.Kind == span.KindUnspecified:
		s.query.Kind = kind
	default:
		s.rest = append(s.rest, func(at *span.Span) bool { return at.Kind == kind })
	}
	return nil
}

// statuses by the names that a query has for them.
var statuses = map[string]span.Status{"unset": span.StatusUnset, "ok": span.StatusOK, "error": span.StatusError}

func (s *selector) status(sc *scanner, t term) error {
	if err := t.takes(sc, spanstore.Equal, spanstore.NotEqual); err != nil {
		return err
	}
	status, ok := statuses[t.value]
	if !ok {
		return sc.fault(t.valAt, "got status %q, want ok, error or unset", t.value)
	}
	equal := t.op == spanstore.Equal
	isError := equal == (status == span.StatusError)
	switch {
	case status == span.StatusError && s.query.Error == nil:
		s.query.Error = &isError
		return nil
	case equal && s.query.Error == nil: // ok or unset
		s.query.Error = new(bool)
	}
	s.rest = append(s.rest, func(at *span.Span) bool { return (at.Status == status) == equal })
	return nil
}

func (s *selector) duration(sc *scanner, t term) error {
	if err := t.takes(sc, spanstore.Less, spanstore.LessEq, spanstore.Greater, spanstore.GreatEq, spanstore.Equal); err != nil {
		return err
	}
	parsed, err := time.ParseDuration(t.value)
	if err != nil || parsed < 0 {
		return sc.fault(t.valAt, "got duration %q, want one such as 1.5s, 200ms or 1h30m", t.value)
	}
	d := uint64(parsed)
	short, long := uint64(0), uint64(math.MaxUint64)
	switch t.op {
	case spanstore.Less:
		if d == 0 {
			return sc.fault(t.at, "no duration is below 0s")
		}
		long = d - 1
	case spanstore.LessEq:
		long = d
	case spanstore.Greater:
		short = d + 1
	case spanstore.GreatEq:
		short = d
	default:
		short, long = d, d
	}
	s.short, s.long, s.timed = max(s.short, short), min(s.long, long), true
	return nil
}

func (s *selector) root(sc *scanner, t term) error {
	if t.op != spanstore.Exists {
		return sc.fault(t.at, "got root%s, want root alone (an attribute of that name goes into quotes)", t.op)
	}
	s.query.Root = true
	return nil
}
