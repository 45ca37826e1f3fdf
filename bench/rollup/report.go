package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/weir-dev/weir/bench/dataset"
	"github.com/weir-dev/weir/bench/measure"
	"github.com/weir-dev/weir/bench/tiers"
)

// report is everything a results file says.
type report struct {
	command  string
	started  time.Time
	versions []string
	spec     dataset.Spec
	raw      tiers.Size
	results  []result
}

func (rep *report) render(w io.Writer) {
	measure.Head(w, "Cost of rolling up", rep.command, rep.started, rep.versions)
	fmt.Fprintf(w, "- data: %s; %d samples, %d bytes of chunks, %d of index, %.2f a sample\n", rep.spec, rep.spec.Samples(),
		rep.raw.Chunks, rep.raw.Index, float64(rep.raw.Total())/float64(rep.spec.Samples()))
	fmt.Fprintf(w, `
Programs in turn on core %d with GOMAXPROCS=1, raw blocks in the page cache. CPU is user and
system time of the whole process, verification included; samples are raw ones, whatever the
number of tiers made of them. Thanos does not end by itself: its time is up to the last
moment that it used CPU, read every %s.

`, programCore, pollEvery)
	rep.renderRuns(w)
	rep.renderMedians(w)
	rep.renderTiers(w)
	rep.renderBenchstat(w)
}

func (rep *report) renderRuns(w io.Writer) {
	var rows [][]string
	for i := range rep.results {
		r := &rep.results[i]
		row := []string{fmt.Sprint(r.pair + 1), r.program}
		for _, f := range figures {
			row = append(row, fmt.Sprintf(f.format, f.of(rep, r)))
		}
		rows = append(rows, append(row, r.load))
	}
	head := []string{"pair", "program"}
	for _, f := range figures {
		head = append(head, f.title)
	}
	measure.Table(w, append(head, "load before"), rows)
}

// figure is one column of the runs.
type figure struct {
	title, format, unit string
	of                  func(*report, *result) float64
}

var figures = []figure{
	{"M samples per CPU-s", "%.2f", "Msamples/cpu-s", func(rep *report, r *result) float64 { return r.rate(rep.spec) }},
	{"CPU-s", "%.2f", "cpu-s", func(_ *report, r *result) float64 { return r.CPU.Seconds() }},
	{"wall s", "%.2f", "wall-s", func(_ *report, r *result) float64 { return r.Wall.Seconds() }},
	{"peak RSS MiB", "%.0f", "peak-MiB", func(_ *report, r *result) float64 { return float64(r.RSS) / (1 << 20) }},
	{"tiers / raw bytes", "%.3f", "tiers/raw", (*report).share},
}

// share is the bytes of all tiers over those of the raw blocks.
func (rep *report) share(r *result) float64 {
	return float64(tiers.Sum(r.made).Total()) / float64(rep.raw.Total())
}

// renderMedians writes lowest, median and highest of each program and, pair by
// pair, the first program's figures over the others'.
func (rep *report) renderMedians(w io.Writer) {
	fmt.Fprint(w, "\nLowest / median / highest; ratios are of the runs of one pair:\n\n")
	names := rep.programs()
	head := append([]string{""}, names...)
	for _, other := range names[1:] {
		head = append(head, names[0]+" over "+other)
	}
	var rows [][]string
	for _, f := range figures {
		row := []string{f.title}
		for _, n := range names {
			row = append(row, measure.Range(f.format, rep.values(f, n)))
		}
		for _, other := range names[1:] {
			row = append(row, measure.Range("%.2f", rep.ratios(f, names[0], other)))
		}
		rows = append(rows, row)
	}
	measure.Table(w, head, rows)
}

// renderTiers writes what the last run of each program left on disk.
func (rep *report) renderTiers(w io.Writer) {
	fmt.Fprintf(w, "\nOn disk; bytes a raw sample are of all %d samples:\n\n", rep.spec.Samples())
	var rows [][]string
	for _, name := range rep.programs() {
		for i := len(rep.results) - 1; i >= 0; i-- {
			if rep.results[i].program != name {
				continue
			}
			rows = append(rows, rep.tierRows(&rep.results[i])...)
			break
		}
	}
	measure.Table(w, []string{"program", "tier", "blocks", "chunks bytes", "index bytes", "share of raw", "B a raw sample"}, rows)
}

// tierRows are one a resolution, finest first.
func (rep *report) tierRows(r *result) [][]string {
	sizes, blocks := map[time.Duration]tiers.Size{}, map[time.Duration]int{}
	for _, b := range r.made {
		sizes[b.Resolution] = sizes[b.Resolution].Add(b.Size)
		blocks[b.Resolution]++
	}
	var rows [][]string
	for _, res := range slices.Sorted(maps.Keys(sizes)) {
		s := sizes[res]
		rows = append(rows, []string{
			r.program, model.Duration(res).String(), fmt.Sprint(blocks[res]), fmt.Sprint(s.Chunks), fmt.Sprint(s.Index),
			fmt.Sprintf("%.3f", float64(s.Total())/float64(rep.raw.Total())),
			fmt.Sprintf("%.3f", float64(s.Total())/float64(rep.spec.Samples())),
		})
	}
	return rows
}

func (rep *report) renderBenchstat(w io.Writer) {
	fmt.Fprint(w, "\nFor benchstat -col /program:\n\n```\n")
	measure.BenchstatHead(w, "bench/rollup")
	fmt.Fprintln(w, "Unit Msamples/cpu-s better=higher")
	for i := range rep.results {
		r := &rep.results[i]
		fmt.Fprintf(w, "BenchmarkRollup/series=%d/days=%d/program=%s 1", rep.spec.Series, rep.spec.Days, r.program)
		for _, f := range figures {
			fmt.Fprintf(w, " "+f.format+" %s", f.of(rep, r), f.unit)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, "```")
}

func (rep *report) programs() []string {
	return measure.Distinct(rep.results, func(r result) string { return r.program })
}

func (rep *report) values(f figure, program string) []float64 {
	var v []float64
	for i := range rep.results {
		if rep.results[i].program == program {
			v = append(v, f.of(rep, &rep.results[i]))
		}
	}
	return v
}

// ratios divides the runs of a by those of b of the same pair.
func (rep *report) ratios(f figure, a, b string) []float64 {
	var v []float64
	for i := range rep.results {
		for j := range rep.results {
			x, y := &rep.results[i], &rep.results[j]
			if x.program == a && y.program == b && x.pair == y.pair && f.of(rep, y) != 0 {
				v = append(v, f.of(rep, x)/f.of(rep, y))
			}
		}
	}
	return v
}
