package tiers

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"go.uber.org/goleak"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/rollup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	minute = int64(60_000)
	hour   = 60 * minute
	base   = 472_222 * hour // a whole hour; samples are a minute apart
)

// rig is a TSDB with its tiers, worked by hand.
type rig struct {
	t     *testing.T
	dir   string
	tiers *Tiers
	db    *tsdb.DB
	short error
	now   func() time.Time
}

func config(dir string) Config {
	return Config{
		Dir: dir,
		Rungs: []Rung{
			{Resolution: conf.Duration(5 * time.Minute), Keep: conf.Duration(60 * 24 * time.Hour)},
			{Resolution: conf.Duration(time.Hour)},
		},
		MinBlock: 2 * time.Hour, Late: 4 * time.Hour, Memory: 4 << 20, Check: 10 * time.Millisecond,
	}
}

func open(t *testing.T, cfg Config) *rig {
	t.Helper()
	r := &rig{t: t, dir: cfg.Dir, now: time.Now}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: logLevel()}))
	var err error
	r.tiers, err = New(cfg, Deps{
		Log: log, Reg: prometheus.NewRegistry(), Now: func() time.Time { return r.now() },
		DB: func() *tsdb.DB { return r.db }, Short: func() error { return r.short },
	})
	r.must(err)
	r.must(os.MkdirAll(cfg.Dir, 0o750))
	r.must(r.tiers.QuarantineRaw())
	r.must(r.tiers.Open())
	o := tsdb.DefaultOptions()
	o.MinBlockDuration, o.MaxBlockDuration = 2*hour, 6*hour
	o.OutOfOrderTimeWindow = cfg.Late.Milliseconds()
	o.StripeSize, o.MaxBlockChunkSegmentSize, o.WALSegmentSize = 64, 1<<20, 1<<20
	o.BlocksToDelete, o.BlockCompactionExcludeFunc = r.tiers.Deletable, r.tiers.Exclude
	tsdbLog := slog.New(slog.DiscardHandler)
	if logLevel() == slog.LevelDebug {
		tsdbLog = log
	}
	db, err := tsdb.Open(cfg.Dir, tsdbLog, nil, o, nil)
	r.must(err)
	db.DisableCompactions()
	r.db = db
	t.Cleanup(r.close)
	return r
}

// openCut opens a new directory with hours of raw data, cut into blocks, of which 6 are
// to be kept.
func openCut(t *testing.T, hours float64) (*rig, Config) {
	t.Helper()
	cfg := config(t.TempDir())
	cfg.Retention.Time = 6 * time.Hour
	r := open(t, cfg)
	r.fill(0, hours)
	r.compact()
	return r, cfg
}

// openDropped is openCut with all of it rolled up, and then of raw the old blocks gone.
func openDropped(t *testing.T, hours float64) (*rig, Config) {
	t.Helper()
	r, cfg := openCut(t, hours)
	r.work()
	r.compact()
	return r, cfg
}

