package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oklog/run"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-dev/weir/tracing"
	"github.com/weir-dev/weir/tracing/derive"
	"github.com/weir-dev/weir/tracing/jaegerrpc"
	"github.com/weir-dev/weir/tracing/jaegerv1"
	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/sampling"
	"github.com/weir-dev/weir/tracing/search"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// traces is the room of traces with its store and what is derived:
//
//	OTLP ──> ingest ──> room ──> spans <── Jaeger APIs
//	                      └──> derived ──> samples' store
type traces struct {
	room    *tracing.Tracing
	spans   *pebblestore.Store
	derived *derive.Derive // nil if off
	jaeger  *jaegerrpc.Server
	saved   *search.Saved
	sampled *sampling.Sampling
	deps    tracesDeps
}

// tracesDeps is what the room is given of others.
type tracesDeps struct {
	samples interface { // derived series go in, and out again for the Jaeger UI's Monitor tab
		storage.AppendableV2
		storage.Queryable
	}
	engine promql.QueryEngine
	log    *slog.Logger
	reg    prometheus.Registerer
}

// openTraces opens the store of spans, takes once more what was not derived of before
// the last end, and listens.
func openTraces(ctx context.Context, cfg tracing.Config, deps tracesDeps) (_ *traces, err error) {
	t := &traces{deps: deps}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.Close())
		}
	}()
	open := func(ctx context.Context, since uint64, take func(*span.Batch)) (err error) {
		set := pebblestore.Deps{Logger: deps.log, Registerer: deps.reg, Since: since}
		if take != nil {
			set.Replay = func(b *span.Batch, _ time.Time) { take(b) }
		}
		if t.spans, err = pebblestore.New(cfg.Store, set); err != nil {
			return err
		}
		if err = t.spans.Open(ctx); err != nil {
			return fmt.Errorf("open %s (tracing.store.dir): %w", cfg.Store.Dir, err)
		}
		return nil
	}
	if cfg.Derive.Interval == 0 {
		err = open(ctx, 0, nil)
	} else {
		err = t.openDerived(ctx, cfg, open)
	}
	if err != nil {
		return nil, err
	}
	if err := t.newRoom(cfg); err != nil {
		return nil, err
	}
	return t, t.room.Open(ctx)
}

// openDerived reads the totals, which say from where on the store shall bring its spans
// again: so the store is opened when it is first asked.
func (t *traces) openDerived(ctx context.Context, cfg tracing.Config, open func(context.Context, uint64, func(*span.Batch)) error) (err error) {
	var failed error
	t.derived, err = derive.New(cfg.Derive, derive.Deps{
		Samples: t.deps.samples, Dir: filepath.Join(cfg.Store.Dir, "derived"), Log: t.deps.log, Reg: t.deps.reg, Now: time.Now,
		Replay: open,
		Position: func() uint64 {
			if t.spans == nil {
				failed = open(ctx, 0, nil)
			}
			if failed != nil {
				return 0
			}
			return t.spans.Seq()
		},
		Unwanted: func(id span.TraceID) bool { return t.sampled != nil && t.sampled.Unwanted(id) },
		// The store is there before the first minute is over.
		Links: func(ctx context.Context, minute time.Time, links []spanstore.Dependency) error {
			return t.spans.AddLinks(ctx, minute, links)
		},
	})
	if err != nil {
		return err
	}
	if err := t.derived.Open(ctx); err != nil {
		return fmt.Errorf("open derived metrics: %w", errors.Join(err, failed))
	}
	return failed
}

func (t *traces) newRoom(cfg tracing.Config) (err error) {
	log, reg := t.deps.log, t.deps.reg
	if t.sampled, err = sampling.New(cfg.Sampling, sampling.Deps{
		Drop: t.spans.Drop, Pinned: t.pinned, Stored: t.stored, Log: log, Registerer: reg,
	}); err != nil {
		return err
	}
	deps := tracing.Deps{Derive: afterwards{t.derived, t.sampled}, Unwanted: t.sampled.Unwanted, Store: t.spans, StoreStatus: func() any { return t.spans.Status() }, Log: log, Registerer: reg}
	if t.derived != nil {
		deps.DeriveStatus = func() any { return t.derived.Status() }
	}
	if t.room, err = tracing.New(cfg, deps); err != nil {
		return err
	}
	t.jaeger, err = jaegerrpc.New(jaegerrpc.Deps{Reader: t.spans, Export: t.room.Export, Also: t.sampled.RegisterGRPC, Log: log, Registerer: reg})
	if err != nil {
		return err
	}
	if t.saved, err = search.NewSaved(cfg.SavedSearches, search.Deps{Reader: t.spans, Log: log, Registerer: reg}); err != nil {
		return err
	}
	h, err := t.handler("")
	if err != nil {
		return err
	}
	t.room.Answer(tracing.API{HTTP: h, GRPC: t.jaeger.Serve})
	return nil
}

