package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/spf13/cobra"

	"github.com/weir-dev/weir/internal/store/block"
)

func blocksInspectCommand() *cobra.Command {
	var at blockPlace
	var out output
	c := &cobra.Command{
		Use:   "inspect BLOCK",
		Short: "Shows what one block holds",
		Long: `Shows what one block holds: its meta.json, and of a block on disk how many
series each metric and label has.

BLOCK is a ULID, or a directory written with a slash, as ./01J...`,
		Example: `  weir blocks inspect 01J8Z5X4Q1C9J5M0T5R3E2W1QA
  weir blocks inspect --bucket --config.file=weir.yaml 01J8Z5X4Q1C9J5M0T5R3E2W1QA`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			i, err := at.inspect(c.Context(), args)
			if err != nil {
				return err
			}
			return out.write(c.OutOrStdout(), i, i.print)
		},
	}
	at.flags(c)
	at.bucketFlag(c)
	out.flag(c)
	return c
}

// inspection is what there is to say about a block.
type inspection struct {
	Block   blockRow     `json:"block"`
	Meta    *block.Meta  `json:"meta,omitempty"`
	Metrics []labelCount `json:"metrics,omitempty"` // with the most series
	Names   []labelCount `json:"labels,omitempty"`  // by number of values
}

type labelCount struct {
	Name   string `json:"name"`
	Series int    `json:"series,omitempty"`
	Values int    `json:"values,omitempty"`
}

// inspectTop bounds the metrics and labels that are shown.
const inspectTop = 20

func (p *blockPlace) inspect(ctx context.Context, args []string) (*inspection, error) {
	if p.inBucket {
		o, list, err := p.remote(ctx, args)
		if err != nil {
			return nil, err
		}
		defer func() { _ = o.Close() }()
		return &inspection{Block: remoteRow(list[0]), Meta: list[0].Meta}, nil
	}
	list, err := p.pick(args)
	if err != nil {
		return nil, err
	}
	b := list[0]
	if b.err != nil {
		return nil, b.err
	}
	i := &inspection{Block: b.row(), Meta: b.meta}
	return i, i.count(ctx, b.dir)
}

func (i *inspection) count(ctx context.Context, dir string) error {
	b, err := block.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	set, err := b.Select(ctx)
	if err != nil {
		return err
	}
	series := map[string]int{}
	values := map[string]map[string]bool{}
	for set.Next() {
		set.Labels().Range(func(l labels.Label) {
			if values[l.Name] == nil {
				values[l.Name] = map[string]bool{}
			}
			values[l.Name][l.Value] = true
			if l.Name == "__name__" {
				series[l.Value]++
			}
		})
	}
	for name, n := range series {
		i.Metrics = append(i.Metrics, labelCount{Name: name, Series: n})
	}
	for name, v := range values {
		i.Names = append(i.Names, labelCount{Name: name, Values: len(v)})
	}
	for _, list := range []*[]labelCount{&i.Metrics, &i.Names} {
		slices.SortFunc(*list, func(a, b labelCount) int {
			return cmp.Or(b.Series-a.Series, b.Values-a.Values, cmp.Compare(a.Name, b.Name))
		})
		*list = (*list)[:min(len(*list), inspectTop)]
	}
	return set.Err()
}

func (i *inspection) print(w io.Writer) {
	r := i.Block
	line := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	line("block", "%s", r.ULID)
	line("state", "%s %s", r.State, r.Why)
	if i.Meta == nil {
		return
	}
	line("tier", "%s", r.Tier)
	line("time", "%s to %s UTC", timeText(r.MinTime), timeText(r.MaxTime))
	line("series", "%d", r.Series)
	line("samples", "%d", r.Samples)
	line("chunks", "%d", r.Chunks)
	line("size", "%s", bytesText(r.Bytes))
	if r.Samples > 0 {
		line("bytes a sample", "%.2f", float64(r.Bytes)/float64(r.Samples))
	}
	line("compaction", "level %d, %d sources", r.Level, r.Sources)
	if len(r.Labels) > 0 {
		line("external labels", "%s", labelsText(r.Labels))
	}
	for _, p := range i.Meta.Compaction.Parents {
		line("parent", "%s", p.ULID)
	}
	for _, f := range i.Meta.Thanos.Files {
		line("file", "%s %s", f.RelPath, bytesText(f.SizeBytes))
	}
	for _, m := range i.Metrics {
		line("metric", "%s: %d series", m.Name, m.Series)
	}
	for _, n := range i.Names {
		line("label", "%s: %d values", n.Name, n.Values)
	}
}
