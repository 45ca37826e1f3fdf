package tracing

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// now is the time of the tests' server.
var now = time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)

// rig is the room with the embedded store.
type rig struct {
	*Tracing
	store   *pebblestore.Store
	derived *counted
	reg     *prometheus.Registry
	at      time.Time
}

// counted is a Derive that counts.
type counted struct {
	mu    sync.Mutex
	spans int
	in    int
}

func (c *counted) Enter() { c.mu.Lock(); c.in++; c.mu.Unlock() }
func (c *counted) Leave() { c.mu.Lock(); c.in--; c.mu.Unlock() }

func (c *counted) Take(b *span.Batch, isNew []bool, _ time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range b.Spans {
		if isNew == nil || isNew[i] {
			c.spans++
		}
	}
}

func newRig(t testing.TB, change func(*Config, *Deps)) *rig {
	t.Helper()
	r := &rig{derived: &counted{}, reg: prometheus.NewRegistry(), at: now}
	cfg := DefaultConfig()
	cfg.Store.Dir = t.TempDir()
	cfg.Store.Sync = false
	for _, e := range []*Endpoint{&cfg.Query.HTTP, &cfg.Query.GRPC, &cfg.Receivers.JaegerGRPC, &cfg.Receivers.JaegerThrift, &cfg.Receivers.Zipkin} {
		e.Endpoint = "127.0.0.1:0"
	}
	clock := func() time.Time { return r.at }
	var err error
	r.store, err = pebblestore.New(cfg.Store, pebblestore.Deps{Logger: slog.New(slog.DiscardHandler), Now: clock})
	require.NoError(t, err)
	require.NoError(t, r.store.Open(context.Background()))
	t.Cleanup(func() { require.NoError(t, r.store.Close()) })
	deps := Deps{Store: r.store, Derive: r.derived, Log: slog.New(slog.DiscardHandler), Registerer: r.reg, Now: clock}
	if change != nil {
		change(&cfg, &deps)
	}
	r.Tracing, err = New(cfg, deps)
	require.NoError(t, err)
	return r
}

// run serves the listeners until the test ends.
func (r *rig) run(t *testing.T) {
	t.Helper()
	require.NoError(t, r.Open(context.Background()))
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ran)
	})
}

// balanced requires that every span received has one end.
func (r *rig) balanced(t *testing.T) {
	t.Helper()
	for _, p := range r.ledger.totals().Protocols {
		require.Zero(t, p.Balance, "%+v", p)
	}
	require.Zero(t, r.derived.in)
}

// book is that of a protocol.
func (r *rig) book(p protocol) ProtocolBook { return r.ledger.totals().Protocols[p] }

// trace is what the store has.
func (r *rig) trace(t *testing.T, id span.TraceID) *span.Batch {
	t.Helper()
	b, err := r.store.Trace(context.Background(), id, spanstore.Window{})
	require.NoError(t, err)
	return b
}

// batch is n spans of a service, in traces of ten.
func batch(service string, n int) *span.Batch {
	b := &span.Batch{Scopes: []span.Scope{{Name: "lib"}}}
	r := span.Resource{Service: service}
	if service != "" {
		r.Attrs = []span.Attr{{Key: "service.name", Value: span.StringValue(service)}}
	}
	b.Resources = []span.Resource{r}
	for i := range n {
		b.Spans = append(b.Spans, span.Span{
			TraceID: span.TraceID{1, byte(i / 10), byte(i / 2560)}, ID: span.ID{2, byte(i), byte(i >> 8), byte(i >> 16)},
			Name: "GET /", Kind: span.KindServer, Start: uint64(now.UnixNano()), End: uint64(now.UnixNano()) + 1e6,
			Attrs: []span.Attr{{Key: "http.status_code", Value: span.IntValue(200)}},
		})
	}
	return b
}

// attr is the text of an attribute; empty if there is none.
func attr(attrs []span.Attr, key string) string {
	for _, a := range attrs {
		if a.Key == key {
			return a.Value.Text()
		}
	}
	return ""
}

// faults is what is wrong with the default configuration after a change.
func faults(change func(*Config)) string {
	cfg := DefaultConfig()
	change(&cfg)
	var f conf.Faults
	cfg.Validate(&f)
	if err := f.Err(); err != nil {
		return err.Error()
	}
	return ""
}
