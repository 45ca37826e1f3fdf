package main

import (
	"testing"
	"time"
)

func mustScenario(t *testing.T, line string) scenario {
	t.Helper()
	sc, err := parseScenario(line)
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

func TestParseScenario(t *testing.T) {
	for name, set := range scenarioSets {
		for _, line := range set {
			sc := mustScenario(t, line)
			if again := mustScenario(t, sc.String()); again != sc {
				t.Errorf("set %s: %q came back as %+v, want %+v", name, sc, again, sc)
			}
		}
	}
	for _, line := range []string{
		"", "rw3", "rw1 series=10", "rw1 series=0", "rw1 batch=77", "rw1 conns=0", "rw1 series=100 conns=3",
		"rw1 churn=2", "rw1 churn=NaN", "rw1 k=0", "rw1 rounds=0", "rw1 colour=red", "rw1 series=1x",
	} {
		if sc, err := parseScenario(line); err == nil {
			t.Errorf("parseScenario(%q): got %v, want an error", line, sc)
		}
	}
}

// TestPlan checks every promise of a plan on every sample it sends.
func TestPlan(t *testing.T) {
	for _, line := range []string{
		"rw1 series=5k rounds=5",
		"rw1 series=2k conns=1 rounds=3",
		"rw2 series=3050 k=10 conns=3 rounds=4 churn=0.1",
		"rw1 series=1k batch=2k rounds=3 churn=1",
	} {
		t.Run(line, func(t *testing.T) { checkPlan(t, mustScenario(t, line)) })
	}
}

func checkPlan(t *testing.T, sc scenario) {
	type id struct{ slot, gen int }
	now := time.Now()
	p := newPlan(sc, 1, now)
	next := map[id]int64{}  // number of the sample that must come next
	where := map[int]int{}  // slot -> connection
	var samples, series int // of the window; ever
	for _, phase := range [][][]request{p.warm, p.window} {
		samples = 0
		for c, reqs := range phase {
			for i, r := range reqs {
				if i < len(reqs)-1 && len(r)*seriesPerPod != sc.Batch {
					t.Fatalf("connection %d request %d: got %d series, want %d", c, i, len(r)*seriesPerPod, sc.Batch)
				}
				for _, part := range r {
					if was, ok := where[part.slot]; ok && was != c {
						t.Fatalf("slot %d on connections %d and %d", part.slot, was, c)
					}
					where[part.slot] = c
					key := id{part.slot, part.gen}
					want, known := next[key]
					if known && part.first != want {
						t.Fatalf("slot %d generation %d: got sample %d, want %d", part.slot, part.gen, part.first, want)
					}
					if !known {
						series += seriesPerPod
					}
					next[key] = part.first + int64(part.k)
					samples += part.k * seriesPerPod
				}
			}
		}
	}
	if samples != sc.windowSamples() || series != sc.totalSeries() {
		t.Errorf("got %d samples of %d series, want %d of %d", samples, series, sc.windowSamples(), sc.totalSeries())
	}
	if p.end() > now.UnixMilli() || p.end() < now.Add(-2*scrapeInterval).UnixMilli() {
		t.Errorf("plan ends at %d, want within two scrape intervals before %d", p.end(), now.UnixMilli())
	}
}

// TestBodiesDiffer guards against a server that could profit from requests that
// repeat: no two rounds cut the stream at the same pods.
func TestBodiesDiffer(t *testing.T) {
	p := newPlan(mustScenario(t, "rw1 series=8k conns=1 batch=2k rounds=6"), 1, time.Now())
	seen := map[int]bool{}
	for _, r := range p.window[0] {
		if seen[r[0].slot] {
			t.Errorf("two requests start with slot %d", r[0].slot)
		}
		seen[r[0].slot] = true
	}
}
