package dataset

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Interval is the time between two scrapes.
const Interval = 15 * time.Second

// Spec is the shape of a data set.
type Spec struct {
	// Mix names the metrics: "mix" has the counters, histograms and gauges that
	// the range queries ask for, "counters" only http_requests_total.
	Mix string `json:"mix"`
	// Series is their number, a multiple of 20: a pod has 20.
	Series int `json:"series"`
	// Days is the length; each series has 5,760 samples a day.
	Days int `json:"days"`
	// Block is the longest time a block covers; blocks are cut at its multiples
	// since 1970, as the TSDB does. 0: one block.
	Block time.Duration `json:"block"`
	// Seed makes other labels and values of the same shape.
	Seed uint64 `json:"seed"`
}

// end is where every data set ends, in Unix milliseconds: 2026-11-14 00:00 UTC. It
// is fixed, so that equal specs are equal bytes; the 14 days before it lie within
// one aligned stretch of 486 h, the longest that a TSDB compacts to, so that no
// compactor touches one block of them.
const end = 1_794_614_400_000

// longestBlock is the longest block of a TSDB with a long retention: 2 h times
// 3^5.
const longestBlock = 486 * time.Hour

// Sets are the ready-made data sets.
var Sets = map[string]Spec{
	"small": {Mix: "mix", Series: 100, Days: 3, Seed: 1},
	"14d":   {Mix: "mix", Series: 2000, Days: 14, Seed: 1},
	"2d":    {Mix: "mix", Series: 20000, Days: 2, Seed: 1},
	"90d":   {Mix: "counters", Series: 2000, Days: 90, Block: longestBlock, Seed: 1},
}

// Validate says what is wrong with the first wrong field.
func (s Spec) Validate() error {
	switch {
	case templates[s.Mix] == nil:
		return fmt.Errorf("mix: got %q, want mix or counters", s.Mix)
	case s.Series < seriesPerPod || s.Series%seriesPerPod != 0:
		return fmt.Errorf("series: got %d, want a multiple of %d", s.Series, seriesPerPod)
	case s.Days < 1:
		return fmt.Errorf("days: got %d, want 1 or more", s.Days)
	case s.Block < 0 || s.Block%Interval != 0:
		return fmt.Errorf("block: got %s, want 0 (one block) or a multiple of %s", s.Block, Interval)
	}
	return nil
}

func (s Spec) String() string {
	text := fmt.Sprintf("%s, %d series x %d d at %s, seed %d", s.Mix, s.Series, s.Days, Interval, s.Seed)
	if s.Block > 0 {
		text += fmt.Sprintf(", blocks of at most %.0f h", s.Block.Hours())
	}
	return text
}

// Start is the time of the first scrape in Unix milliseconds. No sample is older.
func (s Spec) Start() int64 { return end - int64(s.Days)*86_400_000 }

// End is the end in Unix milliseconds, a midnight. Every sample is older, the
// newest by less than two scrapes.
func (s Spec) End() int64 { return end }

// Samples is their number in all series together.
func (s Spec) Samples() int64 { return int64(s.Series) * s.scrapes() }

func (s Spec) scrapes() int64 { return (s.End() - s.Start()) / Interval.Milliseconds() }

// cuts returns the borders of the blocks, in ms, first and last included.
func (s Spec) cuts() []int64 {
	out := []int64{s.Start()}
	if step := s.Block.Milliseconds(); step > 0 {
		for t := s.Start() - s.Start()%step + step; t < s.End(); t += step {
			out = append(out, t)
		}
	}
	return append(out, s.End())
}

// specFile holds the spec of the blocks beside it. It is written last.
const specFile = "dataset.json"

// Open returns the spec that the blocks in dir were written from, and the
// directories of the blocks, oldest first.
func Open(dir string) (Spec, []string, error) {
	var s Spec
	text, err := os.ReadFile(filepath.Join(dir, specFile))
	if err != nil {
		return s, nil, fmt.Errorf("open data set %s: %w", dir, err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, nil, fmt.Errorf("open data set %s: parse %s: %w", dir, specFile, err)
	}
	metas, err := filepath.Glob(filepath.Join(dir, strings.Repeat("?", 26), "meta.json"))
	if err != nil {
		return s, nil, err
	}
	if want := len(s.cuts()) - 1; len(metas) != want {
		return s, nil, fmt.Errorf("open data set %s: got %d blocks, want %d", dir, len(metas), want)
	}
	slices.Sort(metas) // a ULID begins with the time of the block's end
	for i := range metas {
		metas[i] = filepath.Dir(metas[i])
	}
	return s, metas, nil
}
