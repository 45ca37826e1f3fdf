package main

import (
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/spf13/cobra"
)

func blocksUploadCommand() *cobra.Command {
	var at blockPlace
	var out output
	var labels map[string]string
	c := &cobra.Command{
		Use:   "upload [BLOCK...]",
		Short: "Uploads blocks on disk to the bucket",
		Long: `Uploads blocks on disk, all without arguments, to the bucket, as the server
does by itself where store.bucket is set. Blocks that are there are not
sent again. Each is checked after its upload, and said to be there last.`,
		Example: `  weir blocks upload --config.file=weir.yaml
  weir blocks upload --bucket.config.file=bucket.yaml --label=cluster=eu1 ./data/01J8Z5X4Q1C9J5M0T5R3E2W1QA`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(labels) == 0 {
				labels = at.cfg.Store.Bucket.ExternalLabels
			}
			rows, err := at.upload(c, args, labels)
			if err != nil {
				return err
			}
			return out.write(c.OutOrStdout(), rows, func(w io.Writer) { printRows(w, rows, true) })
		},
	}
	at.flags(c)
	out.flag(c)
	c.Flags().StringToStringVar(&labels, "label", nil, "external `label`, name=value, may be given again; none for store.bucket.external_labels")
	return c
}

// upload returns the blocks that are in the bucket afterwards.
func (p *blockPlace) upload(c *cobra.Command, args []string, labels map[string]string) ([]blockRow, error) {
	o, err := p.dial()
	if err != nil {
		return nil, err
	}
	defer func() { _ = o.Close() }()
	blocks, err := p.pick(args)
	if err != nil {
		return nil, err
	}
	there, err := o.List(c.Context())
	if err != nil {
		return nil, err
	}
	rows := []blockRow{}
	for i, b := range blocks {
		if b.err != nil {
			return nil, b.err
		}
		switch r := there[b.meta.ULID]; {
		case b.meta.Stats.NumSeries == 0:
			continue
		case r != nil && r.Complete() && !maps.Equal(r.Meta.Thanos.Labels, labels):
			return nil, fmt.Errorf("block %s is in %s already, with the external labels %s", r.ID, o, labelsText(r.Meta.Thanos.Labels))
		case r != nil && r.Complete():
			rows = append(rows, remoteRow(r))
			continue
		}
		fmt.Fprintf(c.ErrOrStderr(), "upload %d of %d: %s\n", i+1, len(blocks), b.name())
		r, err := o.Upload(c.Context(), b.dir, labels, time.Now())
		if err != nil {
			return nil, err
		}
		rows = append(rows, remoteRow(r))
	}
	return rows, nil
}
