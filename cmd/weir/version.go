package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// release is set by the linker (-X main.release=v0.1.0) when the Makefile builds
// a tagged commit, and written by nobody else.
var release string

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Prints the version, the commit and the Go release it was built with",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), version())
			return err
		},
	}
}

// build is what the binary knows of its making.
type build struct {
	version, commit string
	changed         bool // the work tree had changes
}

func readBuild() build {
	b := build{version: release, commit: "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		if b.version == "" {
			b.version = info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				b.commit = s.Value[:min(12, len(s.Value))]
			case s.Key == "vcs.modified" && s.Value == "true":
				b.changed = true
			}
		}
	}
	if b.version == "" {
		b.version = "(devel)"
	}
	return b
}

// version returns one line: "weir v0.1.0 (commit 1a2b3c4d5e6f, go1.26.0, linux/amd64)".
func version() string {
	b := readBuild()
	changed := ""
	if b.changed {
		changed = " with changes"
	}
	return fmt.Sprintf("weir %s (commit %s%s, %s, %s/%s)",
		b.version, b.commit, changed, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
