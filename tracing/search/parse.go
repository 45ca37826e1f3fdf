package search

import (
	"strings"

	"github.com/weir-dev/weir/tracing/spanstore"
)

const (
	// maxText bounds a query in bytes; the longest that people type is a few hundred.
	maxText = 8 << 10
	// maxTerms bounds the work with each span that is looked at; the store serves 59 from
	// its index.
	maxTerms = 59
	// maxSelectors bounds the passes over a trace. unmeasured: nobody types more.
	maxSelectors = 16
)

// Query is a search that was read.
type Query struct {
	chains []chain // a trace has all of them; at least one
}

// chain is selectors of which each stands for spans under those of the one before.
type chain struct {
	selectors []*selector
	below     []bool // of selector i+1: anywhere below selector i, not only directly
}

// term is one comparison as it was written.
type term struct {
	at    int // byte in the query
	key   string
	plain bool // not in quotes: may name a field of the span
	op    spanstore.Op
	value string
	valAt int
}

// Parse reads a query; an empty one selects every span. Errors are a [*SyntaxError].
func Parse(text string) (*Query, error) {
	p := &parser{scanner: scanner{text: text}}
	if len(text) > maxText {
		return nil, &SyntaxError{1, "it is longer than 8192 bytes"}
	}
	if valid := strings.ToValidUTF8(text, ""); valid != text {
		at := 0
		for at < len(valid) && valid[at] == text[at] {
			at++
		}
		return nil, p.fault(at, "the text is not UTF-8")
	}
	var q *Query
	var err error
	p.space()
	if strings.HasPrefix(p.rest(), "{") {
		q, err = p.trace()
	} else {
		q, err = p.plain()
	}
	if err != nil {
		return nil, err
	}
	return q, nil
}

type parser struct {
	scanner
	terms, selectors int
}

// plain is one selector without braces.
func (p *parser) plain() (*Query, error) {
	s, err := p.conjunction("")
	if err != nil {
		return nil, err
	}
	return &Query{chains: []chain{{selectors: []*selector{s}}}}, nil
}

// trace is chains joined by &&.
func (p *parser) trace() (*Query, error) {
	q := &Query{}
	for {
		c, err := p.chain()
		if err != nil {
			return nil, err
		}
		q.chains = append(q.chains, c)
		if p.ended() {
			return q, nil
		}
		if !p.take("&&") {
			return nil, p.want(`"->", "->>", "&&" or the end`)
		}
	}
}

func (p *parser) chain() (c chain, err error) {
	for {
		s, err := p.selector()
		if err != nil {
			return c, err
		}
		c.selectors = append(c.selectors, s)
		switch {
		case p.take("->>"):
			c.below = append(c.below, true)
		case p.take("->"):
			c.below = append(c.below, false)
		default:
			return c, nil
		}
	}
}

// selector is one in braces.
func (p *parser) selector() (*selector, error) {
	if !p.take("{") {
		return nil, p.want(`a selector: "{"`)
	}
	if p.selectors++; p.selectors > maxSelectors {
		return nil, p.fault(p.at, "got more than %d selectors", maxSelectors)
	}
	s, err := p.conjunction("}")
	if err != nil {
		return nil, err
	}
	if !p.take("}") {
		return nil, p.want(`"}"`)
	}
	return s, nil
}

// conjunction is terms joined by && up to the closing sign, or the end if it is empty.
func (p *parser) conjunction(closing string) (*selector, error) {
	closed := func() bool {
		p.space()
		return closing == "" && p.at == len(p.text) || closing != "" && strings.HasPrefix(p.rest(), closing)
	}
	last := `"&&" or the end`
	if closing != "" {
		last = `"&&" or "}"`
	}
	var terms []term
	for !(closed() && len(terms) == 0) {
		t, err := p.term()
		if err != nil {
			return nil, err
		}
		if p.terms++; p.terms > maxTerms {
			return nil, p.fault(t.at, "got more than %d terms", maxTerms)
		}
		terms = append(terms, t)
		if closed() {
			break
		}
		if !p.take("&&") {
			return nil, p.want(last + p.advice(t))
		}
	}
	return newSelector(&p.scanner, terms)
}

// advice guesses what was meant by what cannot stand after a term.
func (p *parser) advice(t term) string {
	rest := p.rest()
	switch {
	case strings.HasPrefix(rest, "||"):
		return `; alternatives are a pattern: ` + written(t.key) + `=~"a|b"`
	case strings.HasPrefix(rest, "->"):
		return `; selectors of a structure stand in braces: {a=1} -> {b=2}`
	case t.op != spanstore.Exists && length(rest, inWord) > 0, strings.HasPrefix(rest, "{"), strings.HasPrefix(rest, "="):
		return `; a value with spaces or signs stands in quotes`
	}
	return ""
}

func (p *parser) term() (t term, err error) {
	p.space()
	t.at = p.at
	word, quoted, err := p.word("key")
	if err != nil {
		return t, err
	}
	if word == "" {
		return t, p.fault(t.at, "got an empty key")
	}
	t.key, t.plain = word, !quoted
	op, ok := p.operator()
	if !ok {
		t.op = spanstore.Exists
		return t, nil
	}
	t.op = spanstore.Op(op)
	p.space()
	t.valAt = p.at
	t.value, _, err = p.word("value")
	return t, err
}

// String is the query in its normal form, which reads back as the same.
func (q *Query) String() string {
	if len(q.chains) == 1 && len(q.chains[0].selectors) == 1 {
		return q.chains[0].selectors[0].text
	}
	var b strings.Builder
	for i, c := range q.chains {
		if i > 0 {
			b.WriteString(" && ")
		}
		for k, s := range c.selectors {
			switch {
			case k == 0:
			case c.below[k-1]:
				b.WriteString(" ->> ")
			default:
				b.WriteString(" -> ")
			}
			b.WriteString("{" + s.text + "}")
		}
	}
	return b.String()
}

func (t *term) String() string {
	key := t.key
	if !t.plain || key == "" {
		key = written(t.key)
		if isField(t.key) {
			key = `"` + t.key + `"` // or it would be the field
		}
	}
	switch {
	case t.op == spanstore.Exists:
		return key
	case strings.HasSuffix(key, "-") && t.op[0] == '>': // which together would be an arrow
		key = `"` + key + `"`
	}
	return key + string(t.op) + written(t.value)
}
