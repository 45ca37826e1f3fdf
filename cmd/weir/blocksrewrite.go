package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/spf13/cobra"

	"github.com/weir-dev/weir/internal/store/block"
	"github.com/weir-dev/weir/internal/store/bucket"
	"github.com/weir-dev/weir/internal/store/tiers"
)

func blocksRewriteCommand() *cobra.Command {
	var at blockPlace
	var out output
	var r rewrite
	c := &cobra.Command{
		Use:   "rewrite --delete SELECTOR [BLOCK...]",
		Short: "Deletes series, or times of them, for good",
		Long: `Deletes series, or times of them, for good: blocks that hold any of it, of all
tiers, are written anew without it, checked, and put in the old ones'
place. Without arguments all blocks are looked at.

The server must be stopped (a running one deletes by its API, as
Prometheus does). What was deleted is noted in audit.log of the data
directory. Blocks that are in a bucket, too, are replaced there when the
server ships the new ones; blocks that are only there are rewritten with
--bucket, and the old ones marked for deletion.`,
		Example: `  weir blocks rewrite --delete='{job="secret"}' --dry-run
  weir blocks rewrite --bucket --config.file=weir.yaml --delete='{job="secret"}'
  weir blocks rewrite --delete='up{env="dev"}' --from=2026-01-01T00:00:00Z --until=2026-02-01T00:00:00Z`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := r.parse(); err != nil {
				return err
			}
			list, err := r.run(c.Context(), &at, args, newTicker(c.ErrOrStderr()))
			if err != nil {
				return err
			}
			return out.write(c.OutOrStdout(), list, func(w io.Writer) { r.print(w, list) })
		},
	}
	at.flags(c)
	at.bucketFlag(c)
	out.flag(c)
	c.Flags().StringArrayVar(&r.selectors, "delete", nil, "`selector` of series to delete, may be given again")
	c.Flags().StringVar(&r.from, "from", "", "delete from this `time` on (RFC 3339 or Unix seconds); empty for the beginning")
	c.Flags().StringVar(&r.until, "until", "", "delete up to this `time`, inclusive; empty for the end")
	c.Flags().BoolVar(&r.dry, "dry-run", false, "say which blocks would be rewritten, and change nothing")
	return c
}

// rewrite is what is to be deleted.
type rewrite struct {
	selectors   []string
	from, until string
	dry         bool

	interval tombstones.Interval
	dels     []block.Deletion
}

// rewritten is what became of a block.
type rewritten struct {
	Old    string `json:"old"`
	Tier   string `json:"tier"`
	Series int    `json:"series"` // that match, with all their times
	New    string `json:"new,omitempty"`
	Bytes  int64  `json:"bytes_before"`
	After  int64  `json:"bytes_after"`
}

func (r *rewrite) parse() error {
	if len(r.selectors) == 0 {
		return errors.New("nothing to delete, give --delete")
	}
	r.interval = tombstones.Interval{Mint: math.MinInt64, Maxt: math.MaxInt64}
	for _, t := range []struct {
		name, text string
		to         *int64
	}{{"--from", r.from, &r.interval.Mint}, {"--until", r.until, &r.interval.Maxt}} {
		if t.text == "" {
			continue
		}
		ms, err := parseTime(t.text)
		if err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		*t.to = ms
	}
	for _, s := range r.selectors {
		ms, err := parser.NewParser(parser.Options{}).ParseMetricSelector(s)
		if err != nil {
			return fmt.Errorf("--delete: got %q, want a selector such as up{job=\"api\"}: %w", s, err)
		}
		d := block.Deletion{Matchers: ms}
		if r.from != "" || r.until != "" {
			d.Intervals = tombstones.Intervals{r.interval}
		}
		r.dels = append(r.dels, d)
	}
	return nil
}

func parseTime(text string) (int64, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t.UnixMilli(), nil
	}
	s, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, fmt.Errorf("got %q, want a time such as 2026-01-31T00:00:00Z or Unix seconds", text)
	}
	return int64(s * 1000), nil
}

func (r *rewrite) run(ctx context.Context, at *blockPlace, args []string, tick *ticker) (list []rewritten, err error) {
	if at.inBucket {
		return r.runRemote(ctx, at, args, tick)
	}
	dir := at.cfg.Store.Dir
	blocks, err := at.pick(args)
	if err != nil {
		return nil, err
	}
	if !r.dry {
		lock, _, err := fileutil.Flock(filepath.Join(dir, "lock"))
		if err != nil {
			return nil, fmt.Errorf("rewrite blocks of %s: a server holds it, stop it first (%w)", dir, err)
		}
		defer func() { _ = lock.Release() }()
	}
	list = []rewritten{}
	for i, b := range blocks {
		tick.say("rewrite %d of %d: %s", i+1, len(blocks), b.name())
		if b.err != nil {
			return list, b.err
		}
		if b.meta.MinTime > r.interval.Maxt || b.meta.MaxTime <= r.interval.Mint {
			continue
		}
		one, err := r.one(ctx, b)
		if err != nil {
			return list, errors.Join(err, r.note(dir, list))
		}
		if one != nil {
			list = append(list, *one)
		}
	}
	return list, r.note(dir, list)
}

