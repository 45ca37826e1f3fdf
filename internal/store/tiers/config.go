package tiers

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/weir-dev/weir/internal/conf"
)

// Rung is one step of the ladder of rollups.
type Rung struct {
	// Length of a window, at least 1m; it divides that of the next rung and the
	// blocks' length. Restart.
	Resolution conf.Duration `yaml:"resolution"`
	// How long its blocks are kept, no shorter than those of a finer rung. 0: for
	// ever. Restart.
	Keep conf.Duration `yaml:"keep"`
	// Series to roll up, as in '{job="api"}'. Empty: all. Restart.
	Selector string `yaml:"selector"`
}

// Name is the resolution as in the file: "5m". It names the rung's folder.
func (r Rung) Name() string { return r.Resolution.String() }

// SelectorKeep bounds the time that some series are kept.
type SelectorKeep struct {
	// The series, as in '{env="dev"}'. Reload.
	Selector string `yaml:"selector"`
	// Tiers they leave: raw, or a rung by its resolution. Empty: all. Reload.
	Tiers []string `yaml:"tiers"`
	// How long they are kept there, longer than out_of_order_window and
	// min_block_duration together. Blocks are rewritten without them when they are
	// wholly older. Reload.
	Keep conf.Duration `yaml:"keep"`
}

// Raw is the name of the tier of samples as they came.
const Raw = "raw"

// Config is what the parts of the store's configuration come to.
type Config struct {
	Dir       string // of the store
	Rungs     []Rung // finest first
	Retention Retention
	MinBlock  time.Duration // shortest block of the TSDB
	Late      time.Duration // out-of-order window
	Memory    conf.Bytes    // that rolling may take
	Check     time.Duration // how often work is looked for
	// RawOnDisk is how long raw blocks that are in the bucket stay on disk, too.
	// 0: as long as Retention.Time says.
	RawOnDisk time.Duration
	// External are the labels of this server in the bucket, written to each meta.
	External map[string]string
}

// Retention bounds what is kept.
type Retention struct {
	Time      time.Duration // of raw blocks; 0: no bound
	Size      conf.Bytes    // of everything below Dir; 0: no bound
	Selectors []SelectorKeep
}

// DefaultRungs are five minutes for a quarter and an hour for three years.
func DefaultRungs() []Rung {
	const day = 24 * time.Hour
	return []Rung{
		{Resolution: conf.Duration(5 * time.Minute), Keep: conf.Duration(90 * day)},
		{Resolution: conf.Duration(time.Hour), Keep: conf.Duration(3 * 365 * day)},
	}
}

// ValidateRungs adds what is wrong with a ladder to f. block is the length of the
// shortest block.
func ValidateRungs(f *conf.Faults, rungs []Rung, block conf.Duration) {
	for i, r := range rungs {
		f := f.At(fmt.Sprintf("[%d]", i))
		switch {
		case r.Resolution < conf.Duration(time.Minute):
			f.Add("resolution", r.Resolution, "1m or more")
			continue
		case block > 0 && (block < r.Resolution || block%r.Resolution != 0):
			f.Add("resolution", r.Resolution, fmt.Sprintf("a length that divides store.min_block_duration (%s)", block))
		}
		if r.Keep < 0 {
			f.Add("keep", r.Keep, "0s (for ever) or more")
		}
		if r.Selector != "" {
			if _, err := parseSelector(r.Selector); err != nil {
				f.Add("selector", r.Selector, fmt.Sprintf(`nothing (all series) or a selector such as {job="api"} (%v)`, err))
			}
		}
		if i == 0 || rungs[i-1].Resolution < conf.Duration(time.Minute) {
			continue
		}
		finer := rungs[i-1]
		if r.Resolution <= finer.Resolution || r.Resolution%finer.Resolution != 0 {
			f.Add("resolution", r.Resolution, fmt.Sprintf("a multiple of the rung before (%s): an hour is made of whole quarters, not of whole 7m", finer.Resolution))
		}
		if r.Keep != 0 && (finer.Keep == 0 || r.Keep < finer.Keep) {
			want := "at least the keep of the finer rung (" + finer.Keep.String() + ")"
			if finer.Keep == 0 {
				want = "0s (for ever), as the finer rung has"
			}
			f.Add("keep", r.Keep, want)
		}
	}
}

// ValidateSelectors adds what is wrong with the retention of selectors to f. least
// is the time within which late samples may still come to a block.
func ValidateSelectors(f *conf.Faults, keeps []SelectorKeep, rungs []Rung, least conf.Duration) {
	known := []string{Raw}
	for _, r := range rungs {
		known = append(known, r.Name())
	}
	for i, k := range keeps {
		f := f.At(fmt.Sprintf("[%d]", i))
		if _, err := parseSelector(k.Selector); err != nil {
			f.Add("selector", k.Selector, fmt.Sprintf(`a selector such as {env="dev"} (%v)`, err))
		}
		for _, t := range k.Tiers {
			if !slices.Contains(known, t) {
				f.Add("tiers", t, fmt.Sprintf("some of %v", known))
			}
		}
		if k.Keep < least {
			f.Add("keep", k.Keep, fmt.Sprintf("at least store.out_of_order_window and store.min_block_duration together (%s), within which samples still come", least))
		}
	}
}

// parseSelector reads "{…}" or "name{…}".
func parseSelector(text string) ([]*labels.Matcher, error) {
	if text == "" {
		return nil, errors.New("it is empty")
	}
	return parser.NewParser(parser.Options{}).ParseMetricSelector(text)
}

// keep is a [SelectorKeep] read.
type keep struct {
	text  string
	ms    []*labels.Matcher
	tiers []string // empty: all
	keep  int64    // milliseconds
}

func (k keep) covers(tier string) bool { return len(k.tiers) == 0 || slices.Contains(k.tiers, tier) }

func readKeeps(list []SelectorKeep) ([]keep, error) {
	var out []keep
	for _, s := range list {
		ms, err := parseSelector(s.Selector)
		if err != nil {
			return nil, fmt.Errorf("read store.retention.selectors %q: %w", s.Selector, err)
		}
		out = append(out, keep{s.Selector, ms, s.Tiers, s.Keep.Std().Milliseconds()})
	}
	return out, nil
}
