package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componentstatus"
	"go.opentelemetry.io/collector/config/configgrpc"
	"go.opentelemetry.io/collector/config/confighttp"
	"go.opentelemetry.io/collector/config/configmiddleware"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configtls"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/extension/extensionmiddleware"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap" //nolint:depguard // the receiver takes nothing else; this is the bridge
)

// otlpServer runs the collector's otlpreceiver: its listeners, TLS, compression,
// size limits and protocol errors. It is the receiver's host, and a middleware
// extension of it: in that place (otlphttp.go, otlpgrpc.go) requests are bounded
// and counted, and metrics and spans are taken over before the receiver decodes them.
// The receiver's way to a consumer builds 25 objects a data point, 1.3 of the 2.0 us
// of processor time it would take in all (BenchmarkOTLP), and has no word for
// partial success.
//
// Another signal shares the listeners by asking s.factory for its own receiver
// with the same s.config, as otlptraces.go does.
type otlpServer struct {
	cfg      OTLPConfig
	streams  int // requests at once of one gRPC connection
	otlp     *otlp
	bodies   *bodyPool
	factory  receiver.Factory
	config   *otlpreceiver.Config
	settings receiver.Settings
	receiver receiver.Metrics
	traces   TakeTraces // nil: spans are not taken
	flight   flight
	requests *prometheus.CounterVec
	codec    *otlpCodec
	fatal    chan error

	// halt ends when what is still being received shall be given up: drain after
	// stop was called.
	drain  time.Duration
	halt   context.Context
	giveUp context.CancelFunc
}

// Bounds of one request over time.
const (
	// otlpReadTimeout is how long a sender may take to send a request: 20 MiB
	// at 6 Mbit/s. SDKs give up after 10 s by default.
	otlpReadTimeout = 30 * time.Second
	// otlpHeaderTimeout is how long it may take to send the headers (HTTP).
	otlpHeaderTimeout = 10 * time.Second
	// otlpIdleTimeout closes HTTP connections not used; SDKs send every minute.
	otlpIdleTimeout = 3 * time.Minute
	// otlpDrain is how long requests in flight have at shutdown.
	otlpDrain = 5 * time.Second
)

// newOTLPServer checks the settings and builds the receiver around o; it
// listens on nothing before start.
func newOTLPServer(in *Ingest) (*otlpServer, error) {
	o, log := in.otlp, in.log
	s := &otlpServer{
		cfg: in.cfg.OTLP, streams: in.cfg.MaxInFlightRequests, otlp: o, bodies: &in.bodies, factory: otlpreceiver.NewFactory(),
		flight: in.flight, drain: otlpDrain, requests: in.metrics.otlpRequests, codec: newOTLPCodec(), fatal: make(chan error, 2),
	}
	s.halt, s.giveUp = context.WithCancel(context.Background())
	next, err := consumer.NewMetrics(o.consume, consumer.WithCapabilities(consumer.Capabilities{}))
	if err != nil {
		return nil, fmt.Errorf("make otlp consumer: %w", err)
	}
	s.config = s.receiverConfig()
	s.settings = receiver.Settings{
		ID: component.NewID(s.factory.Type()),
		TelemetrySettings: component.TelemetrySettings{
			Logger:         zap.New(zapToSlog{log.With("component", "otlp")}),
			TracerProvider: tracenoop.NewTracerProvider(),
			MeterProvider:  metricnoop.NewMeterProvider(),
			Resource:       pcommon.NewResource(),
		},
	}
	if s.receiver, err = s.factory.CreateMetrics(context.Background(), s.settings, s.config, next); err != nil {
		return nil, fmt.Errorf("make otlp receiver: %w", err)
	}
	return s, nil
}

func middlewareID() component.ID { return component.MustNewID("weir") }

// receiverConfig puts our settings into the receiver's.
func (s *otlpServer) receiverConfig() *otlpreceiver.Config {
	c := s.factory.CreateDefaultConfig().(*otlpreceiver.Config)
	ours := []configmiddleware.Config{{ID: middlewareID()}}
	if g := c.Protocols.GRPC.GetOrInsertDefault(); s.cfg.GRPC.Endpoint == "" {
		c.Protocols.GRPC = configoptional.None[configgrpc.ServerConfig]()
	} else {
		g.NetAddr.Endpoint = s.cfg.GRPC.Endpoint
		g.MaxConcurrentStreams = uint32(s.streams)
		g.TLS = s.tls()
		g.Middlewares = ours
	}
	if h := c.Protocols.HTTP.GetOrInsertDefault(); s.cfg.HTTP.Endpoint == "" {
		c.Protocols.HTTP = configoptional.None[otlpreceiver.HTTPConfig]()
	} else {
		h.ServerConfig.NetAddr.Endpoint = s.cfg.HTTP.Endpoint
		h.ServerConfig.MaxRequestBodySize = int64(s.cfg.MaxRecvMsgSize)
		h.ServerConfig.ReadTimeout = otlpReadTimeout
		h.ServerConfig.ReadHeaderTimeout = otlpHeaderTimeout
		keep := confighttp.NewDefaultKeepaliveServerConfig()
		keep.IdleTimeout = otlpIdleTimeout
		h.ServerConfig.Keepalive = configoptional.Some(keep)
		h.ServerConfig.TLS = s.tls()
		h.ServerConfig.Middlewares = ours
	}
	return c
}

