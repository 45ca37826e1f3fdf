package jaegerrpc

import (
	"context"
	"encoding/binary"

	"github.com/jaegertracing/jaeger-idl/model/v1"
	"github.com/jaegertracing/jaeger-idl/proto-gen/api_v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/weir-dev/weir/tracing/jaegermodel"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// apiV2 is jaeger.api_v2.QueryService, which Kiali asks by default.
type apiV2 struct{ *Server }

// A chunk of spans ends at whichever comes first. Jaeger has 10 spans a chunk, which
// is a message for each 5 KB or so.
const (
	chunkSpans = 100
	chunkBytes = 1 << 20
)

func (s apiV2) GetTrace(r *api_v2.GetTraceRequest, stream api_v2.QueryService_GetTraceServer) error {
	id, err := idV2(r.TraceID)
	if err != nil {
		return err
	}
	b, err := s.deps.Reader.Trace(stream.Context(), id, window(r.StartTime, r.EndTime))
	if err != nil {
		return err
	}
	return s.send(b, r.RawTraces, stream.Send)
}

func (s apiV2) FindTraces(r *api_v2.FindTracesRequest, stream api_v2.QueryService_FindTracesServer) error {
	if r.Query == nil {
		return badf("missing query")
	}
	q, note, err := s.query(search{
		service: r.Query.ServiceName, operation: r.Query.OperationName, where: equals(r.Query.Tags),
		start: r.Query.StartTimeMin, end: r.Query.StartTimeMax,
		minimum: r.Query.DurationMin, maximum: r.Query.DurationMax,
		depth: int(r.Query.SearchDepth),
	})
	if err != nil {
		return err
	}
	return s.find(stream, q, note, func(b *span.Batch) error {
		return s.send(b, r.Query.RawTraces, stream.Send)
	})
}

// find yields what q finds and tells in the trailer what may be missing.
func (s *Server) find(stream grpc.ServerStream, q spanstore.Query, note string, yield func(*span.Batch) error) error {
	notes, err := s.deps.Reader.Find(stream.Context(), q, yield)
	stream.SetTrailer(trailer(note, notes))
	return err
}

// trailer is metadata for curious clients; Jaeger's look at none.
func trailer(note string, notes spanstore.Notes) metadata.MD {
	md := metadata.MD{}
	for _, text := range []string{note, notes.Partial} {
		if text != "" {
			md.Append("weir-note", text)
		}
	}
	return md
}

// send sends a trace in chunks that no client refuses.
func (s apiV2) send(b *span.Batch, raw bool, send func(*api_v2.SpansResponseChunk) error) error {
	b, err := s.adjusted(b, raw)
	if err != nil {
		return err
	}
	trace, err := jaegermodel.Trace(b)
	if err != nil {
		return err
	}
	var chunk []model.Span
	bytes := 0
	for _, one := range trace.Spans {
		size := one.Size()
		if len(chunk) == chunkSpans || len(chunk) > 0 && bytes+size > chunkBytes {
			if err := send(&api_v2.SpansResponseChunk{Spans: chunk}); err != nil {
				return err
			}
			chunk, bytes = nil, 0
		}
		chunk = append(chunk, *one)
		bytes += size
	}
	if len(chunk) == 0 {
		return nil
	}
	return send(&api_v2.SpansResponseChunk{Spans: chunk})
}

func (s apiV2) ArchiveTrace(ctx context.Context, r *api_v2.ArchiveTraceRequest) (*api_v2.ArchiveTraceResponse, error) {
	id, err := idV2(r.TraceID)
	if err != nil {
		return nil, err
	}
	if s.deps.Archive == nil {
		return nil, status.Error(codes.Unimplemented, "this store has no archive")
	}
	if err := s.deps.Archive(ctx, id, window(r.StartTime, r.EndTime)); err != nil {
		return nil, err
	}
	return &api_v2.ArchiveTraceResponse{}, nil
}

func (s apiV2) GetServices(ctx context.Context, _ *api_v2.GetServicesRequest) (*api_v2.GetServicesResponse, error) {
	services, err := s.deps.Reader.Services(ctx)
	return &api_v2.GetServicesResponse{Services: services}, err
}

func (s apiV2) GetOperations(ctx context.Context, r *api_v2.GetOperationsRequest) (*api_v2.GetOperationsResponse, error) {
	found, err := s.operations(ctx, r.Service, r.SpanKind)
	response := &api_v2.GetOperationsResponse{
		OperationNames: names(found, func(o spanstore.Operation) string { return o.Name }), // what old clients read
	}
	for _, o := range found {
		response.Operations = append(response.Operations, &api_v2.Operation{Name: o.Name, SpanKind: spanstore.KindName(o.Kind)})
	}
	return response, err
}

// operations of a service; an unknown kind has none, as in Jaeger.
func (s *Server) operations(ctx context.Context, service, kind string) ([]spanstore.Operation, error) {
	if service == "" {
		return nil, badf("service is required")
	}
	k, ok := parseKind(kind)
	if !ok {
		return nil, nil
	}
	return s.deps.Reader.Operations(ctx, service, k)
}

func (s apiV2) GetDependencies(ctx context.Context, r *api_v2.GetDependenciesRequest) (*api_v2.GetDependenciesResponse, error) {
	if r.StartTime.IsZero() || r.EndTime.IsZero() {
		return nil, badf("start time and end time are required")
	}
	found, err := s.dependencies(ctx, spanstore.Window{Start: r.StartTime, End: r.EndTime})
	response := &api_v2.GetDependenciesResponse{}
	for _, d := range found {
		response.Dependencies = append(response.Dependencies, model.DependencyLink{Parent: d.Parent, Child: d.Child, CallCount: d.Calls})
	}
	return response, err
}

func (s *Server) dependencies(ctx context.Context, w spanstore.Window) ([]spanstore.Dependency, error) {
	if !w.Start.IsZero() && !w.End.IsZero() && w.End.Before(w.Start) {
		return nil, badf("start time %s is after end time %s", w.Start.UTC(), w.End.UTC())
	}
	return s.deps.Reader.Dependencies(ctx, w)
}

func idV2(id model.TraceID) (span.TraceID, error) {
	var out span.TraceID
	binary.BigEndian.PutUint64(out[:8], id.High)
	binary.BigEndian.PutUint64(out[8:], id.Low)
	if out.IsZero() {
		return out, badf("trace id: got none, or zeros only")
	}
	return out, nil
}
