package tiers

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-dev/weir/internal/rollup"
)

var errTest = errors.New("test")

func timeAt(s int64) time.Time { return time.Unix(1_700_000_000+s, 0) }

// damageFile flips a byte in the middle of a file, or cuts the file there.
func damageFile(t *testing.T, path string, cut bool) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if cut {
		b = b[:len(b)/2]
	} else {
		b[len(b)/2] ^= 0xff
	}
	if err := os.WriteFile(path, b, 0o640); err != nil {
		t.Fatal(err)
	}
}

func TestQuarantineRaw(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"index cut":       func(t *testing.T, dir string) { damageFile(t, filepath.Join(dir, "index"), true) },
		"no index":        func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, "index")) },
		"no meta":         func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, "meta.json")) },
		"meta cut":        func(t *testing.T, dir string) { damageFile(t, filepath.Join(dir, "meta.json"), true) },
		"no chunks":       func(t *testing.T, dir string) { _ = os.RemoveAll(filepath.Join(dir, "chunks")) },
		"chunk file cut":  func(t *testing.T, dir string) { _ = os.Truncate(filepath.Join(dir, "chunks", "000001"), 5) },
		"tombstones torn": func(t *testing.T, dir string) { damageFile(t, filepath.Join(dir, "tombstones"), false) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t.TempDir())
			r := open(t, cfg)
			r.rollUp(0, 12)
			dir := r.tiers.view()[1].dir
			lost := r.tiers.view()[1].span
			r.close()
			damage(t, dir)
			r = open(t, cfg) // fails when the TSDB does
			why, err := os.ReadFile(filepath.Join(cfg.Dir, QuarantineDir, filepath.Base(dir), reasonFile))
			if err != nil || len(why) < 30 {
				t.Errorf("reason: %q, %v", why, err)
			}
			if got := testutil.ToFloat64(r.tiers.metrics.quarantined.WithLabelValues(Raw)); got != 1 {
				t.Errorf("counted %g quarantined blocks", got)
			}
			// The rollups of the lost time are left.
			r.wantCounts("quarantined", 720, 720)
			if got := r.counts(5*minute, lost)["prod"]; got != float64((lost.to-lost.from)/minute) {
				t.Errorf("%g samples of the quarantined block's %v through 5m", got, lost)
			}
		})
	}
}

func TestQuarantineRollups(t *testing.T) {
	r, cfg := openDropped(t, 24)
	blocks := r.blocks("5m")
	first, last := blocks[0], blocks[len(blocks)-1]
	r.close()
	damageFile(t, filepath.Join(first.dir(), "index"), true)
	damageFile(t, filepath.Join(last.dir(), "meta.json"), false)
	r = open(t, cfg)
	for _, e := range []*entry{first, last} {
		why, err := os.ReadFile(filepath.Join(cfg.Dir, "rollup", "5m", QuarantineDir, filepath.Base(e.dir()), reasonFile))
		if err != nil || !strings.Contains(string(why), filepath.Base(e.dir())) {
			t.Errorf("reason: %q, %v", why, err)
		}
	}
	// The first has no raw data any more: the coarser rung answers. The last is rolled
	// anew.
	r.wantCounts("reopened", 24*60, 24*60)
	r.work()
	r.wantCounts("worked", 24*60, 24*60)
	got := r.blocks("5m")
	if end := got[len(got)-1].to; end != last.to {
		t.Errorf("5m ends at %s, want it rolled anew to %s", span{end, end}, last.span)
	}
}

// TestQuarantineOnRead damages a chunk, which opening does not look at.
func TestQuarantineOnRead(t *testing.T) {
	r := open(t, config(t.TempDir()))
	r.rollUp(0, 12)
	bad := r.blocks("1h")[0]
	path := filepath.Join(bad.dir(), "chunks", "000001")
	b, err := os.ReadFile(path)
	r.must(err)
	b[40] ^= 0xff
	f, err := os.OpenFile(path, os.O_WRONLY, 0) // the file that is mapped
	r.must(err)
	_, err = f.WriteAt(b[40:41], 40)
	r.must(errors.Join(err, f.Close()))

	set, err := r.tiers.Columns(t.Context(), rollup.Selection{
		Spans: []rollup.Span{{After: base, Until: base + 12*hour, Resolution: hour}}, Need: rollup.NeedCount,
	})
	r.must(err)
	var c rollup.Columns
	for set.Next() {
		if err = set.Columns(&c); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), bad.ULID().String()) {
		t.Errorf("reading a damaged chunk: %v", err)
	}
	r.must(set.Close())
	if _, err := os.Stat(filepath.Join(filepath.Dir(bad.dir()), QuarantineDir, bad.ULID().String())); err != nil {
		t.Error(err)
	}
	r.work()
	r.wantCounts("rolled anew", 720, 720)
	if got := r.held(hour); len(got) != 1 || got[0].from != math.MinInt64 {
		t.Errorf("1h is held %v", got)
	}
}
