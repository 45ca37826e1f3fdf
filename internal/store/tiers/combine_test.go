package tiers

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-dev/weir/internal/rollup"
)

// TestBlockWithoutRaw rolls a block that somebody brought of a time whose raw data is
// gone: its samples add up with what was rolled before, on reading as after merging.
func TestBlockWithoutRaw(t *testing.T) {
	cfg := config(t.TempDir())
	r := open(t, cfg)
	r.rollUp(0, 12)
	r.must(r.tiers.Apply(Retention{Time: cfg.Late}))
	r.compact()
	if got := r.rawSpans(); got[0].from < base+2*hour {
		t.Fatalf("raw begins at %v", got[0])
	}
	r.must(r.tiers.Apply(Retention{}))
	r.bring(0.5, 1, 30_000)
	r.compact()
	all := span{math.MinInt64, math.MaxInt64}
	check := func(when string) {
		t.Helper()
		for _, res := range []int64{5 * minute, hour} {
			if got := r.counts(res, all)["prod"]; got != 12*60+30 {
				t.Errorf("%s: through %s %g samples, want %d", when, ms(res), got, 12*60+30)
			}
		}
	}
	for {
		did, err := r.tiers.rollNext(t.Context(), r.tiers.view())
		r.must(err)
		if !did {
			break
		}
	}
	r.must(r.tiers.Apply(Retention{Time: cfg.Late}))
	r.must(r.db.CompactOOOHead(t.Context())) // that block leaves, too
	if n := len(overlapping(r.blocks("5m"))); n != 1 {
		t.Fatalf("%d runs of overlapping blocks, want 1", n)
	}
	check("rolled")
	r.work()
	if n := len(overlapping(r.blocks("5m"))); n != 0 {
		t.Errorf("%d runs of overlapping blocks after merging", n)
	}
	check("merged")
}

// TestLateAgain gives the TSDB a log of late samples once more when the raw data of
// their time is gone, as a kill may: the rollups have them.
func TestLateAgain(t *testing.T) {
	cfg := config(t.TempDir())
	r := open(t, cfg)
	r.fill(0, 3)
	r.fillAt(0.5, 1, minute, 30_000)
	wbl := filepath.Join(cfg.Dir, "wbl")
	log := copyDir(t, wbl)
	r.rollUp(3, 12)
	r.must(r.tiers.Apply(Retention{Time: cfg.Late}))
	r.compact()
	first := r.rawSpans()[0].from
	if first < base+2*hour || r.tiers.RawFrom() != first {
		t.Fatalf("raw begins at %d, and samples are taken from %d on", first, r.tiers.RawFrom())
	}
	r.close()
	r.must(os.RemoveAll(wbl))
	r.must(os.CopyFS(wbl, os.DirFS(log)))

	r = open(t, cfg)
	if from := r.db.Head().MinOOOTime(); from > base+hour {
		t.Fatalf("no late samples were replayed: they begin at %d", from)
	}
	r.compact()
	for _, s := range r.rawSpans() {
		if s.from < first {
			t.Errorf("raw block %v, want none before %d", s, first)
		}
	}
	r.work()
	for _, res := range []int64{5 * minute, hour} {
		if got := r.counts(res, span{math.MinInt64, math.MaxInt64})["prod"]; got != 12*60+30 {
			t.Errorf("through %s %g samples, want %d", ms(res), got, 12*60+30)
		}
	}
}

// TestRewrittenShadows cleans tombstones in raw data, which gives the block a new
// source.
func TestRewrittenShadows(t *testing.T) {
	r := open(t, config(t.TempDir()))
	r.rollUp(0, 12)
	dev := labels.MustNewMatcher(labels.MatchEqual, "env", "dev")
	r.must(r.db.Delete(t.Context(), base, base+2*hour, dev)) // behind the tiers' back
	r.must(r.db.CleanTombstones())
	for {
		did, err := r.tiers.rollNext(t.Context(), r.tiers.view())
		r.must(err)
		if !did {
			break
		}
	}
	for _, res := range []int64{0, 5 * minute, hour} {
		got := r.counts(res, span{math.MinInt64, math.MaxInt64})
		if got["prod"] != 720 || got["dev"] != 600 {
			t.Errorf("through %s: %v", ms(res), got)
		}
	}
	r.tiers.state = state{} // as if the file were lost
	r.close()
	r = open(t, config(r.dir))
	r.work()
	r.wantCounts("state lost", 720, 600)
}

func TestAddPoint(t *testing.T) {
	point := func(end int64, n float64) rollup.Columns {
		return rollup.Columns{Start: []int64{end - 10}, End: []int64{end}, Count: []float64{n}, Sum: []float64{n}, Min: []float64{-n}, Max: []float64{n}}
	}
	c := point(20, 1)
	for _, p := range []rollup.Columns{point(40, 2), point(19, 3), point(10, 4)} {
		if err := addPoint(&c, 0, &p, 0, 10); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(c.End, []int64{10, 20, 40}) || !slices.Equal(c.Count, []float64{4, 4, 2}) ||
		!slices.Equal(c.Min, []float64{-4, -3, -2}) || !slices.Equal(c.Max, []float64{4, 3, 2}) {
		t.Errorf("got %+v", c)
	}
	ended := func(end, gone int64) rollup.Columns {
		x := point(end, 1)
		x.Ended, x.Gone = []bool{gone > 0}, []int64{gone}
		return x
	}
	for _, x := range []struct {
		a, b, want rollup.Columns
	}{
		{ended(18, 20), ended(20, 0), ended(20, 0)},
		{ended(20, 0), ended(18, 20), ended(20, 0)},
		{ended(16, 20), ended(18, 25), ended(18, 25)},
	} {
		if err := addPoint(&x.a, 0, &x.b, 0, 10); err != nil || x.a.End[0] != x.want.End[0] || x.a.Ended[0] != x.want.Ended[0] || x.a.Gone[0] != x.want.Gone[0] {
			t.Errorf("got %+v, want the end of %+v, or: %v", x.a, x.want, err)
		}
	}
	if math.IsNaN(lesser(math.NaN(), 1)) || math.IsNaN(greater(1, math.NaN())) || !math.IsNaN(lesser(math.NaN(), math.NaN())) {
		t.Error("NaN is not passed over")
	}
}
