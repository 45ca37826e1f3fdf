package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weir-dev/weir/bench/measure"
	"github.com/weir-dev/weir/bench/shop"
)

const (
	// serverCore and loadCore keep the server and the load program off each other's
	// CPU, as in bench.
	serverCore = 0
	loadCore   = 1
	// warmBodies is what each connection sends before the window: services,
	// operations and series are then known, and connections are open.
	warmBodies = 10
	// probes is how many traces are looked up after the window: all ten spans of each
	// have to be there.
	probes = 100
)

// waits are the times in which nothing is sent, or something goes on beside.
type waits struct {
	settle     time.Duration // between warm-up and window
	background time.Duration // after the window, when the server's CPU is watched
	settled    time.Duration // how old a trace is before it is asked for
	profiled   time.Duration // how much of the window a CPU profile is of
}

// usualWaits: Jaeger is idle, and shows what it has acknowledged, after less than
// ten seconds.
var usualWaits = waits{settle: 2 * time.Second, background: 10 * time.Second, settled: 10 * time.Second, profiled: 10 * time.Second}

// result is what one run of one server measured. A time that could not be known is 0.
type result struct {
	Scenario scenario
	Server   kind
	Pair     int
	Load     string // 1-minute load average before the run
	Fault    string // empty when every span was accepted and every trace found again
	AskFault string // empty when every question was answered and every span taken meanwhile
	Argv     []string

	Spans     int           // of the window
	All       int           // of the whole run
	Bytes     int           // on the wire, of the window
	CPU       time.Duration // of the window
	TailCPU   time.Duration // of the background work after it
	Wall      time.Duration // of the window
	RSS       int64         // peak bytes until the end of the background work
	P50, P99  time.Duration // of the answers in the window
	Disk      int64         // bytes below the data directory then
	DiskFinal int64         // the same after all, the server ended

	AskRate float64           // spans a second that came in while it was asked
	AskCPU  time.Duration     // of a million of them, questions included
	AskRSS  int64             // peak bytes at the end of it
	Asked   map[string]*asked // by name of the question
}

func (r *result) perMillion(d time.Duration) float64 { return d.Seconds() / float64(r.Spans) * 1e6 }

// spansPerCoreSecond is how many one core takes: its CPU, not the clock, so that what
// a busy machine takes away does not count.
func (r *result) spansPerCoreSecond() float64 { return float64(r.Spans) / r.CPU.Seconds() }

// bench runs scenarios against contestants.
type bench struct {
	contestants []contestant
	dir         string // for data directories
	profiles    string // folder for CPU profiles; "" for none
	seed        uint64
	pairs       int
	waits       waits
	log         *slog.Logger
}

