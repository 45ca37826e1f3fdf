package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/weir-dev/weir/bench/measure"
	"github.com/weir-dev/weir/bench/tiers"
)

func main() { measure.Main("rollup", run) }

// options are the command line.
type options struct {
	measure.Flags
	pairs int
}

func parseFlags(args []string) (options, error) {
	var o options
	fl := flag.NewFlagSet("rollup", flag.ContinueOnError)
	o.Define(fl, "where outputs are made and removed, on the file system of -data; beside it if empty")
	fl.IntVar(&o.pairs, "n", 3, "pairs: how often each program runs, in turn")
	if err := o.Parse(fl, args); err != nil {
		return o, err
	}
	if o.Weir+o.Thanos == "" {
		return o, errors.New("no program to measure: give -weir or -thanos a binary")
	}
	if o.Dir == "" {
		o.Dir = filepath.Dir(filepath.Clean(o.Data))
	}
	return o, o.Absolute()
}

func run(ctx context.Context, args []string) error {
	o, err := parseFlags(args)
	if err != nil {
		return err
	}
	spec, raw, err := tiers.OpenSet(o.Data)
	if err != nil {
		return err
	}
	if err := measure.PinSelf(loadCore); err != nil {
		return err
	}
	rep := &report{spec: spec, raw: tiers.Sum(raw), started: time.Now(), command: "go run ./bench/rollup " + measure.Anonymous(args)}
	programs := o.programs()
	for _, p := range programs {
		rep.versions = append(rep.versions, p.name+": "+measure.Version(p.binary, p.versionArg))
	}
	for pair := range o.pairs {
		for _, p := range programs {
			r, err := runOnce(ctx, p, o.Dir, raw)
			if err != nil {
				return fmt.Errorf("run %s: %w", p.name, err)
			}
			r.pair = pair
			fmt.Fprintln(os.Stderr, r.line(spec))
			rep.results = append(rep.results, r)
			if err := measure.Save(o.Out, rep.render); err != nil {
				return err
			}
		}
	}
	if o.Out == "" {
		rep.render(os.Stdout)
	}
	return nil
}

func (o *options) programs() []program {
	var out []program
	if o.Weir != "" {
		out = append(out, program{name: "weir", binary: o.Weir, versionArg: "version", roll: rollWeir})
	}
	if o.Thanos != "" {
		out = append(out, program{name: "thanos", binary: o.Thanos, versionArg: "--version", roll: rollThanos})
	}
	return out
}
