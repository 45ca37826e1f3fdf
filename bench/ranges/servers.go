package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/weir-dev/weir/bench/dataset"
	"github.com/weir-dev/weir/bench/measure"
	"github.com/weir-dev/weir/bench/tiers"
)

const (
	// serverCore and loadCore keep the servers off this program's CPU.
	serverCore = 0
	loadCore   = 1
	// rollTimeout bounds the wait for Weir's rollups: 90 days of 2,000 series are a
	// minute's work.
	rollTimeout = 20 * time.Minute
	// calm is the CPU a server may use in calmStep and count as having nothing to
	// do, which it must calmSteps times on end: a garbage collection now and then is
	// below it.
	calm      = 10 * time.Millisecond
	calmStep  = 500 * time.Millisecond
	calmSteps = 4
	// calmTimeout bounds the wait for that.
	calmTimeout = 10 * time.Minute
)

// rungs are the resolutions that Weir is configured with.
var rungs = []time.Duration{5 * time.Minute, time.Hour}

// server is one product under test, which may be more than one process.
type server struct {
	name     string
	base     string // http://host:port of the query API
	dataDir  string
	programs []*measure.Program
	setup    time.Duration // wall time of getting the data in
}

// contestant is one way to ask a server.
type contestant struct {
	name   string
	server *server
	args   url.Values // beside query, start, end and step
}

func (s *server) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, p := range s.programs {
		t, err := measure.CPUClock(p.Pid())
		if err != nil {
			return 0, fmt.Errorf("%w; the log of %s ends: %s", err, s.name, p.LogTail())
		}
		sum += t
	}
	return sum, nil
}

func (s *server) rss() (int64, error) {
	var sum int64
	for _, p := range s.programs {
		n, err := measure.PeakRSSAlone(p.Pid())
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

func (s *server) stop() error {
	var errs []error
	for _, p := range s.programs {
		errs = append(errs, p.Stop())
	}
	return errors.Join(errs...)
}

// start adds a process with its own log.
func (s *server) start(ctx context.Context, name, dir, ready string, argv ...string) error {
	p, err := measure.Start(name, dir, filepath.Join(dir, name+".log"), measure.OnCore(serverCore, argv...))
	if err != nil {
		return err
	}
	if err := p.AwaitReady(ctx, ready); err != nil {
		return err // it is stopped
	}
	s.programs = append(s.programs, p)
	return nil
}

// awaitCalm waits until the server does nothing by itself any more.
func (s *server) awaitCalm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, calmTimeout)
	defer cancel()
	last, err := s.cpu()
	for quiet := 0; quiet < calmSteps && err == nil; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s to have nothing to do: %w", s.name, ctx.Err())
		case <-time.After(calmStep):
		}
		var now time.Duration
		now, err = s.cpu()
		quiet++
		if now-last > calm {
			quiet = 0
		}
		last = now
	}
	return err
}

// fresh makes an empty directory name below dir.
func fresh(dir, name string) (string, error) {
	own := filepath.Join(dir, name)
	if err := os.RemoveAll(own); err != nil {
		return "", err
	}
	return own, os.MkdirAll(own, 0o777)
}

func linkAll(raw []tiers.Block, dir string) error {
	for i := range raw {
		if _, err := raw[i].Link(dir); err != nil {
			return err
		}
	}
	return nil
}

// startPrometheus links the blocks into its directory. Its compactor is off, so
// that it reads just these.
func startPrometheus(ctx context.Context, binary, parent string, raw []tiers.Block) (*server, error) {
	dir, err := fresh(parent, "prometheus")
	if err != nil {
		return nil, err
	}
	ports, err := measure.FreePorts(1)
	if err != nil {
		return nil, err
	}
	s := &server{name: "prometheus", base: "http://" + ports[0], dataDir: filepath.Join(dir, "data")}
	config := filepath.Join(dir, "config.yaml")
	if err := errors.Join(linkAll(raw, s.dataDir), os.WriteFile(config, []byte("global: {}\n"), 0o600)); err != nil {
		return nil, err
	}
	return s, s.start(ctx, s.name, dir, s.base+"/-/ready", binary, "--config.file="+config, "--storage.tsdb.path="+s.dataDir,
		"--storage.tsdb.retention.time=10y", "--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h",
		"--web.listen-address="+ports[0], "--query.max-samples=500000000", "--query.timeout=10m")
}

// weirStore keeps everything forever, on a ladder of the default resolutions.
const weirStore = `  retention:
    time: 10y
  rollups:
    - {resolution: 5m, keep: 20y}
    - {resolution: 1h, keep: 30y}
`

