package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/weir-dev/weir/bench/measure"
)

// kind is a product that traces can start.
type kind string

const (
	weir         kind = "weir"
	jaegerBadger kind = "jaeger-badger"
	jaegerMemory kind = "jaeger-memory"
	tempoAll     kind = "tempo"
)

// contestant is a server to measure: a binary to start, or one that runs already.
type contestant struct {
	kind   kind
	binary string
	runs   *server // attached to; nil if it is to be started
}

// server is a server under test.
type server struct {
	kind       kind
	query      string // http://host:port to ask
	grpc, http string // host:port and URL to send OTLP to
	profiles   string // http://host:port of /debug/pprof, "" if none
	ready      string
	dataDir    string // "" if unknown
	argv       []string
	dialect    *dialect
	pid        int              // 0 if unknown
	program    *measure.Program // nil if attached to
	overgrown  atomic.Bool      // killed for its memory
}

// open starts c on a core with an empty directory below dir, or attaches to it.
func (c contestant) open(ctx context.Context, sc scenario, dir string, core int) (*server, error) {
	if c.runs != nil {
		return c.runs, nil
	}
	s, err := configure(c, sc, dir, core)
	if err != nil {
		return nil, fmt.Errorf("configure %s in %s: %w", c.kind, dir, err)
	}
	if s.program, err = measure.Start(string(c.kind), dir, filepath.Join(dir, "log"), s.argv); err != nil {
		return nil, err
	}
	s.pid = s.program.Pid()
	return s, s.program.AwaitReady(ctx, s.ready)
}

func (s *server) stop() error {
	if s.program == nil {
		return nil
	}
	return s.program.Stop()
}

// configure writes the config file and builds the command line.
func configure(c contestant, sc scenario, dir string, core int) (*server, error) {
	ports, err := measure.FreePorts(6)
	if err != nil {
		return nil, err
	}
	s := &server{
		kind: c.kind, query: "http://" + ports[0], grpc: ports[2], http: "http://" + ports[3] + "/v1/traces",
		dataDir: filepath.Join(dir, "data"), argv: measure.OnCore(core, c.binary), dialect: &jaeger,
	}
	if err := os.Mkdir(s.dataDir, 0o777); err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "config.yaml")
	var text []byte
	switch c.kind {
	case weir:
		s.ready, s.profiles = "http://"+ports[5]+"/-/ready", "http://"+ports[4]
		s.argv = append(s.argv, "serve", "--config.file="+config)
		text = weirConfig(sc, s.dataDir, ports)
	case jaegerBadger, jaegerMemory:
		s.ready = s.query + "/api/services"
		s.argv = append(s.argv, "--config="+config)
		text = jaegerConfig(c.kind, sc, s.dataDir, ports)
	case tempoAll:
		s.ready, s.dialect = s.query+"/ready", &tempo
		s.argv = append(s.argv, "-target=all", "-config.file="+config)
		text = tempoConfig(s.dataDir, ports)
	default:
		return nil, fmt.Errorf("server %q: want weir, jaeger-badger, jaeger-memory or tempo", c.kind)
	}
	return s, os.WriteFile(config, text, 0o600)
}

// jaegerConfig is for the command jaeger of v1.62, the first form of Jaeger v2, and
// for v2. What comes in is batched and written by the same goroutine, so a store
// that cannot follow slows its senders. Memory keeps all that a run sends.
func jaegerConfig(k kind, sc scenario, dataDir string, ports []string) []byte {
	store := fmt.Sprintf("memory: {max_traces: %d}", sc.traces())
	if k == jaegerBadger {
		store = fmt.Sprintf("badger: {ephemeral: false, directories: {keys: %q, values: %q}}",
			filepath.Join(dataDir, "keys"), filepath.Join(dataDir, "values"))
	}
	return fmt.Appendf(nil, `service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {receivers: [otlp], processors: [batch], exporters: [jaeger_storage_exporter]}
  telemetry:
    logs: {level: warn}
    metrics: {level: none}
extensions:
  jaeger_query:
    storage: {traces: store}
    enable_tracing: false
    http: {endpoint: "%s"}
    grpc: {endpoint: "%s"}
  jaeger_storage:
    backends:
      store: {%s}
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "%s", max_recv_msg_size_mib: 64}
      http: {endpoint: "%s"}
processors:
  batch:
exporters:
  jaeger_storage_exporter: {trace_storage: store}
`, ports[0], ports[1], store, ports[2], ports[3])
}

// attach reads "kind grpc=host:port http=url query=url [pid=n] [data=dir] [pprof=url]".
func attach(line string) (contestant, error) {
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return contestant{}, fmt.Errorf("-attach %q: want a kind of server and its addresses", line)
	}
	s := &server{kind: kind(fields[0]), dialect: &jaeger, argv: []string{"attached to, " + line}}
	if s.kind == tempoAll {
		s.dialect = &tempo
	}
	for _, f := range fields[1:] {
		key, val, _ := strings.Cut(f, "=")
		var err error
		switch key {
		case "grpc":
			s.grpc = val
		case "http":
			s.http = val
		case "query":
			s.query = val
		case "pprof":
			s.profiles = val
		case "data":
			s.dataDir = val
		case "pid":
			s.pid, err = strconv.Atoi(val)
		default:
			err = fmt.Errorf("want grpc, http, query, pid, data or pprof")
		}
		if err != nil {
			return contestant{}, fmt.Errorf("-attach %q: setting %q: %w", line, f, err)
		}
	}
	return contestant{kind: s.kind, runs: s}, nil
}

// weirConfig is Weir's defaults with directory and ports of our own, and profiles.
func weirConfig(sc scenario, dataDir string, ports []string) []byte {
	text := fmt.Appendf(nil, `server:
  listen: %s
  admin_listen: %s
  drain_delay: 0s
store:
  dir: %s
ingest:
  otlp:
    grpc: {endpoint: "%s"}
    http: {endpoint: "%s"}
tracing:
  query:
    http: {endpoint: "%s"}
    grpc: {endpoint: "%s"}
`, ports[5], ports[4], dataDir, ports[2], ports[3], ports[0], ports[1])
	if sc.Partition != "" {
		text = fmt.Appendf(text, "  store: {partition_size: %s}\n", sc.Partition)
	}
	return text
}
