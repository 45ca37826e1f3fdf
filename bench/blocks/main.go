package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/tsdb"

	"github.com/weir-dev/weir/bench/dataset"
	"github.com/weir-dev/weir/bench/measure"
)

func main() { measure.Main("blocks", run) }

func run(ctx context.Context, args []string) error {
	dir, s, err := parseFlags(args)
	if err != nil {
		return err
	}
	fmt.Println(s)
	start := time.Now()
	err = dataset.Write(ctx, dir, s, func(m tsdb.BlockMeta) {
		fmt.Printf("%s: %d samples in %d chunks, %.0f s\n", m.ULID, m.Stats.NumSamples, m.Stats.NumChunks, time.Since(start).Seconds())
	})
	if err != nil {
		return err
	}
	size, err := bytesBelow(dir)
	if err != nil {
		return err
	}
	fmt.Printf("%d samples, %d bytes, %.2f a sample, %.1fM samples/s\n", s.Samples(), size,
		float64(size)/float64(s.Samples()), float64(s.Samples())/time.Since(start).Seconds()/1e6)
	return nil
}

func parseFlags(args []string) (string, dataset.Spec, error) {
	fl := flag.NewFlagSet("blocks", flag.ContinueOnError)
	sets := strings.Join(slices.Sorted(maps.Keys(dataset.Sets)), ", ")
	var s dataset.Spec
	set := fl.String("set", "", "ready-made data set instead of the flags below: "+sets)
	dir := fl.String("o", "", "directory to write to, missing or empty")
	fl.StringVar(&s.Mix, "mix", "mix", "metrics: mix or counters")
	fl.IntVar(&s.Series, "series", 100, "number of series, a multiple of 20")
	fl.IntVar(&s.Days, "days", 1, "length in days")
	fl.DurationVar(&s.Block, "block", 0, "longest time of a block, 0: one block")
	fl.Uint64Var(&s.Seed, "seed", 1, "seed of all labels and values")
	if err := fl.Parse(args); err != nil {
		return "", s, err
	}
	if *dir == "" || fl.NArg() > 0 {
		return "", s, fmt.Errorf("-o %q and arguments %q: want a directory and flags only", *dir, fl.Args())
	}
	if *set != "" {
		ready, ok := dataset.Sets[*set]
		if !ok {
			return "", s, fmt.Errorf("-set %q: want one of %s", *set, sets)
		}
		s = ready
	}
	return *dir, s, nil
}

func bytesBelow(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}
