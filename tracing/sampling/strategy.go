package sampling

import (
	"cmp"
	"reflect"
	"slices"
)

func sameTail(a, b *Tail) bool { return reflect.DeepEqual(a, b) }

// strategy is that of a service.
func (h *Head) strategy(service string) *Strategy {
	for i := range h.Services {
		if h.Services[i].Service == service {
			return &h.Services[i].Strategy
		}
	}
	return &h.Default
}

// operations are those of a probabilistic strategy and, of the default's, those that it
// does not list, by name.
func (h *Head) operations(s *Strategy) []Operation {
	list := slices.Clone(s.Operations)
	if s.Type == probabilistic && h.Default.Type == probabilistic && s != &h.Default {
		for _, o := range h.Default.Operations {
			if !slices.ContainsFunc(s.Operations, func(own Operation) bool { return own.Operation == o.Operation }) {
				list = append(list, o)
			}
		}
	}
	slices.SortFunc(list, func(a, b Operation) int { return cmp.Compare(a.Operation, b.Operation) })
	return list
}

// answer is what an SDK is told, with the names and order of Jaeger's JSON.
type answer struct {
	Type          string         `json:"strategyType"` // one of Jaeger's two
	Probabilistic *answerShare   `json:"probabilisticSampling,omitempty"`
	RateLimiting  *answerRate    `json:"rateLimitingSampling,omitempty"`
	Operations    *answerByNames `json:"operationSampling,omitempty"`
}

type answerShare struct {
	Rate float64 `json:"samplingRate"`
}

type answerRate struct {
	Traces int32 `json:"maxTracesPerSecond"`
}

type answerByNames struct {
	Default    float64           `json:"defaultSamplingProbability"`
	LowerBound float64           `json:"defaultLowerBoundTracesPerSecond"`
	List       []answerOperation `json:"perOperationStrategies"`
	UpperBound float64           `json:"defaultUpperBoundTracesPerSecond"`
}

type answerOperation struct {
	Operation     string      `json:"operation"`
	Probabilistic answerShare `json:"probabilisticSampling"`
}

// answer says what instances of a service are to do. The plain probability is given
// beside those of operations, for SDKs that do not know operations.
func (s *Sampling) answer(service string) answer {
	h := s.head.Load()
	is := h.strategy(service)
	switch is.Type {
	case ratelimiting:
		return answer{Type: "RATE_LIMITING", RateLimiting: &answerRate{int32(is.Param)}}
	case adaptive:
		by := byNames(h.Adaptive.Initial, s.rates.known(service))
		by.LowerBound = h.Adaptive.LowerBound
		return answer{Type: "PROBABILISTIC", Probabilistic: &answerShare{h.Adaptive.Initial}, Operations: by}
	}
	a := answer{Type: "PROBABILISTIC", Probabilistic: &answerShare{is.Param}}
	if list := h.operations(is); len(list) > 0 {
		a.Operations = byNames(is.Param, list)
	}
	return a
}

func byNames(def float64, list []Operation) *answerByNames {
	by := &answerByNames{Default: def, List: make([]answerOperation, 0, len(list))}
	for _, o := range list {
		by.List = append(by.List, answerOperation{o.Operation, answerShare{o.Probability}})
	}
	return by
}

// Weight is how many traces one of the operation stands for by the probability that
// SDKs are told now: 1 if it is not known, as for ratelimiting.
func (s *Sampling) Weight(service, operation string) float64 {
	h := s.head.Load()
	is := h.strategy(service)
	p := 1.
	switch is.Type {
	case probabilistic:
		p = is.Param
		if i := slices.IndexFunc(is.Operations, func(o Operation) bool { return o.Operation == operation }); i >= 0 {
			p = is.Operations[i].Probability
		} else if h.Default.Type == probabilistic {
			if i := slices.IndexFunc(h.Default.Operations, func(o Operation) bool { return o.Operation == operation }); i >= 0 {
				p = h.Default.Operations[i].Probability
			}
		}
	case adaptive:
		p = s.rates.probability(&h.Adaptive, service, operation)
	}
	if p <= 0 { // it came although none should: it stands for itself
		return 1
	}
	return 1 / p
}
