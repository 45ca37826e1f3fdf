package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/weir-dev/weir/bench/measure"
)

// report gathers results and writes them as text: machine, commands, a table of
// all runs, medians and ratios a scenario, and lines for benchstat.
type report struct {
	command  string
	started  time.Time
	versions []string
	results  []result
	wire     map[string]string // scenario -> bytes a sample on the wire
}

// versionArgs is how each program is asked what it is.
var versionArgs = map[kind]string{weir: "version", prometheus: "--version", victoriametrics: "-version"}

func newReport(command string, cs []contestant) *report {
	r := &report{command: command, started: time.Now().UTC(), wire: map[string]string{}}
	for _, c := range cs {
		r.versions = append(r.versions, fmt.Sprintf("%s: %s", c.kind, measure.Version(c.binary, versionArgs[c.kind])))
	}
	return r
}

func (rep *report) add(r result, ld *load) {
	rep.results = append(rep.results, r)
	rep.wire[r.Scenario.String()] = fmt.Sprintf("%.0f B a sample before compression, %.1f on the wire", ld.raw, ld.wire)
}

func (rep *report) failed() int {
	n := 0
	for _, r := range rep.results {
		if r.Fault != "" {
			n++
		}
	}
	return n
}

func (rep *report) render(w io.Writer) {
	rep.renderHead(w)
	for _, name := range measure.Distinct(rep.results, func(r result) string { return r.Scenario.String() }) {
		rs := rep.of(name)
		fmt.Fprintf(w, "\n## %s\n\n%s.\n\n", name, rep.wire[name])
		renderRuns(w, rs)
		renderSummary(w, rs)
	}
	fmt.Fprint(w, "\n## benchstat\n\nRead with: benchstat -col /server FILE\n\n")
	renderBenchstat(w, rep.results)
}

