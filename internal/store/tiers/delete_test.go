package tiers

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/rollup"
	"github.com/weir-dev/weir/internal/store/block"
)

func TestDelete(t *testing.T) {
	r, _ := openDropped(t, 20)
	dev := labels.MustNewMatcher(labels.MatchEqual, "env", "dev")
	// Ends within a window, where raw is left.
	cut := base + 15*hour + 30*minute
	r.must(r.tiers.Delete(context.Background(), math.MinInt64, cut, dev))
	check := func(when string) {
		t.Helper()
		for _, res := range []int64{rollup.Raw, 5 * minute, hour} {
			if got := r.counts(res, span{math.MinInt64, cut + 1}, dev); got["dev"] != 0 {
				t.Errorf("%s: through %s %g deleted samples can be read", when, ms(res), got["dev"])
			}
			if got := r.counts(res, span{cut + 1, math.MaxInt64}, dev); got["dev"] != 4.5*60 {
				t.Errorf("%s: through %s %g samples after the deletion, want %g", when, ms(res), got["dev"], 4.5*60)
			}
			if got := r.counts(res, span{math.MinInt64, math.MaxInt64}); got["prod"] != 20*60 {
				t.Errorf("%s: through %s %g samples of prod, want all", when, ms(res), got["prod"])
			}
		}
	}
	check("asked")
	r.work()
	check("worked")
	// On disk, too, and not hidden only.
	for _, name := range []string{"5m", "1h"} {
		for _, e := range r.blocks(name) {
			if e.to > cut {
				continue
			}
			found, err := e.open.Select(context.Background(), dev)
			r.must(err)
			for found.Next() {
				t.Errorf("block %s of %s still has %s", e.ULID(), name, found.Labels())
			}
		}
	}
	held := r.held(hour, dev)
	if len(held) != 1 {
		t.Errorf("1h is held %v after the deletion, want one stretch", held)
	}
	b, err := os.ReadFile(filepath.Join(r.dir, AuditFile))
	r.must(err)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	var asked, done auditLine
	if len(lines) == 2 {
		r.must(json.Unmarshal([]byte(lines[0]), &asked))
		r.must(json.Unmarshal([]byte(lines[1]), &done))
	}
	if asked.What != "deletion asked" || done.What != "deletion done" || asked.ID != done.ID || done.Matchers != `{env="dev"}` || len(done.Blocks) == 0 {
		t.Errorf("audit log:\n%s", b)
	}
}

func TestSelectorRetention(t *testing.T) {
	for name, c := range map[string]struct {
		tiers          []string
		raw, five, one float64 // hours of dev left, about
	}{
		"raw only":  {[]string{Raw}, 8, 24, 24},
		"raw and 5": {[]string{Raw, "5m"}, 8, 8, 24},
		"all":       {nil, 8, 8, 8},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t.TempDir())
			cfg.Retention.Selectors = []SelectorKeep{{Selector: `{env="dev"}`, Tiers: c.tiers, Keep: cfg.Rungs[0].Resolution * 12 * 8}}
			r := open(t, cfg)
			r.fill(0, 24)
			r.compact()
			due, err := r.tiers.Due()
			r.must(err)
			if len(due) == 0 || due[0].Waits == "" {
				t.Errorf("due before rolling: %+v", due)
			}
			r.work()
			r.compact()
			r.work()
			newest := r.tiers.newest(r.tiers.view())
			old := span{math.MinInt64, newest - 20*hour + 1}
			for res, kept := range map[int64]float64{rollup.Raw: c.raw, 5 * minute: c.five, hour: c.one} {
				got := r.onDisk(res, old)
				if (got > 0) != (kept > 8) {
					t.Errorf("%s has %g samples of dev of the first hours, want some: %t", ms(res), got, kept > 8)
				}
			}
			all := span{math.MinInt64, math.MaxInt64}
			if got := r.counts(rollup.Raw, all)["prod"]; got != 24*60 {
				t.Errorf("%g samples of prod, want all", got)
			}
			if c.one == 24 { // another tier has it: dev is read whole
				dev := labels.MustNewMatcher(labels.MatchEqual, "env", "dev")
				for _, res := range []int64{rollup.Raw, 5 * minute, hour} {
					if got := r.counts(res, all, dev)["dev"]; got != 24*60 {
						t.Errorf("through %s %g samples of dev, want all", ms(res), got)
					}
				}
			}
			n := len(r.blocks("5m"))
			r.close()
			r = open(t, cfg)
			r.work()
			r.compact()
			r.work()
			if got := len(r.blocks("5m")); got > n {
				t.Errorf("%d blocks of 5m after reopening, %d before: some were rolled again", got, n)
			}
			if got := r.counts(5*minute, all)["prod"]; got != 24*60 {
				t.Errorf("reopened: %g samples of prod, want all", got)
			}
		})
	}
}

