package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/weir-dev/weir/bench/measure"
)

const (
	// serverCore and loadCore keep the server and the load program off each
	// other's CPU. Core 0 also takes the interrupts; every server has the same.
	serverCore = 0
	loadCore   = 1
	// settle is the pause between warm-up and window; its CPU is counted to the
	// new series that caused it. 2 s is one garbage collection at 1M series.
	settle = 2 * time.Second
	// background is how long after the window the server's CPU is watched:
	// VictoriaMetrics writes its in-memory rows every 5 s.
	background = 5 * time.Second
)

// result is what one run of one server measured.
type result struct {
	Scenario scenario
	Server   kind
	Pair     int
	Load     string // 1-minute load average before the run
	Fault    string // empty when every sample was accepted and found again

	NewCPU  time.Duration // of the warm-up and the pause after it
	NewWall time.Duration // of the warm-up
	CPU     time.Duration // of the window
	TailCPU time.Duration // of the background work after it
	Wall    time.Duration // of the window
	RSS     int64         // peak bytes, warm-up included
	P50     time.Duration
	P99     time.Duration
	Disk    int64    // bytes below the data directory, disk scenarios only
	Compact int64    // bytes of the same samples compacted, disk scenarios only
	Argv    []string // the server's command line
}

func (r *result) perMillion(d time.Duration) float64 {
	return d.Seconds() / float64(r.Scenario.windowSamples()) * 1e6
}

func (r *result) newPerMillion() float64 {
	return r.NewCPU.Seconds() / float64(r.Scenario.warmSamples()) * 1e6
}

func (r *result) samplesPerSecond() float64 {
	return float64(r.Scenario.windowSamples()) / r.Wall.Seconds()
}

func (r *result) totalSamples() int { return r.Scenario.warmSamples() + r.Scenario.windowSamples() }

// bench runs scenarios against contestants.
type bench struct {
	contestants []contestant
	dir         string // for data directories
	seed        uint64
	pairs       int
	log         *slog.Logger
}

// load is the encoded plan of one pair of runs.
type load struct {
	plan         *plan
	warm, window [][]body
	raw, wire    float64 // bytes a sample of the window, before and after compression
}

// runScenario runs every contestant once a pair, in turn, and hands each result
// to emit. Faults of a server are results; an error ends the benchmark.
func (b *bench) runScenario(ctx context.Context, sc scenario, emit func(result, *load) error) error {
	for pair := range b.pairs {
		ld, err := b.encode(sc)
		if err != nil {
			return err
		}
		for _, c := range b.contestants {
			if c.kind == victoriametrics && sc.Proto == rw2 {
				continue
			}
			r, err := b.runOnce(ctx, c, ld)
			if err != nil {
				return fmt.Errorf("run %s on %s: %w", c.kind, sc, err)
			}
			r.Pair = pair
			if err := emit(r, ld); err != nil {
				return err
			}
		}
		debug.FreeOSMemory() // the next pair's bodies replace these
	}
	return nil
}

func (b *bench) encode(sc scenario) (*load, error) {
	ld := &load{plan: newPlan(sc, b.seed, time.Now())}
	enc := &encoder{plan: ld.plan}
	var err error
	if ld.warm, err = enc.encodeAll(ld.plan.warm); err != nil {
		return nil, err
	}
	enc.raw = 0
	if ld.window, err = enc.encodeAll(ld.plan.window); err != nil {
		return nil, err
	}
	var wire int
	for _, lane := range ld.window {
		for _, b := range lane {
			wire += len(b.data)
		}
	}
	ld.raw = float64(enc.raw) / float64(sc.windowSamples())
	ld.wire = float64(wire) / float64(sc.windowSamples())
	return ld, nil
}

