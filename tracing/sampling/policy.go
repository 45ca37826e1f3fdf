package sampling

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Chance is where a trace lies between 0 and 1 (excluded): a policy of a probability
// matches those below it. It is the upper 53 bits of XXH64 (seed 0) over "weir" and a
// zero byte and the 16 bytes of the id, as a fraction of 2^53. It is hashed, since SDKs
// have sampled by the id itself. It must stay so, or replicas of two versions disagree.
func Chance(id span.TraceID) float64 {
	var text [21]byte
	copy(text[:], "weir")
	copy(text[5:], id[:])
	return float64(xxhash.Sum64(text[:])>>11) / (1 << 53)
}

// What decides beside policies, as metrics have it.
const (
	byDefault = "default"
	byPin     = "pinned"
	byDoubt   = "uncertain" // an earlier decision may be forgotten
)

// trace is what is known of one that waits.
type trace struct {
	id       span.TraceID
	first    int64  // Unix milliseconds, here
	longest  uint64 // nanoseconds
	seen     uint64 // attributes, by their bit
	policies *policies
	spans    uint32
	failed   bool
	older    bool // has a span from before the horizon
	rooted   bool // its root is here, and not older
}

// policies is a Tail made ready. It does not change but for its rates.
type policies struct {
	list       []policy
	keepOthers bool
	wait       int64 // milliseconds
	attributes []attribute
}

type policy struct {
	name    string
	keep    bool
	clauses []clause
}

type clause struct {
	failed, sound  bool   // must, must not have an error
	longer, atMost uint64 // nanoseconds
	has, lacks     uint64 // bits of attributes
	chance         float64
	rate           *rate
}

// attribute is fulfilled by a span that one of its matchers fits.
type attribute struct{ any []*spanstore.Matcher }

// rate keeps a clause near its spans a second.
type rate struct {
	target    float64
	spans     atomic.Uint64 // of traces that came here since the last adjustment
	threshold atomic.Uint64 // bits of a float64
	smooth    float64       // spans a second
}

// newPolicies returns nil where nothing can be dropped.
func newPolicies(c *Tail) (*policies, error) {
	if len(c.Policies) == 0 {
		return nil, nil
	}
	p := &policies{keepOthers: c.Default == keep, wait: c.Wait.Std().Milliseconds()}
	for i := range c.Policies {
		from := &c.Policies[i]
		to := policy{name: from.Name, keep: from.Action == keep}
		for k := range from.When {
			made, err := p.clause(&from.When[k])
			if err != nil {
				return nil, fmt.Errorf("tracing.sampling.tail.policies[%d].when[%d]: %w", i, k, err)
			}
			to.clauses = append(to.clauses, made)
		}
		p.list = append(p.list, to)
	}
	return p, nil
}

func (p *policies) clause(c *Clause) (clause, error) {
	made := clause{longer: uint64(c.LongerThan.Std()), atMost: uint64(c.AtMost.Std()), chance: c.Probability}
	if c.Errors != nil {
		made.failed, made.sound = *c.Errors, !*c.Errors
	}
	if c.SpansPerSecond > 0 {
		made.rate = &rate{target: c.SpansPerSecond}
		made.rate.threshold.Store(math.Float64bits(1))
	}
	for _, a := range c.Attributes {
		if len(p.attributes) == maxAttributes {
			return clause{}, fmt.Errorf("attribute %q is one too many, at most %d are allowed in all", a.Key, maxAttributes)
		}
		bit := uint64(1) << len(p.attributes)
		one, err := newAttribute(a)
		if err != nil {
			return clause{}, err
		}
		p.attributes = append(p.attributes, one)
		if a.Not {
			made.lacks |= bit
		} else {
			made.has |= bit
		}
	}
	return made, nil
}

func newAttribute(a Attribute) (attribute, error) {
	var out attribute
	add := func(op spanstore.Op, value string) error {
		m, err := spanstore.NewMatcher(spanstore.Query{Where: []spanstore.Condition{{Key: a.Key, Op: op, Value: value}}})
		out.any = append(out.any, m)
		return err
	}
	if a.Matches != "" {
		return out, add(spanstore.Match, a.Matches)
	}
	if len(a.Values) == 0 {
		return out, add(spanstore.Exists, "")
	}
	for _, v := range a.Values {
		if err := add(spanstore.Equal, v); err != nil {
			return out, err
		}
	}
	return out, nil
}

// see adds span i of the batch to what is known of its trace. The order of spans does
// not matter.
func (t *trace) see(b *span.Batch, i int) {
	s := &b.Spans[i]
	t.longest = max(t.longest, s.Duration())
	t.failed = t.failed || s.Status == span.StatusError
	if t.spans < math.MaxUint32 {
		t.spans++
	}
	for k := range t.policies.attributes {
		if bit := uint64(1) << k; t.seen&bit == 0 && t.policies.attributes[k].match(b, i) {
			t.seen |= bit
		}
	}
}

func (a *attribute) match(b *span.Batch, i int) bool {
	for _, m := range a.any {
		if m.Match(b, i) {
			return true
		}
	}
	return false
}

// decide says what is to become of a trace, and by which policy.
func (t *trace) decide() (keep bool, by string) {
	chance := Chance(t.id)
	for i := range t.policies.list {
		p := &t.policies.list[i]
		if len(p.clauses) == 0 {
			return p.keep, p.name
		}
		for k := range p.clauses {
			if p.clauses[k].match(t, chance) {
				return p.keep, p.name
			}
		}
	}
	return t.policies.keepOthers, byDefault
}

func (c *clause) match(t *trace, chance float64) bool {
	switch {
	case c.failed && !t.failed, c.sound && t.failed,
		c.longer > 0 && t.longest <= c.longer, c.atMost > 0 && t.longest > c.atMost,
		t.seen&c.has != c.has, t.seen&c.lacks != 0,
		c.chance > 0 && chance >= c.chance:
		return false
	}
	if c.rate == nil {
		return true
	}
	c.rate.spans.Add(uint64(t.spans))
	limit := math.Float64frombits(c.rate.threshold.Load())
	if c.chance > 0 { // of that share, not of all
		limit *= c.chance
	}
	return chance < limit
}

// adapt sets the thresholds by what came in the time since it was last called.
func (p *policies) adapt(since time.Duration) {
	for i := range p.list {
		for k := range p.list[i].clauses {
			if r := p.list[i].clauses[k].rate; r != nil {
				r.adapt(since)
			}
		}
	}
}

// halfLife is the time after which a rate of the past counts half: long enough that
// what one second happened to bring does not show, short enough for a burst to be met
// within a minute. TestRate shows a tenfold burst met in 40s.
const halfLife = 10 * time.Second

func (r *rate) adapt(since time.Duration) {
	if since <= 0 {
		return
	}
	now := float64(r.spans.Swap(0)) / since.Seconds()
	old := math.Exp2(-since.Seconds() / halfLife.Seconds())
	if r.smooth == 0 {
		r.smooth = now
	} else {
		r.smooth = r.smooth*old + now*(1-old)
	}
	limit := 1.
	if r.smooth > r.target {
		limit = r.target / r.smooth
	}
	r.threshold.Store(math.Float64bits(limit))
}
