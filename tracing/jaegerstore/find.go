package jaegerstore

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-dev/weir/tracing/proto/storagev2"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Find asks the storage for what the protocol has words for, verifies all of q on what
// comes, and then yields.
func (s *Store) Find(ctx context.Context, q spanstore.Query, yield func(*span.Batch) error) (spanstore.Notes, error) {
	found, notes, err := s.find(ctx, q)
	for i := range found {
		if err != nil {
			break
		}
		err = yield(found[i].batch)
		found[i].batch = nil
	}
	return notes, err
}

// FindIDs reads the traces, too: those that fulfil q are known by nothing less.
func (s *Store) FindIDs(ctx context.Context, q spanstore.Query) ([]span.TraceID, spanstore.Notes, error) {
	found, notes, err := s.find(ctx, q)
	var ids []span.TraceID
	for i := range found {
		ids = append(ids, found[i].id)
	}
	return ids, notes, err
}

// match is a trace that fulfils the query.
type match struct {
	id     span.TraceID
	newest uint64 // start of the newest span that does
	batch  *span.Batch
}

func (s *Store) find(ctx context.Context, q spanstore.Query) ([]match, spanstore.Notes, error) {
	var notes spanstore.Notes
	m, err := spanstore.NewMatcher(q)
	if err != nil {
		return nil, notes, err
	}
	limit := max(1, q.Limit)
	p := s.plan(q)
	if p.nothing {
		return nil, notes, ctx.Err()
	}
	if p.open {
		notes.Partial = also(notes.Partial, fmt.Sprintf("traces older than %s were not searched (jaeger.lookback)", s.cfg.Lookback))
	}
	asks, partial, err := s.asks(ctx, q, p)
	if err != nil {
		return nil, notes, err
	}
	notes.Scanned = p.verified || len(asks) > len(p.variants)
	notes.Partial = also(notes.Partial, partial)
	// What is verified here alone is looked for in four times as many traces each
	// time, until there are enough, no more come or too many have.
	most := max(limit, s.cfg.MaxTraces)
	for depth := limit; ; depth = min(4*depth, most) {
		found, said, more, err := s.round(ctx, asks, depth, m)
		if err != nil {
			return nil, notes, err
		}
		if p.verified && more && len(found) < limit && depth < most {
			continue
		}
		if p.verified && more && len(found) < limit {
			said = append(said, fmt.Sprintf("only the newest %d traces of those that the storage can search were looked at (jaeger.max_traces)", depth))
		}
		for _, note := range said {
			notes.Partial = also(notes.Partial, note)
		}
		return found[:min(limit, len(found))], notes, nil
	}
}

func also(notes, note string) string {
	if notes == "" || note == "" || strings.Contains(notes, note) {
		return cmp.Or(notes, note)
	}
	return notes + "; " + note
}

// plan is a query in words of the protocol.
type plan struct {
	params   *storagev2.TraceQueryParameters // the service and attributes excepted
	variants [][]*storagev2.KeyValue         // attributes, each a search of its own
	verified bool                            // q asks for more
	open     bool                            // q asks for older traces
	nothing  bool                            // no span can be what q asks for
}

// local are attributes that storages look for in different ways, or not at all, since
// they are made of fields of the span.
var local = []string{"span.kind", "otel.status_code", "otel.status_description", "otel.scope.name", "otel.scope.version", "w3c.tracestate", "event"}

func (s *Store) plan(q spanstore.Query) plan {
	w := s.closed(spanstore.Window{Start: q.Start, End: q.End})
	p := plan{
		open:    q.Start.IsZero(),
		nothing: w.End.Before(w.Start) || q.MaxDuration > 0 && q.MaxDuration < q.MinDuration,
		// Jaeger stores microseconds; what is too much falls out here.
		params: &storagev2.TraceQueryParameters{
			OperationName: q.Operation,
			StartTimeMin:  timestamppb.New(w.Start.Add(-time.Microsecond)), StartTimeMax: timestamppb.New(w.End.Add(time.Microsecond)),
			DurationMin: durationpb.New(max(0, q.MinDuration-time.Microsecond)), DurationMax: durationpb.New(q.MaxDuration),
		},
		variants: [][]*storagev2.KeyValue{nil},
		verified: q.Kind != span.KindUnspecified || q.Root || q.Error != nil && !*q.Error,
	}
	if q.MaxDuration > 0 && q.MaxDuration < math.MaxInt64-time.Microsecond {
		p.params.DurationMax = durationpb.New(q.MaxDuration + time.Microsecond)
	}
	if q.Error != nil && *q.Error {
		p.require("error", "true")
	}
	for _, c := range q.Where {
		if c.Op != spanstore.Equal || slices.Contains(local, c.Key) || !p.require(c.Key, c.Value) {
			p.verified = true
		}
	}
	return p
}

