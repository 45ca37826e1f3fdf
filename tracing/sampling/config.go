package sampling

import (
	"fmt"
	"math"
	"regexp"
	"time"

	"github.com/weir-dev/weir/internal/conf"
)

// Config is the `tracing.sampling` section.
type Config struct {
	// What SDKs that ask are told to send.
	Head Head `yaml:"head"`

	// Which traces of those that came are kept.
	Tail Tail `yaml:"tail"`
}

// Head is the `tracing.sampling.head` section.
type Head struct {
	// For services that are not listed.
	Default Strategy `yaml:"default"`

	// For one service each. Reload.
	Services []Service `yaml:"services"`

	// Of strategies of type adaptive.
	Adaptive Adaptive `yaml:"adaptive"`
}

// Strategy says how much one instance of a service sends.
type Strategy struct {
	// probabilistic, ratelimiting or adaptive. Adaptive finds, by operation, the probability that gives target_samples_per_second. Reload.
	Type string `yaml:"type"`

	// Of probabilistic: 0 to 1. Of ratelimiting: traces a second of each instance, a whole number. Adaptive does not look at it. Reload.
	Param float64 `yaml:"param"`

	// Operations (names of root spans) of a probabilistic strategy with another probability. Those of the default are of all probabilistic services that do not list them. Reload.
	Operations []Operation `yaml:"operations"`
}

// Service is a strategy with a name.
type Service struct {
	// As service.name has it. Reload.
	Service string `yaml:"service"`

	Strategy `yaml:",inline"`
}

// Operation is the probability of an operation.
type Operation struct {
	// Name of the root span. Reload.
	Operation string `yaml:"operation"`

	// 0 to 1. Reload.
	Probability float64 `yaml:"probability"`
}

// Adaptive is the `tracing.sampling.head.adaptive` section.
type Adaptive struct {
	// Traces a second of each operation, all instances together, as this replica sees them. Reload.
	Target float64 `yaml:"target_samples_per_second"`

	// Time between two adjustments. SDKs ask once a minute. Restart.
	Interval conf.Duration `yaml:"interval"`

	// Probability of operations not seen yet. Reload.
	Initial float64 `yaml:"initial_probability"`

	// The lowest probability. Reload.
	Min float64 `yaml:"min_probability"`

	// The highest probability. Reload.
	Max float64 `yaml:"max_probability"`

	// Traces a second that each instance sends of each operation whatever the probability, so that rare ones are seen. Reload.
	LowerBound float64 `yaml:"min_samples_per_second"`

	// Services whose rates are known; others have initial_probability. Reload.
	MaxServices int `yaml:"max_services"`

	// Operations of one service whose rates are known; SDKs hold 2000 at most. Reload.
	MaxOperations int `yaml:"max_operations"`
}

// Tail is the `tracing.sampling.tail` section.
type Tail struct {
	// The first that matches a trace decides; without policies nothing is dropped. At most 32. Reload.
	Policies []Policy `yaml:"policies"`

	// For traces that no policy matches: keep or drop. Reload.
	Default string `yaml:"default"`

	// How long after its first span here a trace is decided. Spans are stored and found meanwhile. Reload.
	Wait conf.Duration `yaml:"decision_wait"`

	// Traces that may wait at once, about 100 bytes each; beyond, the oldest are decided early. Restart.
	MaxTraces int `yaml:"max_traces"`

	// Decisions that late spans can follow, 12 bytes each. Restart.
	Remembered int `yaml:"remembered_decisions"`
}

// Policy is what to do with traces that match.
type Policy struct {
	// In metrics. Reload.
	Name string `yaml:"name"`

	// keep or drop. Reload.
	Action string `yaml:"action"`

	// The trace matches if one of these does. None: every trace. Reload.
	When []Clause `yaml:"when"`
}

// Clause matches a trace for which everything that is set is true. "No span", "not" and
// a second clause are the not and the or that conditions are combined with.
type Clause struct {
	// true: a span has status error; false: none has. Reload.
	Errors *bool `yaml:"errors"`

	// A span is longer. 0s does not ask. Reload.
	LongerThan conf.Duration `yaml:"longer_than"`

	// No span is longer. 0s does not ask. Reload.
	AtMost conf.Duration `yaml:"at_most"`

	// All of these. Reload.
	Attributes []Attribute `yaml:"attributes"`

	// A share of traces, by a hash of their id that is the same everywhere: above 0, to 1. 0 does not ask. Reload.
	Probability float64 `yaml:"probability"`

	// As many traces as bring about so many spans a second to this replica, of those for which the rest of the clause is true. 0 does not ask. Reload.
	SpansPerSecond float64 `yaml:"spans_per_second"`
}

