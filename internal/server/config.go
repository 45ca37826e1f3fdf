package server

import (
	"net"
	"net/url"
	"time"

	"github.com/weir-dev/weir/internal/conf"
)

// Config is about sockets and time; what is served is the rooms' affair.
type Config struct {
	// Address of the main port, host:port; port 0 takes a free one. Restart.
	Listen string `yaml:"listen"`
	// Exporter-toolkit file with TLS, client certificates and basic auth, for the main and the admin port; empty means plain HTTP without authentication. Its content is read again by itself, its name is not. Restart.
	WebConfigFile string `yaml:"web_config_file"`
	// Address of the admin port with profiles and metrics, host:port; empty means none. Restart.
	AdminListen string `yaml:"admin_listen"`
	// URL by which others reach the main port; empty means http and the listen address. Restart.
	ExternalURL string `yaml:"external_url"`
	// Whether HTTP/2 is spoken without TLS too (h2c, by prior knowledge). Restart.
	H2C bool `yaml:"h2c"`

	// Connections held at once on the main port, more wait to be accepted; 0 means no limit. Restart.
	MaxConnections int `yaml:"max_connections"`
	// Size of the request line and headers together. At least 4KiB. Restart.
	MaxHeaderBytes conf.Bytes `yaml:"max_header_bytes"`
	// Time for the headers of a request to arrive, TLS handshake included. More than 0s. Restart.
	HeaderTimeout conf.Duration `yaml:"header_timeout"`
	// Time for a body to arrive, or an answer to be taken, beyond what min_rate grants for its size. More than 0s. Restart.
	BodyTimeout conf.Duration `yaml:"body_timeout"`
	// Slowest a body may arrive or an answer be taken, in bytes a second. At least 1. Restart.
	MinRate conf.Bytes `yaml:"min_rate"`
	// Time an idle connection is kept for the next request. More than 0s. Restart.
	IdleTimeout conf.Duration `yaml:"idle_timeout"`

	// On shutdown, time between /-/ready turning 503 and the port closing, for load balancers to notice; 0s closes at once. Restart.
	DrainDelay conf.Duration `yaml:"drain_delay"`
	// On shutdown, time for requests in flight to finish after the port closed; 0s cuts them off. Restart.
	DrainTimeout conf.Duration `yaml:"drain_timeout"`
}

// DefaultConfig listens on loopback only and has no admin port.
func DefaultConfig() Config {
	return Config{
		Listen: "127.0.0.1:9480",
		// Forty Prometheus servers at their default of 50 shards. Bounds goroutines and
		// read buffers; what one costs is unmeasured.
		MaxConnections: 2048,
		// As net/http and Prometheus: long GET queries live in the request line.
		MaxHeaderBytes: 1 << 20,
		HeaderTimeout:  conf.Duration(10 * time.Second),
		BodyTimeout:    conf.Duration(30 * time.Second),
		// Bounds how long a body of the largest size may hold its memory. Prometheus
		// gives up on a request after 30 s itself, so what is slower than this, and
		// larger than 480 KiB, is lost anyway. Unmeasured: derived from that.
		MinRate: 16 << 10,
		// Longer than the 60 s that senders and load balancers usually keep a
		// connection, so that they close it first and no request meets a closed one.
		IdleTimeout:  conf.Duration(2 * time.Minute),
		DrainDelay:   conf.Duration(time.Second),
		DrainTimeout: conf.Duration(30 * time.Second),
	}
}

// Validate reports every setting that is out of bounds. It opens no file or
// socket.
func (c *Config) Validate(f *conf.Faults) {
	if !address(c.Listen) {
		f.Add("listen", c.Listen, "host:port")
	}
	if c.AdminListen != "" && !address(c.AdminListen) {
		f.Add("admin_listen", c.AdminListen, "host:port, or empty for none")
	}
	c.validateURL(f)
	if c.MaxConnections < 0 {
		f.Add("max_connections", c.MaxConnections, "0 (no limit) or more")
	}
	if c.MaxHeaderBytes < 4<<10 {
		f.Add("max_header_bytes", c.MaxHeaderBytes, "4KiB or more")
	}
	if c.MinRate < 1 {
		f.Add("min_rate", c.MinRate, "1 or more")
	}
	for _, d := range []struct {
		name string
		got  conf.Duration
	}{{"header_timeout", c.HeaderTimeout}, {"body_timeout", c.BodyTimeout}, {"idle_timeout", c.IdleTimeout}} {
		if d.got <= 0 {
			f.Add(d.name, d.got, "more than 0s")
		}
	}
	if c.DrainDelay < 0 {
		f.Add("drain_delay", c.DrainDelay, "0s or more")
	}
	if c.DrainTimeout < 0 {
		f.Add("drain_timeout", c.DrainTimeout, "0s or more")
	}
}

func (c *Config) validateURL(f *conf.Faults) {
	const want = "a URL with scheme and host and without credentials"
	u, err := url.Parse(c.ExternalURL)
	switch {
	case c.ExternalURL == "":
	case err != nil:
		f.Add("external_url", "no URL", want) // the text may hold a password
	case u.Scheme == "" || u.Host == "" || u.User != nil:
		f.Add("external_url", u.Redacted(), want)
	}
}

func address(s string) bool {
	_, port, err := net.SplitHostPort(s)
	return err == nil && port != ""
}
