package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/weir-dev/weir/bench/measure"
)

func main() { measure.Main("traces", run) }

// options are the command line.
type options struct {
	scenarios           []string
	weir, jaeger, tempo string
	jaegerStores        string
	attached            []contestant
	out, dir, profiles  string
	fill, pairs         int
	seed                uint64
}

func parseFlags(args []string) (options, error) {
	var o options
	fl := flag.NewFlagSet("traces", flag.ContinueOnError)
	fl.StringVar(&o.weir, "weir", "", "weir binary; left out if empty")
	fl.StringVar(&o.jaeger, "jaeger", "", "jaeger binary, the command jaeger of v1.62 or a later one that still answers searches by HTTP API v1; left out if empty")
	fl.StringVar(&o.jaegerStores, "jaeger-config", "badger,memory", "stores that Jaeger is measured with, badger or memory, by commas")
	fl.StringVar(&o.tempo, "tempo", "", "tempo binary; left out if empty")
	fl.Func("attach", "a server that runs already, may be repeated: \"weir grpc=host:port http=http://host:port/v1/traces query=http://host:port [pid=n] [data=dir] [pprof=http://host:port]\"",
		func(s string) error {
			c, err := attach(s)
			o.attached = append(o.attached, c)
			return err
		})
	fl.Func("scenario", "what is sent and asked, may be repeated: \"grpc spans=1M batch=500 conns=4 rate=20k ask=30s [over=24h] [partition=64MiB] [split] [mesh]\"",
		func(s string) error { o.scenarios = append(o.scenarios, s); return nil })
	fl.IntVar(&o.fill, "fill", 0, "instead of scenarios: fill a store with that many spans which began over 24 hours, and ask for five minutes. They arrive now, not over 24 hours")
	fl.IntVar(&o.pairs, "n", 5, "pairs: how often each server runs each scenario, in turn")
	fl.Uint64Var(&o.seed, "seed", 1, "seed of all traces")
	fl.StringVar(&o.out, "o", "", "file for the results, standard output if empty")
	fl.StringVar(&o.dir, "dir", "", "where data directories are made and removed, the system's temporary directory if empty")
	fl.StringVar(&o.profiles, "profile", "", "folder for CPU profiles of Weir in the window; they cost some per cent themselves")
	if err := fl.Parse(args); err != nil {
		return o, err
	}
	if fl.NArg() > 0 {
		return o, fmt.Errorf("argument %q: want flags only", fl.Arg(0))
	}
	if o.dir == "" {
		o.dir = os.TempDir()
	}
	var err error
	o.dir, err = filepath.Abs(o.dir) // servers run in folders of their own
	return o, err
}

// fillPartition makes about as many partitions of a hundred million spans as 24 hours
// have, at 150 bytes a span.
const fillPartition = "640MiB"

// quick are the scenarios of a run that names none.
var quick = []string{
	"grpc spans=1M rate=20k ask=1m",
	"http spans=1M",
}

func (o *options) selectScenarios() ([]scenario, error) {
	if o.fill > 0 {
		s := defaultScenario()
		s.Spans, s.Over, s.Ask, s.Partition = o.fill, 24*time.Hour, 5*time.Minute, fillPartition
		return []scenario{s}, s.check()
	}
	lines := o.scenarios
	if len(lines) == 0 {
		lines = quick
	}
	var out []scenario
	for _, line := range lines {
		sc, err := parseScenario(line)
		if err != nil {
			return nil, err
		}
		out = append(out, sc)
	}
	return out, nil
}

func (o *options) contestants() ([]contestant, error) {
	all := []contestant{{kind: weir, binary: o.weir}}
	for store := range strings.SplitSeq(o.jaegerStores, ",") {
		all = append(all, contestant{kind: "jaeger-" + kind(store), binary: o.jaeger})
	}
	all = append(all, contestant{kind: tempoAll, binary: o.tempo})
	var out []contestant
	for _, c := range all {
		if c.binary == "" {
			continue
		}
		abs, err := filepath.Abs(c.binary)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(abs); err != nil {
			return nil, fmt.Errorf("%s: %w", c.kind, err)
		}
		c.binary = abs
		out = append(out, c)
	}
	if out = append(out, o.attached...); len(out) == 0 {
		return nil, errors.New("no server to measure: give -weir, -jaeger or -tempo a binary, or -attach to one")
	}
	return out, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parseFlags(args)
	if err != nil {
		return err
	}
	scenarios, err := o.selectScenarios()
	if err != nil {
		return err
	}
	contestants, err := o.contestants()
	if err != nil {
		return err
	}
	if runtime.NumCPU() < 2 {
		return errors.New("one CPU: want two or more, one for the server and one for the load")
	}
	if err := measure.PinSelf(loadCore); err != nil {
		return err
	}
	b := &bench{
		contestants: contestants, dir: o.dir, profiles: o.profiles, seed: o.seed, pairs: o.pairs, waits: usualWaits,
		log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	rep := newReport("go run ./bench/traces "+measure.Anonymous(args), contestants)
	for _, sc := range scenarios {
		err := b.runScenario(ctx, sc, func(r result) error {
			rep.results = append(rep.results, r)
			return measure.Save(o.out, rep.render)
		})
		if err != nil {
			return err
		}
	}
	if o.out == "" {
		rep.render(os.Stdout)
	}
	if n := rep.failed(); n > 0 {
		return fmt.Errorf("%d runs failed: see the faults in the report", n)
	}
	return nil
}