// Attribute is a condition on an attribute, which is looked for where search does: on
// the span, its resource and its events.
type Attribute struct {
	// Its name. Reload.
	Key string `yaml:"key"`

	// One of these is the value, as text. Empty, and without matches: any. Reload.
	Values []string `yaml:"values"`

	// Regular expression (RE2, anchored) of the value. Reload.
	Matches string `yaml:"matches"`

	// No span of the trace is to have it. Reload.
	Not bool `yaml:"not"`
}

// Types of strategies, and actions.
const (
	probabilistic = "probabilistic"
	ratelimiting  = "ratelimiting"
	adaptive      = "adaptive"

	keep = "keep"
	drop = "drop"
)

// DefaultConfig has Jaeger's strategies and drops nothing.
func DefaultConfig() Config {
	return Config{
		Head: Head{
			// As Jaeger tells SDKs that it knows nothing of: one that was pointed
			// there must not send a thousand times as much here.
			Default: Strategy{Type: probabilistic, Param: 0.001},
			Adaptive: Adaptive{
				Target: 1, Interval: conf.Duration(time.Minute),
				Initial: 0.001, Min: 1e-5, Max: 1, LowerBound: 1. / 60,
				// Bounds the rates to 400k operations of some 100 bytes; far above
				// what one Weir sees.
				MaxServices: 2000, MaxOperations: 200,
			},
		},
		Tail: Tail{
			Default: keep, Wait: conf.Duration(30 * time.Second),
			// 30s of 10k traces a second: 30 MB.
			MaxTraces: 300_000,
			// 100s of those, or minutes of usual traffic: 12 MB.
			Remembered: 1 << 20,
		},
	}
}

// Validate reports every value out of bounds.
func (c *Config) Validate(f *conf.Faults) {
	c.Head.validate(f.At("head"))
	c.Tail.validate(f.At("tail"))
}

func (h *Head) validate(f *conf.Faults) {
	h.Default.validate(f.At("default"))
	seen := map[string]bool{}
	for i := range h.Services {
		s, at := &h.Services[i], f.At(fmt.Sprintf("services[%d]", i))
		if s.Service == "" || seen[s.Service] {
			at.Add("service", s.Service, "a service's name, each once")
		}
		seen[s.Service] = true
		s.validate(at)
	}
	h.Adaptive.validate(f.At("adaptive"))
}

func (c *Strategy) validate(f *conf.Faults) {
	switch c.Type {
	case probabilistic:
		if !share(c.Param) {
			f.Add("param", c.Param, "0 to 1, the probability")
		}
	case ratelimiting:
		if c.Param != math.Trunc(c.Param) || !(c.Param >= 0 && c.Param <= math.MaxInt16) {
			f.Add("param", c.Param, "traces a second, a whole number from 0 to 32767: Jaeger's protocol has no others")
		}
	case adaptive:
	default:
		f.Add("type", c.Type, "probabilistic, ratelimiting or adaptive")
	}
	if c.Type != probabilistic && len(c.Operations) > 0 {
		f.Add("operations", len(c.Operations), "none, for only a probabilistic strategy has them")
	}
	seen := map[string]bool{}
	for i, o := range c.Operations {
		at := f.At(fmt.Sprintf("operations[%d]", i))
		if o.Operation == "" || seen[o.Operation] {
			at.Add("operation", o.Operation, "an operation's name, each once")
		}
		seen[o.Operation] = true
		if !share(o.Probability) {
			at.Add("probability", o.Probability, "0 to 1")
		}
	}
}

func share(p float64) bool { return p >= 0 && p <= 1 }

