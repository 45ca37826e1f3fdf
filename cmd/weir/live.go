package main

import (
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/query"
)

// liveConfig is the configuration in force.
type liveConfig struct {
	file    string
	log     *slog.Logger
	started time.Time
	apply   func(Config) error // set before the first reload can come

	mu     sync.Mutex
	cfg    Config
	loaded time.Time
	ok     bool
}

func newLiveConfig(file string, cfg Config, log *slog.Logger) *liveConfig {
	now := time.Now()
	return &liveConfig{file: file, log: log, started: now, cfg: cfg, loaded: now, ok: true}
}

// reload reads the file again and takes over what can be reloaded. A file with
// faults changes nothing.
func (l *liveConfig) reload() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	next, err := loadConfig(l.file)
	if err == nil {
		err = l.apply(next)
	}
	if l.ok = err == nil; !l.ok {
		return err
	}
	l.cfg, l.loaded = next, time.Now()
	l.log.Info("configuration reloaded", "file", l.file)
	return nil
}

// yaml prints the configuration, secrets hidden.
func (l *liveConfig) yaml() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out, err := conf.Print(&l.cfg)
	if err != nil {
		return "# " + err.Error()
	}
	return string(out)
}

// retention is what /api/v1/status/runtimeinfo says of it: "15d or 100GiB".
func (l *liveConfig) retention() string {
	r := l.cfg.Store.Retention
	switch {
	case r.Time > 0 && r.Size > 0:
		return r.Time.String() + " or " + r.Size.String()
	case r.Size > 0:
		return r.Size.String()
	default:
		return r.Time.String()
	}
}

func (l *liveConfig) runtime() query.Runtime {
	l.mu.Lock()
	defer l.mu.Unlock()
	dir, _ := os.Getwd() // shown to people only; empty if the directory is gone
	return query.Runtime{
		Started: l.started, Reloaded: l.loaded, ReloadOK: l.ok,
		Retention: l.retention(), WorkingDir: dir,
	}
}
