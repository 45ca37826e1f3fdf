package main

import (
	"log/slog"

	"github.com/weir-dev/weir/ingest"
	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/query"
	"github.com/weir-dev/weir/internal/server"
	"github.com/weir-dev/weir/internal/store"
	"github.com/weir-dev/weir/tracing"
)

//go:generate go test -run ^TestConfigurationPage$ . -update

// Config is the whole file: a section for each room, which owns its settings.
type Config struct {
	// Log says what is logged, and how, on standard error.
	Log LogConfig `yaml:"log"`
	// Server holds the ports and the time a client may take.
	Server server.Config `yaml:"server"`
	// Ingest says what is taken in, from whom and how much of it.
	Ingest ingest.Config `yaml:"ingest"`
	// Store says where samples are kept and for how long.
	Store store.Config `yaml:"store"`
	// Tracing says which spans are taken, where they are kept and for how long.
	Tracing tracing.Config `yaml:"tracing"`
	// Query bounds what one query may cost.
	Query query.Config `yaml:"query"`
	// SelfScrape says how often Weir stores its own metrics.
	SelfScrape SelfScrapeConfig `yaml:"self_scrape"`
}

// DefaultConfig is what `weir serve` runs on without a file.
func DefaultConfig() Config {
	return Config{
		Log:     DefaultLogConfig(),
		Server:  server.DefaultConfig(),
		Ingest:  ingest.DefaultConfig(),
		Store:   store.DefaultConfig(),
		Tracing: tracing.DefaultConfig(),
		Query:   query.DefaultConfig(),

		SelfScrape: DefaultSelfScrapeConfig(),
	}
}

// Validate adds the faults of every room.
func (c *Config) Validate(f *conf.Faults) {
	c.Log.Validate(f.At("log"))
	c.Server.Validate(f.At("server"))
	c.Ingest.Validate(f.At("ingest"))
	c.Store.Validate(f.At("store"))
	c.Tracing.Validate(f.At("tracing"))
	c.Query.Validate(f.At("query"))
	c.SelfScrape.Validate(f.At("self_scrape"))
}

// loadConfig returns the defaults, changed by the file at path unless path is "".
func loadConfig(path string) (Config, error) {
	cfg := DefaultConfig()
	if path == "" {
		return cfg, nil
	}
	err := conf.Load(path, &cfg)
	return cfg, err
}

// LogConfig says what is logged, and how, on standard error.
type LogConfig struct {
	// Level is the least severe kind of line that is logged: debug, info, warn or
	// error. Restart.
	Level string `yaml:"level"`
	// Format of a line: logfmt or json. Restart.
	Format string `yaml:"format"`
}

// DefaultLogConfig logs what an operator wants to see of a healthy server.
func DefaultLogConfig() LogConfig { return LogConfig{Level: "info", Format: "logfmt"} }

// Validate refuses levels and formats there are not.
func (c *LogConfig) Validate(f *conf.Faults) {
	switch c.Level {
	case "debug", "info", "warn", "error":
	default:
		f.Add("level", c.Level, "debug, info, warn or error")
	}
	switch c.Format {
	case "logfmt", "json":
	default:
		f.Add("format", c.Format, "logfmt or json")
	}
}

func (c *LogConfig) level() (l slog.Level) {
	_ = l.UnmarshalText([]byte(c.Level)) // Validate has let only names through that slog knows
	return l
}
