package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/oklog/run"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"

	"github.com/weir-dev/weir/ingest"
	"github.com/weir-dev/weir/internal/query"
	"github.com/weir-dev/weir/internal/server"
	"github.com/weir-dev/weir/internal/store"
)

func serveCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Runs the server until it is told to stop",
		Long: `Runs the server until it gets SIGINT or SIGTERM. SIGHUP reads the
config file again.

Without a config file it listens on 127.0.0.1:9480 and keeps its data
in ./data. A file with faults is refused, and every fault is named.`,
		Example: `  weir serve
  weir serve --config.file=weir.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			return serve(c.Context(), cfg, file, newLogger(cfg.Log, c.ErrOrStderr()))
		},
	}
	c.Flags().StringVar(&file, "config.file", "", "read settings from this YAML `file`; empty for the defaults")
	return c
}

func newLogger(cfg LogConfig, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.level()}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// serve runs the rooms until ctx ends or one of them fails:
//
//	remote_write, OTLP ──> ingest ──> store <── query <── PromQL, Grafana
//	       │                  └── limits ──┘└── rollups ──> bucket
//	       └───> traces ──> store of spans <── Jaeger APIs
//	server: the port they all share; self scrape: Weir as its own sender
//
// Resources are opened top-down and closed bottom-up, after all actors are gone.
func serve(ctx context.Context, cfg Config, file string, log *slog.Logger) (err error) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo())

	limits := ingest.NewLimits(cfg.Ingest.Limits, cfg.Ingest.HA.ClusterLabel)
	st, err := store.New(cfg.Store, limits, log, reg)
	if err != nil {
		return fmt.Errorf("open store %s: %w", cfg.Store.Dir, err)
	}
	defer func() { err = errors.Join(err, st.Close()) }()

	if cfg.Ingest.HA.Dir == "" {
		cfg.Ingest.HA.Dir = filepath.Join(cfg.Store.Dir, "ha")
	}
	in, err := ingest.New(cfg.Ingest, st, limits, log, reg)
	if err != nil {
		return fmt.Errorf("make ingest: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	live := newLiveConfig(file, cfg, log)
	q, err := query.New(cfg.Query, queryDeps(cfg, live, st, in, log, reg))
	if err != nil {
		return fmt.Errorf("make query: %w", err)
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	var tr *traces // nil if tracing is off
	if cfg.Tracing.Enabled {
		if cfg.Tracing.Store.Dir == "" {
			cfg.Tracing.Store.Dir = filepath.Join(cfg.Store.Dir, "traces")
		}
		if tr, err = openTraces(ctx, cfg.Tracing, tracesDeps{st, q.Engine(), log, reg}); err != nil {
			return fmt.Errorf("open tracing: %w", err)
		}
		defer func() { err = errors.Join(err, tr.Close()) }()
		if err := in.ReceiveTraces(tr.room.Export); err != nil {
			return err
		}
	}
	live.apply = func(next Config) error {
		if err := errors.Join(st.Apply(next.Store), q.Apply(next.Query)); err != nil {
			return err
		}
		in.Apply(next.Ingest)
		if tr != nil {
			return tr.apply(next.Tracing)
		}
		return nil
	}

	mux := http.NewServeMux()
	mux.Handle("/api/v1/write", in.WriteHandler())
	mux.Handle("GET /api/v1/status/ledger", in.LedgerHandler())
	mux.Handle("GET /api/v1/status/ha", in.HAHandler())
	mux.Handle("GET /api/v1/status/rollup", st.Tiers().StatusHandler())
	mux.Handle("GET /api/v1/status/retention", st.Tiers().RetentionHandler())
	q.Register(mux)
	if tr != nil {
		if err := tr.register(mux); err != nil {
			return err
		}
	}
	srv, err := server.New(cfg.Server, server.Deps{
		Handler: mux, Doors: doors(), Ready: st.Ready, Reload: live.reload,
		Gatherer: reg, Registerer: reg, Log: log,
	})
	if err != nil {
		return fmt.Errorf("make server: %w", err)
	}
	if err := srv.Open(); err != nil {
		return err
	}
	log.Info("weir started", "version", version(), "address", srv.Addr().String(),
		"data", cfg.Store.Dir, "write", "http://"+srv.Addr().String()+"/api/v1/write")

	// The port drains before the rooms behind it end.
	rooms, endRooms := context.WithCancel(context.WithoutCancel(ctx))
	defer endRooms()
	var g run.Group
	port, closePort := context.WithCancel(ctx)
	g.Add(func() error { defer endRooms(); return srv.Run(port) }, func(error) { closePort() })
	room(rooms, &g, st.Run)
	room(rooms, &g, in.Run)
	if tr != nil {
		tr.start(rooms, &g)
	}
	if cfg.SelfScrape.Interval > 0 {
		self, err := newSelfScrape(cfg.SelfScrape, selfScrapeDeps{
			gatherer: reg, store: st, ready: st.Ready, instance: srv.Addr().String(), registerer: reg, log: log,
		})
		if err != nil {
			return err
		}
		room(rooms, &g, self.Run)
	}
	room(rooms, &g, func(ctx context.Context) error { return reloadOnHangup(ctx, live, log) })
	return g.Run()
}

// room adds f to g. It ends when ctx does; the group tells only the port to end,
// and the port the rooms.
func room(ctx context.Context, g *run.Group, f func(context.Context) error) {
	g.Add(func() error { return f(ctx) }, func(error) {})
}

// reloadOnHangup reloads the configuration whenever SIGHUP comes, until ctx ends.
func reloadOnHangup(ctx context.Context, live *liveConfig, log *slog.Logger) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangups:
			if err := live.reload(); err != nil {
				log.Error("configuration not reloaded, the old one stays", "err", err)
			}
		}
	}
}
