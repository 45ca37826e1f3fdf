package query

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/logging"
	v1 "github.com/prometheus/prometheus/web/api/v1"
)

// Deps is what an API reads from. All but Tiers, Log and Now must be set.
type Deps struct {
	Storage   storage.SampleAndChunkQueryable
	Tiers     Tiers // nil: no rollups
	Exemplars storage.ExemplarQueryable
	TSDB      v1.TSDBAdminStats
	Metadata  Metadata

	// Ready reports whether Storage can be asked, and if not, why in a few words.
	Ready func() (ok bool, why string)
	// Dir is the data directory: it holds the file of running queries and the
	// snapshots.
	Dir string

	// ConfigYAML returns the settings in force, secrets hidden.
	ConfigYAML func() string
	// Flags are the command-line flags, by name.
	Flags map[string]string
	Build v1.PrometheusVersion
	// Runtime returns what only the process knows of itself.
	Runtime func() Runtime
	// ExternalURL is where clients reach this server, as in server.external_url.
	ExternalURL string

	Gatherer   prometheus.Gatherer
	Registerer prometheus.Registerer
	Log        *slog.Logger     // nil logs nothing
	Now        func() time.Time // nil means time.Now
}

// Runtime is the part of /api/v1/status/runtimeinfo that the process must tell.
type Runtime struct {
	Started    time.Time
	Reloaded   time.Time // last time the configuration was taken over
	ReloadOK   bool      // whether the last attempt was taken over
	Retention  string    // in words: "15d or 100GiB"
	WorkingDir string
}

// API answers the query doors. Its handlers may be called at once by many.
type API struct {
	cfg     Config
	deps    Deps
	engine  *promql.Engine
	queries promql.QueryEngine // engine, and rollups if there are any
	tracker *promql.ActiveQueryTracker
	parser  parser.Parser
	prom    *v1.API
	fed     *federation
}

// New opens the file of running queries and the query log and makes the API. It
// starts nothing. The caller must Close it, after the last handler has returned.
func New(cfg Config, deps Deps) (*API, error) {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	deps.Storage = readyStorage{deps.Storage, deps.Ready}
	deps.Exemplars = readyExemplars{deps.Exemplars, deps.Ready}

	tracker, err := promql.NewActiveQueryTracker(deps.Dir, cfg.MaxConcurrency, deps.Log)
	if err != nil {
		return nil, fmt.Errorf("open file of running queries in %s (store.dir): %w", deps.Dir, err)
	}
	a := &API{cfg: cfg, deps: deps, tracker: tracker}
	// Durations may be expressions, as in Prometheus without feature flags.
	a.parser = parser.NewParser(parser.Options{ExperimentalDurationExpr: true})
	registry := features.NewRegistry()
	a.engine = a.newEngine(registry)
	a.queries = a.withRollups(a.engine)
	if a.prom, err = a.newPrometheusAPI(registry); err == nil {
		err = a.Apply(cfg)
	}
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	a.fed = newFederation(a)
	return a, nil
}

func (a *API) newEngine(registry features.Collector) *promql.Engine {
	return promql.NewEngine(promql.EngineOpts{
		Logger:             a.deps.Log,
		Reg:                a.deps.Registerer,
		MaxSamples:         a.cfg.MaxSamples,
		Timeout:            a.cfg.Timeout.Std(),
		ActiveQueryTracker: a.tracker,
		LookbackDelta:      a.cfg.Lookback.Std(),
		NoStepSubqueryIntervalFn: func(int64) int64 {
			return subqueryStep.Milliseconds()
		},
		EnableAtModifier:     true,
		EnableNegativeOffset: true,
		FeatureRegistry:      registry,
		Parser:               a.parser,
	})
}

// subqueryStep is the step of a subquery that names none: Prometheus takes its
// evaluation interval, whose default is this.
const subqueryStep = time.Minute

// withRollups lets rollups answer what engine asks for, if there are any.
func (a *API) withRollups(engine promql.QueryEngine) promql.QueryEngine {
	if a.deps.Tiers == nil || !a.cfg.Rollups.Enabled {
		return engine
	}
	return &resolver{
		QueryEngine: engine,
		tiers:       readyTiers{a.deps.Tiers, a.deps.Ready},
		timeout:     a.cfg.Timeout.Std(),
		minStretch:  a.cfg.Rollups.MinRange.Std().Milliseconds(),
		maxSamples:  a.cfg.MaxSamples,
		metrics:     newRollupMetrics(a.deps.Registerer),
	}
}

// Engine returns the PromQL engine, which shares its limits and its rollups with
// the HTTP doors.
func (a *API) Engine() promql.QueryEngine { return a.queries }

// Apply takes over the settings that can change while running: it opens the query
// log again, or a new one. On error the old log stays.
func (a *API) Apply(cfg Config) error {
	if cfg.LogFile == "" {
		a.engine.SetQueryLogger(nil)
		return nil
	}
	l, err := logging.NewJSONFileLogger(cfg.LogFile)
	if err != nil {
		return fmt.Errorf("open query log %s (query.log_file): %w", cfg.LogFile, err)
	}
	a.engine.SetQueryLogger(l)
	return nil
}

// Close ends the query log and the file of running queries.
func (a *API) Close() error {
	a.engine.SetQueryLogger(nil)
	return a.tracker.Close()
}

// Register puts the doors on mux: every route of /api/v1/ under a pattern of its
// own, so that a route's name is known to whoever counts requests and a room can
// take a route of its own beside them, and /federate.
//
// Not registered are the two routes that write: /api/v1/write and
// /api/v1/otlp/v1/metrics belong to the ingest room.
func (a *API) Register(mux *http.ServeMux) {
	router, names := a.routes()
	h := http.StripPrefix(prefix, router)
	own := map[string]http.Handler{
		"/status/config": a.whenReady(compressed(http.HandlerFunc(a.serveConfig))),
		"/metadata":      a.withMetadata(h),
	}
	guard := http.NewCrossOriginProtection()
	for name, pattern := range names {
		switch {
		case own[name] != nil:
			mux.Handle("GET "+prefix+pattern, own[name])
		case name == "/query" || name == "/query_range":
			mux.Handle(prefix+pattern, a.withRequest(h))
		case name == "/write" || name == "/otlp/v1/metrics":
		case strings.HasPrefix(name, "/admin/"):
			mux.Handle(prefix+pattern, guard.Handler(h)) // no web page may delete series through its reader
		default:
			mux.Handle(prefix+pattern, h)
		}
	}
	explain := a.whenReady(compressed(a.withRequest(http.HandlerFunc(a.serveExplain))))
	mux.Handle("GET "+prefix+"/query/explain", explain)
	mux.Handle("POST "+prefix+"/query/explain", explain)
	mux.Handle(prefix+"/", h) // what is unknown, and OPTIONS
	mux.Handle("GET /federate", a.whenReady(compressed(a.fed)))
}
