package jaegerstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-dev/weir/tracing/proto/storagev2"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// slack widens a hint, for a storage that leaves out what is beyond: spans of one
// trace that are further apart than this may be missed where a hint is given.
const slack = time.Hour

// Trace asks with the hint and, when there is nothing, without.
func (s *Store) Trace(ctx context.Context, id span.TraceID, hint spanstore.Window) (*span.Batch, error) {
	if id.IsZero() {
		return nil, fmt.Errorf("trace %s: %w", id, spanstore.ErrNotFound)
	}
	if !hint.Start.IsZero() && !hint.End.IsZero() {
		b, err := s.trace(ctx, &storagev2.GetTraceParams{
			TraceId: id[:], StartTime: timestamppb.New(hint.Start.Add(-slack)), EndTime: timestamppb.New(hint.End.Add(slack)),
		})
		if b != nil || err != nil {
			return b, err
		}
	}
	b, err := s.trace(ctx, &storagev2.GetTraceParams{TraceId: id[:]})
	if b == nil && err == nil {
		return nil, fmt.Errorf("trace %s: %w", id, spanstore.ErrNotFound)
	}
	return b, err
}

// trace is nil where there is none.
func (s *Store) trace(ctx context.Context, p *storagev2.GetTraceParams) (*span.Batch, error) {
	found := gathered{room: int(s.cfg.MaxResult)}
	r := &storagev2.GetTracesRequest{Query: []*storagev2.GetTraceParams{p}}
	_, err := s.stream(ctx, "get trace", storagev2.TraceReader_GetTraces_FullMethodName, r, &found)
	if status.Code(err) == codes.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if found.full {
		return nil, fmt.Errorf("get trace %x at jaeger storage %s: it has more than %s (jaeger.max_result)", p.TraceId, s.cfg.Endpoint, s.cfg.MaxResult)
	}
	return found.trace(span.TraceID(p.TraceId))
}

// Services asks for them.
func (s *Store) Services(ctx context.Context) ([]string, error) {
	call, cancel := context.WithTimeout(ctx, s.cfg.Timeout.Std())
	defer cancel()
	got, err := s.traces.GetServices(call, &storagev2.GetServicesRequest{})
	if err != nil {
		return nil, s.failed(ctx, "get services", s.cfg.Endpoint, err)
	}
	slices.Sort(got.Services)
	return slices.Compact(got.Services), nil
}

// Operations asks for them. A storage that knows no kinds gives all for each.
func (s *Store) Operations(ctx context.Context, service string, kind span.Kind) ([]spanstore.Operation, error) {
	call, cancel := context.WithTimeout(ctx, s.cfg.Timeout.Std())
	defer cancel()
	got, err := s.traces.GetOperations(call, &storagev2.GetOperationsRequest{Service: service, SpanKind: spanstore.KindName(kind)})
	if err != nil {
		return nil, s.failed(ctx, "get operations", s.cfg.Endpoint, err)
	}
	var out []spanstore.Operation
	kinds := false
	for _, o := range got.Operations {
		k := kindOf(o.GetSpanKind())
		kinds = kinds || k != span.KindUnspecified
		out = append(out, spanstore.Operation{Name: o.GetName(), Kind: k})
	}
	if kind != span.KindUnspecified && kinds {
		out = slices.DeleteFunc(out, func(o spanstore.Operation) bool { return o.Kind != kind })
	}
	slices.SortFunc(out, func(a, b spanstore.Operation) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return slices.Compact(out), nil
}

func kindOf(name string) span.Kind {
	for k := span.KindInternal; k <= span.KindConsumer; k++ {
		if strings.EqualFold(name, spanstore.KindName(k)) {
			return k
		}
	}
	return span.KindUnspecified
}

// Dependencies asks for them; an open start is jaeger.lookback before the end.
func (s *Store) Dependencies(ctx context.Context, w spanstore.Window) ([]spanstore.Dependency, error) {
	w = s.closed(w)
	call, cancel := context.WithTimeout(ctx, s.cfg.Timeout.Std())
	defer cancel()
	got, err := s.links.GetDependencies(call, &storagev2.GetDependenciesRequest{StartTime: timestamppb.New(w.Start), EndTime: timestamppb.New(w.End)})
	if err != nil {
		return nil, s.failed(ctx, "get dependencies", s.cfg.Endpoint, err)
	}
	type edge struct{ parent, child string }
	calls := make(map[edge]uint64) // some give an edge for each day or source
	for _, d := range got.Dependencies {
		calls[edge{d.GetParent(), d.GetChild()}] += d.GetCallCount()
	}
	var out []spanstore.Dependency
	for e, n := range calls {
		out = append(out, spanstore.Dependency{Parent: e.parent, Child: e.child, Calls: n})
	}
	slices.SortFunc(out, func(a, b spanstore.Dependency) int {
		return cmp.Or(strings.Compare(a.Parent, b.Parent), strings.Compare(a.Child, b.Child))
	})
	return out, nil
}

// closed gives an open window its ends. The clocks of senders may be an hour ahead.
func (s *Store) closed(w spanstore.Window) spanstore.Window {
	if w.End.IsZero() {
		w.End = s.now().Add(time.Hour)
	}
	if w.Start.IsZero() {
		w.Start = w.End.Add(-s.cfg.Lookback.Std())
	}
	return w
}