// runScenario runs every contestant once a pair, in turn, and hands each result to
// emit. Faults of a server are results; an error ends the benchmark.
func (b *bench) runScenario(ctx context.Context, sc scenario, emit func(result) error) error {
	sh, err := shop.New(sc.spec(b.seed))
	if err != nil {
		return err
	}
	for pair := range b.pairs {
		for _, c := range b.contestants {
			r, err := b.runOnce(ctx, c, sc, sh, pair)
			if err != nil {
				return fmt.Errorf("run %s on %s: %w", c.kind, sc, err)
			}
			if err := emit(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// runOnce takes one server from an empty directory to its figures.
func (b *bench) runOnce(ctx context.Context, c contestant, sc scenario, sh *shop.Shop, pair int) (r result, err error) {
	dir, err := os.MkdirTemp(b.dir, "weir-traces-"+string(c.kind)+"-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	r = result{Scenario: sc, Server: c.kind, Pair: pair, Load: measure.LoadAverage()}
	s, err := c.open(ctx, sc, dir, serverCore)
	if err != nil {
		return r, err
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, s.stop())
		}
	}()
	r.Argv = s.argv
	if err := b.play(ctx, s, sh, &r); err != nil {
		return r, fmt.Errorf("%w; the server's log ends: %s", err, s.logTail())
	}
	stopped = true
	if err := s.stop(); err != nil {
		return r, err
	}
	r.DiskFinal, err = s.disk()
	b.log.Info("run done", "server", c.kind, "scenario", sc, "spans_per_core_second", int(r.spansPerCoreSecond()),
		"cpu_s_per_mspan", fmt.Sprintf("%.2f", r.perMillion(r.CPU)), "rss_mib", r.RSS>>20, "fault", r.Fault+r.AskFault)
	return r, errors.Join(err, ctx.Err())
}

// play sends warm-up and window, looks the traces up, and asks while more come in.
func (b *bench) play(ctx context.Context, s *server, sh *shop.Shop, r *result) (err error) {
	f, err := newFleet(s, r.Scenario, sh, newMemory(b.seed, b.waits.settled))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	watched, cancel := context.WithCancel(ctx)
	defer cancel()
	go s.watch(watched)
	begun := time.Now().Add(-r.Scenario.Over)
	if err := b.fill(ctx, f, s, begun, r); err != nil || r.Fault != "" {
		return err
	}
	a := newAsker(s, f.memory, b.seed, begun.Add(-time.Minute))
	defer a.close()
	for range probes {
		if err := a.traceByID(ctx); err != nil {
			r.Fault = "after the window: " + err.Error()
			return ctx.Err()
		}
	}
	if r.Scenario.Ask == 0 {
		return nil
	}
	a.asked = map[string]*asked{} // those looked up were for the verification
	return ask(ctx, f, a, r)
}

// fill sends warm-up and window and reads the server's CPU around them.
func (b *bench) fill(ctx context.Context, f *fleet, s *server, begun time.Time, r *result) error {
	sc := r.Scenario
	now := func(float64) time.Time { return time.Now() }
	past := func(part float64) time.Time {
		return begun.Add(time.Duration(part * float64(time.Since(begun))))
	}
	if sc.Over > 0 {
		now = past
	}
	warm := f.send(ctx, warmBodies*sc.Batch*sc.Conns, func(float64) time.Time { return now(0) })
	if err := pause(ctx, b.waits.settle); err != nil {
		return err
	}
	wait := b.profile(ctx, s, r)
	marks := [3]time.Duration{}
	var err error
	if marks[0], err = s.cpu(); err != nil {
		return err
	}
	window := f.send(ctx, sc.Spans, now)
	if marks[1], err = s.cpu(); err != nil {
		return err
	}
	if err := errors.Join(pause(ctx, b.waits.background), wait()); err != nil {
		return err
	}
	if marks[2], err = s.cpu(); err != nil {
		return err
	}
	r.Spans, r.All, r.Bytes, r.Wall = window.spans, warm.spans+window.spans, window.bytes, window.wall
	r.CPU, r.TailCPU = marks[1]-marks[0], marks[2]-marks[1]
	r.P50, r.P99 = percentile(window.latencies, 50), percentile(window.latencies, 99)
	if r.Fault = warm.refusal("warm-up"); r.Fault == "" {
		r.Fault = window.refusal("window")
	}
	if r.RSS, err = s.peak(); err != nil {
		return err
	}
	r.Disk, err = s.disk()
	return err
}

// ask asks for as long as the scenario says while spans come in at its rate.
func ask(ctx context.Context, f *fleet, a *asker, r *result) error {
	before, err := a.server.cpu()
	if err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, r.Scenario.Ask)
	defer cancel()
	flowed := make(chan outcome, 1)
	go func() {
		if r.Scenario.Rate == 0 {
			flowed <- outcome{}
			return
		}
		flowed <- f.flow(timed, r.Scenario.Rate)
	}()
	fault := a.all(timed)
	cancel()
	flow := <-flowed
	if a.server.overgrown.Load() {
		r.AskFault = fmt.Sprintf("killed when it held more than %d MiB", memoryLimit()>>20)
		return nil
	}
	after, err := a.server.cpu()
	if err != nil {
		return err
	}
	if r.AskFault = flow.refusal("while it was asked"); fault != nil {
		r.AskFault = "while spans came in: " + fault.Error()
	}
	r.All += flow.spans
	if flow.spans > 0 {
		r.AskRate = float64(flow.spans) / flow.wall.Seconds()
		r.AskCPU = time.Duration(float64(after-before) / float64(flow.spans) * 1e6)
	}
	r.Asked = a.results()
	r.AskRSS, err = a.server.peak()
	return err
}

// profile takes a CPU profile of the window if that is wanted and the server has any.
// What it returns waits for the profile to be there.
func (b *bench) profile(ctx context.Context, s *server, r *result) (wait func() error) {
	if b.profiles == "" || s.profiles == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet,
			fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", s.profiles, int(b.waits.profiled.Seconds())), nil)
		if err != nil {
			done <- err
			return
		}
		data, err := measure.Fetch(req)
		if err == nil {
			err = os.WriteFile(filepath.Join(b.profiles, fmt.Sprintf("%s-%s-%d.pprof", s.kind, r.Scenario.Proto, r.Pair+1)), data, 0o644)
		}
		done <- err
	}()
	return func() error { return <-done }
}

// watch kills a server that takes more than its part of the machine: a search of 2M
// spans by Jaeger with memory took 23 GiB. Servers attached to are let be.
func (s *server) watch(ctx context.Context) {
	for s.program != nil && pause(ctx, time.Second) == nil {
		if peak, err := s.peak(); err == nil && peak > memoryLimit() {
			s.overgrown.Store(true)
			_ = syscall.Kill(s.pid, syscall.SIGKILL) // gone already is as good
			return
		}
	}
}

// memoryLimit is half of what the machine has.
func memoryLimit() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return math.MaxInt64
	}
	return int64(info.Totalram) * int64(info.Unit) / 2
}

// cpu, peak and disk are 0 for a server attached to without its pid or directory.

func (s *server) cpu() (time.Duration, error) {
	if s.pid == 0 {
		return 0, nil
	}
	return measure.CPUTime(s.pid)
}

func (s *server) peak() (int64, error) {
	if s.pid == 0 {
		return 0, nil
	}
	return measure.PeakRSS(s.pid)
}

func (s *server) disk() (int64, error) {
	if s.dataDir == "" {
		return 0, nil
	}
	return measure.DiskUsage(s.dataDir)
}

func (s *server) logTail() string {
	if s.program == nil {
		return "(attached to: not ours to read)"
	}
	return s.program.LogTail()
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
