package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/store/block"
	"github.com/weir-dev/weir/internal/store/bucket"
)

func blocksListCommand() *cobra.Command {
	var at blockPlace
	var out output
	c := &cobra.Command{
		Use:   "list",
		Short: "Lists blocks: time, series, size, state",
		Long: `Lists the blocks of a data directory or a bucket: raw ones and rollups.

States of blocks in a bucket: complete, marked (to be deleted), partial
(being uploaded, or an upload ended early), bad (cannot be read).`,
		Example: `  weir blocks list
  weir blocks list --config.file=weir.yaml --bucket -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			rows, err := at.rows(c)
			if err != nil {
				return err
			}
			return out.write(c.OutOrStdout(), rows, func(w io.Writer) { printRows(w, rows, at.inBucket) })
		},
	}
	at.flags(c)
	at.bucketFlag(c)
	out.flag(c)
	return c
}

// blockRow is a block as it is listed.
type blockRow struct {
	ULID       string            `json:"ulid"`
	Tier       string            `json:"tier,omitempty"` // raw, or a resolution
	MinTime    int64             `json:"min_time"`
	MaxTime    int64             `json:"max_time"`
	Series     uint64            `json:"series"`
	Samples    uint64            `json:"samples"` // raw ones, also of a rollup where it is known
	Chunks     uint64            `json:"chunks"`
	Bytes      int64             `json:"bytes"`
	Level      int               `json:"level"`
	Sources    int               `json:"sources"`
	Labels     map[string]string `json:"labels,omitempty"`
	State      string            `json:"state"`
	Why        string            `json:"why,omitempty"`
	Directory  string            `json:"directory,omitempty"`
	Tombstones bool              `json:"tombstones,omitempty"`
}

func (p *blockPlace) rows(c *cobra.Command) ([]blockRow, error) {
	rows := []blockRow{}
	if !p.inBucket {
		list, err := localBlocks(p.cfg.Store.Dir)
		for _, b := range list {
			rows = append(rows, b.row())
		}
		return rows, err
	}
	o, list, err := p.remote(c.Context(), nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = o.Close() }()
	for _, r := range list {
		rows = append(rows, remoteRow(r))
	}
	return rows, nil
}

func (b localBlock) row() blockRow {
	if b.err != nil {
		return blockRow{ULID: b.name(), State: "bad", Why: b.err.Error(), Directory: b.dir}
	}
	r := metaRow(b.meta)
	r.State, r.Directory, r.Bytes = "complete", b.dir, dirSize(b.dir)
	r.Tombstones = bucket.HasTombstones(b.dir)
	return r
}

func remoteRow(rem *bucket.Remote) blockRow {
	r := blockRow{ULID: rem.ID.String()}
	if rem.Meta != nil {
		r = metaRow(rem.Meta)
		r.Labels, r.Bytes = rem.Meta.Thanos.Labels, rem.Meta.Size()
	}
	r.State, r.Why = rem.State(), rem.Why()
	return r
}

func metaRow(m *block.Meta) blockRow {
	samples := m.Stats.NumSamples
	if w := m.Thanos.Extensions.Weir; w != nil && m.Resolution() > 0 {
		samples = w.Samples
	}
	return blockRow{
		ULID: m.ULID.String(), Tier: tierText(m), MinTime: m.MinTime, MaxTime: m.MaxTime,
		Series: m.Stats.NumSeries, Samples: samples, Chunks: m.Stats.NumChunks,
		Level: m.Compaction.Level, Sources: len(m.Compaction.Sources),
	}
}

// dirSize is 0 where the directory goes away meanwhile.
func dirSize(dir string) (n int64) {
	for _, pattern := range []string{"*", "chunks/*"} {
		files, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is good
		for _, f := range files {
			if info, err := os.Stat(f); err == nil && info.Mode().IsRegular() {
				n += info.Size()
			}
		}
	}
	return n
}

func printRows(w io.Writer, rows []blockRow, inBucket bool) {
	head := "ULID\tTIER\tFROM (UTC)\tUNTIL\tLENGTH\tSERIES\tSAMPLES\tSIZE\tLEVEL\tSTATE"
	if inBucket {
		head += "\tLABELS"
	}
	fmt.Fprintln(w, head)
	for _, r := range rows {
		state := r.State
		if r.Tombstones {
			state += ", tombstones"
		}
		if r.Tier == "" {
			fmt.Fprintf(w, "%s\t\t\t\t\t\t\t\t\t%s: %s\n", r.ULID, state, r.Why)
			continue
		}
		length := conf.Duration((time.Duration(r.MaxTime-r.MinTime) * time.Millisecond).Round(time.Minute)).String()
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%d\t%s", r.ULID, r.Tier, timeText(r.MinTime), timeText(r.MaxTime),
			length, r.Series, r.Samples, bytesText(r.Bytes), r.Level, state)
		if inBucket {
			fmt.Fprintf(w, "\t%s", labelsText(r.Labels))
		}
		fmt.Fprintln(w)
	}
}

func labelsText(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s=%q", k, m[k]))
	}
	return strings.Join(parts, ",")
}
