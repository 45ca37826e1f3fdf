package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weir-dev/weir/bench/measure"
)

// kind is a product that bench can start.
type kind string

const (
	weir            kind = "weir"
	weirNoRollups   kind = "weir-no-rollups" // the same with an empty ladder: what rolling up costs
	prometheus      kind = "prometheus"
	victoriametrics kind = "victoriametrics"
)

// contestant is a binary to measure.
type contestant struct {
	kind   kind
	binary string
}

// server is a running server under test.
type server struct {
	kind    kind
	base    string // http://host:port of the query API
	write   map[protocol]string
	ready   string
	dataDir string
	argv    []string // taskset included
	*measure.Program
}

// startServer starts c on core with an empty directory below dir and waits until
// it is ready.
func startServer(ctx context.Context, c contestant, dir string, core int) (*server, error) {
	s, err := configure(c, dir, core)
	if err != nil {
		return nil, fmt.Errorf("configure %s in %s: %w", c.kind, dir, err)
	}
	if s.Program, err = measure.Start(string(c.kind), dir, filepath.Join(dir, "log"), s.argv); err != nil {
		return nil, err
	}
	if err := s.AwaitReady(ctx, s.ready); err != nil {
		return nil, err
	}
	return s, nil
}

// configure writes the config file, if any, and builds the command line.
func configure(c contestant, dir string, core int) (*server, error) {
	ports, err := measure.FreePorts(3)
	if err != nil {
		return nil, err
	}
	s := &server{
		kind: c.kind, base: "http://" + ports[0], ready: "http://" + ports[0] + "/-/ready",
		dataDir: filepath.Join(dir, "data"),
		argv:    measure.OnCore(core, c.binary),
	}
	s.write = map[protocol]string{rw1: s.base + "/api/v1/write", rw2: s.base + "/api/v1/write"}
	config := filepath.Join(dir, "config.yaml")
	switch c.kind {
	case weir, weirNoRollups:
		s.write[otlp] = "http://" + ports[1] + "/v1/metrics"
		s.argv = append(s.argv, "serve", "--config.file="+config)
		store := ""
		if c.kind == weirNoRollups {
			store = "  rollups: []\n"
		}
		return s, os.WriteFile(config, measure.WeirConfig(s.dataDir, ports, store, "  admin_api: true\n"), 0o600)
	case prometheus:
		s.write[otlp] = s.base + "/api/v1/otlp/v1/metrics"
		s.argv = append(s.argv, "--config.file="+config, "--storage.tsdb.path="+s.dataDir, "--web.listen-address="+ports[0],
			"--web.enable-remote-write-receiver", "--web.enable-otlp-receiver", "--web.enable-admin-api",
			"--query.max-samples=500000000", "--query.timeout=10m")
		return s, os.WriteFile(config, []byte(prometheusConfig), 0o600)
	case victoriametrics:
		s.ready = s.base + "/health"
		s.write[otlp] = s.base + "/opentelemetry/v1/metrics"
		delete(s.write, rw2) // it does not speak it
		s.argv = append(s.argv, "-storageDataPath="+s.dataDir, "-httpListenAddr="+ports[0], "-retentionPeriod=2y",
			"-search.latencyOffset=0s", "-search.maxUniqueTimeseries=10000000", "-search.maxQueryDuration=10m")
		return s, nil
	}
	return nil, fmt.Errorf("server %q: want weir, weir-no-rollups, prometheus or victoriametrics", c.kind)
}

// prometheusConfig accepts samples out of order as Weir does by default; without
// it Prometheus refuses some OTLP requests for the target_info it makes up.
const prometheusConfig = `storage:
  tsdb:
    out_of_order_time_window: 30m
`