// maxVariants bounds the searches that renamed attributes multiply to: three of them.
const maxVariants = 8

// require adds an attribute, under each of its names; false: it is not sent.
func (p *plan) require(key, value string) bool {
	names := spanstore.Aliases(key)
	if key == "error" && value != "true" { // some take it for a status of OK
		return false
	}
	for _, sent := range p.variants[0] {
		if slices.Contains(names, sent.Key) { // they keep one value of a key
			return sent.Value.GetStringValue() == value
		}
	}
	if len(p.variants)*len(names) > maxVariants {
		return false
	}
	var out [][]*storagev2.KeyValue
	for _, name := range names {
		attr := &storagev2.KeyValue{Key: name, Value: &storagev2.AnyValue{Value: &storagev2.AnyValue_StringValue{StringValue: value}}}
		if key == "error" {
			attr.Value.Value = &storagev2.AnyValue_BoolValue{BoolValue: true}
		}
		for _, v := range p.variants {
			out = append(out, append(slices.Clone(v), attr))
		}
	}
	p.variants = out
	return true
}

// maxServices bounds the searches that are made for one that names no service, where
// the storage wants a name.
const maxServices = 100

func (s *Store) asks(ctx context.Context, q spanstore.Query, p plan) (asks []*storagev2.TraceQueryParameters, partial string, err error) {
	services := []string{q.Service}
	if q.Service == "" {
		services, partial, err = s.everyService(ctx)
		if err != nil {
			return nil, "", err
		}
	}
	for _, service := range services {
		for _, attrs := range p.variants {
			asks = append(asks, &storagev2.TraceQueryParameters{
				ServiceName: service, Attributes: attrs, OperationName: p.params.OperationName,
				StartTimeMin: p.params.StartTimeMin, StartTimeMax: p.params.StartTimeMax,
				DurationMin: p.params.DurationMin, DurationMax: p.params.DurationMax,
			})
		}
	}
	return asks, partial, nil
}

func (s *Store) everyService(ctx context.Context) (services []string, partial string, err error) {
	without, err := s.anyService(ctx)
	if err != nil || without {
		return []string{""}, "", err
	}
	if services, err = s.Services(ctx); err != nil {
		return nil, "", err
	}
	if n := len(services); n > maxServices {
		services = services[:maxServices]
		partial = fmt.Sprintf("only %d of %d services were searched, since the storage wants the name of one", maxServices, n)
	}
	return services, partial, nil
}

// round asks all and returns the traces that match, newest first, what else there is
// to say, and whether the storage may have more.
func (s *Store) round(ctx context.Context, asks []*storagev2.TraceQueryParameters, depth int, m *spanstore.Matcher) (found []match, notes []string, more bool, err error) {
	room := int(s.cfg.MaxResult)
	seen := make(map[span.TraceID]bool)
	for _, ask := range asks {
		ask.SearchDepth = int32(min(depth, math.MaxInt32))
		g := gathered{room: room}
		said, err := s.stream(ctx, "find traces", storagev2.TraceReader_FindTraces_FullMethodName, &storagev2.FindTracesRequest{Query: ask}, &g)
		if err != nil {
			return nil, nil, false, err
		}
		notes = append(notes, said...)
		more = more || len(g.order) >= depth
		if g.full {
			notes = append(notes, fmt.Sprintf("the traces found are more than %s (jaeger.max_result)", s.cfg.MaxResult))
		}
		room = g.room
		for _, id := range g.order {
			if seen[id] {
				continue
			}
			seen[id] = true
			x, err := verify(&g, id, m)
			if err != nil {
				return nil, nil, false, fmt.Errorf("find traces at jaeger storage %s: %w", s.cfg.Endpoint, err)
			}
			if x.batch != nil {
				found = append(found, x)
			}
		}
		if g.full {
			break
		}
	}
	slices.SortFunc(found, func(a, b match) int {
		return cmp.Or(cmp.Compare(b.newest, a.newest), bytes.Compare(a.id[:], b.id[:]))
	})
	return found, notes, more, nil
}

// verify returns a trace with no batch if none of its spans matches.
func verify(g *gathered, id span.TraceID, m *spanstore.Matcher) (match, error) {
	b, err := g.trace(id)
	if err != nil {
		return match{}, err
	}
	x := match{id: id}
	for i := range b.Spans {
		if m.Match(b, i) && (x.batch == nil || b.Spans[i].Start > x.newest) {
			x.newest, x.batch = b.Spans[i].Start, b
		}
	}
	return x, nil
}
