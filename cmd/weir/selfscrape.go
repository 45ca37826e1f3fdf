package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-dev/weir/internal/conf"
)

// SelfScrapeConfig says whether Weir keeps its own metrics, so that a first query
// has an answer and Weir can be watched by itself.
type SelfScrapeConfig struct {
	// Time between two samples of Weir's own metrics, stored with job="weir"; 0s stores none. Restart.
	Interval conf.Duration `yaml:"interval"`
}

// DefaultSelfScrapeConfig scrapes as often as Prometheus' example configuration.
func DefaultSelfScrapeConfig() SelfScrapeConfig {
	return SelfScrapeConfig{Interval: conf.Duration(15 * time.Second)}
}

// Validate reports an interval that is out of bounds.
func (c *SelfScrapeConfig) Validate(f *conf.Faults) {
	if c.Interval < 0 || c.Interval > 0 && c.Interval < conf.Duration(time.Second) {
		f.Add("interval", c.Interval, "0s (off), or 1s or more")
	}
}

// selfJob is the job label of Weir's own series, and the name of the scrape pool.
const selfJob = "weir"

// selfScrape stores Weir's own metrics by way of Prometheus' scraper, which adds
// `up` and stale markers. It reaches them over a pipe in memory, so that TLS and
// passwords of the main port do not concern it. What it stores is not received,
// hence not in the ledger.
type selfScrape struct {
	deps    selfScrapeDeps
	manager *scrape.Manager
	cfg     *config.Config
	pipe    *pipe
}

// selfScrapeDeps is what a selfScrape reads and writes; all must be set.
type selfScrapeDeps struct {
	gatherer   prometheus.Gatherer
	store      storage.AppendableV2
	ready      func() (ok bool, why string) // nothing is scraped before the store is open
	instance   string                       // label of all series: where Weir listens
	registerer prometheus.Registerer        // of the scraper's own metrics
	log        *slog.Logger
}

// newSelfScrape makes a scraper and starts nothing. The interval must not be 0.
func newSelfScrape(cfg SelfScrapeConfig, deps selfScrapeDeps) (*selfScrape, error) {
	s := &selfScrape{deps: deps, pipe: newPipe()}
	var err error
	s.cfg, err = config.Load(fmt.Sprintf(`
global: {scrape_interval: %[1]s, scrape_timeout: %[2]s}
scrape_configs: [{job_name: %[3]s}]
`, cfg.Interval, min(cfg.Interval, conf.Duration(10*time.Second)), selfJob), deps.log)
	if err != nil {
		return nil, fmt.Errorf("make self scrape every %s (self_scrape.interval): %w", cfg.Interval, err)
	}
	s.manager, err = scrape.NewManager(&scrape.Options{
		DiscoveryReloadOnStartup: true, // else the first sample waits 5 s for nothing
		HTTPClientOptions:        []commonconfig.HTTPClientOption{commonconfig.WithDialContextFunc(s.pipe.dial)},
	}, deps.log, nil, nil, deps.store, deps.registerer)
	if err != nil {
		return nil, fmt.Errorf("make self scrape: %w", err)
	}
	return s, nil
}

// Run scrapes until ctx ends. The first sample comes within one interval, at the
// moment that Prometheus' scraper derives from host name and instance.
func (s *selfScrape) Run(ctx context.Context) error {
	if !s.waitReady(ctx) {
		return nil
	}
	srv := &http.Server{
		Handler:           promhttp.HandlerFor(s.deps.gatherer, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}),
		ReadHeaderTimeout: time.Minute, // nobody else can connect
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := srv.Serve(s.pipe); !errors.Is(err, http.ErrServerClosed) {
			s.deps.log.Error("self scrape not served", "err", err)
		}
	})
	if err := s.manager.ApplyConfig(s.cfg); err != nil {
		return errors.Join(fmt.Errorf("configure self scrape: %w", err), srv.Close())
	}
	targets := make(chan map[string][]*targetgroup.Group, 1)
	targets <- map[string][]*targetgroup.Group{selfJob: {{
		Source:  selfJob,
		Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(s.deps.instance)}},
	}}}
	wg.Go(func() { _ = s.manager.Run(targets) }) // it never returns an error

	<-ctx.Done()
	s.manager.Stop()
	err := srv.Close()
	wg.Wait()
	return err
}

// waitReady returns false when ctx ends first: before that every sample would be
// refused and logged.
func (s *selfScrape) waitReady(ctx context.Context) bool {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, _ := s.deps.ready(); ok {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// pipe is a listener in memory: who dials meets who accepts.
type pipe struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipe() *pipe {
	return &pipe{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipe) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	var err error
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		err = net.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, errors.Join(err, here.Close(), there.Close())
}

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (*pipe) Addr() net.Addr { return &net.UnixAddr{Name: "self scrape", Net: "pipe"} }
