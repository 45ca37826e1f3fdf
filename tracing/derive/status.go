package derive

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// flushStatus is what Flush leaves behind.
type flushStatus struct {
	frozen   frozen // used again by the next one
	position uint64

	mu   sync.Mutex
	last Flushed
}

func (s *flushStatus) tell(at time.Time, took time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last.At, s.last.Seconds, s.last.Position, s.last.Error = at, took.Seconds(), s.position, ""
	if err != nil {
		s.last.Error = err.Error()
	}
}

// Flushed is how the newest flush ended.
type Flushed struct {
	At       time.Time `json:"at"`
	Seconds  float64   `json:"seconds"`
	Position uint64    `json:"position"` // of the store, up to which totals are durable
	Error    string    `json:"error,omitempty"`
}

// Folded is the spans of a service that went to span_name="_other" since the start.
type Folded struct {
	Service string `json:"service"`
	Spans   uint64 `json:"spans"`
}

// Status is what an operator sees.
type Status struct {
	Spans     uint64   `json:"spans"` // taken since the start
	Services  int      `json:"services"`
	LabelSets int      `json:"label_sets"` // of traces_spanmetrics_*, what is folded left out
	Edges     int      `json:"edges"`      // with those that count unpaired and dropped spans
	Waiting   int      `json:"waiting"`    // halves of calls
	Evicted   uint64   `json:"evicted"`    // halves that left early since the start
	Pinned    int      `json:"pinned"`     // traces
	Folded    []Folded `json:"folded"`     // the 20 services with most
	Flushed   Flushed  `json:"flushed"`
}

// Status returns what is there now.
func (d *Derive) Status() Status {
	s := Status{
		Spans: d.spans.Load(), LabelSets: int(d.sets.Load()), Waiting: d.graph.waiting(),
		Evicted: d.graph.evicted.Load(), Pinned: d.pins.len(), Folded: []Folded{},
	}
	d.mu.RLock()
	s.Services = len(d.services)
	for _, svc := range d.services {
		if n := svc.foldedSpans.Load(); n > 0 {
			s.Folded = append(s.Folded, Folded{svc.name, n})
		}
	}
	d.mu.RUnlock()
	slices.SortFunc(s.Folded, func(a, b Folded) int {
		return cmp.Or(cmp.Compare(b.Spans, a.Spans), cmp.Compare(a.Service, b.Service))
	})
	s.Folded = s.Folded[:min(len(s.Folded), 20)]
	d.graph.mu.RLock()
	s.Edges = len(d.graph.edges)
	d.graph.mu.RUnlock()
	d.status.mu.Lock()
	s.Flushed = d.status.last
	d.status.mu.Unlock()
	return s
}

func (g *graph) waiting() (n int) {
	for i := range g.shards {
		sh := &g.shards[i]
		sh.mu.Lock()
		n += sh.waiting.n
		sh.mu.Unlock()
	}
	return n
}
