package jaegerrpc

import (
	"context"

	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/weir-dev/weir/tracing/proto/apiv3"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// apiV3 is jaeger.api_v3.QueryService. FindSpans, which Jaeger itself only drafts, is
// left to the generated UNIMPLEMENTED.
type apiV3 struct {
	apiv3.UnimplementedQueryServiceServer
	*Server
}

func (s apiV3) GetTrace(r *apiv3.GetTraceRequest, stream grpc.ServerStreamingServer[tracev1.TracesData]) error {
	id, err := parseID(r.GetTraceId())
	if err != nil {
		return err
	}
	b, err := s.deps.Reader.Trace(stream.Context(), id, window(instant(r.GetStartTime()), instant(r.GetEndTime())))
	if err != nil {
		return err
	}
	return s.sendTrace(b, r.GetRawTraces(), stream)
}

// sendTrace sends the trace as bytes, past the generated messages.
func (s *Server) sendTrace(b *span.Batch, raw bool, stream grpc.ServerStream) error {
	b, err := s.adjusted(b, raw)
	if err != nil {
		return err
	}
	return chunks(b, func(e encoded) error { return stream.SendMsg(e) })
}

func (s apiV3) FindTraces(r *apiv3.FindTracesRequest, stream grpc.ServerStreamingServer[tracev1.TracesData]) error {
	x, err := searchV3(r.GetQuery())
	if err != nil {
		return err
	}
	if x.page != nil {
		return badf("pagination is not for FindTraces, only for FindTraceSummaries")
	}
	q, note, err := s.query(x)
	if err != nil {
		return err
	}
	return s.find(stream, q, note, func(b *span.Batch) error { return s.sendTrace(b, x.raw, stream) })
}

func (s apiV3) FindTraceSummaries(r *apiv3.FindTraceSummariesRequest, stream grpc.ServerStreamingServer[apiv3.FindTraceSummariesResponse]) error {
	x, err := searchV3(r.GetQuery())
	if err != nil {
		return err
	}
	q, note, err := s.query(x)
	if err != nil {
		return err
	}
	return s.find(stream, q, note, func(b *span.Batch) error {
		b, err := s.adjusted(b, false)
		if err != nil {
			return err
		}
		return stream.Send(&apiv3.FindTraceSummariesResponse{Summaries: []*apiv3.TraceSummary{summaryV3(summarize(b))}})
	})
}

func searchV3(p *apiv3.TraceQueryParameters) (search, error) {
	if p == nil {
		return search{}, badf("missing query")
	}
	x := search{
		service: p.GetServiceName(), operation: p.GetOperationName(), where: equals(p.GetAttributes()),
		start: instant(p.GetStartTimeMin()), end: instant(p.GetStartTimeMax()),
		minimum: duration(p.GetDurationMin()), maximum: duration(p.GetDurationMax()),
		depth: int(p.GetSearchDepth()), filter: p.GetFilter(), raw: p.GetRawTraces(),
	}
	if p.GetPagination() != nil {
		x.page = &page{p.GetPagination().GetPageSize(), p.GetPagination().GetPageToken()}
	}
	if x.start.IsZero() || x.end.IsZero() {
		return search{}, badf("start_time_min and start_time_max are required")
	}
	return x, nil
}

func summaryV3(sum summary) *apiv3.TraceSummary {
	out := &apiv3.TraceSummary{
		TraceId: sum.id.String(), RootServiceName: sum.service, RootOperationName: sum.name,
		MinStartTimeUnixNano: sum.start, MaxEndTimeUnixNano: sum.end,
		SpanCount: sum.spans, ErrorSpanCount: sum.errors, OrphanSpanCount: sum.orphans,
	}
	for _, service := range sum.services {
		out.Services = append(out.Services, &apiv3.ServiceSummary{
			Name: service.Name, SpanCount: service.SpanCount, ErrorSpanCount: service.ErrorSpanCount,
		})
	}
	return out
}

func (s apiV3) GetServices(ctx context.Context, _ *apiv3.GetServicesRequest) (*apiv3.GetServicesResponse, error) {
	services, err := s.deps.Reader.Services(ctx)
	return &apiv3.GetServicesResponse{Services: services}, err
}

func (s apiV3) GetOperations(ctx context.Context, r *apiv3.GetOperationsRequest) (*apiv3.GetOperationsResponse, error) {
	found, err := s.operations(ctx, r.GetService(), r.GetSpanKind())
	response := &apiv3.GetOperationsResponse{}
	for _, o := range found {
		response.Operations = append(response.Operations, &apiv3.Operation{Name: o.Name, SpanKind: spanstore.KindName(o.Kind)})
	}
	return response, err
}

func (s apiV3) GetDependencies(ctx context.Context, r *apiv3.GetDependenciesRequest) (*apiv3.DependenciesResponse, error) {
	w := spanstore.Window{Start: instant(r.GetStartTime()), End: instant(r.GetEndTime())}
	if w.Start.IsZero() || w.End.IsZero() {
		return nil, badf("start_time and end_time are required")
	}
	found, err := s.dependencies(ctx, w)
	response := &apiv3.DependenciesResponse{}
	for _, d := range found {
		response.Dependencies = append(response.Dependencies, &apiv3.Dependency{Parent: d.Parent, Child: d.Child, CallCount: d.Calls})
	}
	return response, err
}

// apiV3Capabilities says what searches here can do, as storageV2Capabilities does.
// Structured filters are not declared: those that narrow knows are what Jaeger makes
// of a filter for a store without them.
type apiV3Capabilities struct {
	apiv3.UnimplementedCapabilitiesServer
}

func (apiV3Capabilities) GetCapabilities(context.Context, *apiv3.GetCapabilitiesRequest) (*apiv3.GetCapabilitiesResponse, error) {
	return &apiv3.GetCapabilitiesResponse{Search: &apiv3.SearchCapabilities{WithoutServiceName: true, SameSpanConjunction: true}}, nil
}
