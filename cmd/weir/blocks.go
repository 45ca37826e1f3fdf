package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/store/block"
	"github.com/weir-dev/weir/internal/store/bucket"
)

func blocksCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "blocks",
		Short: "Lists, checks, makes and moves blocks of samples",
		Long: `Lists, checks, makes and moves blocks: those of a data directory, or with
--bucket those of the bucket in the config file.`,
		Args: noVerb,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(blocksListCommand(), blocksInspectCommand(), blocksVerifyCommand(), blocksUploadCommand(),
		blocksRewriteCommand(), blocksRollupCommand(), blocksBackfillCommand())
	return c
}

// blockPlace is where a verb finds blocks: a data directory or a bucket.
type blockPlace struct {
	configFile, dir, bucketFile string
	inBucket                    bool

	cfg Config // when the verb runs
}

// flags gives the verb the flags of a place, and has the files that they name read
// before it runs.
func (p *blockPlace) flags(c *cobra.Command) {
	c.PreRunE = func(*cobra.Command, []string) error { return p.load() }
	c.Flags().StringVar(&p.configFile, "config.file", "", "take store.dir and store.bucket from this YAML `file`; empty for the defaults")
	c.Flags().StringVar(&p.dir, "dir", "", "data `directory`; empty for store.dir")
	c.Flags().StringVar(&p.bucketFile, "bucket.config.file", "", "take the bucket from this `file` (type, config, prefix: as Thanos')")
}

func (p *blockPlace) bucketFlag(c *cobra.Command) {
	c.Flags().BoolVar(&p.inBucket, "bucket", false, "the blocks of the bucket in the config file, instead of those on disk")
}

// load reads the files that the flags name.
func (p *blockPlace) load() (err error) {
	if p.cfg, err = loadConfig(p.configFile); err != nil {
		return err
	}
	if p.dir != "" {
		p.cfg.Store.Dir = p.dir
	}
	if p.bucketFile != "" {
		var l bucket.Location
		if err := conf.Load(p.bucketFile, &l); err != nil {
			return err
		}
		p.cfg.Store.Bucket.Location = l
		p.inBucket = true
	}
	return nil
}

// dial returns the bucket's client.
func (p *blockPlace) dial() (*bucket.Objects, error) {
	b := p.cfg.Store.Bucket
	if !b.On() {
		return nil, errors.New("there is no bucket: give --bucket.config.file, or --config.file with store.bucket")
	}
	return bucket.Dial(b.Location, b, slog.New(slog.DiscardHandler), nil)
}

// remote returns the bucket's client, which the caller closes, and the blocks in it
// that args name, or all.
func (p *blockPlace) remote(ctx context.Context, args []string) (*bucket.Objects, []*bucket.Remote, error) {
	o, err := p.dial()
	if err != nil {
		return nil, nil, err
	}
	list, err := pickRemote(ctx, o, args)
	if err != nil {
		_ = o.Close()
		return nil, nil, err
	}
	return o, list, nil
}

// localBlock is a block on disk.
type localBlock struct {
	dir  string
	meta *block.Meta // nil with err
	err  error
}

// name of the block: its directory's.
func (b localBlock) name() string { return filepath.Base(b.dir) }

// localBlocks returns the blocks of a data directory, raw ones and rollups, by time.
func localBlocks(dir string) ([]localBlock, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("list blocks: there is no data directory %s (store.dir, or --dir)", dir)
	}
	dirs := []string{dir}
	rungs, err := filepath.Glob(filepath.Join(dir, "rollup", "*"))
	if err != nil {
		return nil, err
	}
	var list []localBlock
	for _, d := range append(dirs, rungs...) {
		entries, err := os.ReadDir(d)
		if err != nil {
			return nil, fmt.Errorf("list blocks: %w", err)
		}
		for _, e := range entries {
			if _, err := ulid.ParseStrict(e.Name()); err == nil && e.IsDir() {
				list = append(list, readLocal(filepath.Join(d, e.Name())))
			}
		}
	}
	slices.SortStableFunc(list, func(a, b localBlock) int {
		if a.meta == nil || b.meta == nil {
			return 0
		}
		return byTime(a.meta, b.meta)
	})
	return list, nil
}

