package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/weir-dev/weir/bench/dataset"
	"github.com/weir-dev/weir/bench/measure"
)

// report is everything a results file says.
type report struct {
	command  string
	started  time.Time
	versions []string
	spec     dataset.Spec
	results  []*result
	servers  [][]string
}

// result is what one contestant made of one query.
type result struct {
	query   query
	name    string
	samples []sample
	answer  *answer // of the last run
	read    string  // samples, as the server says
}

// reference is whose answers the others' are compared with.
const reference = "prometheus"

func (rep *report) of(q query, name string) *result {
	for _, r := range rep.results {
		if r.query == q && r.name == name {
			return r
		}
	}
	r := &result{query: q, name: name, read: "-"}
	rep.results = append(rep.results, r)
	return r
}

func (rep *report) add(q query, name string, s sample, a *answer) {
	r := rep.of(q, name)
	r.samples = append(r.samples, s)
	r.answer = a
}

func (rep *report) addStats(q query, name string, a *answer) {
	if n, ok := a.samplesRead(); ok {
		rep.of(q, name).read = fmt.Sprintf("%.0f", n)
	}
}

func (rep *report) addServers(servers []*server) error {
	for _, s := range servers {
		rss, err := s.rss()
		if err != nil {
			return err
		}
		disk, err := measure.DiskUsage(s.dataDir)
		if err != nil {
			return err
		}
		rep.servers = append(rep.servers, []string{
			s.name, fmt.Sprint(rss >> 20), fmt.Sprint(disk >> 20), fmt.Sprintf("%.0f", s.setup.Seconds()),
		})
	}
	return nil
}

func (rep *report) render(w io.Writer) {
	measure.Head(w, "Cost of range queries", rep.command, rep.started, rep.versions)
	fmt.Fprintf(w, "- data: %s; %d samples\n", rep.spec, rep.spec.Samples())
	fmt.Fprintf(w, `
All servers at once on core %d with GOMAXPROCS=1, asked in turn over the whole data set, start
and end included. CPU is user and system time of the server's processes from the request to
the last byte of the answer; the first of the runs is cold. Lowest / median / highest.
`, serverCore)
	names := rep.names()
	fmt.Fprint(w, "\n## CPU seconds a query\n\n")
	rep.renderRuns(w, names, "%.3f", func(s sample) float64 { return s.cpu.Seconds() })
	rep.renderRatios(w, names)
	fmt.Fprint(w, "\n## Wall seconds a query\n\n")
	rep.renderRuns(w, names, "%.3f", func(s sample) float64 { return s.wall.Seconds() })
	rep.renderDifferences(w)
	rep.renderInfos(w)
	rep.renderRead(w, names)
	if len(rep.servers) > 0 {
		fmt.Fprint(w, "\n## Servers\n\n")
		measure.Table(w, []string{"server", "peak RSS MiB", "disk MiB", "s to get the data in"}, rep.servers)
	}
	rep.renderBenchstat(w)
}

func (rep *report) names() []string {
	return measure.Distinct(rep.results, func(r *result) string { return r.name })
}

func (rep *report) queries() []query {
	return measure.Distinct(rep.results, func(r *result) query { return r.query })
}

// rows makes a table row of each query, with a cell for each name.
func (rep *report) rows(names []string, cell func(q query, name string) string) [][]string {
	var rows [][]string
	for _, q := range rep.queries() {
		row := []string{fmt.Sprintf("%s: `%s`, step %s", q.name, q.expr, short(q.step))}
		for _, n := range names {
			row = append(row, cell(q, n))
		}
		rows = append(rows, row)
	}
	return rows
}

func short(d time.Duration) string {
	if d%time.Hour == 0 {
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}

func (rep *report) renderRuns(w io.Writer, names []string, format string, of func(sample) float64) {
	measure.Table(w, append([]string{"query"}, names...), rep.rows(names, func(q query, name string) string {
		var v []float64
		for _, s := range rep.of(q, name).samples {
			v = append(v, of(s))
		}
		return measure.Range(format, v)
	}))
}

// renderRatios divides weir's CPU by the others', run by run.
func (rep *report) renderRatios(w io.Writer, names []string) {
	others := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == "weir" })
	if len(others) == 0 || len(others) == len(names) {
		return
	}
	fmt.Fprint(w, "\n## CPU of weir over that of the others, run by run\n\n")
	measure.Table(w, append([]string{"query"}, others...), rep.rows(others, func(q query, name string) string {
		var v []float64
		for i, s := range rep.of(q, name).samples {
			if mine := rep.of(q, "weir").samples; i < len(mine) && s.cpu > 0 {
				v = append(v, mine[i].cpu.Seconds()/s.cpu.Seconds())
			}
		}
		return measure.Range("%.3f", v)
	}))
}

// renderDifferences compares with Prometheus, or without it with raw data.
func (rep *report) renderDifferences(w io.Writer) {
	names := rep.names()
	ref := reference
	if !slices.Contains(names, ref) {
		ref = "weir raw"
	}
	if !slices.Contains(names, ref) || len(names) == 1 {
		return
	}
	fmt.Fprintf(w, "\n## Answers beside those of %s\n\nRelative differences of the values in both; missing are points that only %s has, extra those that it has not.\n\n", ref, ref)
	var rows [][]string
	for _, q := range rep.queries() {
		for _, n := range names {
			if n == ref {
				continue
			}
			d := compare(rep.of(q, ref).answer, rep.of(q, n).answer)
			rows = append(rows, []string{
				q.name, n, fmt.Sprint(d.points), fmt.Sprint(d.missing), fmt.Sprint(d.extra),
				fmt.Sprintf("%.2g", d.median), fmt.Sprintf("%.2g", d.worst), strings.TrimSuffix(d.at, ","),
			})
		}
	}
	measure.Table(w, []string{"query", "server", "points", "missing", "extra", "median", "worst", "worst at"}, rows)
}

// renderInfos writes what servers said about their answers, once each.
func (rep *report) renderInfos(w io.Writer) {
	for _, r := range rep.results {
		for _, info := range r.answer.infos {
			fmt.Fprintf(w, "\n%s on %s: %s\n", r.name, r.query.name, info)
		}
	}
}

// renderRead writes the samples that servers say they read, in stats=all.
func (rep *report) renderRead(w io.Writer, names []string) {
	fmt.Fprint(w, "\n## Samples read, as the servers say\n\n")
	measure.Table(w, append([]string{"query"}, names...), rep.rows(names, func(q query, name string) string {
		return rep.of(q, name).read
	}))
}

func (rep *report) renderBenchstat(w io.Writer) {
	fmt.Fprint(w, "\nFor benchstat -col /server:\n\n```\n")
	measure.BenchstatHead(w, "bench/ranges")
	for _, r := range rep.results {
		for _, s := range r.samples {
			fmt.Fprintf(w, "BenchmarkRange/query=%s/days=%d/server=%s 1 %.4f cpu-s %.4f wall-s %d answer-bytes\n",
				strings.ReplaceAll(r.query.name, " ", "_"), rep.spec.Days, strings.ReplaceAll(r.name, " ", "_"), s.cpu.Seconds(), s.wall.Seconds(), s.bytes)
		}
	}
	fmt.Fprintln(w, "```")
}
