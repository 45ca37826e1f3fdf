package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-dev/weir/internal/conf"
)

func blocksBackfillCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "backfill",
		Short: "Makes blocks of old samples from elsewhere",
		Long: `Makes raw blocks of samples that are older than what the server takes in, in
the data directory. A running server finds them within a minute, merges
them with blocks of the same time and rolls them up; what is older than
store.retention.time leaves raw once it is rolled up.`,
		Args: noVerb,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(backfillOpenMetricsCommand(), backfillPrometheusCommand())
	return c
}

func backfillOpenMetricsCommand() *cobra.Command {
	var at blockPlace
	var out output
	f := openMetricsFill{length: conf.Duration(2 * time.Hour)}
	length := f.length.String()
	c := &cobra.Command{
		Use:   "openmetrics FILE",
		Short: "Makes blocks from OpenMetrics text with timestamps",
		Long: `Makes blocks from OpenMetrics text in which every sample has a timestamp; the
samples of a series must be in time order. The file is read once, as a
stream, so it may be larger than memory. "-" is standard input.`,
		Example: `  weir blocks backfill openmetrics old.om
  zcat old.om.gz | weir blocks backfill openmetrics - --block-duration=1d --label=cluster=eu1`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.length.UnmarshalText([]byte(length)); err != nil || f.length < conf.Duration(2*time.Hour) {
				return fmt.Errorf("--block-duration: got %q, want 2h or more", length)
			}
			f.dir, f.tick, f.minBlock = at.cfg.Store.Dir, newTicker(c.ErrOrStderr()), at.cfg.Store.MinBlockDuration.Std()
			rows, err := f.run(c.Context(), args[0], c.InOrStdin())
			if err != nil {
				return err
			}
			return out.write(c.OutOrStdout(), rows, func(w io.Writer) { printRows(w, rows, false) })
		},
	}
	at.flags(c)
	out.flag(c)
	c.Flags().StringVar(&length, "block-duration", length, "`length` of the blocks; longer ones are made faster and take more memory")
	c.Flags().StringToStringVar(&f.labels, "label", nil, "`label` added to series without it, name=value, may be given again")
	return c
}

func backfillPrometheusCommand() *cobra.Command {
	var at blockPlace
	var out output
	var f prometheusFill
	c := &cobra.Command{
		Use:   "prometheus DIRECTORY...",
		Short: "Takes blocks over from another Prometheus",
		Long: `Copies the blocks of another Prometheus' data directory, or single blocks, and
checks every byte of them. With --label the label is added to all series
that lack it, which makes new blocks.

What the other Prometheus has in its head is in no block yet: take a
snapshot there first, and give the snapshot's directory.`,
		Example: `  weir blocks backfill prometheus /var/lib/prometheus
  weir blocks backfill prometheus --label=cluster=eu1 /var/lib/prometheus/snapshots/20261122T170000Z-5a1b`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			f.dir, f.tick, f.minBlock = at.cfg.Store.Dir, newTicker(c.ErrOrStderr()), at.cfg.Store.MinBlockDuration.Std()
			rows, err := f.run(c.Context(), args)
			if err != nil {
				return err
			}
			return out.write(c.OutOrStdout(), rows, func(w io.Writer) { printRows(w, rows, false) })
		},
	}
	at.flags(c)
	out.flag(c)
	c.Flags().StringToStringVar(&f.labels, "label", nil, "`label` added to series without it, name=value, may be given again")
	return c
}
