package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// kind is a product that bench can start.
type kind string

const (
	weir            kind = "weir"
	prometheus      kind = "prometheus"
	victoriametrics kind = "victoriametrics"
)

// contestant is a binary to measure.
type contestant struct {
	kind   kind
	binary string
}

const (
	// readyTimeout bounds the wait for the first ready answer; an empty data
	// directory takes under a second everywhere.
	readyTimeout = 60 * time.Second
	// stopTimeout bounds the wait after SIGTERM: Prometheus at 1M series needs
	// some seconds to close its head.
	stopTimeout = 60 * time.Second
)

// server is a running server under test.
type server struct {
	kind    kind
	base    string // http://host:port of the query API
	write   map[protocol]string
	ready   string
	dataDir string
	logPath string
	argv    []string // as run, taskset included
	cmd     *exec.Cmd
	done    chan struct{} // closed once the process is gone
}

// startServer starts c on core with an empty directory below dir and waits until
// it is ready.
func startServer(ctx context.Context, c contestant, dir string, core int) (*server, error) {
	s, err := configure(c, dir, core)
	if err != nil {
		return nil, fmt.Errorf("configure %s in %s: %w", c.kind, dir, err)
	}
	log, err := os.Create(s.logPath)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = exec.Command(s.argv[0], s.argv[1:]...)
	s.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Dir = dir
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", strings.Join(s.argv, " "), err)
	}
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	if err := s.awaitReady(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("wait for %s (%s): %w; its log ends: %s",
			c.kind, s.ready, err, logTail(s.logPath)), s.stop())
	}
	return s, nil
}

// configure writes the config file, if any, and builds the command line.
func configure(c contestant, dir string, core int) (*server, error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	s := &server{
		kind: c.kind, base: "http://" + ports[0], ready: "http://" + ports[0] + "/-/ready",
		dataDir: filepath.Join(dir, "data"), logPath: filepath.Join(dir, "log"),
		argv: []string{"taskset", "-c", fmt.Sprint(core), c.binary},
	}
	s.write = map[protocol]string{rw1: s.base + "/api/v1/write", rw2: s.base + "/api/v1/write"}
	config := filepath.Join(dir, "config.yaml")
	switch c.kind {
	case weir:
		s.write[otlp] = "http://" + ports[1] + "/v1/metrics"
		s.argv = append(s.argv, "serve", "--config.file="+config)
		return s, os.WriteFile(config, []byte(weirConfig(s.dataDir, ports)), 0o600)
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
	return nil, fmt.Errorf("server %q: want weir, prometheus or victoriametrics", c.kind)
}

// prometheusConfig accepts samples out of order as Weir does by default; without
// it Prometheus refuses some OTLP requests for the target_info it makes up.
const prometheusConfig = `storage:
  tsdb:
    out_of_order_time_window: 30m
`

// weirConfig is Weir's defaults with ports and directory of our own, the
// query limits that the other servers get by flag, and no drain delay.
func weirConfig(dataDir string, ports []string) string {
	return fmt.Sprintf(`server:
  listen: %s
  drain_delay: 0s
store:
  dir: %s
ingest:
  otlp:
    http:
      endpoint: %s
    grpc:
      endpoint: %s
query:
  max_samples: 500000000
  timeout: 10m
  admin_api: true
`, ports[0], dataDir, ports[1], ports[2])
}

// freePorts returns n loopback addresses nobody listens on at the moment.
func freePorts(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = l.Close() }() // not before all are found, so that they differ
		out = append(out, l.Addr().String())
	}
	return out, nil
}

func (s *server) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		if code, err := getStatus(ctx, s.ready); err == nil && code == http.StatusOK {
			return nil
		}
		select {
		case <-s.done:
			return fmt.Errorf("it ended with %s", s.cmd.ProcessState)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func getStatus(ctx context.Context, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func (s *server) pid() int { return s.cmd.Process.Pid }

// stop ends the server, gently first, and returns once it is gone.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // an error means it is gone: done tells
	select {
	case <-s.done:
		return nil
	case <-time.After(stopTimeout):
	}
	_ = s.cmd.Process.Kill()
	<-s.done
	return fmt.Errorf("stop %s: still there %s after SIGTERM, killed", s.kind, stopTimeout)
}

// logTail is the end of a log file, for an error message.
func logTail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-1000):]))
}
