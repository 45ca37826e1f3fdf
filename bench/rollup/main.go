package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/weir-dev/weir/bench/dataset"
	"github.com/weir-dev/weir/bench/measure"
	"github.com/weir-dev/weir/bench/tiers"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "rollup:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	data, dir, out string
	weir, thanos   string
	pairs          int
}

func parseFlags(args []string) (options, error) {
	var o options
	fl := flag.NewFlagSet("rollup", flag.ContinueOnError)
	fl.StringVar(&o.data, "data", "", "data set written by bench/blocks")
	fl.StringVar(&o.weir, "weir", "", "weir binary; left out if empty")
	fl.StringVar(&o.thanos, "thanos", "", "thanos binary, built with -tags slicelabels; left out if empty")
	fl.IntVar(&o.pairs, "n", 3, "pairs: how often each program runs, in turn")
	fl.StringVar(&o.dir, "dir", "", "where outputs are made and removed, on the file system of -data; beside it if empty")
	fl.StringVar(&o.out, "o", "", "file for the results, standard output if empty")
	if err := fl.Parse(args); err != nil {
		return o, err
	}
	switch {
	case fl.NArg() > 0:
		return o, fmt.Errorf("argument %q: want flags only", fl.Arg(0))
	case o.data == "":
		return o, errors.New("-data: got nothing, want a directory written by bench/blocks")
	case o.weir == "" && o.thanos == "":
		return o, errors.New("no program to measure: give -weir or -thanos a binary")
	}
	return o, o.absolute()
}

// absolute makes paths hold in any directory, since programs run in their own.
func (o *options) absolute() error {
	if o.dir == "" {
		o.dir = filepath.Dir(filepath.Clean(o.data))
	}
	for _, p := range []*string{&o.data, &o.dir, &o.weir, &o.thanos} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		if _, err := os.Stat(abs); err != nil {
			return err
		}
		*p = abs
	}
	return nil
}

func run(ctx context.Context, args []string) error {
	o, err := parseFlags(args)
	if err != nil {
		return err
	}
	spec, blocks, err := dataset.Open(o.data)
	if err != nil {
		return err
	}
	if err := measure.PinSelf(loadCore); err != nil {
		return err
	}
	rep := &report{spec: spec, started: time.Now(), command: "go run ./bench/rollup " + measure.Anonymous(args)}
	raw := make([]tiers.Block, len(blocks))
	for i, dir := range blocks {
		if raw[i], err = tiers.Read(dir); err != nil {
			return err
		}
		rep.raw = rep.raw.Add(raw[i].Size)
	}
	programs := o.programs()
	for _, p := range programs {
		rep.versions = append(rep.versions, p.name+": "+measure.Version(p.binary, p.versionArg))
	}
	for pair := range o.pairs {
		for _, p := range programs {
			r, err := runOnce(ctx, p, o.dir, raw)
			if err != nil {
				return fmt.Errorf("run %s: %w", p.name, err)
			}
			r.pair = pair
			fmt.Fprintln(os.Stderr, r.line(spec))
			rep.results = append(rep.results, r)
			if err := rep.write(o.out); err != nil {
				return err
			}
		}
	}
	if o.out == "" {
		rep.render(os.Stdout)
	}
	return nil
}

func (o *options) programs() []program {
	var out []program
	if o.weir != "" {
		out = append(out, program{name: "weir", binary: o.weir, versionArg: "version", roll: rollWeir})
	}
	if o.thanos != "" {
		out = append(out, program{name: "thanos", binary: o.thanos, versionArg: "--version", roll: rollThanos})
	}
	return out
}
