package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/weir-dev/weir/bench/measure"
	"github.com/weir-dev/weir/bench/shop"
)

// report gathers results and writes them as text.
type report struct {
	command  string
	started  time.Time
	versions []string
	results  []result
}

// versionArgs is how each program is asked what it is.
var versionArgs = map[kind]string{weir: "version", jaegerBadger: "version", jaegerMemory: "version", tempoAll: "-version"}

func newReport(command string, cs []contestant) *report {
	r := &report{command: command, started: time.Now().UTC()}
	for _, c := range cs {
		if c.runs == nil {
			r.versions = append(r.versions, fmt.Sprintf("%s: %s", c.kind, measure.Version(c.binary, versionArgs[c.kind])))
		}
	}
	return r
}

func (rep *report) failed() int {
	n := 0
	for _, r := range rep.results {
		if r.Fault+r.AskFault != "" {
			n++
		}
	}
	return n
}

func (rep *report) render(w io.Writer) {
	rep.renderHead(w)
	for _, name := range measure.Distinct(rep.results, func(r result) string { return r.Scenario.String() }) {
		rs := rep.of(name)
		fmt.Fprintf(w, "\n## %s\n\n%.0f B a span on the wire.\n\n", name, float64(rs[0].Bytes)/float64(rs[0].Spans))
		renderRuns(w, rs)
		renderSummary(w, rs)
		renderAsked(w, rs)
	}
	fmt.Fprint(w, "\n## benchstat\n\nRead with: benchstat -col /server FILE\n\n")
	renderBenchstat(w, rep.results)
}

