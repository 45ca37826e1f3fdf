package tiers

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-dev/weir/internal/rollup"
)

// TestHistory takes random steps of writing, compacting, rolling, deleting and
// crashing, and after each counts every sample through every rung.
func TestHistory(t *testing.T) {
	seeds := []uint64{1, 2, 1047, 1118}                // the last two once lost samples
	if s := os.Getenv("WEIR_HISTORY_SEEDS"); s != "" { // as many, for a longer search
		n, _ := strconv.Atoi(s)
		for i := range uint64(n) {
			seeds = append(seeds, 1000+i)
		}
	}
	if s := os.Getenv("WEIR_HISTORY_SEED"); s != "" { // one, told in full
		n, _ := strconv.ParseUint(s, 10, 64)
		seeds = []uint64{n}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { newHistory(t, seed).run(40) })
	}
}

type history struct {
	*rig
	cfg   Config
	rnd   *rand.Rand
	times map[string]map[int64]bool // by environment
	end   int64                     // of what was written
	cut   int64                     // when the head was last compacted
	late  int64                     // makes late samples differ
	gone  []span                    // deleted: the TSDB hides what is written there as long as the head has the time
}

func newHistory(t *testing.T, seed uint64) *history {
	cfg := config(t.TempDir())
	cfg.Retention.Time = 8 * time.Hour
	h := &history{cfg: cfg, rnd: rand.New(rand.NewPCG(seed, 1)), end: base, cut: base, times: map[string]map[int64]bool{"prod": {}, "dev": {}}}
	h.rig = open(t, cfg)
	return h
}

func (h *history) run(steps int) {
	for n := range steps {
		did := h.step()
		h.t.Logf("step %d: %s", n, did)
		h.check(fmt.Sprintf("step %d, %s", n, did))
		if h.t.Failed() {
			return
		}
	}
	h.work()
	h.compact()
	h.work()
	h.check("end")
	h.wantNoOrphans()
}

func (h *history) step() string {
	switch n := h.rnd.IntN(16); {
	case n < 4:
		if h.end-h.cut >= 4*hour { // as the TSDB does by itself
			h.compact()
			h.cut = h.end
		}
		hours := 1 + h.rnd.Int64N(4)
		h.write(h.end, h.end+hours*hour, minute, 0)
		h.end += hours * hour
		return "write"
	case n < 6:
		h.late += 7
		from := h.end - 230*minute + h.rnd.Int64N(200*minute)
		if from < base || slices.ContainsFunc(h.gone, span{from, from + 11*minute}.overlaps) {
			return "nothing"
		}
		h.write(from, from+10*minute, minute, h.late)
		return "write late"
	case n < 9:
		h.compact()
		h.cut = h.end
		return "compact"
	case n < 13:
		h.tiers.Pass(context.Background())
		return "one pass"
	case n < 14:
		h.work()
		return "work"
	case n < 15:
		return h.deletes()
	}
	h.t.Helper()
	h.cfg.Dir = copyDir(h.t, h.dir)
	h.close()
	h.rig = open(h.t, h.cfg)
	return "crash"
}

func (h *history) write(from, to, step, offset int64) {
	h.t.Helper()
	app := h.db.AppenderV2(context.Background())
	for at := from + step + offset; at <= to+offset && at <= max(h.end, to); at += step {
		for env, times := range h.times {
			if _, err := app.Append(0, series("m", env), 0, at, 1, nil, nil, storage.AOptions{}); err != nil {
				h.t.Fatal(err)
			}
			times[at] = true
		}
	}
	h.must(app.Commit())
}

// deletes whole hours, so that no window is deleted in part.
func (h *history) deletes() string {
	hours := (h.end - base) / hour
	if hours < 2 {
		return "nothing"
	}
	from := base + h.rnd.Int64N(hours)*hour
	to := from + (1+h.rnd.Int64N(3))*hour
	h.must(h.tiers.Delete(context.Background(), from+1, to, labels.MustNewMatcher(labels.MatchEqual, "env", "dev")))
	h.gone = append(h.gone, span{from, to + 1})
	for at := range h.times["dev"] {
		if at > from && at <= to {
			delete(h.times["dev"], at)
		}
	}
	return fmt.Sprintf("delete %v", span{from, to})
}

func (h *history) check(when string) {
	h.t.Helper()
	for env, times := range h.times {
		for _, res := range []int64{0, 5 * minute, hour} {
			got := h.counts(res, span{math.MinInt64, math.MaxInt64}, labels.MustNewMatcher(labels.MatchEqual, "env", env))
			if got[env] != float64(len(times)) {
				h.t.Errorf("%s: through %s %g samples of %s, want %d; held %v, raw blocks %v, read %s, differing%s",
					when, ms(res), got[env], env, len(times), h.held(res), h.rawSpans(), spansText(h.plan(res)), h.missing(env, res))
			}
		}
	}
}

func spansText(spans []rollup.Span) (text string) {
	for _, s := range spans {
		text += fmt.Sprintf(" %s %v", ms(s.Resolution), span{s.After, s.Until})
	}
	return text
}

// missing tells which hours differ from what was written.
func (h *history) missing(env string, res int64) (text string) {
	for from := base; from < h.end+hour; from += hour {
		want := 0
		for at := range h.times[env] {
			if at > from && at <= from+hour {
				want++
			}
		}
		got := h.counts(res, span{from + 1, from + hour + 1}, labels.MustNewMatcher(labels.MatchEqual, "env", env))
		if got[env] != float64(want) {
			text += fmt.Sprintf(" %v: %g of %d", span{from, from + hour}, got[env], want)
		}
	}
	return text
}
