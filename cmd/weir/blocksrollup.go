package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/store/block"
)

func blocksRollupCommand() *cobra.Command {
	var out output
	r := rollupRun{resolutions: []string{"5m", "1h"}}
	c := &cobra.Command{
		Use:   "rollup BLOCK",
		Short: "Rolls one raw block up, and says what that took",
		Long: `Rolls one raw block up into blocks of the given resolutions, checks them, and
says how long that took. The server does so by itself as data arrives;
this is for trying and measuring.`,
		Example: `  weir blocks rollup ./data/01J8Z5X4Q1C9J5M0T5R3E2W1QA --out=/tmp/rolled
  weir blocks rollup ./data/01J8Z5X4Q1C9J5M0T5R3E2W1QA --resolutions=5m,1h,6h --out=/tmp/rolled -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			report, err := r.run(c.Context(), args[0])
			if err != nil {
				return err
			}
			return out.write(c.OutOrStdout(), report, report.print)
		},
	}
	out.flag(c)
	c.Flags().StringSliceVar(&r.resolutions, "resolutions", r.resolutions, "`lengths` of windows, each dividing the next")
	c.Flags().StringVar(&r.out, "out", "", "make the blocks in this `directory`, in one for each resolution")
	c.Flags().StringVar(&r.selector, "selector", "", "roll up only series of this `selector`")
	c.Flags().StringVar(&r.memory, "memory", "", "bound buffers to this `size`; empty for the default")
	_ = c.MarkFlagRequired("out") // errors only when there is no such flag
	return c
}

// rollupRun is what the flags ask for.
type rollupRun struct {
	resolutions           []string
	out, selector, memory string
}

// rollupReport is what a run took.
type rollupReport struct {
	Block      string       `json:"block"`
	Series     uint64       `json:"series"`
	Samples    uint64       `json:"samples"`
	Bytes      int64        `json:"bytes"`
	Seconds    float64      `json:"seconds"`
	CPUSeconds float64      `json:"cpu_seconds"`
	PerCPU     float64      `json:"samples_per_cpu_second"`
	PeakRSS    int64        `json:"peak_rss_bytes"` // of the whole process
	Rungs      []rollupRung `json:"rungs"`
}

type rollupRung struct {
	Resolution string  `json:"resolution"`
	ULID       string  `json:"ulid"`
	Directory  string  `json:"directory"`
	Series     uint64  `json:"series"`
	Chunks     uint64  `json:"chunks"`
	Bytes      int64   `json:"bytes"`
	PerSample  float64 `json:"bytes_per_raw_sample"`
}

func (r *rollupRun) run(ctx context.Context, dir string) (*rollupReport, error) {
	raw, err := block.ReadMeta(dir)
	if err != nil {
		return nil, err
	}
	rungs, err := r.rungs()
	if err != nil {
		return nil, err
	}
	o := block.Options{}
	if r.memory != "" {
		var b conf.Bytes
		if err := b.UnmarshalText([]byte(r.memory)); err != nil {
			return nil, fmt.Errorf("--memory: %w", err)
		}
		o.Memory = int64(b)
	}
	began, cpu := time.Now(), cpuSeconds()
	metas, err := block.Roll(ctx, dir, rungs, o)
	if err != nil {
		return nil, err
	}
	report := &rollupReport{
		Block: raw.ULID.String(), Series: raw.Stats.NumSeries, Samples: raw.Stats.NumSamples, Bytes: dirSize(dir),
		Seconds: time.Since(began).Seconds(), CPUSeconds: cpuSeconds() - cpu, PeakRSS: peakRSS(),
	}
	report.PerCPU = float64(report.Samples) / report.CPUSeconds
	for i, m := range metas {
		d := filepath.Join(rungs[i].Dir, m.ULID.String())
		size := dirSize(d)
		report.Rungs = append(report.Rungs, rollupRung{
			Resolution: tierText(m), ULID: m.ULID.String(), Directory: d, Series: m.Stats.NumSeries, Chunks: m.Stats.NumChunks,
			Bytes: size, PerSample: float64(size) / float64(max(report.Samples, 1)),
		})
	}
	return report, nil
}

func (r *rollupRun) rungs() (rungs []block.Rung, err error) {
	rung := block.Rung{}
	if r.selector != "" {
		if rung.Selectors, err = parser.NewParser(parser.Options{}).ParseMetricSelector(r.selector); err != nil {
			return nil, fmt.Errorf("--selector: %w", err)
		}
	}
	for _, text := range r.resolutions {
		var d conf.Duration
		if err := d.UnmarshalText([]byte(strings.TrimSpace(text))); err != nil || d <= 0 {
			return nil, fmt.Errorf("--resolutions: got %q, want lengths such as 5m,1h", text)
		}
		rung.Resolution = d.Std().Milliseconds()
		rung.Dir = filepath.Join(r.out, d.String())
		if err := os.MkdirAll(rung.Dir, 0o750); err != nil {
			return nil, err
		}
		rungs = append(rungs, rung)
	}
	slices.SortFunc(rungs, func(a, b block.Rung) int { return int(a.Resolution - b.Resolution) })
	return rungs, nil
}

// cpuSeconds is what the process has used, in user and kernel mode.
func cpuSeconds() float64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// peakRSS is the most memory the process has had, in bytes.
func peakRSS() int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return int64(u.Maxrss)
	}
	return int64(u.Maxrss) << 10
}

func (r *rollupReport) print(w io.Writer) {
	fmt.Fprintf(w, "block\t%s\nseries\t%d\nsamples\t%d\nsize\t%s\n", r.Block, r.Series, r.Samples, bytesText(r.Bytes))
	fmt.Fprintf(w, "seconds\t%.3f\nCPU seconds\t%.3f\nsamples a CPU second\t%.0f\npeak RSS\t%s\n", r.Seconds, r.CPUSeconds, r.PerCPU, bytesText(r.PeakRSS))
	for _, g := range r.Rungs {
		fmt.Fprintf(w, "%s\t%s, %d series, %d chunks, %s, %.3f bytes a raw sample\n", g.Resolution, g.ULID, g.Series, g.Chunks, bytesText(g.Bytes), g.PerSample)
	}
}
