package jaegerrpc

import (
	"context"
	"errors"

	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/weir-dev/weir/tracing/proto/storagev2"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// storageV2 is jaeger.storage.v2.TraceReader: Weir as the store of a stock Jaeger. A
// TracesData is of one trace; a large trace comes as several in a row.
type storageV2 struct {
	storagev2.UnimplementedTraceReaderServer
	*Server
}

func (s storageV2) GetTraces(r *storagev2.GetTracesRequest, stream grpc.ServerStreamingServer[tracev1.TracesData]) error {
	if n := len(r.GetQuery()); n > s.limits.MaxTraces {
		return badf("got %d trace ids, want at most %d", n, s.limits.MaxTraces)
	}
	for _, one := range r.GetQuery() {
		var id span.TraceID
		if n := copy(id[:], one.GetTraceId()); n < len(id) || len(one.GetTraceId()) > len(id) {
			return badf("trace id %x: got %d bytes, want 16", one.GetTraceId(), len(one.GetTraceId()))
		}
		b, err := s.deps.Reader.Trace(stream.Context(), id, window(instant(one.GetStartTime()), instant(one.GetEndTime())))
		if errors.Is(err, spanstore.ErrNotFound) {
			continue // the contract has no error for it
		}
		if err != nil {
			return err
		}
		if err := s.sendTrace(b, true, stream); err != nil {
			return err
		}
	}
	return nil
}

func (s storageV2) FindTraces(r *storagev2.FindTracesRequest, stream grpc.ServerStreamingServer[tracev1.TracesData]) error {
	x, err := searchStorage(r.GetQuery())
	if err != nil {
		return err
	}
	if x.page != nil {
		return badf("pagination is not for FindTraces, only for FindTraceIDs and FindTraceSummaries")
	}
	q, note, err := s.query(x)
	if err != nil {
		return err
	}
	return s.find(stream, q, note, func(b *span.Batch) error { return s.sendTrace(b, true, stream) })
}

func (s storageV2) FindTraceIDs(ctx context.Context, r *storagev2.FindTraceIDsRequest) (*storagev2.FindTraceIDsResponse, error) {
	x, err := searchStorage(r.GetQuery())
	if err != nil {
		return nil, err
	}
	q, note, err := s.query(x)
	if err != nil {
		return nil, err
	}
	ids, notes, err := s.deps.Reader.FindIDs(ctx, q)
	if err != nil {
		return nil, err
	}
	if md := trailer(note, notes); len(md) > 0 {
		if err := grpc.SetTrailer(ctx, md); err != nil {
			return nil, err
		}
	}
	response := &storagev2.FindTraceIDsResponse{}
	for _, id := range ids {
		response.TraceIds = append(response.TraceIds, &storagev2.FoundTraceID{TraceId: id[:]})
	}
	return response, nil
}

func (s storageV2) FindTraceSummaries(r *storagev2.FindTraceSummariesRequest, stream grpc.ServerStreamingServer[storagev2.FindTraceSummariesResponse]) error {
	x, err := searchStorage(r.GetQuery())
	if err != nil {
		return err
	}
	q, note, err := s.query(x)
	if err != nil {
		return err
	}
	return s.find(stream, q, note, func(b *span.Batch) error {
		return stream.Send(&storagev2.FindTraceSummariesResponse{Summaries: []*storagev2.TraceSummary{summaryStorage(summarize(b))}})
	})
}

func searchStorage(p *storagev2.TraceQueryParameters) (search, error) {
	if p == nil {
		return search{}, badf("missing query")
	}
	x := search{
		service: p.GetServiceName(), operation: p.GetOperationName(),
		start: instant(p.GetStartTimeMin()), end: instant(p.GetStartTimeMax()),
		minimum: duration(p.GetDurationMin()), maximum: duration(p.GetDurationMax()),
		depth: int(p.GetSearchDepth()), filter: p.GetFilter(),
	}
	for _, attribute := range p.GetAttributes() {
		text, err := attributeText(attribute.GetValue())
		if err != nil {
			return search{}, badf("attribute %q: %s", attribute.GetKey(), err)
		}
		x.where = append(x.where, spanstore.Condition{Key: attribute.GetKey(), Op: spanstore.Equal, Value: text})
	}
	if p.GetPagination() != nil {
		x.page = &page{p.GetPagination().GetPageSize(), p.GetPagination().GetPageToken()}
	}
	return x, nil
}

// attributeText is the value as conditions have it. The lists and maps of storage.v2
// have the fields of OTLP's, so that their bytes are OTLP's, too.
func attributeText(v *storagev2.AnyValue) (string, error) {
	switch held := v.GetValue().(type) {
	case *storagev2.AnyValue_StringValue:
		return held.StringValue, nil
	case *storagev2.AnyValue_BoolValue:
		return span.BoolValue(held.BoolValue).Text(), nil
	case *storagev2.AnyValue_IntValue:
		return span.IntValue(held.IntValue).Text(), nil
	case *storagev2.AnyValue_DoubleValue:
		return span.DoubleValue(held.DoubleValue).Text(), nil
	case *storagev2.AnyValue_BytesValue:
		return span.BytesValue(held.BytesValue).Text(), nil
	case *storagev2.AnyValue_ArrayValue:
		body, err := proto.Marshal(held.ArrayValue)
		return span.Value{Type: span.TypeArray, Str: string(body)}.Text(), err
	case *storagev2.AnyValue_KvlistValue:
		body, err := proto.Marshal(held.KvlistValue)
		return span.Value{Type: span.TypeMap, Str: string(body)}.Text(), err
	}
	return "", nil
}

func summaryStorage(sum summary) *storagev2.TraceSummary {
	out := &storagev2.TraceSummary{
		TraceId: sum.id[:], RootServiceName: sum.service, RootOperationName: sum.name,
		MinStartTimeUnixNano: sum.start, MaxEndTimeUnixNano: sum.end,
		SpanCount: sum.spans, ErrorSpanCount: sum.errors, OrphanSpanCount: sum.orphans,
	}
	for _, service := range sum.services {
		out.Services = append(out.Services, &storagev2.ServiceSummary{
			Name: service.Name, SpanCount: service.SpanCount, ErrorSpanCount: service.ErrorSpanCount,
		})
	}
	return out
}

func (s storageV2) GetServices(ctx context.Context, _ *storagev2.GetServicesRequest) (*storagev2.GetServicesResponse, error) {
	services, err := s.deps.Reader.Services(ctx)
	return &storagev2.GetServicesResponse{Services: services}, err
}

func (s storageV2) GetOperations(ctx context.Context, r *storagev2.GetOperationsRequest) (*storagev2.GetOperationsResponse, error) {
	found, err := s.operations(ctx, r.GetService(), r.GetSpanKind())
	response := &storagev2.GetOperationsResponse{}
	for _, o := range found {
		response.Operations = append(response.Operations, &storagev2.Operation{Name: o.Name, SpanKind: spanstore.KindName(o.Kind)})
	}
	return response, err
}

// storageV2Dependencies is jaeger.storage.v2.DependencyReader.
type storageV2Dependencies struct {
	storagev2.UnimplementedDependencyReaderServer
	*Server
}

func (s storageV2Dependencies) GetDependencies(ctx context.Context, r *storagev2.GetDependenciesRequest) (*storagev2.GetDependenciesResponse, error) {
	found, err := s.dependencies(ctx, spanstore.Window{Start: instant(r.GetStartTime()), End: instant(r.GetEndTime())})
	response := &storagev2.GetDependenciesResponse{}
	for _, d := range found {
		response.Dependencies = append(response.Dependencies, &storagev2.Dependency{Parent: d.Parent, Child: d.Child, CallCount: d.Calls})
	}
	return response, err
}

// storageV2Capabilities is what a Jaeger in front asks before it offers a search.
type storageV2Capabilities struct {
	storagev2.UnimplementedCapabilitiesServer
}

func (storageV2Capabilities) GetCapabilities(context.Context, *storagev2.GetCapabilitiesRequest) (*storagev2.GetCapabilitiesResponse, error) {
	return &storagev2.GetCapabilitiesResponse{Search: &storagev2.SearchCapabilities{WithoutServiceName: true, SameSpanConjunction: true}}, nil
}
