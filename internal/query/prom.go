package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/httputil"
	"github.com/prometheus/prometheus/util/notifications"
	v1 "github.com/prometheus/prometheus/web/api/v1"
)

const prefix = "/api/v1"

// newPrometheusAPI gives upstream's constructor its arguments by name. What Weir
// does not have (scraping, rules, Alertmanagers, notifications) answers as a
// Prometheus that has none configured.
func (a *API) newPrometheusAPI(registry features.Collector) (*v1.API, error) {
	cors, err := relabel.NewRegexp(a.cfg.CORSOrigin)
	if err != nil {
		return nil, fmt.Errorf("compile query.cors_origin %q: %w", a.cfg.CORSOrigin, err)
	}
	external, err := url.Parse(a.deps.ExternalURL)
	if err != nil {
		return nil, fmt.Errorf("read server.external_url %q: %w", a.deps.ExternalURL, err)
	}
	registerFeatures(registry, a.cfg.AdminAPI)

	const off = false
	var (
		targets       = func(ctx context.Context) v1.TargetRetriever { return targetsFor(ctx) }
		pools         = func(context.Context) v1.ScrapePoolsRetriever { return noPools{} }
		alertmanagers = func(context.Context) v1.AlertmanagerRetriever { return noAlertmanagers{} }
		ruleGroups    = func(context.Context) v1.RulesRetriever { return noRules{} }
		promConfig    = func() config.Config { return config.Config{} } // remote read looks for external labels: none
		globalURL     = v1.GlobalURLOptions{ListenAddress: external.Host, Host: external.Host, Scheme: external.Scheme}
		notes         = func() []notifications.Notification { return []notifications.Notification{} }
		noteStream    = func() (<-chan notifications.Notification, func(), bool) { return nil, nil, false }
		openAPI       = v1.OpenAPIOptions{ExternalURL: external.String(), Version: a.deps.Build.Version}
	)
	return v1.NewAPI(
		queueBound{a.queries, a.cfg.Timeout.Std()}, // query engine
		a.deps.Storage,
		nil, nil, // appenders, v1 and v2: nothing is written here
		a.deps.Exemplars,
		pools,
		targets,
		alertmanagers,
		promConfig,
		a.deps.Flags,
		globalURL,
		func(next http.HandlerFunc) http.HandlerFunc { return a.whenReady(next).ServeHTTP },
		a.deps.TSDB,
		a.deps.Dir, // snapshots go below it
		a.cfg.AdminAPI,
		off, 0, // experimental search, and its limit
		a.deps.Log,
		ruleGroups,
		a.cfg.RemoteRead.SampleLimit,
		a.cfg.RemoteRead.Concurrency,
		int(a.cfg.RemoteRead.MaxBytesInFrame),
		off, // agent mode
		cors.Regexp,
		a.runtimeInfo,
		&a.deps.Build,
		notes,
		noteStream,
		a.deps.Gatherer,
		a.deps.Registerer,
		a.statsRenderer(),
		off, nil, // remote write receiver, and the messages it accepts
		off, off, off, // OTLP receiver, delta to cumulative, native delta
		off, // start timestamps as zero samples
		a.cfg.Lookback.Std(),
		off, // type and unit labels
		off, // metadata into the WAL
		statusOf,
		registry,
		openAPI,
		a.parser,
	), nil
}

// statusOf puts 503 where upstream's table has none: a storage that is not open,
// and a query that never got its turn. It is generic because upstream does not
// export the type of its first argument, which is not needed.
func statusOf[N ~int](_ N, err error) (status int, override bool) {
	if errors.Is(err, tsdb.ErrNotReady) || errors.Is(err, errQueue) {
		return http.StatusServiceUnavailable, true
	}
	return 0, false
}

var errQueue = errors.New("query waited for its turn until the timeout (query.max_concurrency, query.timeout)")

// queueBound is the engine with a bound on the time a query may wait for one of
// the places: upstream waits as long as the client does.
type queueBound struct {
	promql.QueryEngine
	wait time.Duration
}

func (e queueBound) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	ctx, cancel := context.WithTimeout(ctx, e.wait)
	defer cancel()
	qry, err := e.QueryEngine.NewInstantQuery(ctx, q, opts, qs, ts)
	return qry, queueError(err)
}

func (e queueBound) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, step time.Duration) (promql.Query, error) {
	ctx, cancel := context.WithTimeout(ctx, e.wait)
	defer cancel()
	qry, err := e.QueryEngine.NewRangeQuery(ctx, q, opts, qs, start, end, step)
	return qry, queueError(err)
}

func queueError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errQueue
	}
	return err
}

// routes returns upstream's router, and for every route its name ("/label/:name/values")
// with the ServeMux pattern that means the same ("/label/{name}/values").
func (a *API) routes() (*route.Router, map[string]string) {
	names := map[string]string{}
	router := route.New().WithInstrumentation(func(name string, h http.HandlerFunc) http.HandlerFunc {
		parts := strings.Split(name, "/")
		for i, p := range parts {
			if p, ok := strings.CutPrefix(p, ":"); ok {
				parts[i] = "{" + p + "}"
			}
		}
		if !strings.Contains(name, "*") {
			names[name] = strings.Join(parts, "/")
		}
		// The query log and upstream's errors tell the whole path.
		return func(w http.ResponseWriter, r *http.Request) {
			h(w, r.WithContext(httputil.ContextWithPath(r.Context(), prefix+r.URL.Path)))
		}
	})
	a.prom.Register(router)
	return router, names
}

func (a *API) runtimeInfo() (v1.RuntimeInfo, error) {
	own := a.deps.Runtime()
	info := v1.RuntimeInfo{
		StartTime:           own.Started.UTC(),
		CWD:                 own.WorkingDir,
		ServerTime:          a.deps.Now().UTC(),
		ReloadConfigSuccess: own.ReloadOK,
		LastConfigTime:      own.Reloaded.UTC(),
		GoroutineCount:      runtime.NumGoroutine(),
		GOMAXPROCS:          runtime.GOMAXPROCS(0),
		GOMEMLIMIT:          debug.SetMemoryLimit(-1),
		GOGC:                os.Getenv("GOGC"),
		GODEBUG:             os.Getenv("GODEBUG"),
		StorageRetention:    own.Retention,
	}
	var err error
	if info.Hostname, err = os.Hostname(); err != nil {
		return info, fmt.Errorf("read host name: %w", err)
	}
	families, err := a.deps.Gatherer.Gather()
	if err != nil {
		return info, fmt.Errorf("gather own metrics: %w", err)
	}
	for _, f := range families {
		if f.GetName() == "prometheus_tsdb_wal_corruptions_total" && len(f.GetMetric()) > 0 {
			info.CorruptionCount = int64(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	return info, nil
}

// registerFeatures lists what clients may find here, under upstream's names.
func registerFeatures(r features.Collector, admin bool) {
	r.Set(features.API, "admin", admin)
	for _, name := range []string{
		"exclude_alerts", "label_values_match", "openapi_3.1", "openapi_3.2", "query_stats",
		"query_warnings", "remote_write_receiver", "otlp_write_receiver", "time_range_labels", "time_range_series",
	} {
		r.Enable(features.API, name)
	}
}

type noPools struct{}

func (noPools) ScrapePools() []string { return []string{} }

type noAlertmanagers struct{}

func (noAlertmanagers) Alertmanagers() []*url.URL        { return nil }
func (noAlertmanagers) DroppedAlertmanagers() []*url.URL { return nil }

type noRules struct{}

func (noRules) RuleGroups() []*rules.Group           { return nil }
func (noRules) AlertingRules() []*rules.AlertingRule { return nil }