// handler answers the Jaeger HTTP APIs below a base path. It is no mux, which would
// have the names of services and operations cleaned.
func (t *traces) handler(base string) (http.Handler, error) {
	v1, err := jaegerv1.NewHandler(jaegerv1.Deps{
		Reader: t.spans, Metrics: ranges{t.deps.engine, t.deps.samples}, Base: base, Log: t.deps.log,
	})
	if err != nil {
		return nil, err
	}
	v3 := t.jaeger.Handler(base)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, base+"/api/v3/") {
			v3.ServeHTTP(w, r)
		} else {
			v1.ServeHTTP(w, r)
		}
	}), nil
}

// ranges evaluates PromQL for the room.
type ranges struct {
	engine promql.QueryEngine
	data   storage.Queryable
}

// QueryRange implements jaegerv1.Querier.
func (q ranges) QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration) (promql.Matrix, error) {
	run, err := q.engine.NewRangeQuery(ctx, q.data, nil, expr, start, end, step)
	if err != nil {
		return nil, err
	}
	defer run.Close()
	found, err := run.Exec(ctx).Matrix()
	if err != nil {
		return nil, err
	}
	kept := make(promql.Matrix, len(found)) // the engine takes the points back
	for i, s := range found {
		kept[i] = promql.Series{Metric: s.Metric, Floats: slices.Clone(s.Floats)}
	}
	return kept, nil
}

// register puts the room's doors on the main port.
func (t *traces) register(mux *http.ServeMux) error {
	h, err := t.handler("/jaeger")
	if err != nil {
		return err
	}
	mux.Handle("/jaeger/", h)
	mux.Handle("GET /api/v1/traces/", search.NewHandler(search.Deps{Reader: t.spans, Log: t.deps.log, Registerer: t.deps.reg}))
	mux.Handle("GET /api/v1/status/traces", t.room.StatusHandler())
	mux.Handle("GET /sampling", t.sampled.Handler())
	mux.Handle("GET /api/sampling", t.sampled.Handler())
	return nil
}

// start adds the room's actors to g.
func (t *traces) start(ctx context.Context, g *run.Group) {
	room(ctx, g, t.room.Run)
	room(ctx, g, t.spans.Run)
	room(ctx, g, t.settle)
	room(ctx, g, t.saved.Run)
	room(ctx, g, t.sampled.Run)
	if t.derived != nil {
		room(ctx, g, t.derived.Run)
	}
}

// apply takes over what can be reloaded.
func (t *traces) apply(cfg tracing.Config) error {
	t.room.Apply(cfg)
	return t.sampled.Apply(cfg.Sampling)
}

// afterwards is what is done with spans once they are stored: metrics are derived of
// all of them, before sampling decides on their traces.
type afterwards struct {
	derived *derive.Derive // nil if off
	sampled *sampling.Sampling
}

// Enter implements tracing.Derive.
func (a afterwards) Enter() {
	if a.derived != nil {
		a.derived.Enter()
	}
}

// Leave implements tracing.Derive.
func (a afterwards) Leave() {
	if a.derived != nil {
		a.derived.Leave()
	}
}

// Take implements tracing.Derive.
func (a afterwards) Take(b *span.Batch, isNew []bool, now time.Time) {
	if a.derived != nil {
		a.derived.Take(b, isNew, now)
	}
	a.sampled.Observe(b)
	a.sampled.Take(b, now)
}

// pinned tells whether an exemplar points to a trace.
func (t *traces) pinned(id span.TraceID) bool { return t.derived != nil && t.derived.Pinned(id) }

// stored is how many spans of a trace the store has.
func (t *traces) stored(ctx context.Context, id span.TraceID) (int, error) {
	b, err := t.spans.Trace(ctx, id, spanstore.Window{})
	if errors.Is(err, spanstore.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return len(b.Spans), nil
}

// settleEvery bounds how many commits the store remembers in vain.
const settleEvery = 15 * time.Second

// settle tells the store, until ctx ends, which spans it need not bring again.
func (t *traces) settle(ctx context.Context) error {
	tick := time.NewTicker(settleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if t.derived == nil {
				t.spans.Settle(t.spans.Seq())
			} else {
				t.spans.Settle(t.derived.Status().Flushed.Position)
			}
		}
	}
}

// Close closes what is open; the actors must have ended.
func (t *traces) Close() error {
	var errs []error
	if t.room != nil {
		errs = append(errs, t.room.Close())
	}
	if t.spans != nil {
		errs = append(errs, t.spans.Close())
	}
	return errors.Join(errs...)
}