func (c *Adaptive) validate(f *conf.Faults) {
	if !(c.Target > 0 && c.Target <= 1e6) {
		f.Add("target_samples_per_second", c.Target, "above 0, to 1e6")
	}
	if c.Interval < conf.Duration(5*time.Second) || c.Interval > conf.Duration(time.Hour) {
		f.Add("interval", c.Interval, "5s..1h")
	}
	if !(c.Min > 0 && c.Min <= 1) {
		f.Add("min_probability", c.Min, "above 0, to 1")
	}
	if !(c.Max >= c.Min && c.Max <= 1) {
		f.Add("max_probability", c.Max, "min_probability to 1")
	}
	if !(c.Initial >= c.Min && c.Initial <= c.Max) {
		f.Add("initial_probability", c.Initial, "min_probability to max_probability")
	}
	if !(c.LowerBound >= 0 && c.LowerBound <= 1e6) {
		f.Add("min_samples_per_second", c.LowerBound, "0 (none) to 1e6")
	}
	if c.MaxServices < 1 || c.MaxServices > 100_000 {
		f.Add("max_services", c.MaxServices, "1 to 100000")
	}
	if c.MaxOperations < 1 || c.MaxOperations > 2000 {
		f.Add("max_operations", c.MaxOperations, "1 to 2000")
	}
}

// maxPolicies bounds the work for a trace; maxAttributes is the bits of a trace.
const (
	maxPolicies   = 32
	maxAttributes = 64
)

func (c *Tail) validate(f *conf.Faults) {
	if c.Default != keep && c.Default != drop {
		f.Add("default", c.Default, "keep or drop")
	}
	if c.Wait < conf.Duration(time.Second) || c.Wait > conf.Duration(10*time.Minute) {
		f.Add("decision_wait", c.Wait, "1s..10m")
	}
	if c.MaxTraces < 1024 || c.MaxTraces > 1<<26 {
		f.Add("max_traces", c.MaxTraces, "1024 to 67108864")
	}
	if c.Remembered < 1024 || c.Remembered > 1<<28 {
		f.Add("remembered_decisions", c.Remembered, "1024 to 268435456")
	}
	if len(c.Policies) > maxPolicies {
		f.Add("policies", len(c.Policies), "at most 32")
	}
	seen := map[string]bool{byDefault: true, byPin: true, byDoubt: true}
	attributes := 0
	for i := range c.Policies {
		p, at := &c.Policies[i], f.At(fmt.Sprintf("policies[%d]", i))
		if p.Name == "" || seen[p.Name] {
			at.Add("name", p.Name, "a name, each once, none of default, pinned, uncertain")
		}
		seen[p.Name] = true
		if p.Action != keep && p.Action != drop {
			at.Add("action", p.Action, "keep or drop")
		}
		for k := range p.When {
			attributes += len(p.When[k].Attributes)
			p.When[k].validate(at.At(fmt.Sprintf("when[%d]", k)))
		}
	}
	if attributes > maxAttributes {
		f.Add("policies", attributes, "at most 64 attributes in all")
	}
}

func (c *Clause) validate(f *conf.Faults) {
	if c.Errors == nil && c.LongerThan == 0 && c.AtMost == 0 && len(c.Attributes) == 0 && c.Probability == 0 && c.SpansPerSecond == 0 {
		f.Add("", "nothing", "at least one condition")
	}
	if c.LongerThan < 0 {
		f.Add("longer_than", c.LongerThan, "0s (does not ask) or more")
	}
	if c.AtMost < 0 || c.AtMost > 0 && c.AtMost <= c.LongerThan {
		f.Add("at_most", c.AtMost, "0s (does not ask), or more than longer_than")
	}
	if !share(c.Probability) {
		f.Add("probability", c.Probability, "above 0, to 1")
	}
	if !(c.SpansPerSecond >= 0 && c.SpansPerSecond <= 1e9) {
		f.Add("spans_per_second", c.SpansPerSecond, "0 (does not ask) to 1e9")
	}
	for i, a := range c.Attributes {
		at := f.At(fmt.Sprintf("attributes[%d]", i))
		if a.Key == "" {
			at.Add("key", a.Key, "an attribute's name")
		}
		if len(a.Values) > 0 && a.Matches != "" {
			at.Add("matches", a.Matches, "nothing beside values")
		}
		if len(a.Values) > 1000 {
			at.Add("values", len(a.Values), "at most 1000")
		}
		if _, err := regexp.Compile(a.Matches); err != nil {
			at.Add("matches", a.Matches, "a regular expression: "+err.Error())
		}
	}
}
