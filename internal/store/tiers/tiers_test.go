package tiers

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/rollup"
)

func TestRolledThenDropped(t *testing.T) {
	r, _ := openCut(t, 24)
	if got := r.rawSpans(); got[0].from > base+minute {
		t.Fatalf("raw data left before it was rolled up: %v", got)
	}
	due, err := r.tiers.Due()
	r.must(err)
	if len(due) == 0 || due[0].Waits == "" {
		t.Errorf("due before rolling: %+v, want raw blocks that wait", due)
	}
	r.wantCounts("before rolling", 24*60, 24*60)
	r.work()
	if due, err = r.tiers.Due(); err != nil || len(due) == 0 || due[0].Waits != "" {
		t.Errorf("due after rolling: %+v, %v, want raw blocks that do not wait", due, err)
	}
	r.wantCounts("rolled", 24*60, 24*60)
	r.compact()
	if got := r.rawSpans(); got[0].from < base+10*hour {
		t.Errorf("old raw data is still there: %v", got)
	}
	r.wantCounts("dropped", 24*60, 24*60)
	if got := r.held(rollup.Raw); got[0].from != r.rawSpans()[0].from {
		t.Errorf("raw is held %v, want from its oldest block on", got)
	}
	if got := r.held(5 * minute); len(got) != 1 || got[0].from != math.MinInt64 {
		t.Errorf("5m is held %v, want one stretch from ever", got)
	}
}

func TestReopen(t *testing.T) {
	r, cfg := openDropped(t, 24)
	r.work()
	n := len(r.blocks("5m"))
	r.close()
	r = open(t, cfg)
	r.work()
	if got := len(r.blocks("5m")); got != n {
		t.Errorf("%d blocks of 5m, want %d as before", got, n)
	}
	r.wantCounts("reopened", 24*60, 24*60)
}

func TestMergesAndRetains(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Retention.Time = 8 * time.Hour
	cfg.Rungs[0].Keep = 0
	r := open(t, cfg)
	for h := 0.0; h < 40; h += 4 {
		r.rollUp(h, h+4)
	}
	r.wantCounts("merged", 40*60, 40*60)
	longest := int64(0)
	for _, e := range r.blocks("1h") {
		longest = max(longest, e.to-e.from)
	}
	if longest < 11*hour {
		t.Errorf("longest block of 1h is %s, want about 12h", ms(longest))
	}
	// A shorter keep drops the rung's old blocks, and the next coarser one answers.
	r.close()
	cfg.Rungs[0].Keep = cfg.Rungs[0].Resolution * 12 * 12
	r = open(t, cfg)
	r.work()
	if first := r.blocks("5m")[0]; first.from < base+12*hour {
		t.Errorf("5m still begins at %v", first.span)
	}
	r.wantCounts("after keep", 40*60, 40*60)
}

func TestClockJumpsBack(t *testing.T) {
	r, _ := openCut(t, 24)
	r.now = func() time.Time { return time.UnixMilli(base - 100*hour) }
	r.work()
	r.compact()
	if got := r.rawSpans(); got[0].from > base+minute {
		t.Errorf("raw data left when the clock jumped back: %v", got)
	}
	r.now = func() time.Time { return time.UnixMilli(base + 1_000_000*hour) } // ahead
	r.work()
	r.compact()
	r.wantCounts("clock ahead", 24*60, 24*60)
	if len(r.blocks("5m")) == 0 {
		t.Error("rollups left when the clock jumped ahead")
	}
}

func TestLateData(t *testing.T) {
	cfg := config(t.TempDir())
	r := open(t, cfg)
	r.rollUp(0, 10)
	r.wantCounts("on time", 10*60, 10*60)
	r.fillAt(7, 7.5, minute, 30_000) // half a minute beside the others, 2.5 h late
	late := hours(7.02, 7.49)
	for _, h := range r.held(5 * minute) {
		if h.overlaps(late) {
			t.Errorf("5m claims to hold %v, where late samples wait", h)
		}
	}
	r.wantCounts("late", 10*60+30, 10*60+30)
	r.must(r.db.CompactOOOHead(context.Background()))
	r.work() // two raw blocks overlap now: nothing is rolled
	r.wantCounts("late, cut", 10*60+30, 10*60+30)
	r.compact()
	r.wantCounts("late, compacted", 10*60+30, 10*60+30)
	r.work()
	r.wantCounts("late, rolled", 10*60+30, 10*60+30)
	r.close() // the TSDB finds the out-of-order chunks again, that are in blocks
	r = open(t, cfg)
	r.wantCounts("late, reopened", 10*60+30, 10*60+30)
	if got := r.counts(5*minute, span{base + 7*hour + 1, base + 7*hour + 30*minute + 1})["prod"]; got != 59 {
		t.Errorf("%g samples in the half hour, want 30 and 29 late ones", got)
	}
}

