package sampling

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weir-dev/weir/tracing/span"
)

// rates is what is known of the operations of adaptive services.
type rates struct {
	mu       sync.RWMutex
	services map[string]*serviceRates
	adjusted time.Time
}

type serviceRates struct{ operations map[string]*operationRate }

// operationRate is one operation. Traffic is estimated as the sum over its traces of
// 1/probability, which is right whichever probability an instance had when it began
// them.
type operationRate struct {
	came        float64 // estimated traces since the last adjustment
	perSecond   float64 // estimated, smoothed
	probability float64
	silent      int // intervals without a trace
}

const (
	// growth bounds what an adjustment may raise a probability by: of few traces the
	// estimate is poor, and a wrong high one costs more than a wrong low one.
	growth = 2
	// maxSilent is the intervals after which an operation that sent nothing is
	// forgotten. Instances send one a minute of each that is used (LowerBound).
	maxSilent = 60
	// maxStands bounds what one trace may stand for: its sender may be mistaken.
	maxStands = 1e6
)

func (r *rates) observe(h *Head, b *span.Batch) {
	if h.Default.Type != adaptive && !slices.ContainsFunc(h.Services, func(s Service) bool { return s.Type == adaptive }) {
		return
	}
	for i := range b.Spans {
		s := &b.Spans[i]
		if !s.Parent.IsZero() || s.Resource < 0 || s.Resource >= len(b.Resources) {
			continue
		}
		service := b.Resources[s.Resource].Service
		if service == "" || h.strategy(service).Type != adaptive {
			continue
		}
		p, random := chosenBy(s)
		r.add(&h.Adaptive, service, s.Name, p, random)
	}
}

// add counts a trace of the given probability, 0: that which was told. One that did not
// come by chance only shows that the operation is in use.
func (r *rates) add(c *Adaptive, service, name string, p float64, random bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.services[service]
	if of == nil {
		if len(r.services) >= c.MaxServices {
			return
		}
		of = &serviceRates{operations: make(map[string]*operationRate)}
		r.services[strings.Clone(service)] = of
	}
	o := of.operations[name]
	if o == nil {
		if len(of.operations) >= c.MaxOperations {
			return
		}
		o = &operationRate{probability: c.Initial}
		of.operations[strings.Clone(name)] = o
	}
	o.silent = 0
	if !random {
		return
	}
	if p <= 0 {
		p = o.probability
	}
	o.came += min(1/p, maxStands)
}

// chosenBy reads what an SDK says of why it sent a trace: Jaeger's tags, then the
// threshold of W3C tracestate. 0: nothing.
func chosenBy(s *span.Span) (probability float64, random bool) {
	kind := ""
	for i := range s.Attrs {
		a := &s.Attrs[i]
		switch a.Key {
		case "sampler.type", "jaeger.sampler.type":
			kind = a.Value.Str
		case "sampler.param", "jaeger.sampler.param":
			probability = number(a.Value)
		}
	}
	switch kind {
	case probabilistic:
		if !(probability > 0 && probability <= 1) {
			probability = 0
		}
		return probability, true
	case "":
		return threshold(s.State), true
	}
	return 0, false // lowerbound, ratelimiting, const, remote debugging
}

func number(v span.Value) float64 {
	switch v.Type {
	case span.TypeDouble:
		return math.Float64frombits(v.Num)
	case span.TypeInt:
		return float64(int64(v.Num))
	case span.TypeString:
		f, err := strconv.ParseFloat(v.Str, 64)
		if err == nil {
			return f
		}
	}
	return 0
}

// threshold is the probability in a tracestate's `ot=th:...`, 0 if there is none.
func threshold(state string) float64 {
	for member := range strings.SplitSeq(state, ",") {
		fields, ok := strings.CutPrefix(strings.TrimSpace(member), "ot=")
		if !ok {
			continue
		}
		for field := range strings.SplitSeq(fields, ";") {
			hex, ok := strings.CutPrefix(field, "th:")
			if !ok || hex == "" || len(hex) > 14 {
				continue
			}
			refused, err := strconv.ParseUint(hex, 16, 64)
			if err != nil {
				return 0
			}
			const all = 1 << 56
			return 1 - float64(refused<<(4*(14-len(hex))))/all
		}
	}
	return 0
}

// adjust is deterministic: the same traces between the same times give the same.
func (r *rates) adjust(c *Adaptive, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	since := now.Sub(r.adjusted).Seconds()
	first := r.adjusted.IsZero()
	if !first && since <= 0 {
		return
	}
	r.adjusted = now
	if first { // how long it has counted is not known
		for _, of := range r.services {
			for _, o := range of.operations {
				o.came = 0
			}
		}
		return
	}
	for name, of := range r.services {
		for operation, o := range of.operations {
			if o.silent++; o.silent > maxSilent {
				delete(of.operations, operation)
				continue
			}
			o.adjust(c, since)
		}
		if len(of.operations) == 0 {
			delete(r.services, name)
		}
	}
}

func (o *operationRate) adjust(c *Adaptive, since float64) {
	now := o.came / since
	o.came = 0
	if o.perSecond == 0 {
		o.perSecond = now
	} else {
		o.perSecond = (o.perSecond + now) / 2
	}
	want := c.Max
	if o.perSecond > 0 {
		want = c.Target / o.perSecond
	}
	want = min(want, o.probability*growth)
	o.probability = min(max(want, c.Min), c.Max)
}

// known is the operations of a service, by name.
func (r *rates) known(service string) []Operation {
	r.mu.RLock()
	defer r.mu.RUnlock()
	of := r.services[service]
	if of == nil {
		return nil
	}
	list := make([]Operation, 0, len(of.operations))
	for name, o := range of.operations {
		list = append(list, Operation{name, o.probability})
	}
	slices.SortFunc(list, func(a, b Operation) int { return cmp.Compare(a.Operation, b.Operation) })
	return list
}

func (r *rates) probability(c *Adaptive, service, operation string) float64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if of := r.services[service]; of != nil {
		if o := of.operations[operation]; o != nil {
			return o.probability
		}
	}
	return c.Initial
}

func (r *rates) size() (n int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, of := range r.services {
		n += len(of.operations)
	}
	return n
}
