package main

import (
	"strings"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	var d []time.Duration
	for i := range 200 {
		d = append(d, time.Duration(i))
	}
	for p, want := range map[float64]time.Duration{0: 0, 50: 100, 99: 198, 100: 199} {
		if got := percentile(d, p); got != want {
			t.Errorf("percentile %v: got %d, want %d", p, got, want)
		}
	}
}

// TestReport checks that a failed run is in the table and nowhere else, and that
// ratios are taken within a pair.
func TestReport(t *testing.T) {
	sc := mustScenario(t, "rw1 series=1k rounds=10")
	rep := newReport("bench", nil)
	add := func(k kind, pair int, cpu time.Duration, fault string) {
		r := result{Scenario: sc, Server: k, Pair: pair, CPU: cpu, Wall: time.Second, NewWall: time.Second, Fault: fault}
		rep.add(r, &load{raw: 400, wire: 40})
	}
	add(weir, 0, 10*time.Millisecond, "")
	add(prometheus, 0, 40*time.Millisecond, "")
	add(weir, 1, 30*time.Millisecond, "")
	add(prometheus, 1, 60*time.Millisecond, "")
	add(weir, 2, 999*time.Millisecond, "window: refused")
	var b strings.Builder
	rep.render(&b)
	text := b.String()
	for _, want := range []string{
		"FAILED: window: refused",
		"2.000 (1.000 to 3.000)", // weir's CPU-s a million, of 10k samples
		"0.375 (0.250 to 0.500)", // pair by pair
		"BenchmarkWrite/proto=rw1/series=1k/k=1/server=weir 10000 1.000 cpu-s/Msample",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("report lacks %q:\n%s", want, text)
		}
	}
	if n := strings.Count(text, "BenchmarkWrite"); n != 4 {
		t.Errorf("got %d benchstat lines, want 4", n)
	}
	if rep.failed() != 1 {
		t.Errorf("failed: got %d, want 1", rep.failed())
	}
}

func TestFlags(t *testing.T) {
	o, err := parseFlags([]string{"-set", "full", "-only", "^rw2.*1M", "-n", "2"})
	if err != nil {
		t.Fatal(err)
	}
	scs, err := o.selectScenarios()
	if err != nil || len(scs) != 1 || scs[0].Proto != rw2 || scs[0].Series != 1_000_000 {
		t.Errorf("selectScenarios: got %v, %v, want rw2 at 1M alone", scs, err)
	}
	if _, err := o.contestants(); err == nil {
		t.Error("contestants: got none and no error, want an error without a binary")
	}
	for _, args := range [][]string{{"-set", "huge"}, {"-only", "("}, {"-scenario", "rw9"}} {
		o, err := parseFlags(args)
		if err != nil {
			t.Fatal(err)
		}
		if scs, err := o.selectScenarios(); err == nil {
			t.Errorf("%v: got %v, want an error", args, scs)
		}
	}
}
