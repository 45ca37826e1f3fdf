package query

import (
	"time"

	"github.com/prometheus/prometheus/model/relabel"

	"github.com/weir-dev/weir/internal/conf"
)

// Config bounds what queries may cost. The defaults are Prometheus' own, so that
// a query that works there works here.
type Config struct {
	// Samples one query may hold in memory at once; above it the answer is 422. At least 1. Restart.
	MaxSamples int `yaml:"max_samples"`
	// Time one query may run, and wait for its turn before that; above it the answer is 503. More than 0s. Restart.
	Timeout conf.Duration `yaml:"timeout"`
	// Queries that run at once; more wait for a place. At least 1. Restart.
	MaxConcurrency int `yaml:"max_concurrency"`
	// How old the newest sample of a series may be to still count as its value. More than 0s. Restart.
	Lookback conf.Duration `yaml:"lookback"`
	// Use of rollups in the place of samples.
	Rollups Rollups `yaml:"rollups"`
	// Bounds of /api/v1/read.
	RemoteRead RemoteRead `yaml:"remote_read"`
	// File that gets one JSON line a query, opened again on reload so that it can be rotated; empty means no log. Reload.
	LogFile string `yaml:"log_file"`
	// Whether /api/v1/admin/tsdb/ may delete series and take snapshots; false refuses. Restart.
	AdminAPI bool `yaml:"admin_api"`
	// Regular expression over a whole Origin header: web pages from there may read answers; empty means none. Restart.
	CORSOrigin string `yaml:"cors_origin"`
}

// Rollups says when rollups may answer queries.
type Rollups struct {
	// Whether rollups may answer queries; false reads samples, and where those are gone the last value of each window. Restart.
	Enabled bool `yaml:"enabled"`
	// Least time that a selector reads (graph and range together) for rollups to stand in for samples that are still held; shorter ones are answered from samples; 0s means always. Restart.
	MinRange conf.Duration `yaml:"min_range"`
}

// RemoteRead bounds what one sender of /api/v1/read may take.
type RemoteRead struct {
	// Samples in one answer that is not streamed; 0 means no limit. Restart.
	SampleLimit int `yaml:"sample_limit"`
	// Requests answered at once; more wait. At least 1. Restart.
	Concurrency int `yaml:"concurrency"`
	// Size of one frame of a streamed answer, before compression. At least 1. Restart.
	MaxBytesInFrame conf.Bytes `yaml:"max_bytes_in_frame"`
}

// DefaultConfig returns Prometheus' defaults.
func DefaultConfig() Config {
	return Config{
		MaxSamples:     50_000_000,
		Timeout:        conf.Duration(2 * time.Minute),
		MaxConcurrency: 20,
		Lookback:       conf.Duration(5 * time.Minute),
		Rollups:        Rollups{Enabled: true, MinRange: conf.Duration(24 * time.Hour)},
		RemoteRead: RemoteRead{
			SampleLimit:     50_000_000,
			Concurrency:     10,
			MaxBytesInFrame: 1 << 20,
		},
		CORSOrigin: ".*",
	}
}

// Validate reports every setting that is out of bounds. It reads no file.
func (c *Config) Validate(f *conf.Faults) {
	if c.MaxSamples < 1 {
		f.Add("max_samples", c.MaxSamples, "1 or more")
	}
	if c.Timeout <= 0 {
		f.Add("timeout", c.Timeout, "more than 0s")
	}
	if c.MaxConcurrency < 1 {
		f.Add("max_concurrency", c.MaxConcurrency, "1 or more")
	}
	if c.Lookback <= 0 {
		f.Add("lookback", c.Lookback, "more than 0s")
	}
	if _, err := relabel.NewRegexp(c.CORSOrigin); err != nil {
		f.Add("cors_origin", c.CORSOrigin, "a regular expression ("+err.Error()+")")
	}
	if c.Rollups.MinRange < 0 {
		f.At("rollups").Add("min_range", c.Rollups.MinRange, "0s (always) or more")
	}
	c.RemoteRead.validate(f.At("remote_read"))
}

func (c *RemoteRead) validate(f *conf.Faults) {
	if c.SampleLimit < 0 {
		f.Add("sample_limit", c.SampleLimit, "0 (no limit) or more")
	}
	if c.Concurrency < 1 {
		f.Add("concurrency", c.Concurrency, "1 or more")
	}
	if c.MaxBytesInFrame < 1 {
		f.Add("max_bytes_in_frame", c.MaxBytesInFrame, "1 or more")
	}
}
