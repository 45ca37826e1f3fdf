package block

import (
	"context"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb"
)

// TestRollCountsWhatItFolded lets a roll lose a sample, and gain one.
func TestRollCountsWhatItFolded(t *testing.T) {
	ctx, dir, out := context.Background(), t.TempDir(), t.TempDir()
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, 4*7_200_000)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	app, samples := w.Appender(ctx), uint64(0)
	for _, name := range []string{"a", "b"} {
		for i := range int64(400) {
			v := float64(i)
			if i%9 == 8 { // which is no sample
				v = math.Float64frombits(value.StaleNaN)
			} else {
				samples++
			}
			if _, err := app.Append(0, labels.FromStrings("__name__", name), i*15_000, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	id, err := w.Flush(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []uint64{0, 1, math.MaxUint64} {
		r, err := newRoller(filepath.Join(dir, id.String()), []Rung{{Resolution: 300_000, Dir: out}, {Resolution: 3_600_000, Dir: out}}, &Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []func(context.Context) error{r.selectSeries, r.markSymbols, r.begin} {
			if err := step(ctx); err != nil {
				t.Fatal(err)
			}
		}
		r.drafts[1].meta.Thanos.Extensions.Weir.Samples += off
		err = r.fold(ctx)
		if off == 0 && (err != nil || r.folded[0] != samples || r.folded[1] != samples) {
			t.Errorf("folded %d, want %d, or: %v", r.folded, samples, err)
		}
		if off != 0 && (err == nil || !strings.Contains(err.Error(), r.drafts[1].dest)) {
			t.Errorf("with %d samples too many: got error %v", int64(off), err)
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}
	if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
		t.Errorf("left %v, or: %v", left, err)
	}
}
