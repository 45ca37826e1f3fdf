package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
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
		fmt.Fprintln(os.Stderr, "ranges:", err)
		os.Exit(1)
	}
}

// options are the command line.
type options struct {
	data, dir, set, out                       string
	weir, prometheus, victoriametrics, thanos string
	runs                                      int
	raw                                       bool
}

func parseFlags(args []string) (options, error) {
	var o options
	fl := flag.NewFlagSet("ranges", flag.ContinueOnError)
	fl.StringVar(&o.data, "data", "", "data set written by bench/blocks")
	fl.StringVar(&o.set, "set", "seven", "queries: "+setNames())
	fl.StringVar(&o.weir, "weir", "", "weir binary; left out if empty")
	fl.StringVar(&o.prometheus, "prometheus", "", "prometheus binary, whose answers the others' are compared with; left out if empty")
	fl.StringVar(&o.victoriametrics, "victoriametrics", "", "VictoriaMetrics binary; left out if empty")
	fl.StringVar(&o.thanos, "thanos", "", "thanos binary, built with -tags slicelabels; left out if empty")
	fl.BoolVar(&o.raw, "raw", false, "ask Weir and Thanos also for raw data; -set dashboard does so in any case")
	fl.IntVar(&o.runs, "n", 5, "how often each query is asked of each server, in turn; the first is cold")
	fl.StringVar(&o.dir, "dir", "", "where servers keep their data, on the file system of -data; beside it if empty. Kept, for VictoriaMetrics' takes minutes to fill")
	fl.StringVar(&o.out, "o", "", "file for the results, standard output if empty")
	if err := fl.Parse(args); err != nil {
		return o, err
	}
	switch {
	case fl.NArg() > 0:
		return o, fmt.Errorf("argument %q: want flags only", fl.Arg(0))
	case o.data == "":
		return o, errors.New("-data: got nothing, want a directory written by bench/blocks")
	case o.weir+o.prometheus+o.victoriametrics+o.thanos == "":
		return o, errors.New("no server to measure: give -weir, -prometheus, -victoriametrics or -thanos a binary")
	}
	o.raw = o.raw || o.set == "dashboard"
	return o, o.absolute()
}

// absolute makes paths hold in any directory, since servers run in their own.
func (o *options) absolute() error {
	if o.dir == "" {
		o.dir = filepath.Clean(o.data) + "-servers"
	}
	if err := os.MkdirAll(o.dir, 0o777); err != nil {
		return err
	}
	for _, p := range []*string{&o.data, &o.dir, &o.weir, &o.prometheus, &o.victoriametrics, &o.thanos} {
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

func run(ctx context.Context, args []string) (err error) {
	o, err := parseFlags(args)
	if err != nil {
		return err
	}
	queries, err := querySet(o.set)
	if err != nil {
		return err
	}
	spec, dirs, err := dataset.Open(o.data)
	if err != nil {
		return err
	}
	raw := make([]tiers.Block, len(dirs))
	for i, d := range dirs {
		if raw[i], err = tiers.Read(d); err != nil {
			return err
		}
	}
	if err := measure.PinSelf(loadCore); err != nil {
		return err
	}
	rep := &report{spec: spec, started: time.Now(), command: "go run ./bench/ranges " + measure.Anonymous(args), versions: o.versions()}
	servers, err := o.start(ctx, spec, raw)
	defer func() {
		for _, s := range servers {
			err = errors.Join(err, s.stop())
		}
	}()
	if err != nil {
		return err
	}
	if err := askAll(ctx, &o, rep, contestants(servers, o.raw), queries); err != nil {
		return err
	}
	if err := rep.addServers(servers); err != nil {
		return err
	}
	if o.out == "" {
		rep.render(os.Stdout)
		return nil
	}
	return rep.write(o.out)
}

// start starts the servers one after the other and waits until all are calm. It
// returns those that run even when one does not.
func (o *options) start(ctx context.Context, spec dataset.Spec, raw []tiers.Block) ([]*server, error) {
	var out []*server
	for _, c := range []struct {
		name, binary string
		start        func() (*server, error)
	}{
		{"prometheus", o.prometheus, func() (*server, error) { return startPrometheus(ctx, o.prometheus, o.dir, raw) }},
		{"victoriametrics", o.victoriametrics, func() (*server, error) { return startVictoriaMetrics(ctx, o.victoriametrics, o.dir, spec, raw) }},
		{"weir", o.weir, func() (*server, error) { return startWeir(ctx, o.weir, o.dir, raw) }},
		{"thanos", o.thanos, func() (*server, error) { return startThanos(ctx, o.thanos, o.dir, raw) }},
	} {
		if c.binary == "" {
			continue
		}
		began := time.Now()
		s, err := c.start()
		if err != nil {
			return out, fmt.Errorf("start %s: %w", c.name, err)
		}
		out = append(out, s)
		if err := s.awaitCalm(ctx); err != nil {
			return out, err
		}
		s.setup = time.Since(began)
		fmt.Fprintf(os.Stderr, "%s has the data after %.0f s\n", s.name, s.setup.Seconds())
	}
	return out, nil
}

func (o *options) versions() []string {
	var out []string
	for _, b := range []struct{ name, binary, arg string }{
		{"weir", o.weir, "version"},
		{"prometheus", o.prometheus, "--version"},
		{"victoriametrics", o.victoriametrics, "-version"},
		{"thanos", o.thanos, "--version"},
	} {
		if b.binary != "" {
			out = append(out, b.name+": "+measure.Version(b.binary, b.arg))
		}
	}
	return out
}

// contestants are the ways to ask the servers: plainly, and where a server can
// answer from more than one resolution, also with Thanos' parameter.
func contestants(servers []*server, raw bool) []*contestant {
	var out []*contestant
	add := func(s *server, name string, args ...string) {
		v := url.Values{}
		for i := 0; i < len(args); i += 2 {
			v.Set(args[i], args[i+1])
		}
		out = append(out, &contestant{name: name, server: s, args: v})
	}
	for _, s := range servers {
		switch s.name {
		case "victoriametrics":
			add(s, s.name, "nocache", "1")
		case "weir":
			add(s, s.name)
			if raw {
				add(s, "weir raw", "max_source_resolution", "0s")
			}
		case "thanos":
			for _, res := range []string{"5m", "1h"} {
				add(s, "thanos "+res, "max_source_resolution", res, "partial_response", "false")
			}
			if raw {
				add(s, "thanos raw", "max_source_resolution", "0s", "partial_response", "false")
			}
		default:
			add(s, s.name)
		}
	}
	return out
}

// askAll asks every query of every contestant in turn, and at last once more for
// the statistics, which cost time of their own.
func askAll(ctx context.Context, o *options, rep *report, cs []*contestant, queries []query) error {
	start, end := rep.spec.Start(), rep.spec.End()
	for _, q := range queries {
		for n := range o.runs {
			for _, c := range cs {
				s, a, err := c.ask(ctx, q, start, end)
				if err != nil {
					return err
				}
				rep.add(q, c.name, s, a)
				fmt.Fprintf(os.Stderr, "%s, run %d, %s: %.3f CPU-s, %d series\n", q.name, n+1, c.name, s.cpu.Seconds(), len(a.series))
			}
		}
		for _, c := range cs {
			_, a, err := c.ask(ctx, q, start, end, "stats", "all")
			if err != nil {
				return err
			}
			rep.addStats(q, c.name, a)
		}
		if o.out != "" {
			if err := rep.write(o.out); err != nil { // a long run that is cut short leaves what it has
				return err
			}
		}
	}
	return nil
}
