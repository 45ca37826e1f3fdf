package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Store keeps spans and answers questions of them.
type Store interface {
	spanstore.Reader
	spanstore.Writer
}

// Derive makes metrics of spans. Enter is called before spans are given to the store,
// Take with what it stored, and Leave after that or after an error. The batch is
// borrowed until Take returns; isNew tells which of its spans count, nil all.
type Derive interface {
	Enter()
	Take(b *span.Batch, isNew []bool, now time.Time)
	Leave()
}

// Deps is what the room is given. Store and Log are required.
type Deps struct {
	Store  Store
	Derive Derive // nil: nothing is derived
	// Unwanted tells that sampling has decided against a trace: its late spans are
	// counted by Derive, and not stored. nil: all are stored.
	Unwanted func(span.TraceID) bool
	// StoreStatus and DeriveStatus are shown by StatusHandler; nil: not.
	StoreStatus, DeriveStatus func() any
	Log                       *slog.Logger
	Registerer                prometheus.Registerer // nil: no metrics
	Now                       func() time.Time      // nil: time.Now
}

// Tracing is the room: intake, receivers, listeners.
type Tracing struct {
	cfg      Config
	deps     Deps
	derive   Derive
	limits   atomic.Pointer[Limits]
	ledger   ledger
	rates    *rates
	sizes    *traceSizes
	flight   flight
	requests requestPool
	bodies   *prometheus.CounterVec // requests of receivers, by how they ended
	api      API
	doors    []*door
}

// nothing derives nothing.
type nothing struct{}

func (nothing) Enter()                              {}
func (nothing) Take(*span.Batch, []bool, time.Time) {}
func (nothing) Leave()                              {}

// New checks and allocates; it starts nothing.
func New(cfg Config, deps Deps) (*Tracing, error) {
	if deps.Store == nil || deps.Log == nil {
		return nil, errors.New("new tracing: a store and a logger are required")
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	t := &Tracing{cfg: cfg, deps: deps, derive: deps.Derive, rates: newRates(), sizes: newTraceSizes()}
	if t.derive == nil {
		t.derive = nothing{}
	}
	t.flight.max = int64(cfg.Limits.MaxInFlightBytes)
	t.limits.Store(&cfg.Limits)
	f := promauto.With(deps.Registerer)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_tracing_in_flight_bytes",
		Help: "Bytes granted to requests of spans being decoded and stored.",
	}, func() float64 { return float64(t.flight.held.Load()) })
	t.bodies = f.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_tracing_receiver_requests_total",
		Help: "Requests to the receivers beside OTLP, by how they ended.",
	}, []string{"protocol", "result"})
	if deps.Registerer != nil {
		if err := deps.Registerer.Register(&t.ledger); err != nil {
			return nil, fmt.Errorf("new tracing: %w", err)
		}
	}
	return t, nil
}

// Apply takes over what can be reloaded: limits.
func (t *Tracing) Apply(cfg Config) { t.limits.Store(&cfg.Limits) }

// Open listens for the receivers that have an endpoint, and for the API if there is
// one. Nothing is answered before Run.
func (t *Tracing) Open(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	if err := t.openReceivers(ctx); err != nil {
		return err
	}
	return t.openAPI(ctx)
}

// Close closes listeners that Run has not served.
func (t *Tracing) Close() error {
	var errs []error
	for _, d := range t.doors {
		errs = append(errs, d.close())
	}
	t.doors = nil
	return errors.Join(errs...)
}