func (rep *report) renderHead(w io.Writer) {
	fmt.Fprintf(w, "# Cost of writing, measured %s\n\n", rep.started.Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(w, "machine: %s\ngo: %s\ncommand: %s\n", measure.Machine(), runtime.Version(), rep.command)
	for _, v := range rep.versions {
		fmt.Fprintln(w, v)
	}
	fmt.Fprintf(w, `
Server on core %d with GOMAXPROCS=1, load on core %d. A fresh data directory a run; a warm-up
round creates the series (one sample each); the window follows after %s. CPU is user and
system time of the server from /proc; "tail" is the %s after the window; peak RSS is VmHWM,
warm-up included. A run that refused, lost or changed a sample is FAILED and in no median.
`, serverCore, loadCore, settle, background)
	seen := map[kind]bool{}
	for _, r := range rep.results {
		if !seen[r.Server] {
			seen[r.Server] = true
			fmt.Fprintf(w, "\n%s started as: GOMAXPROCS=1 %s\n", r.Server, measure.Anonymous(r.Argv))
		}
	}
}

func (rep *report) of(name string) []result {
	var out []result
	for _, r := range rep.results {
		if r.Scenario.String() == name {
			out = append(out, r)
		}
	}
	return out
}

// figure is one column: how a result gives it and how it is printed.
type figure struct {
	title, format string
	of            func(*result) float64
	unit          string // benchstat's
	higher        bool   // is better
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

var figures = []figure{
	{"CPU-s/Msample", "%.3f", func(r *result) float64 { return r.perMillion(r.CPU) }, "cpu-s/Msample", false},
	{"with tail", "%.3f", func(r *result) float64 { return r.perMillion(r.CPU + r.TailCPU) }, "cpu-s-with-tail/Msample", false},
	{"samples/s", "%.0f", (*result).samplesPerSecond, "samples/s", true},
	{"new CPU-s/Mseries", "%.2f", (*result).newPerMillion, "cpu-s/Mnewseries", false},
	{"new series/s", "%.0f", func(r *result) float64 { return float64(r.Scenario.warmSamples()) / r.NewWall.Seconds() }, "newseries/s", true},
	{"peak RSS MiB", "%.0f", func(r *result) float64 { return float64(r.RSS) / (1 << 20) }, "peak-MiB", false},
	{"p50 ms", "%.2f", func(r *result) float64 { return ms(r.P50) }, "p50-ms", false},
	{"p99 ms", "%.2f", func(r *result) float64 { return ms(r.P99) }, "p99-ms", false},
	{"disk B/sample", "%.2f", func(r *result) float64 { return float64(r.Disk) / float64(r.totalSamples()) }, "disk-B/sample", false},
	{"compacted B/sample", "%.2f", func(r *result) float64 { return float64(r.Compact) / float64(r.totalSamples()) }, "compacted-B/sample", false},
}

// columns are the figures that say something about sc: what a few samples a
// series cost on disk is mostly index and log, so it is left to disk scenarios.
func columns(sc scenario) []figure {
	if sc.Disk {
		return figures
	}
	return figures[:len(figures)-2]
}

func renderRuns(w io.Writer, rs []result) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer func() { _ = tw.Flush() }() // w is memory or the terminal
	cols := columns(rs[0].Scenario)
	fmt.Fprint(tw, "pair\tserver")
	for _, c := range cols {
		fmt.Fprint(tw, "\t", c.title)
	}
	fmt.Fprint(tw, "\tload\t\n")
	for i := range rs {
		r := &rs[i]
		fmt.Fprintf(tw, "%d\t%s", r.Pair+1, r.Server)
		for _, c := range cols {
			fmt.Fprintf(tw, "\t"+c.format, c.of(r))
		}
		fmt.Fprintf(tw, "\t%s\t", r.Load)
		if r.Fault != "" {
			fmt.Fprint(tw, "FAILED: ", r.Fault)
		}
		fmt.Fprintln(tw)
	}
}

// renderSummary writes a row a figure: the median of each server, with lowest
// and highest, then the first server's ratio to each other one, pair by pair.
func renderSummary(w io.Writer, rs []result) {
	fmt.Fprintln(w, "\nmedian (lowest to highest); ratios are of the runs of one pair:")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer func() { _ = tw.Flush() }() // w is memory or the terminal
	ks := measure.Distinct(rs, func(r result) kind { return r.Server })
	for _, k := range ks {
		fmt.Fprintf(tw, "\t%s, %d runs", k, len(sound(rs, k)))
	}
	for _, k := range ks[1:] {
		fmt.Fprintf(tw, "\t%s / %s", ks[0], k)
	}
	fmt.Fprintln(tw)
	for _, c := range columns(rs[0].Scenario) {
		fmt.Fprint(tw, c.title)
		for _, k := range ks {
			fmt.Fprint(tw, "\t", measure.Spread(c.format, values(sound(rs, k), c.of)))
		}
		for _, k := range ks[1:] {
			fmt.Fprint(tw, "\t", measure.Spread("%.3f", ratios(sound(rs, ks[0]), sound(rs, k), c.of)))
		}
		fmt.Fprintln(tw)
	}
}

// ratios divides the runs of one server by those of another in the same pair,
// sorted.
func ratios(as, bs []result, of func(*result) float64) []float64 {
	var v []float64
	for i := range as {
		for j := range bs {
			if as[i].Pair == bs[j].Pair && of(&bs[j]) != 0 {
				v = append(v, of(&as[i])/of(&bs[j]))
			}
		}
	}
	slices.Sort(v)
	return v
}

func renderBenchstat(w io.Writer, rs []result) {
	measure.BenchstatHead(w, "bench")
	for _, f := range figures {
		if f.higher {
			fmt.Fprintf(w, "Unit %s better=higher\n", f.unit)
		}
	}
	for i := range rs {
		r := &rs[i]
		if r.Fault != "" {
			continue
		}
		fmt.Fprintf(w, "BenchmarkWrite/%s/server=%s %d", r.Scenario.benchName(), r.Server, r.Scenario.windowSamples())
		for _, f := range columns(r.Scenario) {
			fmt.Fprintf(w, " "+f.format+" %s", f.of(r), f.unit)
		}
		fmt.Fprintln(w)
	}
}

// sound are the runs of k that lost nothing.
func sound(rs []result, k kind) []result {
	var out []result
	for _, r := range rs {
		if r.Server == k && r.Fault == "" {
			out = append(out, r)
		}
	}
	return out
}

func values(rs []result, of func(*result) float64) []float64 {
	var v []float64
	for i := range rs {
		v = append(v, of(&rs[i]))
	}
	slices.Sort(v)
	return v
}
