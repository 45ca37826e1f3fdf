package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "weir:", err)
		os.Exit(1)
	}
}

// root returns the tree of commands, one file each.
func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "weir",
		Short: "Takes metrics from many clusters and answers PromQL",
		Long: `Weir takes metrics from many clusters and answers PromQL.

Start it with "weir serve". Without a config file it listens on
127.0.0.1:9480 and keeps its data in ./data.`,
		Version:       version(),
		SilenceUsage:  true, // a page of help after each error hides the error
		SilenceErrors: true, // main prints it, once
	}
	c.SetVersionTemplate("{{.Version}}\n")
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return fmt.Errorf("%w; see %q", err, c.CommandPath()+" --help")
	})
	config := &cobra.Command{
		Use:   "config",
		Short: "Checks and prints the config",
		Args:  noVerb,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	config.AddCommand(configCheckCommand(), configPrintCommand())
	c.AddCommand(serveCommand(), config, queryCommand(), traceCommand(), blocksCommand(), backupCommand(), versionCommand())
	return c
}

// noVerb refuses a word that is no verb of c; cobra itself does so at the root
// only.
func noVerb(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return errors.New(`unknown command "` + args[0] + `" for "` + c.CommandPath() + `"`)
}
