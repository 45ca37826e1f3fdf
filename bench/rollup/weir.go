package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/weir-dev/weir/bench/measure"
	"github.com/weir-dev/weir/bench/tiers"
)

// resolutions are those that Thanos knows.
const resolutions = "5m,1h"

// rollWeir runs weir blocks rollup for one block after the other.
func rollWeir(ctx context.Context, binary, dir string, raw []tiers.Block) (tiers.Cost, error) {
	var total tiers.Cost
	out := filepath.Join(dir, "out")
	for _, b := range raw {
		argv := measure.OnCore(programCore, binary, "blocks", "rollup", "--resolutions="+resolutions, "--out="+out, b.Dir)
		c, err := runToEnd(ctx, dir, argv)
		if err != nil {
			return total, err
		}
		total.CPU += c.CPU
		total.Wall += c.Wall
		total.RSS = max(total.RSS, c.RSS)
	}
	return total, nil
}

// runToEnd runs a process that ends by itself.
func runToEnd(ctx context.Context, dir string, argv []string) (tiers.Cost, error) {
	var c tiers.Cost
	start := time.Now()
	p, err := measure.Start("weir", dir, filepath.Join(dir, "log"), argv)
	if err != nil {
		return c, err
	}
	var seen int64
	for running := true; running; {
		select {
		case <-p.Done():
			running = false
		case <-ctx.Done():
			return c, fmt.Errorf("%w; %w", ctx.Err(), p.Stop())
		case <-time.After(pollEvery):
			if rss, err := measure.PeakRSSAlone(p.Pid()); err == nil { // or it has just ended
				seen = max(seen, rss)
			}
		}
	}
	c.Wall = time.Since(start)
	if st := p.State(); !st.Success() {
		return c, fmt.Errorf("%v ended with %s: %s", argv, st, p.LogTail())
	}
	c.CPU = p.State().UserTime() + p.State().SystemTime()
	c.RSS, err = peak(p.State(), seen)
	return c, err
}

// peak is the exact peak memory of an ended process where the kernel has it. Its
// figure counts from before the program replaced this one in the forked process,
// so it says nothing when it is not above our own.
func peak(st *os.ProcessState, seen int64) (int64, error) {
	own, err := measure.PeakRSSAlone(os.Getpid())
	if err != nil {
		return 0, err
	}
	if usage, ok := st.SysUsage().(*syscall.Rusage); ok && usage.Maxrss<<10 > own {
		return usage.Maxrss << 10, nil
	}
	return seen, nil
}
