package main

import (
	"context"
	"io"
	"log/slog"

	"github.com/spf13/cobra"
)

func serveCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Runs the server until it is told to stop",
		Long: `Runs the server until it gets SIGINT or SIGTERM.

Without a config file it listens on 127.0.0.1:9480 and keeps its data
in ./data. A file with faults is refused, and every fault is named.`,
		Example: `  weir serve
  weir serve --config.file=weir.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			return serve(c.Context(), cfg, newLogger(cfg.Log, c.ErrOrStderr()))
		},
	}
	c.Flags().StringVar(&file, "config.file", "", "read settings from this YAML `file`; empty for the defaults")
	return c
}

func newLogger(cfg LogConfig, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.level()}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// serve runs the rooms until ctx ends.
func serve(ctx context.Context, _ Config, log *slog.Logger) error {
	log.Info("weir started", "version", version())
	<-ctx.Done()
	return nil
}
