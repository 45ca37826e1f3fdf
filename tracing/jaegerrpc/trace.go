package jaegerrpc

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/weir-dev/weir/tracing/span"
)

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// adjusted is the trace as people see it.
func (s *Server) adjusted(b *span.Batch, raw bool) (*span.Batch, error) {
	if raw || s.deps.Adjust == nil {
		return b, nil
	}
	traces, err := s.adjustedTraces(b, false)
	if err != nil {
		return nil, err
	}
	return span.FromTraces(traces)
}

func (s *Server) adjustedTraces(b *span.Batch, raw bool) (ptrace.Traces, error) {
	traces, err := b.Traces()
	if err == nil && !raw && s.deps.Adjust != nil {
		s.deps.Adjust(traces)
	}
	return traces, err
}

// maxMessage leaves room in the 4 MiB of a gRPC client for what surrounds a chunk.
const maxMessage = 4<<20 - 64<<10

// chunks calls send with the trace as messages of at most maxMessage bytes each. A
// single span larger than that goes alone: the client has to allow for it.
func chunks(b *span.Batch, send func(encoded) error) error {
	if len(b.Spans) == 0 {
		return nil // a chunk must not be empty
	}
	body := b.Encode(nil)
	if len(body) <= maxMessage || len(b.Spans) == 1 {
		return send(body)
	}
	half := len(b.Spans) / 2
	for _, spans := range [][]span.Span{b.Spans[:half], b.Spans[half:]} {
		part := span.Batch{Resources: b.Resources, Scopes: b.Scopes, Spans: spans}
		if err := chunks(&part, send); err != nil {
			return err
		}
	}
	return nil
}

// summary is a trace in a list of results.
type summary struct {
	id            span.TraceID
	service, name string // of the root: the first span without a parent
	start, end    uint64 // Unix nanoseconds
	spans, errors int32
	orphans       int32 // spans whose parent is not there
	services      []serviceSummary
}

type serviceSummary struct {
	Name           string `json:"name,omitempty"`
	SpanCount      int32  `json:"spanCount,omitempty"`
	ErrorSpanCount int32  `json:"errorSpanCount,omitempty"`
}

func summarize(b *span.Batch) summary {
	var sum summary
	ids := make(map[span.ID]struct{}, len(b.Spans))
	for i := range b.Spans {
		ids[b.Spans[i].ID] = struct{}{}
	}
	services := make(map[string]*serviceSummary)
	var root *span.Span
	for i := range b.Spans {
		at := &b.Spans[i]
		sum.id = at.TraceID
		service := services[b.Resources[at.Resource].Service]
		if service == nil {
			service = &serviceSummary{Name: b.Resources[at.Resource].Service}
			services[service.Name] = service
		}
		sum.spans++
		service.SpanCount++
		if at.Status == span.StatusError {
			sum.errors++
			service.ErrorSpanCount++
		}
		if i == 0 || at.Start < sum.start {
			sum.start = at.Start
		}
		sum.end = max(sum.end, at.End)
		if at.Parent.IsZero() {
			if root == nil || at.Start < root.Start {
				root = at
			}
		} else if _, ok := ids[at.Parent]; !ok {
			sum.orphans++
		}
	}
	if root != nil {
		sum.service, sum.name = b.Resources[root.Resource].Service, root.Name
	}
	for _, service := range services {
		sum.services = append(sum.services, *service)
	}
	slices.SortFunc(sum.services, func(a, b serviceSummary) int { return cmp.Compare(a.Name, b.Name) })
	return sum
}

// names of operations without their kinds, each once.
func names[T any](operations []T, name func(T) string) []string {
	seen := make(map[string]struct{})
	for _, operation := range operations {
		seen[name(operation)] = struct{}{}
	}
	return slices.Sorted(maps.Keys(seen))
}
