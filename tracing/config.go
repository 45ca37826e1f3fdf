package tracing

import (
	"net"
	"time"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/derive"
	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/sampling"
	"github.com/weir-dev/weir/tracing/search"
)

// Config is the `tracing` section.
type Config struct {
	// Whether spans are taken, by OTLP and the receivers, and the Jaeger APIs served. Restart.
	Enabled bool `yaml:"enabled"`

	// What a span, a trace, a service and all requests together may cost.
	Limits Limits `yaml:"limits"`

	// Ways in beside OTLP, which has its listeners in ingest.otlp.
	Receivers Receivers `yaml:"receivers"`

	// Listeners of their own for the Jaeger APIs, where clients that know only Jaeger look for them.
	Query Query `yaml:"query"`

	// TLS of the receivers and query listeners. Without cert_file they speak plain text.
	TLS TLS `yaml:"tls"`

	// The store of spans.
	Store pebblestore.Config `yaml:"store"`

	// Metrics and the service graph made of spans.
	Derive derive.Config `yaml:"derive"`

	// Which traces clients shall record, and which are kept of those that come.
	Sampling sampling.Config `yaml:"sampling"`

	// Searches evaluated again and again, whose results are series of Weir's own metrics (weir_trace_search_*). Restart.
	SavedSearches []search.SavedSearch `yaml:"saved_searches"`
}

// Limits bound what is stored. What is beyond is cut and marked on the span by the
// attribute weir.truncated, or refused; both are counted.
type Limits struct {
	// Spans a second of one service. Further ones are refused. 0 is no limit. Reload.
	MaxSpansPerSecond float64 `yaml:"max_spans_per_second"`

	// Spans that one service may send at once where it sent less before; at least max_spans_per_second. Reload.
	SpansBurst int `yaml:"spans_burst"`

	// Attributes of one span, event, link, resource or scope. Further ones are dropped. 0 is no limit. Reload.
	MaxAttributes int `yaml:"max_attributes"`

	// Bytes of one attribute's value, and of names and messages. Longer ones are cut. 0 is no limit. Reload.
	MaxAttributeBytes conf.Bytes `yaml:"max_attribute_bytes"`

	// Events of one span. Further ones are dropped. 0 is no limit. Reload.
	MaxEvents int `yaml:"max_events"`

	// Links of one span. Further ones are dropped. 0 is no limit. Reload.
	MaxLinks int `yaml:"max_links"`

	// Spans of one trace in an hour. Further ones are refused. 0 is no limit. Reload.
	MaxSpansPerTrace int `yaml:"max_spans_per_trace"`

	// How far a span may start or end in the future, by the server's clock; others are refused. 0s is no limit. Reload.
	MaxFutureSkew conf.Duration `yaml:"max_future_skew"`

	// Bytes that requests of spans may hold while they are decoded and stored, OTLP among them; above it they are answered 503 or UNAVAILABLE. Restart.
	MaxInFlightBytes conf.Bytes `yaml:"max_in_flight_bytes"`
}

// Receivers are off unless they have an endpoint.
type Receivers struct {
	// Bytes of one body, decompressed. Restart.
	MaxRequestBytes conf.Bytes `yaml:"max_request_bytes"`

	// Requests handled at once by each receiver; further ones are answered 503 or UNAVAILABLE. Restart.
	MaxInFlightRequests int `yaml:"max_in_flight_requests"`

	// Jaeger agents and clients over gRPC (api_v2.CollectorService). Jaeger has it at port 14250. Restart.
	JaegerGRPC Endpoint `yaml:"jaeger_grpc"`

	// Jaeger clients that post Thrift to /api/traces. Jaeger has it at port 14268. Restart.
	JaegerThrift Endpoint `yaml:"jaeger_thrift"`

	// Zipkin clients that post JSON to /api/v2/spans or /api/v1/spans. Zipkin has it at port 9411. Restart.
	Zipkin Endpoint `yaml:"zipkin"`
}

// Query listeners.
type Query struct {
	// Jaeger's HTTP APIs. Jaeger has them at port 16686. Restart.
	HTTP Endpoint `yaml:"http"`

	// Jaeger's gRPC APIs: api_v2, api_v3 and, for a Jaeger in front, storage.v2. Jaeger has them at port 16685. Restart.
	GRPC Endpoint `yaml:"grpc"`
}

// Endpoint is a listener.
type Endpoint struct {
	// Address to listen on, host:port. Empty turns it off. Restart.
	Endpoint string `yaml:"endpoint"`
}

// TLS is the `tracing.tls` section.
type TLS struct {
	// Certificate (PEM) that Weir shows. Empty is no TLS. Restart.
	CertFile string `yaml:"cert_file"`

	// Key of the certificate (PEM). Restart.
	KeyFile string `yaml:"key_file"`

	// Certificate authorities (PEM) that clients' certificates must come from. Empty asks for none. Restart.
	ClientCAFile string `yaml:"client_ca_file"`

	// Oldest TLS version accepted: 1.2 or 1.3. Restart.
	MinVersion string `yaml:"min_version"`

	// How often certificate and key are read anew. 0s is never. Restart.
	ReloadInterval conf.Duration `yaml:"reload_interval"`
}

