package search

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Trace is one whole trace.
type Trace struct {
	Summary Summary `json:"summary"`
	// Spans come parents first, children by their start.
	Spans []Span `json:"spans"`
	// Omitted counts the spans that the limit left out.
	Omitted int `json:"omitted"`
}

// Span is one of a [Trace]. Durations are in seconds.
type Span struct {
	SpanID    string    `json:"spanID"`
	ParentID  string    `json:"parentID,omitempty"`
	Orphan    bool      `json:"orphan,omitempty"` // its parent is not in the trace
	Depth     int       `json:"depth"`
	Service   string    `json:"service"`
	Operation string    `json:"operation"`
	Kind      string    `json:"kind,omitempty"`
	Status    string    `json:"status,omitempty"` // ok or error
	Message   string    `json:"message,omitempty"`
	Start     time.Time `json:"startTime"`
	Offset    float64   `json:"offset"` // from the first start of the trace
	Duration  float64   `json:"duration"`
	Self      float64   `json:"selfTime"` // no child ran
	// Critical tells a span of the critical path of the trace, and for how long nothing
	// below it was.
	Critical     bool           `json:"critical"`
	CriticalTime float64        `json:"criticalTime"`
	Attributes   map[string]any `json:"attributes,omitempty"`
	Resource     map[string]any `json:"resource,omitempty"`
	Events       []Event        `json:"events,omitempty"`
}

// Event is a log entry of a span.
type Event struct {
	Time       time.Time      `json:"time"`
	Name       string         `json:"name"`
	Attributes map[string]any `json:"attributes,omitempty"`
}

// maxShown bounds the spans of an answer. unmeasured: about 1 KiB of JSON each.
const maxShown = 20_000

// trace shows one: its id in the path; start and end (where to look first), limit
// (of spans) and raw (not adjusted).
func (h *handler) trace(ctx context.Context, p *parameters) (any, Notes, error) {
	id, err := span.ParseTraceID(p.path)
	if err != nil {
		return nil, Notes{}, badf("%s", err)
	}
	limit, err := p.count("limit", maxShown, maxShown)
	if err != nil {
		return nil, Notes{}, err
	}
	var hint spanstore.Window
	if hint.Start, err = p.time("start", time.Time{}); err != nil {
		return nil, Notes{}, err
	}
	if hint.End, err = p.time("end", time.Time{}); err != nil {
		return nil, Notes{}, err
	}
	if !hint.Start.IsZero() && !hint.End.IsZero() && hint.End.Before(hint.Start) {
		hint = spanstore.Window{} // it cannot be true
	}
	b, err := h.Reader.Trace(ctx, id, hint)
	if err == nil && p.values.Get("raw") != "true" {
		b, err = h.adjusted(b)
	}
	if err != nil {
		return nil, Notes{}, err
	}
	if len(b.Spans) == 0 {
		return nil, Notes{}, spanstore.ErrNotFound
	}
	return newTrace(b, limit), Notes{}, nil
}

func newTrace(b *span.Batch, limit int) *Trace {
	t := newTree(b)
	times, on := t.critical()
	first, _ := extent(b)
	resources := make([]map[string]any, len(b.Resources)) // shared by their spans
	for i := range b.Resources {
		resources[i] = object(b.Resources[i].Attrs)
	}
	out := &Trace{Summary: summarize(b), Spans: []Span{}, Omitted: max(0, len(b.Spans)-limit)}
	t.each(func(i int32, depth int) {
		if len(out.Spans) == limit {
			return
		}
		s := &b.Spans[i]
		shown := Span{
			SpanID: s.ID.String(), Depth: depth, Service: text(service(b, s)), Operation: text(s.Name),
			Kind: spanstore.KindName(s.Kind), Message: text(s.Message),
			Start: instant(s.Start), Offset: seconds(s.Start - first), Duration: seconds(s.Duration()),
			Self: seconds(t.self(i)), Critical: on[i], CriticalTime: seconds(times[i]),
			Attributes: object(s.Attrs), Events: events(s.Events),
		}
		if s.Resource >= 0 && s.Resource < len(b.Resources) {
			shown.Resource = resources[s.Resource]
		}
		if !s.Parent.IsZero() {
			shown.ParentID, shown.Orphan = s.Parent.String(), t.parent[i] < 0
		}
		switch s.Status {
		case span.StatusOK:
			shown.Status = "ok"
		case span.StatusError:
			shown.Status = "error"
		}
		out.Spans = append(out.Spans, shown)
	})
	return out
}

func events(list []span.Event) (out []Event) {
	for i := range list {
		out = append(out, Event{instant(list[i].Time), text(list[i].Name), object(list[i].Attrs)})
	}
	return out
}

// object has the first of attributes of one name.
func object(attrs []span.Attr) map[string]any {
	if len(attrs) == 0 {
		return nil
	}
	out := make(map[string]any, len(attrs))
	for _, a := range attrs {
		key := text(a.Key)
		if _, taken := out[key]; !taken {
			out[key] = plain(a.Value)
		}
	}
	return out
}

// plain is a value as JSON has it; numbers that JSON has not are text.
func plain(v span.Value) any {
	switch v.Type {
	case span.TypeEmpty:
		return nil
	case span.TypeBool:
		return v.Bool()
	case span.TypeInt:
		return v.Int()
	case span.TypeDouble:
		if f := v.Double(); !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f
		}
	case span.TypeArray, span.TypeMap:
		if s := v.Text(); json.Valid([]byte(s)) {
			return json.RawMessage(s)
		}
	}
	return text(v.Text())
}
