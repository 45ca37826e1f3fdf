package jaegerstore

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/weir-dev/weir/internal/conf"
)

// Config of a remote storage.
type Config struct {
	// Where jaeger.storage.v2 is served, host:port. Restart.
	Endpoint string `yaml:"endpoint"`
	// Where spans are sent by OTLP over gRPC, host:port. Empty: where they are read. Restart.
	WriteEndpoint string `yaml:"write_endpoint"`
	// TLS of both.
	TLS TLS `yaml:"tls"`
	// Time for one call, its retries included. Restart.
	Timeout conf.Duration `yaml:"timeout"`
	// Bytes of one message that is read; a trace that the storage does not send in
	// parts has to fit. Restart.
	MaxRecv conf.Bytes `yaml:"max_recv"`
	// Bytes of one message that is written; larger batches are sent in parts. Restart.
	MaxSend conf.Bytes `yaml:"max_send"`
	// Bytes of traces, encoded, that one question may hold. Restart.
	MaxResult conf.Bytes `yaml:"max_result"`
	// Traces looked at by a search that the protocol has no words for. Restart.
	MaxTraces int `yaml:"max_traces"`
	// How far back a search without a start goes. Restart.
	Lookback conf.Duration `yaml:"lookback"`
}

// TLS says how the storage is known and who Weir is.
type TLS struct {
	// Whether to speak TLS. Restart.
	Enabled bool `yaml:"enabled"`
	// Certificate authorities (PEM) that the storage's certificate must come from.
	// Empty: those of the system. Restart.
	CAFile string `yaml:"ca_file"`
	// Certificate (PEM) that Weir shows. Empty: none. Restart.
	CertFile string `yaml:"cert_file"`
	// Key of the certificate (PEM). Restart.
	KeyFile string `yaml:"key_file"`
	// Name that the storage's certificate must have. Empty: that of the endpoint. Restart.
	ServerName string `yaml:"server_name"`
}

// DefaultConfig has no endpoint.
func DefaultConfig() Config {
	return Config{
		// A search that reads a few hundred traces from spinning disks.
		Timeout: conf.Duration(30 * time.Second),
		// Jaeger sends a trace in one message. 100k spans of 600 bytes.
		MaxRecv: 64 << 20,
		// gRPC servers refuse more than 4 MiB unless they are told otherwise.
		MaxSend: 3 << 20,
		// 1,000 traces of 500 spans of 500 bytes; a person looks at 20.
		MaxResult: 256 << 20,
		// What Jaeger's UI offers as its largest limit, nearly.
		MaxTraces: 1500,
		// What Jaeger keeps by default in Elasticsearch and Badger, more than twice over.
		Lookback: conf.Duration(7 * 24 * time.Hour),
	}
}

// Validate adds each fault to f.
func (c *Config) Validate(f *conf.Faults) {
	if _, _, err := net.SplitHostPort(c.Endpoint); err != nil {
		f.Add("endpoint", c.Endpoint, "host:port")
	}
	if c.WriteEndpoint != "" {
		if _, _, err := net.SplitHostPort(c.WriteEndpoint); err != nil {
			f.Add("write_endpoint", c.WriteEndpoint, "host:port, or empty for that of endpoint")
		}
	}
	if c.Timeout <= 0 {
		f.Add("timeout", c.Timeout, "more than 0s")
	}
	if c.Lookback <= 0 {
		f.Add("lookback", c.Lookback, "more than 0s")
	}
	if c.MaxTraces < 1 || c.MaxTraces > 1_000_000 {
		f.Add("max_traces", c.MaxTraces, "1 to 1000000")
	}
	for _, b := range []struct {
		name string
		got  conf.Bytes
	}{{"max_recv", c.MaxRecv}, {"max_send", c.MaxSend}, {"max_result", c.MaxResult}} {
		if b.got < 64<<10 || b.got > 2<<30-1 {
			f.Add(b.name, b.got, "64KiB to 2GiB")
		}
	}
	if t := c.TLS; (t.CertFile == "") != (t.KeyFile == "") {
		f.At("tls").Add("key_file", t.KeyFile, "set together with cert_file")
	} else if !t.Enabled && (t.CAFile != "" || t.CertFile != "" || t.ServerName != "") {
		f.At("tls").Add("enabled", t.Enabled, "true, since other settings of tls are given")
	}
}

func (c TLS) config() (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read jaeger.tls.ca_file: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read jaeger.tls.ca_file: %s has no certificate in PEM", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read jaeger.tls.cert_file and key_file: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}