// startWeir links the blocks into its directory and waits until it has rolled
// them up by itself.
func startWeir(ctx context.Context, binary, parent string, raw []tiers.Block) (*server, error) {
	dir, err := fresh(parent, "weir")
	if err != nil {
		return nil, err
	}
	ports, err := measure.FreePorts(3)
	if err != nil {
		return nil, err
	}
	s := &server{name: "weir", base: "http://" + ports[0], dataDir: filepath.Join(dir, "data")}
	config := filepath.Join(dir, "config.yaml")
	text := measure.WeirConfig(s.dataDir, ports, weirStore, "")
	if err := errors.Join(linkAll(raw, s.dataDir), os.WriteFile(config, text, 0o600)); err != nil {
		return nil, err
	}
	if err := s.start(ctx, s.name, dir, s.base+"/-/ready", binary, "serve", "--config.file="+config); err != nil {
		return nil, err
	}
	if err := s.awaitRollups(ctx, raw); err != nil {
		return nil, errors.Join(fmt.Errorf("%w; its log ends: %s", err, s.programs[0].LogTail()), s.stop())
	}
	return s, nil
}

func (s *server) awaitRollups(ctx context.Context, raw []tiers.Block) error {
	ctx, cancel := context.WithTimeout(ctx, rollTimeout)
	defer cancel()
	for {
		found, err := tiers.Find(s.dataDir)
		if err != nil {
			return err
		}
		missing := 0
		for _, r := range rungs {
			if !tiers.Covered(raw, found, r) {
				missing++
			}
		}
		if missing == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for weir's rollups, %d of %d rungs missing: %w", missing, len(rungs), ctx.Err())
		case <-s.programs[0].Done():
			return fmt.Errorf("wait for weir's rollups: it ended with %s", s.programs[0].State())
		case <-time.After(time.Second):
		}
	}
}

// startVictoriaMetrics pushes the data set into its directory, or takes that of an
// earlier run with the same data set.
func startVictoriaMetrics(ctx context.Context, binary, parent string, spec dataset.Spec, raw []tiers.Block) (*server, error) {
	dir, holds := filepath.Join(parent, "victoriametrics"), fingerprint(spec, raw)
	if loaded(dir, holds) {
		return openVictoriaMetrics(ctx, binary, dir)
	}
	if _, err := fresh(parent, "victoriametrics"); err != nil {
		return nil, err
	}
	s, err := openVictoriaMetrics(ctx, binary, dir)
	if err != nil {
		return nil, err
	}
	// A new start after loading, so that its caches are those of a server which has
	// not just written everything.
	if err := errors.Join(load(ctx, s.base, spec), s.stop()); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, loadedFile), []byte(holds), 0o666); err != nil {
		return nil, err
	}
	return openVictoriaMetrics(ctx, binary, dir)
}

func openVictoriaMetrics(ctx context.Context, binary, dir string) (*server, error) {
	ports, err := measure.FreePorts(1)
	if err != nil {
		return nil, err
	}
	s := &server{name: "victoriametrics", base: "http://" + ports[0], dataDir: filepath.Join(dir, "data")}
	return s, s.start(ctx, s.name, dir, s.base+"/health", binary, "-storageDataPath="+s.dataDir, "-httpListenAddr="+ports[0],
		"-retentionPeriod=100y", "-search.latencyOffset=0s", "-search.maxUniqueTimeseries=10000000", "-search.maxQueryDuration=10m")
}

// startThanos makes a bucket with 5m and 1h rollups by Thanos and starts a store
// gateway and a querier on it.
func startThanos(ctx context.Context, binary, parent string, raw []tiers.Block) (*server, error) {
	dir, err := fresh(parent, "thanos")
	if err != nil {
		return nil, err
	}
	bucket, err := tiers.FillBucket(dir, raw)
	if err != nil {
		return nil, err
	}
	if _, err := bucket.Downsample(ctx, binary, dir, serverCore); err != nil {
		return nil, err
	}
	ports, err := measure.FreePorts(4)
	if err != nil {
		return nil, err
	}
	s := &server{name: "thanos", base: "http://" + ports[2], dataDir: bucket.Dir}
	err = s.start(ctx, "store", dir, "http://"+ports[0]+"/-/ready", binary, "store", "--objstore.config-file="+bucket.Config,
		"--data-dir="+filepath.Join(dir, "store"), "--http-address="+ports[0], "--grpc-address="+ports[1])
	if err != nil {
		return nil, err
	}
	err = s.start(ctx, "query", dir, "http://"+ports[2]+"/-/ready", binary, "query", "--http-address="+ports[2],
		"--grpc-address="+ports[3], "--endpoint="+ports[1], "--query.timeout=10m")
	if err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}
