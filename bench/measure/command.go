package measure

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// Main runs a program of bench until it is done or interrupted, and ends the process
// with 1 if it failed.
func Main(name string, run func(ctx context.Context, args []string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// Flags are those of every program that measures others on a data set.
type Flags struct {
	Data, Dir, Out string
	Weir, Thanos   string
}

// Define adds the flags to fl. dir says what is in -dir.
func (f *Flags) Define(fl *flag.FlagSet, dir string) {
	fl.StringVar(&f.Data, "data", "", "data set written by bench/blocks")
	fl.StringVar(&f.Dir, "dir", "", dir)
	fl.StringVar(&f.Out, "o", "", "file for the results, standard output if empty")
	fl.StringVar(&f.Weir, "weir", "", "weir binary; left out if empty")
	fl.StringVar(&f.Thanos, "thanos", "", "thanos binary, built with -tags slicelabels; left out if empty")
}

// Parse reads args, in which there must be a data set and nothing but flags.
func (f *Flags) Parse(fl *flag.FlagSet, args []string) error {
	if err := fl.Parse(args); err != nil {
		return err
	}
	switch {
	case fl.NArg() > 0:
		return fmt.Errorf("argument %q: want flags only", fl.Arg(0))
	case f.Data == "":
		return errors.New("-data: got nothing, want a directory written by bench/blocks")
	}
	return nil
}

// Absolute makes what the flags and more name hold in any directory, since programs
// run in their own. All of it must be there, but for -o.
func (f *Flags) Absolute(more ...*string) error {
	for _, p := range append(more, &f.Data, &f.Dir, &f.Weir, &f.Thanos) {
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