// runRemote rewrites blocks of a bucket: each is downloaded, rewritten, uploaded with
// the labels it had, and marked for deletion.
func (r *rewrite) runRemote(ctx context.Context, at *blockPlace, args []string, tick *ticker) (list []rewritten, err error) {
	o, blocks, err := at.remote(ctx, args)
	if err != nil {
		return nil, err
	}
	defer func() { _ = o.Close() }()
	tmp, err := os.MkdirTemp("", "weir-rewrite")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	list = []rewritten{}
	for i, b := range blocks {
		tick.say("rewrite %d of %d: %s", i+1, len(blocks), b.ID)
		if b.State() != "complete" {
			if b.Mark == nil {
				return list, fmt.Errorf("block %s in %s: %s", b.ID, o, b.Why())
			}
			continue
		}
		if b.Meta.MinTime > r.interval.Maxt || b.Meta.MaxTime <= r.interval.Mint {
			continue
		}
		dir, err := o.Download(ctx, b, tmp)
		if err != nil {
			return list, err
		}
		one, err := r.one(ctx, readLocal(dir))
		if err != nil {
			return list, err
		}
		if one != nil {
			list = append(list, *one)
			if err := r.replace(ctx, o, b, filepath.Join(tmp, one.New), one.New != ""); err != nil {
				return list, err
			}
		}
		if err := os.RemoveAll(filepath.Join(tmp, b.ID.String())); err != nil {
			return list, err
		}
	}
	return list, nil
}

// replace puts the block in dir, unless nothing is left, in the place of old.
func (r *rewrite) replace(ctx context.Context, o *bucket.Objects, old *bucket.Remote, dir string, left bool) error {
	if r.dry {
		return nil
	}
	why := "rewritten, nothing was left"
	if left {
		m, err := block.ReadMeta(dir)
		if err != nil {
			return err
		}
		if m.Stats.NumSeries > 0 {
			if _, err := o.Upload(ctx, dir, old.Meta.Thanos.Labels, time.Now()); err != nil {
				return err
			}
			why = "rewritten as " + m.ULID.String()
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return o.MarkForDeletion(ctx, old, why, time.Now())
}

// one rewrites a block; nil when nothing in it is to be deleted.
func (r *rewrite) one(ctx context.Context, b localBlock) (*rewritten, error) {
	n, err := r.matching(ctx, b.dir)
	if err != nil || n == 0 {
		return nil, err
	}
	one := &rewritten{Old: b.name(), Tier: tierText(b.meta), Series: n, Bytes: dirSize(b.dir)}
	if r.dry {
		return one, nil
	}
	m, err := block.Rewrite(ctx, b.dir, filepath.Dir(b.dir), r.dels, block.Options{After: b.meta.ULID})
	if err != nil || m == nil {
		return nil, err
	}
	if err := block.Remove(b.dir); err != nil {
		return nil, err
	}
	fresh := filepath.Join(filepath.Dir(b.dir), m.ULID.String())
	if m.Stats.NumSeries == 0 && m.Resolution() == 0 {
		return one, block.Remove(fresh) // a rollup's stays: it says what was rolled up
	}
	one.New, one.After = m.ULID.String(), dirSize(fresh)
	return one, nil
}

func (r *rewrite) matching(ctx context.Context, dir string) (n int, err error) {
	b, err := block.Open(dir)
	if err != nil {
		return 0, err
	}
	defer func() { _ = b.Close() }()
	for _, d := range r.dels {
		set, err := b.Select(ctx, d.Matchers...)
		if err != nil {
			return 0, err
		}
		for set.Next() {
			n++
		}
		if err := set.Err(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// note appends what was done to the data directory's audit log, a line a selector.
func (r *rewrite) note(dir string, list []rewritten) (err error) {
	if r.dry || len(list) == 0 {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, tiers.AuditFile), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	defer func() { err = errors.Join(err, f.Sync(), f.Close()) }()
	var ids []ulid.ULID
	for _, b := range list {
		ids = append(ids, ulid.MustParse(b.Old))
	}
	for _, s := range r.selectors {
		line := map[string]any{
			"time": time.Now().UTC(), "what": "rewrite", "matchers": s,
			"mint": r.interval.Mint, "maxt": r.interval.Maxt, "blocks": ids,
		}
		if err := json.NewEncoder(f).Encode(line); err != nil {
			return fmt.Errorf("write audit log: %w", err)
		}
	}
	return nil
}

func (r *rewrite) print(w io.Writer, list []rewritten) {
	if len(list) == 0 {
		fmt.Fprintln(w, "nothing to delete")
		return
	}
	fmt.Fprintln(w, "OLD\tTIER\tSERIES\tNEW\tBEFORE\tAFTER")
	for _, b := range list {
		fresh := b.New
		switch {
		case r.dry:
			fresh = "(dry run)"
		case fresh == "":
			fresh = "(nothing left)"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\n", b.Old, b.Tier, b.Series, fresh, bytesText(b.Bytes), bytesText(b.After))
	}
}