func (r *rig) close() {
	if r.db == nil {
		return
	}
	r.must(r.db.Close())
	r.db = nil
	r.must(r.tiers.Close(context.Background()))
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func series(name, env string) labels.Labels {
	return labels.FromStrings("__name__", name, "env", env)
}

// fill appends a sample a minute to both series, in (base+from, base+to] hours; each
// has the value 1.
func (r *rig) fill(from, to float64) { r.fillAt(from, to, minute, 0) }

func (r *rig) fillAt(from, to float64, step, offset int64) {
	r.t.Helper()
	app := r.db.AppenderV2(context.Background())
	for t := base + int64(from*float64(hour)) + step + offset; t <= base+int64(to*float64(hour))+offset; t += step {
		for _, ls := range []labels.Labels{series("m", "prod"), series("m", "dev")} {
			if _, err := app.Append(0, ls, 0, t, 1, nil, nil, storage.AOptions{}); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	r.must(app.Commit())
}

// bring adds a block of such samples that was made elsewhere.
func (r *rig) bring(from, to float64, offset int64) {
	r.t.Helper()
	var all []storage.Series
	for _, ls := range []labels.Labels{series("m", "prod"), series("m", "dev")} {
		var s []chunks.Sample
		for t := base + int64(from*float64(hour)) + minute + offset; t <= base+int64(to*float64(hour))+offset; t += minute {
			s = append(s, one(t))
		}
		all = append(all, storage.NewListSeries(ls, s))
	}
	_, err := tsdb.CreateBlock(all, r.dir, 2*hour, slog.New(slog.DiscardHandler))
	r.must(err)
}

// one is a sample of 1 at a time.
type one int64

func (s one) T() int64                    { return int64(s) }
func (one) ST() int64                     { return 0 }
func (one) F() float64                    { return 1 }
func (one) H() *histogram.Histogram       { return nil }
func (one) FH() *histogram.FloatHistogram { return nil }
func (one) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s one) Copy() chunks.Sample         { return s }

// rollUp fills, and has what is in blocks then rolled up.
func (r *rig) rollUp(from, to float64) {
	r.t.Helper()
	r.fill(from, to)
	r.compact()
	r.work()
}

// compact does all the TSDB has to do.
func (r *rig) compact() {
	r.t.Helper()
	r.must(r.db.Compact(context.Background()))
	r.must(r.db.CompactOOOHead(context.Background())) // reloads, which deletes
	r.must(r.db.Compact(context.Background()))
}

// work lets the worker do all there is to do.
func (r *rig) work() {
	r.t.Helper()
	for n := 0; r.tiers.Pass(context.Background()); n++ {
		if n > 500 {
			r.t.Fatal("the worker never ends")
		}
	}
	if f := r.tiers.retry.lastFailure(); f != nil {
		r.t.Fatalf("%s: %s", f.Subject, f.Error)
	}
}

func (r *rig) rawSpans() (out []span) {
	for _, b := range r.tiers.view() {
		out = append(out, b.span)
	}
	return out
}

func hours(from, to float64) span {
	return span{base + int64(from*float64(hour)), base + int64(to*float64(hour))}
}

// held are the stretches of a resolution for a selector; 0 is raw.
func (r *rig) held(res int64, ms ...*labels.Matcher) []span {
	r.t.Helper()
	hs, err := r.tiers.Holdings(context.Background(), math.MinInt64, math.MaxInt64, ms...)
	r.must(err)
	for _, h := range hs {
		if h.Resolution == res {
			var out []span
			for _, i := range h.Held {
				out = append(out, span{i.MinT, plus(i.MaxT, 1)})
			}
			return out
		}
	}
	r.t.Fatalf("no holding of %d", res)
	return nil
}

// plan covers all time: rung res where it is held, else raw where that is, else the
// coarsest.
func (r *rig) plan(res int64, ms ...*labels.Matcher) (spans []rollup.Span) {
	left := []span{hours(-1000, 1000)}
	for _, res := range []int64{res, rollup.Raw, 5 * minute, hour} {
		held := r.held(res, ms...)
		var rest []span
		for _, l := range left {
			for _, h := range held {
				if c := h.cut(l); !c.empty() {
					spans = append(spans, rollup.Span{After: c.from - 1, Until: c.to - 1, Resolution: res})
				}
			}
			rest = append(rest, l.minus(held)...)
		}
		left = rest
	}
	slices.SortFunc(spans, func(a, b rollup.Span) int { return cmp.Compare(a.After, b.After) })
	for i := 1; i < len(spans); i++ { // a seam is at the end of a coarse window, as the query room has it
		a, b := &spans[i-1], &spans[i]
		if a.Until == b.After && a.Resolution > b.Resolution {
			end := windowEnd(a.Until, a.Resolution)
			if slices.ContainsFunc(r.held(a.Resolution, ms...), func(s span) bool { return s.from <= a.Until && end < s.to }) {
				a.Until, b.After = end, end
			}
		}
	}
	return spans
}

// counts returns the number of samples of each series, by its environment, read
// through rung res where it is held.
func (r *rig) counts(res int64, within span, ms ...*labels.Matcher) map[string]float64 {
	r.t.Helper()
	ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, "__name__", "m"))
	set, err := r.tiers.Columns(context.Background(), rollup.Selection{
		Spans: r.plan(res, ms...), Need: rollup.NeedCount | rollup.NeedSum | rollup.NeedInc | rollup.NeedLast, Matchers: ms,
	})
	r.must(err)
	defer func() { r.must(set.Close()) }()
	out := map[string]float64{}
	var c rollup.Columns
	for set.Next() {
		r.must(set.Columns(&c))
		if !slices.IsSorted(c.End) {
			r.t.Errorf("%s: ends are not in order", set.Labels())
		}
		for i, n := range c.Count {
			if c.End[i] >= within.from && c.End[i] < within.to {
				out[set.Labels().Get("env")] += n
			}
			if c.Sum[i] != n {
				r.t.Errorf("%s at %d: %g samples of 1 have the sum %g", set.Labels(), c.End[i], n, c.Sum[i])
			}
		}
	}
	r.must(set.Err())
	return out
}

// wantCounts checks both series at all rungs and raw.
func (r *rig) wantCounts(when string, prod, dev float64) {
	r.t.Helper()
	for _, res := range []int64{rollup.Raw, 5 * minute, hour} {
		for env, want := range map[string]float64{"prod": prod, "dev": dev} {
			got := r.counts(res, span{math.MinInt64, math.MaxInt64}, labels.MustNewMatcher(labels.MatchEqual, "env", env))
			if got[env] != want {
				r.t.Errorf("%s: through %s: %g samples of %s, want %g", when, ms(res), got[env], env, want)
			}
		}
	}
}

func (r *rig) blocks(name string) (out []*entry) {
	r.tiers.mu.RLock()
	defer r.tiers.mu.RUnlock()
	for _, x := range r.tiers.rungs {
		if x.Name() == name {
			return slices.Clone(x.blocks)
		}
	}
	r.t.Fatalf("no rung %s", name)
	return nil
}

func copyDir(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(to, "lock"))
	return to
}

func (s span) String() string {
	return fmt.Sprintf("[%gh, %gh)", float64(s.from-base)/float64(hour), float64(s.to-base)/float64(hour))
}

// logLevel shows what the worker does when WEIR_HISTORY_SEED asks for one history.
func logLevel() slog.Level {
	if os.Getenv("WEIR_HISTORY_SEED") != "" {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}