// runOnce takes one server from an empty directory to its figures.
func (b *bench) runOnce(ctx context.Context, c contestant, ld *load) (r result, err error) {
	dir, err := os.MkdirTemp(b.dir, "weir-bench-"+string(c.kind)+"-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r = result{Scenario: ld.plan.scenario, Server: c.kind, Load: measure.LoadAverage()}
	s, err := startServer(ctx, c, dir, serverCore)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	r.Argv = s.Argv
	if err := play(ctx, s, ld, &r); err != nil {
		return r, fmt.Errorf("%w; the server's log ends: %s", err, s.LogTail())
	}
	if r.Fault == "" {
		if err := flush(ctx, s); err != nil {
			return r, err
		}
		if err := verify(ctx, s.base, ld.plan); err != nil {
			r.Fault = "verification: " + err.Error()
		}
	}
	if r.Scenario.Disk && r.Fault == "" {
		if r.Disk, r.Compact, err = sizes(ctx, s); err != nil {
			r.Fault = "sizes on disk: " + err.Error()
		}
	}
	b.log.Info("run done", "server", c.kind, "scenario", r.Scenario, "cpu_s_per_msample", fmt.Sprintf("%.3f", r.perMillion(r.CPU)),
		"new_cpu_s_per_mseries", fmt.Sprintf("%.2f", r.newPerMillion()), "rss_mib", r.RSS>>20, "fault", r.Fault)
	return r, ctx.Err()
}

// play sends warm-up and window and reads the server's CPU around each.
func play(ctx context.Context, s *server, ld *load, r *result) error {
	var marks [4]time.Duration // CPU before warm-up, before, after the window, after the background
	mark := func(i int) (err error) { marks[i], err = measure.CPUTime(s.Pid()); return err }
	proto := ld.plan.scenario.Proto
	if err := mark(0); err != nil {
		return err
	}
	warm := send(ctx, s.write[proto], proto, ld.warm)
	if err := pause(ctx, settle); err != nil {
		return err
	}
	if err := mark(1); err != nil {
		return err
	}
	window := send(ctx, s.write[proto], proto, ld.window)
	if err := mark(2); err != nil {
		return err
	}
	if err := pause(ctx, background); err != nil {
		return err
	}
	if err := mark(3); err != nil {
		return err
	}
	r.NewCPU, r.CPU, r.TailCPU = marks[1]-marks[0], marks[2]-marks[1], marks[3]-marks[2]
	r.NewWall, r.Wall = warm.wall, window.wall
	r.P50, r.P99 = percentile(window.latencies, 50), percentile(window.latencies, 99)
	r.Fault = refusals(proto, warm, window)
	var err error
	r.RSS, err = measure.PeakRSS(s.Pid())
	return err
}

// pause waits for d, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// refusals says what the server did not take, or nothing.
func refusals(proto protocol, phases ...outcome) string {
	for i, o := range phases {
		name := [...]string{"warm-up", "window"}[i]
		if o.refused > 0 {
			return fmt.Sprintf("%s: %d of %d requests refused, first: %s", name, o.refused, o.requests, o.fault)
		}
		if proto == rw2 && o.written != o.samples {
			return fmt.Sprintf("%s: server says it wrote %d samples, want %d", name, o.written, o.samples)
		}
	}
	return ""
}

// flush makes what VictoriaMetrics still holds in its buffers visible to
// queries; the others answer from memory.
func flush(ctx context.Context, s *server) error {
	if s.kind != victoriametrics {
		return nil
	}
	_, err := measure.GetStatus(ctx, s.base+"/internal/force_flush")
	return err
}

// sizes returns the bytes below the data directory and the bytes of the same
// samples in compacted form. That is a snapshot with the head for a TSDB, which
// also has its log and head chunks. VictoriaMetrics, which has no log, still
// holds most in memory and is measured after a forced merge for both.
func sizes(ctx context.Context, s *server) (all, compacted int64, err error) {
	if s.kind == victoriametrics {
		ctx, cancel := context.WithTimeout(ctx, queryTimeout)
		defer cancel()
		if err := measure.MergeAll(ctx, s.base); err != nil {
			return 0, 0, err
		}
		all, err = measure.DiskUsage(s.dataDir)
		return all, all, err
	}
	if all, err = measure.DiskUsage(s.dataDir); err != nil {
		return 0, 0, err
	}
	name, err := snapshot(ctx, s.base)
	if err != nil {
		return 0, 0, err
	}
	dir, err := findDir(s.dataDir, name)
	if err != nil {
		return 0, 0, err
	}
	compacted, err = measure.DiskUsage(dir)
	return all, compacted, err
}

func findDir(root, name string) (string, error) {
	for _, pattern := range []string{"snapshots", "*/snapshots"} {
		found, err := filepath.Glob(filepath.Join(root, pattern, name))
		if err != nil || len(found) > 0 {
			return strings.Join(found, ""), err
		}
	}
	return "", fmt.Errorf("find snapshot %s below %s: not there", name, root)
}
