package tiers

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
)

// TestCrashBetweenSteps copies the directory after each step the worker takes, and
// looks for every sample in what reopening makes of the copy.
func TestCrashBetweenSteps(t *testing.T) {
	r, _ := openCut(t, 26)
	copies := 0
	for again := true; again; {
		again = false
		raw := r.tiers.view()
		for name, do := range map[string]step{"roll": r.tiers.rollNext, "merge": r.tiers.mergeNext, "retain": r.tiers.retainNext} {
			did, err := do(context.Background(), raw)
			r.must(err)
			if !did {
				continue
			}
			again = true
			if copies++; copies%2 != 1 { // each takes a while
				continue
			}
			r.wantReopened(name)
		}
	}
	if copies < 5 {
		t.Errorf("only %d steps", copies)
	}
	r.compact()
	r.wantReopened("drop raw")
}

// wantReopened opens a copy of the directory as a crash would leave it, and wants
// 26 hours in it, before and after the worker has run.
func (r *rig) wantReopened(when string) {
	r.t.Helper()
	cfg := r.tiers.cfg
	cfg.Retention.Time = 6 * time.Hour
	cfg.Dir = copyDir(r.t, r.dir)
	crashed := open(r.t, cfg)
	crashed.wantCounts("after "+when+", reopened", 26*60, 26*60)
	crashed.work()
	crashed.compact()
	crashed.wantCounts("after "+when+", worked", 26*60, 26*60)
	crashed.wantNoOrphans()
	crashed.close()
}

// wantNoOrphans wants on disk just what is served.
func (r *rig) wantNoOrphans() {
	r.t.Helper()
	for _, x := range r.tiers.rungs {
		entries, err := os.ReadDir(x.dir)
		r.must(err)
		if len(entries) != len(x.blocks) {
			r.t.Errorf("%s has %d entries, and %d blocks are served", x.dir, len(entries), len(x.blocks))
		}
	}
}

// TestCrashWithinSteps makes by hand what a kill within a step leaves.
func TestCrashWithinSteps(t *testing.T) {
	r := open(t, config(t.TempDir()))
	r.rollUp(0, 12)
	before := copyDir(t, r.dir)
	r.rollUp(12, 26)
	for name, crash := range map[string]func(dir string){
		"roll, one rung only": func(dir string) {
			blocks := r.blocks("1h")
			r.must(os.RemoveAll(filepath.Join(dir, "rollup", "1h", blocks[len(blocks)-1].ULID().String())))
		},
		"roll, half written": func(dir string) {
			half := filepath.Join(dir, "rollup", "5m", ulid.Make().String()+".tmp-for-creation")
			r.must(os.MkdirAll(filepath.Join(half, "chunks"), 0o750))
			r.must(os.WriteFile(filepath.Join(half, "index"), []byte("half"), 0o640))
		},
		"merge, parents still there": func(dir string) {
			for _, rung := range []string{"5m", "1h"} {
				old, err := os.ReadDir(filepath.Join(before, "rollup", rung))
				r.must(err)
				for _, e := range old {
					to := filepath.Join(dir, "rollup", rung, e.Name())
					if _, err := os.Stat(to); err != nil {
						r.must(os.CopyFS(to, os.DirFS(filepath.Join(before, "rollup", rung, e.Name()))))
					}
				}
			}
		},
		"delete, half deleted": func(dir string) {
			b := r.blocks("5m")[0].ULID().String()
			from := filepath.Join(dir, "rollup", "5m", b)
			r.must(os.CopyFS(filepath.Join(dir, "rollup", "5m", ulid.Make().String()+".tmp-for-deletion"), os.DirFS(from)))
		},
		"state, half written": func(dir string) {
			r.must(os.WriteFile(filepath.Join(dir, "rollup", stateFile+".tmp"), []byte("{"), 0o640))
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := r.tiers.cfg
			cfg.Dir = copyDir(t, r.dir)
			crash(cfg.Dir)
			crashed := open(t, cfg)
			crashed.wantCounts("reopened", 26*60, 26*60)
			crashed.work()
			crashed.wantCounts("worked", 26*60, 26*60)
			crashed.wantNoOrphans()
		})
	}
}

// TestCrashWhileDeleting reopens after each step of a deletion.
func TestCrashWhileDeleting(t *testing.T) {
	r, cfg := openDropped(t, 20)
	dev := labels.MustNewMatcher(labels.MatchEqual, "env", "dev")
	r.must(r.tiers.Delete(context.Background(), base, base+19*hour, dev))
	for _, stop := range []string{"asked", "raw done", "tiers done", "done"} {
		switch stop {
		case "asked":
			r.tiers.advance(r.tiers.state.Deletions[0].ID, func(d *deletion) { d.RawDone = false })
		case "tiers done":
			r.tiers.advance(r.tiers.state.Deletions[0].ID, func(d *deletion) { d.RawDone = true })
			r.must(r.tiers.deleteFromTiers(context.Background(), r.tiers.state.Deletions[0]))
		case "done":
			r.work()
		}
		crash := cfg
		crash.Dir = copyDir(t, r.dir)
		c := open(t, crash)
		c.wantDeleted(stop + ", reopened")
		c.work()
		c.wantDeleted(stop + ", worked")
		if n := len(c.tiers.state.Deletions); n != 0 {
			t.Errorf("%s: %d deletions never end", stop, n)
		}
		c.close()
	}
}

// wantDeleted wants nothing of dev up to base+19h in any tier, and all of prod.
func (r *rig) wantDeleted(when string) {
	r.t.Helper()
	for _, res := range []int64{0, 5 * minute, hour} {
		if got := r.counts(res, span{base, base + 19*hour + 1}); got["dev"] != 0 {
			r.t.Errorf("%s: through %s %g deleted samples", when, ms(res), got["dev"])
		}
		if got := r.counts(res, span{base, base + 100*hour}); got["prod"] != 20*60 {
			r.t.Errorf("%s: through %s %g samples of prod, want all", when, ms(res), got["prod"])
		}
	}
}
