package tiers

import (
	"strings"
	"testing"
	"time"

	"github.com/weir-dev/weir/internal/conf"
)

func TestValidateRungs(t *testing.T) {
	const day = 24 * time.Hour
	rung := func(resolution, keep time.Duration, selector string) Rung {
		return Rung{conf.Duration(resolution), conf.Duration(keep), selector}
	}
	for name, c := range map[string]struct {
		rungs []Rung
		want  string // of the first fault; "" none
	}{
		"default":         {DefaultRungs(), ""},
		"none":            {nil, ""},
		"kept for ever":   {[]Rung{rung(5*time.Minute, day, ""), rung(time.Hour, 0, "")}, ""},
		"does not divide": {[]Rung{rung(5*time.Minute, day, ""), rung(12*time.Minute, day, "")}, `rollups[1].resolution: got 12m, want a multiple of the rung before (5m)`},
		"wrong order":     {[]Rung{rung(time.Hour, day, ""), rung(5*time.Minute, day, "")}, `rollups[1].resolution: got 5m, want a multiple of the rung before (1h)`},
		"same twice":      {[]Rung{rung(time.Hour, day, ""), rung(time.Hour, day, "")}, `rollups[1].resolution: got 1h, want a multiple`},
		"kept shorter":    {[]Rung{rung(5*time.Minute, 2*day, ""), rung(time.Hour, day, "")}, `rollups[1].keep: got 1d, want at least the keep of the finer rung (2d)`},
		"finer for ever":  {[]Rung{rung(5*time.Minute, 0, ""), rung(time.Hour, day, "")}, `rollups[1].keep: got 1d, want 0s (for ever), as the finer rung has`},
		"not in a block":  {[]Rung{rung(7*time.Minute, day, "")}, `rollups[0].resolution: got 7m, want a length that divides store.min_block_duration (2h)`},
		"longer than one": {[]Rung{rung(4*time.Hour, day, "")}, `rollups[0].resolution: got 4h, want a length that divides`},
		"too fine":        {[]Rung{rung(30*time.Second, day, "")}, `rollups[0].resolution: got 30s, want 1m or more`},
		"negative keep":   {[]Rung{rung(time.Minute, -day, "")}, `rollups[0].keep: got -24h0m0s, want 0s (for ever) or more`},
		"selector":        {[]Rung{rung(time.Minute, day, `{job=api}`)}, `rollups[0].selector: got "{job=api}", want nothing (all series) or a selector such as {job="api"} (`},
	} {
		var f conf.Faults
		ValidateRungs(f.At("rollups"), c.rungs, conf.Duration(2*time.Hour))
		checkFault(t, name, f.Err(), c.want)
	}
}

func TestValidateSelectors(t *testing.T) {
	long := conf.Duration(48 * time.Hour)
	for name, c := range map[string]struct {
		keep SelectorKeep
		want string
	}{
		"good":         {SelectorKeep{`{env="dev"}`, []string{Raw, "5m"}, long}, ""},
		"all tiers":    {SelectorKeep{`up{env=~"dev.*"}`, nil, long}, ""},
		"empty":        {SelectorKeep{``, nil, long}, `selectors[0].selector: got "", want a selector`},
		"all but prod": {SelectorKeep{`{env!="prod"}`, nil, long}, ""},
		"no such tier": {SelectorKeep{`{env="dev"}`, []string{"10m"}, long}, `selectors[0].tiers: got "10m", want some of [raw 5m 1h]`},
		"too short":    {SelectorKeep{`{env="dev"}`, nil, conf.Duration(time.Hour)}, `selectors[0].keep: got 1h, want at least store.out_of_order_window and store.min_block_duration together (2h30m)`},
	} {
		var f conf.Faults
		ValidateSelectors(f.At("selectors"), []SelectorKeep{c.keep}, DefaultRungs(), conf.Duration(150*time.Minute))
		checkFault(t, name, f.Err(), c.want)
	}
}

func checkFault(t *testing.T, name string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: got fault %v", name, err)
	case want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)):
		t.Errorf("%s: got fault %v, want %s", name, err, want)
	}
}