// DefaultConfig takes OTLP, and serves Jaeger's APIs on loopback.
func DefaultConfig() Config {
	store := pebblestore.DefaultConfig()
	store.Dir = "" // package main puts it beside the samples
	return Config{
		Enabled: true,
		Limits: Limits{
			SpansBurst: 10_000,
			// The limits that OTel SDKs have themselves, where their default is
			// smaller: 128 attributes, events and links. A sender without an SDK may
			// have reasons for more events.
			MaxAttributes: 128, MaxEvents: 1024, MaxLinks: 1024,
			// A long SQL statement or stack trace; a UI shows no more.
			MaxAttributeBytes: 64 << 10,
			MaxSpansPerTrace:  100_000,
			MaxFutureSkew:     conf.Duration(time.Hour),
			// Three of the largest OTLP messages of tiny spans, decoded, or tens of
			// usual ones: see decodedFactor.
			MaxInFlightBytes: 512 << 20,
		},
		Receivers: Receivers{MaxRequestBytes: 16 << 20, MaxInFlightRequests: 64},
		Query: Query{
			HTTP: Endpoint{"127.0.0.1:16686"},
			GRPC: Endpoint{"127.0.0.1:16685"},
		},
		TLS:    TLS{MinVersion: "1.2"},
		Store:  store,
		Derive: derive.DefaultConfig(),

		Sampling: sampling.DefaultConfig(),
	}
}

// Validate reports every value out of bounds. The store's directory may be empty.
func (c *Config) Validate(f *conf.Faults) {
	c.Limits.validate(f.At("limits"))
	c.Receivers.validate(f.At("receivers"))
	q := f.At("query")
	c.Query.HTTP.validate(q.At("http"))
	c.Query.GRPC.validate(q.At("grpc"))
	c.TLS.validate(f.At("tls"))
	if c.Limits.MaxInFlightBytes < c.Receivers.MaxRequestBytes*decodedFactor {
		f.At("limits").Add("max_in_flight_bytes", c.Limits.MaxInFlightBytes,
			"at least 8 times receivers.max_request_bytes, or a request of that size is never taken")
	}
	store := c.Store
	if store.Dir == "" {
		store.Dir = "traces"
	}
	store.Validate(f.At("store"))
	c.Derive.Validate(f.At("derive"))
	c.Sampling.Validate(f.At("sampling"))
	search.ValidateSaved(c.SavedSearches, f.At("saved_searches"))
}

func (c *Limits) validate(f *conf.Faults) {
	if !(c.MaxSpansPerSecond >= 0 && c.MaxSpansPerSecond <= 1e9) {
		f.Add("max_spans_per_second", c.MaxSpansPerSecond, "0 (no limit) to 1e9")
	}
	if float64(c.SpansBurst) < c.MaxSpansPerSecond || c.SpansBurst < 0 {
		f.Add("spans_burst", c.SpansBurst, "max_spans_per_second or more")
	}
	for _, l := range []struct {
		name string
		got  int
	}{
		{"max_attributes", c.MaxAttributes},
		{"max_events", c.MaxEvents},
		{"max_links", c.MaxLinks},
		{"max_spans_per_trace", c.MaxSpansPerTrace},
	} {
		if l.got < 0 {
			f.Add(l.name, l.got, "0 (no limit) or more")
		}
	}
	if c.MaxAttributeBytes < 0 || c.MaxAttributeBytes > 0 && c.MaxAttributeBytes < 64 {
		f.Add("max_attribute_bytes", c.MaxAttributeBytes, "0 (no limit), or 64 or more")
	}
	if c.MaxFutureSkew < 0 {
		f.Add("max_future_skew", c.MaxFutureSkew, "0s (no limit) or more")
	}
}

func (c *Receivers) validate(f *conf.Faults) {
	if c.MaxRequestBytes < 1<<10 || c.MaxRequestBytes > 1<<30 {
		f.Add("max_request_bytes", c.MaxRequestBytes, "1KiB to 1GiB")
	}
	if c.MaxInFlightRequests < 1 {
		f.Add("max_in_flight_requests", c.MaxInFlightRequests, "1 or more")
	}
	c.JaegerGRPC.validate(f.At("jaeger_grpc"))
	c.JaegerThrift.validate(f.At("jaeger_thrift"))
	c.Zipkin.validate(f.At("zipkin"))
}

func (c *Endpoint) validate(f *conf.Faults) {
	if c.Endpoint == "" {
		return
	}
	if _, _, err := net.SplitHostPort(c.Endpoint); err != nil {
		f.Add("endpoint", c.Endpoint, "host:port, or empty to turn it off")
	}
}

func (c *TLS) validate(f *conf.Faults) {
	if (c.CertFile == "") != (c.KeyFile == "") {
		f.Add("key_file", c.KeyFile, "set together with cert_file")
	}
	if c.ClientCAFile != "" && c.CertFile == "" {
		f.Add("client_ca_file", c.ClientCAFile, "empty, unless cert_file is set")
	}
	if c.MinVersion != "1.2" && c.MinVersion != "1.3" {
		f.Add("min_version", c.MinVersion, `"1.2" or "1.3"`)
	}
	if c.ReloadInterval < 0 {
		f.Add("reload_interval", c.ReloadInterval, "0s (never) or more")
	}
}
