package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/weir-dev/weir/bench/dataset"
	"github.com/weir-dev/weir/bench/measure"
	"github.com/weir-dev/weir/bench/tiers"
)

const (
	// programCore and loadCore keep the program off this one's CPU.
	programCore = 0
	loadCore    = 1
	// pollEvery is how often a running program's memory and CPU are read. Memory
	// that is given back within less may be missed; peaks last for seconds.
	pollEvery = 20 * time.Millisecond
)

// program is one way to roll up blocks.
type program struct {
	name, binary, versionArg string
	// roll makes rollups of raw blocks below dir, which is empty, and returns what
	// that cost.
	roll func(ctx context.Context, binary, dir string, raw []tiers.Block) (tiers.Cost, error)
}

// result is one run.
type result struct {
	tiers.Cost
	program string
	pair    int
	load    string
	made    []tiers.Block
}

func (r *result) rate(s dataset.Spec) float64 { return float64(s.Samples()) / r.CPU.Seconds() / 1e6 }

func (r *result) line(s dataset.Spec) string {
	return fmt.Sprintf("pair %d %s: %.2f CPU-s, %.1fM samples per CPU-s, %.1f s, peak %d MiB",
		r.pair+1, r.program, r.CPU.Seconds(), r.rate(s), r.Wall.Seconds(), r.RSS>>20)
}

// runOnce reads the blocks into the page cache, rolls them up below a directory of
// its own, and removes it.
func runOnce(ctx context.Context, p program, parent string, raw []tiers.Block) (r result, err error) {
	dir, err := os.MkdirTemp(parent, "rollup-"+p.name+"-")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for i := range raw {
		if err := raw[i].Warm(); err != nil {
			return r, err
		}
	}
	r = result{program: p.name, load: measure.LoadAverage()}
	if r.Cost, err = p.roll(ctx, p.binary, dir, raw); err != nil {
		return r, err
	}
	if r.made, err = tiers.Find(dir); err != nil {
		return r, err
	}
	r.made = slices.DeleteFunc(r.made, func(b tiers.Block) bool { return b.Resolution == 0 })
	if len(r.made) == 0 {
		err = fmt.Errorf("no rollups below %s after it ended", dir)
	}
	return r, err
}

// rollThanos has Thanos do it in a bucket of links.
func rollThanos(ctx context.Context, binary, dir string, raw []tiers.Block) (tiers.Cost, error) {
	b, err := tiers.FillBucket(dir, raw)
	if err != nil {
		return tiers.Cost{}, err
	}
	return b.Downsample(ctx, binary, dir, programCore)
}
