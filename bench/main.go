package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"

	"github.com/weir-dev/weir/bench/measure"
)

func main() { measure.Main("bench", run) }

// options are the command line.
type options struct {
	set, only, out, dir string
	scenarios           []string
	binaries            map[kind]*string
	pairs               int
	seed                uint64
}

var kinds = []kind{weir, weirNoRollups, prometheus, victoriametrics}

func parseFlags(args []string) (options, error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	o := options{binaries: map[kind]*string{}}
	fs.StringVar(&o.set, "set", "quick", "ready-made list of scenarios: smoke, quick, full or disk")
	fs.Func("scenario", "a scenario instead of -set, may be repeated: \"rw1 series=100k k=1 batch=2000 conns=4 rounds=40 churn=0.01 [disk]\"",
		func(s string) error { o.scenarios = append(o.scenarios, s); return nil })
	fs.StringVar(&o.only, "only", "", "regular expression a scenario must match")
	fs.IntVar(&o.pairs, "n", 5, "pairs: how often each server runs each scenario, in turn")
	fs.Uint64Var(&o.seed, "seed", 1, "seed of all series and values")
	fs.StringVar(&o.out, "o", "", "file for the results, standard output if empty")
	fs.StringVar(&o.dir, "dir", "", "where data directories are made and removed, the system's temporary directory if empty")
	for _, k := range kinds {
		o.binaries[k] = fs.String(string(k), "", string(k)+" binary; left out if empty")
	}
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("argument %q: want flags only", fs.Arg(0))
	}
	return o, nil
}

func (o *options) selectScenarios() ([]scenario, error) {
	lines := o.scenarios
	if len(lines) == 0 {
		lines = scenarioSets[o.set]
	}
	only, err := regexp.Compile(o.only)
	if err != nil {
		return nil, fmt.Errorf("-only: %w", err)
	}
	var out []scenario
	for _, line := range lines {
		sc, err := parseScenario(line)
		if err != nil {
			return nil, err
		}
		if only.MatchString(sc.String()) {
			out = append(out, sc)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("-set %q -only %q: no scenario, want a set of smoke, quick, full, disk", o.set, o.only)
	}
	return out, nil
}

func (o *options) contestants() ([]contestant, error) {
	var out []contestant
	for _, k := range kinds {
		path := *o.binaries[k]
		if path == "" {
			continue
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		if _, err := os.Stat(abs); err != nil {
			return nil, fmt.Errorf("-%s: %w", k, err)
		}
		out = append(out, contestant{kind: k, binary: abs})
	}
	if len(out) == 0 {
		return nil, errors.New("no server to measure: give -weir, -prometheus or -victoriametrics a binary")
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
	b := &bench{contestants: contestants, dir: o.dir, seed: o.seed, pairs: o.pairs, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	rep := newReport("go run ./bench "+measure.Anonymous(args), contestants)
	for _, sc := range scenarios {
		err := b.runScenario(ctx, sc, func(r result, ld *load) error {
			rep.add(r, ld)
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
