package main

import (
	"log/slog"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/weir-dev/weir/ingest"
	"github.com/weir-dev/weir/internal/query"
	"github.com/weir-dev/weir/internal/server"
	"github.com/weir-dev/weir/internal/store"
)

// doors are listed on the page at /.
func doors() []server.Door {
	return []server.Door{
		{Path: "api/v1/write", Text: "remote_write 1.0 and 2.0 (POST)"},
		{Text: "OTLP metrics and spans: gRPC and HTTP on ports of their own, see ingest.otlp"},
		{Path: "api/v1/query?query=up", Text: "PromQL; the whole Prometheus HTTP API is below /api/v1/"},
		{Path: "federate", Text: "federation, with match[]"},
		{Path: "api/v1/status/ledger", Text: "what became of every sample received"},
		{Path: "api/v1/status/ha", Text: "which replica of each HA pair is stored"},
		{Path: "api/v1/status/rollup", Text: "what is rolled up, and how far behind it is"},
		{Path: "api/v1/status/retention", Text: "what retention would delete now, and why"},
		{Path: "jaeger/api/services", Text: "the Jaeger HTTP APIs (v1, v3), also on the port of tracing.query.http.endpoint"},
		{Path: "api/v1/status/traces", Text: "what became of every span received"},
		{Path: "api/v1/status/tsdb", Text: "the store's series by metric and label"},
	}
}

// queryDeps says what the query doors read from.
func queryDeps(cfg Config, live *liveConfig, st *store.Store, in *ingest.Ingest, log *slog.Logger, reg *prometheus.Registry) query.Deps {
	b := readBuild()
	return query.Deps{
		Storage: st, Tiers: st.Tiers(), Exemplars: st, TSDB: st, Metadata: in.Metadata(), Ready: st.Ready,
		Dir: cfg.Store.Dir, ConfigYAML: live.yaml, Flags: map[string]string{"config.file": live.file},
		Build:   v1.PrometheusVersion{Version: b.version, Revision: b.commit, GoVersion: runtime.Version()},
		Runtime: live.runtime, ExternalURL: cfg.Server.ExternalURL,
		Gatherer: reg, Registerer: reg, Log: log,
	}
}

// buildInfo is weir_build_info, always 1.
func buildInfo() prometheus.Collector {
	b := readBuild()
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_build_info", Help: "What this binary was built from; always 1.",
		ConstLabels: prometheus.Labels{"version": b.version, "revision": b.commit, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
}
