package jaegerv1

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/weir-dev/weir/tracing/jaegermodel"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// memory is a spanstore.Reader over traces in memory, in the order in which they were
// put there. It finds with spanstore's own matcher and has the dependencies that
// Jaeger's memory store computes; services without a name have the one that Jaeger
// gives them.
type memory struct {
	ids    []span.TraceID
	traces map[span.TraceID]*span.Batch
	fail   error // of all questions
	hints  []spanstore.Window
	notes  spanstore.Notes
	block  chan struct{} // held until closed; nil: not
}

func newMemory(all *span.Batch) *memory {
	m := &memory{traces: make(map[span.TraceID]*span.Batch)}
	resources := slices.Clone(all.Resources)
	for i := range resources {
		resources[i].Service = jaegermodel.ServiceName(&resources[i])
	}
	for _, s := range all.Spans {
		b := m.traces[s.TraceID]
		if b == nil {
			b = &span.Batch{Resources: resources, Scopes: all.Scopes}
			m.traces[s.TraceID] = b
			m.ids = append(m.ids, s.TraceID)
		}
		b.Spans = append(b.Spans, s)
	}
	return m
}

func (m *memory) ready(ctx context.Context) error {
	if m.block != nil {
		select {
		case <-m.block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return m.fail
}

func (m *memory) Trace(ctx context.Context, id span.TraceID, hint spanstore.Window) (*span.Batch, error) {
	m.hints = append(m.hints, hint)
	if err := m.ready(ctx); err != nil {
		return nil, err
	}
	if b := m.traces[id]; b != nil {
		return b, nil
	}
	return nil, spanstore.ErrNotFound
}

func (m *memory) Find(ctx context.Context, q spanstore.Query, yield func(*span.Batch) error) (spanstore.Notes, error) {
	ids, notes, err := m.FindIDs(ctx, q)
	if err != nil {
		return notes, err
	}
	for _, id := range ids {
		if err := yield(m.traces[id]); err != nil {
			return notes, err
		}
	}
	return notes, nil
}

func (m *memory) FindIDs(ctx context.Context, q spanstore.Query) ([]span.TraceID, spanstore.Notes, error) {
	if err := m.ready(ctx); err != nil {
		return nil, m.notes, err
	}
	newest := make(map[span.TraceID]uint64)
	var ids []span.TraceID
	for _, id := range m.ids {
		b := m.traces[id]
		for i := range b.Spans {
			if !spanstore.Matches(q, b, i) {
				continue
			}
			if _, ok := newest[id]; !ok {
				ids = append(ids, id)
			}
			newest[id] = max(newest[id], b.Spans[i].Start)
		}
	}
	slices.SortStableFunc(ids, func(a, b span.TraceID) int {
		return time.Unix(0, int64(newest[b])).Compare(time.Unix(0, int64(newest[a])))
	})
	return ids[:min(len(ids), q.Limit)], m.notes, nil
}

func (m *memory) each(f func(b *span.Batch, s *span.Span)) {
	for _, id := range m.ids {
		b := m.traces[id]
		for i := range b.Spans {
			f(b, &b.Spans[i])
		}
	}
}

func (m *memory) Services(ctx context.Context) ([]string, error) {
	seen := make(map[string]bool)
	m.each(func(b *span.Batch, s *span.Span) { seen[b.Resources[s.Resource].Service] = true })
	return slices.Sorted(maps.Keys(seen)), m.ready(ctx)
}

func (m *memory) Operations(ctx context.Context, service string, kind span.Kind) ([]spanstore.Operation, error) {
	seen := make(map[spanstore.Operation]bool)
	m.each(func(b *span.Batch, s *span.Span) {
		if b.Resources[s.Resource].Service == service && (kind == 0 || s.Kind == kind) {
			seen[spanstore.Operation{Name: s.Name, Kind: s.Kind}] = true
		}
	})
	out := slices.Collect(maps.Keys(seen))
	slices.SortFunc(out, func(a, b spanstore.Operation) int {
		if a.Name != b.Name {
			return compare(a.Name, b.Name)
		}
		return int(a.Kind) - int(b.Kind)
	})
	return out, m.ready(ctx)
}

func compare(a, b string) int { return slices.Compare([]byte(a), []byte(b)) }

func (m *memory) Dependencies(ctx context.Context, w spanstore.Window) ([]spanstore.Dependency, error) {
	type edge struct{ parent, child string }
	calls := make(map[edge]uint64)
	for _, id := range m.ids {
		t, err := jaegermodel.Trace(m.traces[id])
		if err != nil {
			return nil, err
		}
		jaegermodel.Adjust(t, 0)
		inside := false
		for _, s := range t.Spans {
			inside = inside || s.StartTime.After(w.Start) && s.StartTime.Before(w.End)
		}
		for _, s := range t.Spans {
			parent := t.FindSpanByID(s.ParentSpanID())
			if inside && parent != nil && parent.Process.ServiceName != s.Process.ServiceName {
				calls[edge{parent.Process.ServiceName, s.Process.ServiceName}]++
			}
		}
	}
	var out []spanstore.Dependency
	for e, n := range calls {
		out = append(out, spanstore.Dependency{Parent: e.parent, Child: e.child, Calls: n})
	}
	slices.SortFunc(out, func(a, b spanstore.Dependency) int {
		if a.Parent != b.Parent {
			return compare(a.Parent, b.Parent)
		}
		return compare(a.Child, b.Child)
	})
	return out, m.ready(ctx)
}
