package jaegerrpc

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a store of traces in a slice, newest first. It stands for the embedded
// store, whose own tests show that it answers the same: what is tested here is what
// comes before and after. The fields below make it behave as no store does on demand.
type memory struct {
	traces  []*span.Batch
	err     error         // of all methods
	partial string        // what Find notes
	block   chan struct{} // if any, Services waits until it is closed
	panics  bool          // in Services
}

func (m *memory) Trace(_ context.Context, id span.TraceID, _ spanstore.Window) (*span.Batch, error) {
	for _, b := range m.traces {
		if b.Spans[0].TraceID == id {
			return b, m.err
		}
	}
	return nil, cmp.Or(m.err, spanstore.ErrNotFound)
}

func (m *memory) Find(_ context.Context, q spanstore.Query, yield func(*span.Batch) error) (spanstore.Notes, error) {
	notes := spanstore.Notes{Partial: m.partial}
	matcher, err := spanstore.NewMatcher(q)
	if err = cmp.Or(m.err, err); err != nil {
		return notes, err
	}
	found := 0
	for _, b := range m.traces {
		matches := false
		for i := range b.Spans {
			matches = matches || matcher.Match(b, i)
		}
		if matches && found < q.Limit {
			found++
			if err := yield(b); err != nil {
				return notes, err
			}
		}
	}
	return notes, nil
}

func (m *memory) FindIDs(ctx context.Context, q spanstore.Query) (ids []span.TraceID, notes spanstore.Notes, err error) {
	notes, err = m.Find(ctx, q, func(b *span.Batch) error {
		ids = append(ids, b.Spans[0].TraceID)
		return nil
	})
	return ids, notes, err
}

func (m *memory) Services(ctx context.Context) ([]string, error) {
	if m.panics {
		panic("a stranger's bytes")
	}
	if m.block != nil {
		select {
		case <-m.block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var services []string
	for _, b := range m.traces {
		for _, r := range b.Resources {
			services = append(services, r.Service)
		}
	}
	slices.Sort(services)
	return slices.Compact(services), m.err
}

func (m *memory) Operations(_ context.Context, service string, kind span.Kind) ([]spanstore.Operation, error) {
	var found []spanstore.Operation
	for _, b := range m.traces {
		for _, s := range b.Spans {
			if b.Resources[s.Resource].Service == service && (kind == span.KindUnspecified || kind == s.Kind) {
				found = append(found, spanstore.Operation{Name: s.Name, Kind: s.Kind})
			}
		}
	}
	slices.SortFunc(found, func(a, b spanstore.Operation) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return slices.Compact(found), m.err
}

func (m *memory) Dependencies(context.Context, spanstore.Window) ([]spanstore.Dependency, error) {
	return []spanstore.Dependency{{Parent: "frontend", Child: "kiosk/größe", Calls: 7}}, m.err
}

// noon is when the first span of the traces starts.
var noon = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

func at(after time.Duration) uint64 { return uint64(noon.Add(after).UnixNano()) }

func resource(service string) span.Resource {
	return span.Resource{
		Service: service,
		Attrs:   []span.Attr{{Key: "service.name", Value: span.StringValue(service)}},
	}
}

// shop is a trace of two services: one call that fails, and an orphan.
func shop() *span.Batch {
	id := span.TraceID{15: 0xab}
	return &span.Batch{
		Resources: []span.Resource{resource("frontend"), resource("kiosk/größe")},
		Scopes:    []span.Scope{{}, {Name: "http", Version: "1.2"}},
		Spans: []span.Span{
			{
				Resource: 0, Scope: 1, TraceID: id, ID: span.ID{7: 1}, Name: "GET /cart", Kind: span.KindServer,
				Start: at(0), End: at(30 * time.Millisecond),
				Attrs: []span.Attr{
					{Key: "http.route", Value: span.StringValue("/cart")},
					{Key: "http.status", Value: span.IntValue(200)},
					{Key: "big", Value: span.IntValue(1 << 60)},
				},
			},
			{
				Resource: 1, Scope: 1, TraceID: id, ID: span.ID{7: 2}, Parent: span.ID{7: 1}, Name: "Größe <lesen>", Kind: span.KindClient,
				Start: at(5 * time.Millisecond), End: at(25 * time.Millisecond),
				Status: span.StatusError, Message: "no such size",
				Attrs:  []span.Attr{{Key: "retried", Value: span.BoolValue(true)}},
				Events: []span.Event{{Time: at(6 * time.Millisecond), Name: "exception", Attrs: []span.Attr{{Key: "exception.type", Value: span.StringValue("Lost")}}}},
				Links:  []span.Link{{TraceID: span.TraceID{0: 1}, ID: span.ID{7: 9}}},
			},
			{
				Resource: 1, TraceID: id, ID: span.ID{7: 3}, Parent: span.ID{7: 0xee}, Name: "plain",
				Start: at(7 * time.Millisecond), End: at(8 * time.Millisecond),
			},
		},
	}
}

// odd is a trace of what should not be: a cycle, a span that ends before it starts, one
// of the future, one without time, two with one id, and none without a parent.
func odd() *span.Batch {
	id := span.TraceID{0: 0xff, 15: 0x01}
	return &span.Batch{
		Resources: []span.Resource{resource("odd"), {}},
		Scopes:    []span.Scope{{}},
		Spans: []span.Span{
			{TraceID: id, ID: span.ID{7: 1}, Parent: span.ID{7: 2}, Name: "cycle a", Start: at(time.Second), End: at(0)},
			{TraceID: id, ID: span.ID{7: 2}, Parent: span.ID{7: 1}, Name: "cycle b", Start: at(time.Second), End: at(2 * time.Second)},
			{TraceID: id, ID: span.ID{7: 3}, Parent: span.ID{7: 3}, Name: "own parent", Start: at(100000 * time.Hour), End: at(100001 * time.Hour)},
			{TraceID: id, ID: span.ID{7: 4}, Parent: span.ID{7: 1}, Name: "shared", Kind: span.KindClient},
			{Resource: 1, TraceID: id, ID: span.ID{7: 4}, Parent: span.ID{7: 1}, Name: "shared", Kind: span.KindServer},
		},
	}
}

func newServer(t *testing.T, change func(*Deps)) *Server {
	t.Helper()
	deps := Deps{
		Reader: &memory{traces: []*span.Batch{shop(), odd()}},
		Log:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if change != nil {
		change(&deps)
	}
	s, err := New(deps)
	require.NoError(t, err)
	return s
}

// dial serves s until the test ends and returns a connection to it.
func dial(t *testing.T, s *Server) *grpc.ClientConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	conn, err := grpc.NewClient(l.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{})))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close())
		cancel()
		require.NoError(t, <-served)
	})
	return conn
}

// all receives a stream to its end.
func all[T any](stream interface{ Recv() (T, error) }, err error) ([]T, error) {
	var got []T
	for err == nil {
		var one T
		if one, err = stream.Recv(); err == nil {
			got = append(got, one)
		}
	}
	if err == io.EOF { //nolint:errorlint // gRPC returns it as it is
		err = nil
	}
	return got, err
}