func TestDiskPause(t *testing.T) {
	r := open(t, config(t.TempDir()))
	r.fill(0, 10)
	r.compact()
	r.short = errors.New("disk is full")
	r.work()
	if n := len(r.blocks("5m")); n != 0 {
		t.Errorf("%d blocks rolled on a full disk", n)
	}
	if s := r.tiers.Status(); s.Paused == "" || s.Waiting == 0 || s.LagSeconds == 0 {
		t.Errorf("status on a full disk: %+v", s)
	}
	r.short = nil
	r.work()
	if s := r.tiers.Status(); s.Paused != "" || s.Waiting != 0 || s.LagSeconds != 0 {
		t.Errorf("status with space again: %+v", s)
	}
	r.wantCounts("resumed", 600, 600)
}

func TestRungSelector(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Rungs[1].Selector = `{env="prod"}`
	r := open(t, cfg)
	r.rollUp(0, 10)
	for _, c := range []struct {
		ms      []*labels.Matcher
		partial bool
	}{
		{nil, true},
		{[]*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "env", "prod")}, false},
		{[]*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, "env", "prod|test")}, true},
	} {
		hs, err := r.tiers.Holdings(context.Background(), 0, math.MaxInt64, c.ms...)
		r.must(err)
		if len(hs) != 3 || hs[2].Partial != c.partial || hs[1].Partial {
			t.Errorf("%v: holdings %+v, want the coarsest partial: %t", c.ms, hs, c.partial)
		}
	}
	for _, e := range r.blocks("1h") {
		if e.meta.Stats.NumSeries != 1 {
			t.Errorf("block %s has %d series", e.ULID(), e.meta.Stats.NumSeries)
		}
	}
}

func TestRunStops(t *testing.T) {
	r := open(t, config(t.TempDir()))
	r.fill(0, 10)
	r.compact()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.tiers.Run(ctx) }()
	for deadline := time.Now().Add(20 * time.Second); r.tiers.Status().Waiting > 0; {
		if time.Now().After(deadline) {
			t.Fatal("nothing is rolled up")
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	r.must(<-ended)
	if !slices.ContainsFunc(r.tiers.Status().Rungs, func(s RungStatus) bool { return s.Blocks > 0 }) {
		t.Error("no blocks")
	}
}

// TestLeavesWhileAsked lets blocks of a rung leave between the two questions of a
// query: who holds what, and what it is.
func TestLeavesWhileAsked(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Rungs[0].Keep = conf.Duration(8 * time.Hour)
	r := open(t, cfg)
	r.rollUp(0, 8)
	spans := r.plan(5 * minute)
	first := r.blocks("5m")[0].span
	r.rollUp(8, 14)
	if now := r.blocks("5m")[0].span; now.from <= first.from {
		t.Fatalf("the first block of 5m is %v still", now)
	}
	set, err := r.tiers.Columns(t.Context(), rollup.Selection{Spans: spans, Need: rollup.NeedCount, Matchers: []*labels.Matcher{
		labels.MustNewMatcher(labels.MatchEqual, "env", "prod"),
	}})
	r.must(err)
	defer func() { r.must(set.Close()) }()
	n, last := 0.0, int64(0)
	var c rollup.Columns
	for set.Next() {
		r.must(set.Columns(&c))
		for i, end := range c.End {
			if end <= base+8*hour {
				n += c.Count[i]
			}
			if end <= last {
				t.Errorf("a window ends at %d after one that ends at %d", end, last)
			}
			last = end
		}
	}
	r.must(set.Err())
	if n != 8*60 {
		t.Errorf("%g samples in the first eight hours, want %d", n, 8*60)
	}
}