func readLocal(dir string) localBlock {
	m, err := block.ReadMeta(dir)
	return localBlock{dir, m, err}
}

func byTime(a, b *block.Meta) int {
	switch {
	case a.Resolution() != b.Resolution():
		return int(min(max(a.Resolution()-b.Resolution(), -1), 1))
	case a.MinTime != b.MinTime:
		return int(min(max(a.MinTime-b.MinTime, -1), 1))
	}
	return a.ULID.Compare(b.ULID)
}

// pick returns the blocks on disk that args name, by ULID or as directories, or all
// without args.
func (p *blockPlace) pick(args []string) ([]localBlock, error) {
	var all []localBlock
	var err error
	byPath := func(arg string) bool { return strings.ContainsRune(arg, filepath.Separator) || arg == "." }
	if len(args) == 0 || slices.ContainsFunc(args, func(a string) bool { return !byPath(a) }) {
		if all, err = localBlocks(p.cfg.Store.Dir); err != nil || len(args) == 0 {
			return all, err
		}
	}
	var list []localBlock
	for _, arg := range args {
		if byPath(arg) {
			abs, err := filepath.Abs(arg)
			if err != nil {
				return nil, err
			}
			list = append(list, readLocal(abs))
			continue
		}
		i := slices.IndexFunc(all, func(b localBlock) bool { return b.name() == arg })
		if i < 0 {
			return nil, fmt.Errorf("there is no block %s in %s", arg, p.cfg.Store.Dir)
		}
		list = append(list, all[i])
	}
	return list, nil
}

// pickRemote returns the blocks in the bucket that args name, or all.
func pickRemote(ctx context.Context, o *bucket.Objects, args []string) ([]*bucket.Remote, error) {
	all, err := o.List(ctx)
	if err != nil {
		return nil, err
	}
	var list []*bucket.Remote
	for _, arg := range args {
		id, err := ulid.ParseStrict(arg)
		if err != nil || all[id] == nil {
			return nil, fmt.Errorf("there is no block %s in %s", arg, o)
		}
		list = append(list, all[id])
	}
	if len(args) == 0 {
		for _, r := range all {
			list = append(list, r)
		}
		slices.SortFunc(list, func(a, b *bucket.Remote) int {
			if a.Meta == nil || b.Meta == nil {
				return a.ID.Compare(b.ID)
			}
			return byTime(a.Meta, b.Meta)
		})
	}
	return list, nil
}

// output is the form of an answer.
type output struct{ form string }

func (o *output) flag(c *cobra.Command) {
	c.Flags().StringVarP(&o.form, "output", "o", "table", "`form` of the answer: table or json")
}

// write prints v as JSON, or lets table print rows of cells parted by tabs.
func (o *output) write(w io.Writer, v any, table func(w io.Writer)) error {
	switch o.form {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "table":
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		table(tw)
		return tw.Flush()
	}
	return fmt.Errorf("--output: got %q, want table or json", o.form)
}

// ticker prints how far long work is, at most once a second.
type ticker struct {
	w    io.Writer
	last time.Time
}

func newTicker(w io.Writer) *ticker { return &ticker{w: w, last: time.Now()} }

func (t *ticker) say(format string, args ...any) {
	if time.Since(t.last) >= time.Second {
		t.last = time.Now()
		fmt.Fprintf(t.w, format+"\n", args...)
	}
}

// bytesText is for people: "1.2 GiB".
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// tierText is "raw" or the resolution.
func tierText(m *block.Meta) string {
	if m.Resolution() == 0 {
		return "raw"
	}
	return conf.Duration(time.Duration(m.Resolution()) * time.Millisecond).String()
}

// timeText is to the nearest minute: blocks end a millisecond after their last sample.
func timeText(ms int64) string {
	return time.UnixMilli(ms).Round(time.Minute).UTC().Format("2006-01-02 15:04")
}