// onDisk counts the samples of dev with a point or time in s that one tier has.
func (r *rig) onDisk(res int64, s span) (n float64) {
	if res == rollup.Raw {
		q, err := r.db.Querier(s.from, s.to-1)
		r.must(err)
		defer q.Close()
		set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, "env", "dev"))
		for set.Next() {
			it := set.At().Iterator(nil)
			for it.Next() != 0 {
				n++
			}
		}
		return n
	}
	set, err := r.tiers.Columns(context.Background(), rollup.Selection{
		Spans: []rollup.Span{{After: s.from, Until: s.to - 1, Resolution: res}}, Need: rollup.NeedCount,
		Matchers: block.Matchers{labels.MustNewMatcher(labels.MatchEqual, "env", "dev")},
	})
	r.must(err)
	defer set.Close()
	var c rollup.Columns
	for set.Next() {
		r.must(set.Columns(&c))
		for _, x := range c.Count {
			n += x
		}
	}
	return n
}

func TestDryRun(t *testing.T) {
	cfg := config(t.TempDir())
	r := open(t, cfg)
	r.fill(0, 26)
	r.compact()
	for { // roll only
		did, err := r.tiers.rollNext(context.Background(), r.tiers.view())
		r.must(err)
		if !did {
			break
		}
	}
	r.close()
	cfg.Rungs[0].Keep = cfg.Rungs[0].Resolution * 12 * 16
	r = open(t, cfg)
	r.must(r.tiers.Apply(Retention{Time: 8 * time.Hour}))
	due, err := r.tiers.Due()
	r.must(err)
	want := map[string]bool{}
	for _, x := range due {
		if x.Waits == "" {
			want[x.Tier+" "+x.ULID.String()] = true
		}
	}
	if len(want) < 4 {
		t.Fatalf("only %v are due", want)
	}
	before := r.everything()
	_, err = r.tiers.retainNext(context.Background(), r.tiers.view())
	r.must(err)
	r.must(r.db.CompactOOOHead(context.Background())) // reloads
	after := r.everything()
	for b := range before {
		if want[b] == after[b] {
			t.Errorf("block %s: due %t, still there %t", b, want[b], after[b])
		}
	}
}

func TestSizeRetention(t *testing.T) {
	cfg := config(t.TempDir())
	r := open(t, cfg)
	r.rollUp(0, 30)
	var tiers int64
	for _, s := range r.tiers.rungStatus() {
		tiers += s.Bytes
	}
	// Room for the rollups and little else.
	r.must(r.tiers.Apply(Retention{Size: conf.Bytes(r.db.Head().Size() + tiers + 2000)}))
	r.compact()
	raw := r.rawSpans()
	if raw[0].from < base+18*hour {
		t.Errorf("raw begins at %v", raw[0])
	}
	if raw[len(raw)-1].to < base+28*hour {
		t.Errorf("the newest raw block is gone: %v", raw)
	}
	r.wantCounts("small", 30*60, 30*60)
	// No room at all: the finest rung goes before the coarsest, none where raw is.
	r.must(r.tiers.Apply(Retention{Size: 1}))
	r.work()
	for _, name := range []string{"5m", "1h"} {
		for _, e := range r.blocks(name) {
			if e.to <= r.rawSpans()[0].from {
				t.Errorf("block %v of %s is still there", e.span, name)
			}
		}
		if len(r.blocks(name)) == 0 {
			t.Errorf("%s has lost what raw is there for", name)
		}
	}
}

func (r *rig) everything() map[string]bool {
	out := map[string]bool{}
	for _, b := range r.tiers.view() {
		out[Raw+" "+b.ULID.String()] = true
	}
	for _, x := range r.tiers.rungs {
		for _, e := range r.blocks(x.Name()) {
			out[x.Name()+" "+e.ULID().String()] = true
		}
	}
	return out
}