func (s *otlpServer) tls() configoptional.Optional[configtls.ServerConfig] {
	t := s.cfg.TLS
	if t.CertFile == "" {
		return configoptional.None[configtls.ServerConfig]()
	}
	c := configtls.NewDefaultServerConfig()
	c.CertFile, c.KeyFile = t.CertFile, t.KeyFile
	c.MinVersion, c.ReloadInterval = t.MinVersion, t.ReloadInterval.Std()
	c.ClientCAFile = t.ClientCAFile
	return configoptional.Some(c)
}

// start listens. What fails later comes out of s.fatal.
func (s *otlpServer) start(ctx context.Context) error {
	if err := s.receiver.Start(ctx, s); err != nil {
		return fmt.Errorf("start otlp receiver (ingest.otlp.grpc.endpoint %q, ingest.otlp.http.endpoint %q): %w",
			s.cfg.GRPC.Endpoint, s.cfg.HTTP.Endpoint, err)
	}
	return nil
}

// stop lets requests in flight finish for a while and then gives them up.
func (s *otlpServer) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), s.drain)
	defer cancel()
	defer context.AfterFunc(ctx, s.giveUp)()
	err := s.receiver.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil // their senders have no answer and will try again
	}
	return err
}

// GetExtensions implements component.Host.
func (s *otlpServer) GetExtensions() map[component.ID]component.Component {
	return map[component.ID]component.Component{middlewareID(): otlpMiddleware{s}}
}

// Report implements componentstatus.Reporter: a listener has failed.
func (s *otlpServer) Report(e *componentstatus.Event) {
	if e.Status() != componentstatus.StatusFatalError {
		return
	}
	select {
	case s.fatal <- fmt.Errorf("serve otlp: %w", e.Err()):
	default:
	}
}

// otlpCall is what is known of one request outside of its message.
type otlpCall struct {
	s         *otlpServer
	transport string
	pass      *pass
	over      error  // the bound on requests in flight that this one breaks
	tooLarge  bool   // over max_recv_msg_size
	result    string // for the counter; empty until somebody knows
	rejected  int64  // partial success: data points or spans, and why
	message   string
}

type otlpCallKey struct{}

// callOf returns the call of ctx; outside of a server, one that nobody reads.
func callOf(ctx context.Context) *otlpCall {
	if c, ok := ctx.Value(otlpCallKey{}).(*otlpCall); ok {
		return c
	}
	return &otlpCall{}
}

// begin counts the request in.
func (c *otlpCall) begin() { c.pass, c.over = c.s.flight.enter(0) }

// received counts n bytes of the message.
func (c *otlpCall) received(n int) error {
	if c.over == nil {
		c.over = c.pass.more(int64(n))
	}
	return c.over
}

// end counts the request out; failed says how if nothing else does.
func (c *otlpCall) end(failed string) {
	result := failed
	if c.pass != nil {
		c.pass.leave()
	}
	switch {
	case c.over != nil:
		result = "overload"
	case c.tooLarge:
		result = "body_too_large"
	case c.result != "":
		result = c.result
	}
	c.s.requests.WithLabelValues(c.transport, result).Inc()
}

func (s *otlpServer) tooLarge() string {
	return fmt.Sprintf("message is over ingest.otlp.max_recv_msg_size (%d bytes): send less in a request or raise it", s.cfg.MaxRecvMsgSize)
}

// otlpMiddleware implements the collector's extensionmiddleware.HTTPServer and
// GRPCServer.
type otlpMiddleware struct{ s *otlpServer }

var (
	_ extensionmiddleware.HTTPServer = otlpMiddleware{}
	_ extensionmiddleware.GRPCServer = otlpMiddleware{}
)

// Start implements component.Component.
func (otlpMiddleware) Start(context.Context, component.Host) error { return nil }

// Shutdown implements component.Component.
func (otlpMiddleware) Shutdown(context.Context) error { return nil }