func (rep *report) renderHead(w io.Writer) {
	fmt.Fprintf(w, "# Cost of traces, measured %s\n\n", rep.started.Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(w, "machine: %s\ngo: %s\ncommand: %s\n", measure.Machine(), runtime.Version(), rep.command)
	for _, v := range rep.versions {
		fmt.Fprintln(w, v)
	}
	fmt.Fprintf(w, `
Server on core %d with GOMAXPROCS=1, load on core %d. A fresh data directory a run; %d bodies a
connection come first, the window %s later. CPU is user and system time of the server from
/proc; "tail" is the %s after the window; spans a core-second are spans by CPU seconds, spans
a second are by the clock; peak RSS is VmHWM until the end of the tail. Disk is what the files
take then, and once the server has been asked and has ended. After the tail %d traces are
looked up: a run that refused a span, or has not all ten of a trace, is FAILED and in no median.
One connection asks, one question after the other, while spans come in; "asked CPU" has both.
With over=24h spans began over 24 hours, evenly, but arrive as fast as they are taken.
`, serverCore, loadCore, warmBodies, usualWaits.settle, usualWaits.background, probes)
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
	asked         bool   // only of scenarios that ask
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

func mib(n int64) float64 { return float64(n) / (1 << 20) }

var figures = []figure{
	{title: "spans/core-s", format: "%.0f", of: (*result).spansPerCoreSecond, unit: "spans/core-s", higher: true},
	{title: "CPU-s/Mspan", format: "%.2f", of: func(r *result) float64 { return r.perMillion(r.CPU) }, unit: "cpu-s/Mspan"},
	{title: "with tail", format: "%.2f", of: func(r *result) float64 { return r.perMillion(r.CPU + r.TailCPU) }, unit: "cpu-s-with-tail/Mspan"},
	{title: "spans/s", format: "%.0f", of: func(r *result) float64 { return float64(r.Spans) / r.Wall.Seconds() }, unit: "spans/s", higher: true},
	{title: "peak RSS MiB", format: "%.0f", of: func(r *result) float64 { return mib(r.RSS) }, unit: "peak-MiB"},
	{title: "p50 ms", format: "%.2f", of: func(r *result) float64 { return ms(r.P50) }, unit: "p50-ms"},
	{title: "p99 ms", format: "%.2f", of: func(r *result) float64 { return ms(r.P99) }, unit: "p99-ms"},
	{title: "disk B/span", format: "%.0f", of: func(r *result) float64 { return float64(r.Disk) / float64(r.All) }, unit: "disk-B/span"},
	{title: "ended B/span", format: "%.0f", of: func(r *result) float64 { return float64(r.DiskFinal) / float64(r.All) }, unit: "ended-B/span"},
	{title: "asked at spans/s", format: "%.0f", of: func(r *result) float64 { return r.AskRate }, unit: "asked-spans/s", higher: true, asked: true},
	{title: "asked CPU-s/Mspan", format: "%.2f", of: func(r *result) float64 { return r.AskCPU.Seconds() }, unit: "asked-cpu-s/Mspan", asked: true},
	{title: "asked RSS MiB", format: "%.0f", of: func(r *result) float64 { return mib(r.AskRSS) }, unit: "asked-peak-MiB", asked: true},
}

func columns(sc scenario) []figure {
	var out []figure
	for _, f := range figures {
		if !f.asked || sc.Ask > 0 {
			out = append(out, f)
		}
	}
	return out
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
		if r.AskFault != "" {
			fmt.Fprint(tw, "ASKING FAILED: ", r.AskFault)
		}
		fmt.Fprintln(tw)
	}
}

// renderSummary writes a row a figure: the median of each server, with lowest and
// highest, then the first server's ratio to each other one, pair by pair.
func renderSummary(w io.Writer, rs []result) {
	fmt.Fprintln(w, "\nmedian (lowest to highest); ratios are of the runs of one pair:")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer func() { _ = tw.Flush() }() // w is memory or the terminal
	ks := measure.Distinct(rs, func(r result) kind { return r.Server })
	for _, k := range ks {
		fmt.Fprintf(tw, "\t%s, %d runs", k, len(sound(rs, k, false)))
	}
	for _, k := range ks[1:] {
		fmt.Fprintf(tw, "\t%s / %s", ks[0], k)
	}
	fmt.Fprintln(tw)
	for _, c := range columns(rs[0].Scenario) {
		fmt.Fprint(tw, c.title)
		for _, k := range ks {
			fmt.Fprint(tw, "\t", measure.Spread(c.format, values(sound(rs, k, c.asked), c.of)))
		}
		for _, k := range ks[1:] {
			fmt.Fprint(tw, "\t", measure.Spread("%.3f", ratios(sound(rs, ks[0], c.asked), sound(rs, k, c.asked), c.of)))
		}
		fmt.Fprintln(tw)
	}
}

// renderAsked writes a row a question: of each server the median of the runs' p50
// and p99, how often it was asked in all, and the traces that an answer had.
func renderAsked(w io.Writer, rs []result) {
	names := questionNames(rs)
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(w, "\nwhile %d spans a second come in, ms; p50 and p99 are medians of the runs:\n", rs[0].Scenario.Rate)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer func() { _ = tw.Flush() }() // w is memory or the terminal
	ks := measure.Distinct(rs, func(r result) kind { return r.Server })
	for _, k := range ks {
		fmt.Fprintf(tw, "\t%s p50\tp99\tasked\ttraces", k)
	}
	fmt.Fprintln(tw)
	for _, name := range names {
		fmt.Fprint(tw, name)
		for _, k := range ks {
			var p50, p99 []float64
			var asked, found int
			for _, r := range sound(rs, k, true) {
				if a := r.Asked[name]; a != nil {
					p50, p99 = append(p50, ms(percentile(a.times, 50))), append(p99, ms(percentile(a.times, 99)))
					asked, found = asked+len(a.times), found+a.found
				}
			}
			if asked == 0 {
				fmt.Fprint(tw, "\t-\t-\t0\t-")
				continue
			}
			slices.Sort(p50)
			slices.Sort(p99)
			fmt.Fprintf(tw, "\t%.2f\t%.2f\t%d\t%.1f", measure.Median(p50), measure.Median(p99), asked, float64(found)/float64(asked))
		}
		fmt.Fprintln(tw)
	}
}

// questionNames are those that any server was asked, in their usual order.
func questionNames(rs []result) []string {
	usual := []string{traceByID}
	for _, q := range questions(shop.Trace{Spans: make([]shop.Span, 3)}, time.Time{}, time.Time{}) {
		usual = append(usual, q.name)
	}
	var out []string
	for _, name := range append(usual, allSearches) {
		if slices.ContainsFunc(rs, func(r result) bool { return r.Asked[name] != nil }) {
			out = append(out, name)
		}
	}
	return out
}

// ratios divides the runs of one server by those of another in the same pair, sorted.
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
	measure.BenchstatHead(w, "bench/traces")
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
		fmt.Fprintf(w, "BenchmarkTraces/%s/server=%s %d", r.Scenario.benchName(), r.Server, r.Spans)
		for _, f := range columns(r.Scenario) {
			if !f.asked || r.AskFault == "" {
				fmt.Fprintf(w, " "+f.format+" %s", f.of(r), f.unit)
			}
		}
		if r.AskFault != "" {
			fmt.Fprintln(w)
			continue
		}
		for _, name := range []string{traceByID, allSearches} {
			if a := r.Asked[name]; a != nil {
				unit := map[string]string{traceByID: "trace", allSearches: "search"}[name]
				fmt.Fprintf(w, " %.3f %s-p50-ms %.3f %[2]s-p99-ms", ms(percentile(a.times, 50)), unit, ms(percentile(a.times, 99)))
			}
		}
		fmt.Fprintln(w)
	}
}

// sound are the runs of k that lost nothing, and if asked answered everything.
func sound(rs []result, k kind, asked bool) []result {
	var out []result
	for _, r := range rs {
		if r.Server == k && r.Fault == "" && (!asked || r.AskFault == "") {
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
