package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/gogo/protobuf/proto"
	"github.com/jaegertracing/jaeger/cmd/collector/app/sanitizer"
	"github.com/jaegertracing/jaeger/model"
	"github.com/jaegertracing/jaeger/plugin/storage/memory"
	"github.com/jaegertracing/jaeger/proto-gen/api_v2/metrics"
	"github.com/jaegertracing/jaeger/storage/metricsstore"
	"github.com/jaegertracing/jaeger/storage/spanstore"
	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/translator/jaeger"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// fill does with OTLP what Jaeger's collector does.
func fill(spans []byte) (*memory.Store, error) {
	traces, err := (&ptrace.ProtoUnmarshaler{}).UnmarshalTraces(spans)
	if err != nil {
		return nil, err
	}
	batches, err := jaeger.ProtoFromTraces(traces)
	if err != nil {
		return nil, err
	}
	store := memory.NewStore()
	clean := sanitizer.NewChainedSanitizer(sanitizer.NewStandardSanitizers()...)
	for _, batch := range batches {
		for _, span := range batch.Spans {
			if span.Process == nil {
				span.Process = batch.Process
			}
			if err := store.WriteSpan(context.Background(), clean(span)); err != nil {
				return nil, err
			}
		}
	}
	return store, nil
}

// sorted orders spans by start, id and bytes.
func sorted(t *model.Trace) (*model.Trace, error) {
	slices.SortStableFunc(t.Spans, func(a, b *model.Span) int {
		if c := a.StartTime.Compare(b.StartTime); c != 0 {
			return c
		}
		if c := cmp.Compare(a.SpanID, b.SpanID); c != 0 {
			return c
		}
		return bytes.Compare(encoded(a), encoded(b))
	})
	return t, nil
}

func encoded(s *model.Span) []byte {
	b, err := proto.Marshal(s)
	if err != nil {
		return nil
	}
	return b
}

// ordered is the store with an order.
type ordered struct{ *memory.Store }

func (o ordered) GetTrace(ctx context.Context, id model.TraceID) (*model.Trace, error) {
	t, err := o.Store.GetTrace(ctx, id)
	if err != nil {
		return nil, err
	}
	return sorted(t)
}

func (o ordered) GetServices(ctx context.Context) ([]string, error) {
	services, err := o.Store.GetServices(ctx)
	slices.Sort(services)
	return services, err
}

var kinds = []string{"unspecified", "internal", "server", "client", "producer", "consumer"}

func (o ordered) GetOperations(ctx context.Context, q spanstore.OperationQueryParameters) ([]spanstore.Operation, error) {
	operations, err := o.Store.GetOperations(ctx, q)
	slices.SortFunc(operations, func(a, b spanstore.Operation) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(slices.Index(kinds, a.SpanKind), slices.Index(kinds, b.SpanKind)))
	})
	return operations, err
}

// FindTraces gives the newest first, and of many the newest.
func (o ordered) FindTraces(ctx context.Context, q *spanstore.TraceQueryParameters) ([]*model.Trace, error) {
	all := *q
	all.NumTraces = 0
	traces, err := o.Store.FindTraces(ctx, &all)
	newest := func(t *model.Trace) (start time.Time) {
		for _, s := range t.Spans {
			if s.StartTime.After(start) && s.Process.ServiceName == q.ServiceName {
				start = s.StartTime
			}
		}
		return start
	}
	for _, t := range traces {
		if _, err := sorted(t); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(traces, func(a, b *model.Trace) int {
		return cmp.Or(newest(b).Compare(newest(a)), cmp.Compare(a.Spans[0].TraceID.String(), b.Spans[0].TraceID.String()))
	})
	if q.NumTraces > 0 && len(traces) > q.NumTraces {
		traces = traces[:q.NumTraces]
	}
	return traces, err
}

// nowhere is an archive.
type nowhere struct{}

func (nowhere) WriteSpan(context.Context, *model.Span) error { return nil }

func sortData(data []json.RawMessage) {
	key := func(m json.RawMessage) [3]string {
		var o struct{ Parent, Child, Name, SpanKind string }
		var text string
		if json.Unmarshal(m, &text) == nil {
			return [3]string{text}
		}
		_ = json.Unmarshal(m, &o) // has been JSON before
		return [3]string{o.Parent + o.Name, o.Child}
	}
	slices.SortStableFunc(data, func(a, b json.RawMessage) int {
		x, y := key(a), key(b)
		return slices.Compare(x[:], y[:])
	})
}

// orderedLabels sorts the labels of series by name.
type orderedLabels struct{ metricsstore.Reader }

func (o orderedLabels) GetLatencies(ctx context.Context, p *metricsstore.LatenciesQueryParameters) (*metrics.MetricFamily, error) {
	f, err := o.Reader.GetLatencies(ctx, p)
	return labelled(f), err
}

func (o orderedLabels) GetCallRates(ctx context.Context, p *metricsstore.CallRateQueryParameters) (*metrics.MetricFamily, error) {
	f, err := o.Reader.GetCallRates(ctx, p)
	return labelled(f), err
}

func (o orderedLabels) GetErrorRates(ctx context.Context, p *metricsstore.ErrorRateQueryParameters) (*metrics.MetricFamily, error) {
	f, err := o.Reader.GetErrorRates(ctx, p)
	return labelled(f), err
}

func labelled(f *metrics.MetricFamily) *metrics.MetricFamily {
	if f == nil {
		return nil
	}
	for _, m := range f.Metrics {
		slices.SortFunc(m.Labels, func(a, b *metrics.Label) int { return cmp.Compare(a.Name, b.Name) })
	}
	return f
}
