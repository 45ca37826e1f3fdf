package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/weir-dev/weir/internal/store/block"
)

func blocksVerifyCommand() *cobra.Command {
	var at blockPlace
	var out output
	var sizes bool
	c := &cobra.Command{
		Use:   "verify [BLOCK...]",
		Short: "Checks blocks, and names each fault",
		Long: `Checks blocks, all without arguments, and names each fault.

On disk every byte of a block is read: checksums, order, counts. In a
bucket every object is read and its hash compared with meta.json; with
--sizes-only just the sizes are.

Exits with 0 when all are good, else with 1.`,
		Example: `  weir blocks verify
  weir blocks verify --bucket --sizes-only --config.file=weir.yaml`,
		RunE: func(c *cobra.Command, args []string) error {
			list, err := at.verify(c.Context(), args, sizes, newTicker(c.ErrOrStderr()))
			if err != nil {
				return err
			}
			if err := out.write(c.OutOrStdout(), list, func(w io.Writer) { printVerified(w, list) }); err != nil {
				return err
			}
			bad := 0
			for _, v := range list {
				if len(v.Faults) > 0 {
					bad++
				}
			}
			if bad > 0 {
				return fmt.Errorf("%d of %d blocks are damaged", bad, len(list))
			}
			return nil
		},
	}
	at.flags(c)
	at.bucketFlag(c)
	out.flag(c)
	c.Flags().BoolVar(&sizes, "sizes-only", false, "in a bucket, compare sizes and read nothing")
	return c
}

// verified is what came of checking a block.
type verified struct {
	ULID    string   `json:"ulid"`
	Tier    string   `json:"tier,omitempty"`
	Series  uint64   `json:"series"`
	Samples uint64   `json:"samples"`
	Bytes   int64    `json:"bytes"`
	Faults  []string `json:"faults,omitempty"`
}

func (p *blockPlace) verify(ctx context.Context, args []string, sizes bool, tick *ticker) ([]verified, error) {
	if p.inBucket {
		return p.verifyRemote(ctx, args, sizes, tick)
	}
	blocks, err := p.pick(args)
	if err != nil {
		return nil, err
	}
	list := []verified{}
	for i, b := range blocks {
		tick.say("verify %d of %d: %s", i+1, len(blocks), b.name())
		r, err := block.Verify(ctx, b.dir)
		if err != nil {
			return nil, err
		}
		v := verified{ULID: b.name(), Series: r.Series, Samples: r.Samples, Bytes: r.Bytes}
		if r.Meta != nil {
			v.Tier = tierText(r.Meta)
		}
		for _, f := range r.Faults {
			v.Faults = append(v.Faults, f.Error())
		}
		if r.More > 0 {
			v.Faults = append(v.Faults, fmt.Sprintf("and %d more", r.More))
		}
		list = append(list, v)
	}
	return list, nil
}

func (p *blockPlace) verifyRemote(ctx context.Context, args []string, sizes bool, tick *ticker) ([]verified, error) {
	o, blocks, err := p.remote(ctx, args)
	if err != nil {
		return nil, err
	}
	defer func() { _ = o.Close() }()
	list := []verified{}
	for i, r := range blocks {
		tick.say("verify %d of %d: %s", i+1, len(blocks), r.ID)
		row := remoteRow(r)
		v := verified{ULID: row.ULID, Tier: row.Tier, Series: row.Series, Samples: row.Samples, Bytes: row.Bytes}
		err := errors.New(r.Why())
		if r.Complete() {
			err = o.Check(ctx, r.Meta, !sizes)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			v.Faults = append(v.Faults, err.Error())
		}
		list = append(list, v)
	}
	return list, nil
}

func printVerified(w io.Writer, list []verified) {
	fmt.Fprintln(w, "ULID\tTIER\tSERIES\tSAMPLES\tSIZE\tRESULT")
	for _, v := range list {
		result := "good"
		if len(v.Faults) > 0 {
			result = fmt.Sprintf("%d faults", len(v.Faults))
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%s\n", v.ULID, v.Tier, v.Series, v.Samples, bytesText(v.Bytes), result)
		for _, f := range v.Faults {
			fmt.Fprintf(w, "  %s\n", f)
		}
	}
}
