package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/weir-dev/weir/bench/dataset"
	"github.com/weir-dev/weir/bench/measure"
	"github.com/weir-dev/weir/bench/tiers"
)

func main() { measure.Main("ranges", run) }

// options are the command line.
type options struct {
	measure.Flags
	set                         string
	prometheus, victoriametrics string
	runs                        int
	raw                         bool
}

func parseFlags(args []string) (options, error) {
	var o options
	fl := flag.NewFlagSet("ranges", flag.ContinueOnError)
	o.Define(fl, "where servers keep their data, on the file system of -data; beside it if empty. Kept, for VictoriaMetrics' takes minutes to fill")
	fl.StringVar(&o.set, "set", "seven", "queries: "+setNames())
	fl.StringVar(&o.prometheus, "prometheus", "", "prometheus binary, whose answers the others' are compared with; left out if empty")
	fl.StringVar(&o.victoriametrics, "victoriametrics", "", "VictoriaMetrics binary; left out if empty")
	fl.BoolVar(&o.raw, "raw", false, "ask Weir and Thanos also for raw data; -set dashboard does so in any case")
	fl.IntVar(&o.runs, "n", 5, "how often each query is asked of each server, in turn; the first is cold")
	if err := o.Parse(fl, args); err != nil {
		return o, err
	}
	if o.Weir+o.prometheus+o.victoriametrics+o.Thanos == "" {
		return o, errors.New("no server to measure: give -weir, -prometheus, -victoriametrics or -thanos a binary")
	}
	o.raw = o.raw || o.set == "dashboard"
	if o.Dir == "" {
		o.Dir = filepath.Clean(o.Data) + "-servers"
	}
	if err := os.MkdirAll(o.Dir, 0o777); err != nil {
		return o, err
	}
	return o, o.Absolute(&o.prometheus, &o.victoriametrics)
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
	spec, raw, err := tiers.OpenSet(o.Data)
	if err != nil {
		return err
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
	if o.Out == "" {
		rep.render(os.Stdout)
	}
	return measure.Save(o.Out, rep.render)
}

// start starts the servers one after the other and waits until all are calm. It
// returns those that run even when one does not.
func (o *options) start(ctx context.Context, spec dataset.Spec, raw []tiers.Block) ([]*server, error) {
	var out []*server
	for _, c := range []struct {
		name, binary string
		start        func() (*server, error)
	}{
		{"prometheus", o.prometheus, func() (*server, error) { return startPrometheus(ctx, o.prometheus, o.Dir, raw) }},
		{"victoriametrics", o.victoriametrics, func() (*server, error) { return startVictoriaMetrics(ctx, o.victoriametrics, o.Dir, spec, raw) }},
		{"weir", o.Weir, func() (*server, error) { return startWeir(ctx, o.Weir, o.Dir, raw) }},
		{"thanos", o.Thanos, func() (*server, error) { return startThanos(ctx, o.Thanos, o.Dir, raw) }},
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
		{"weir", o.Weir, "version"},
		{"prometheus", o.prometheus, "--version"},
		{"victoriametrics", o.victoriametrics, "-version"},
		{"thanos", o.Thanos, "--version"},
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
		if err := measure.Save(o.Out, rep.render); err != nil {
			return err
		}
	}
	return nil
}
