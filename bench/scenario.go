package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// protocol names one way of writing samples over HTTP.
type protocol string

const (
	rw1  protocol = "rw1"  // remote_write 1.0, snappy
	rw2  protocol = "rw2"  // remote_write 2.0, snappy
	otlp protocol = "otlp" // OTLP metrics, protobuf, not compressed
)

// scrapeInterval is the simulated distance of two samples of a series.
const scrapeInterval = 15 * time.Second

// scenario says what is sent in one run. Its text form is the one parseScenario
// reads.
type scenario struct {
	Proto  protocol
	Series int     // active series at any time, a multiple of seriesPerPod
	K      int     // samples a series a request
	Batch  int     // series a request, a multiple of seriesPerPod
	Conns  int     // connections; a series always uses the same one
	Churn  float64 // fraction of the pods replaced before each round, 0 to 1
	Rounds int     // measured rounds; each sends K samples of every series
	Disk   bool    // measure bytes a sample on disk once all is compacted
}

// defaultScenario holds what a scenario line need not say. 2,000 is the
// max_samples_per_send of Prometheus, 4 connections its usual shard count at
// this load.
func defaultScenario() scenario {
	return scenario{Proto: rw1, Series: 100_000, K: 1, Batch: 2000, Conns: 4, Rounds: 40}
}

// parseScenario reads "proto key=value ... [disk]". Counts may end in k or M.
func parseScenario(line string) (scenario, error) {
	s := defaultScenario()
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return s, fmt.Errorf("scenario %q: empty, want a protocol (rw1, rw2, otlp) and settings such as series=100k", line)
	}
	s.Proto = protocol(fields[0])
	for _, f := range fields[1:] {
		if err := s.set(f); err != nil {
			return s, fmt.Errorf("scenario %q: %w", line, err)
		}
	}
	if err := s.check(); err != nil {
		return s, fmt.Errorf("scenario %q: %w", line, err)
	}
	return s, nil
}

func (s *scenario) set(field string) error {
	if field == "disk" {
		s.Disk = true
		return nil
	}
	key, val, _ := strings.Cut(field, "=")
	var err error
	switch key {
	case "series":
		s.Series, err = parseCount(val)
	case "k":
		s.K, err = parseCount(val)
	case "batch":
		s.Batch, err = parseCount(val)
	case "conns":
		s.Conns, err = parseCount(val)
	case "rounds":
		s.Rounds, err = parseCount(val)
	case "churn":
		s.Churn, err = strconv.ParseFloat(val, 64)
	default:
		return fmt.Errorf("setting %q: want series, k, batch, conns, rounds, churn or disk", field)
	}
	if err != nil {
		return fmt.Errorf("setting %q: %w", field, err)
	}
	return nil
}

func (s *scenario) check() error {
	switch {
	case s.Proto != rw1 && s.Proto != rw2 && s.Proto != otlp:
		return fmt.Errorf("protocol %q: want rw1, rw2 or otlp", s.Proto)
	case s.Series <= 0 || s.Series%seriesPerPod != 0:
		return fmt.Errorf("series=%d: want a multiple of %d", s.Series, seriesPerPod)
	case s.Batch <= 0 || s.Batch%seriesPerPod != 0:
		return fmt.Errorf("batch=%d: want a multiple of %d", s.Batch, seriesPerPod)
	case s.K < 1 || s.Rounds < 1:
		return fmt.Errorf("k=%d rounds=%d: want 1 or more", s.K, s.Rounds)
	case s.Conns < 1 || s.Conns > s.pods():
		return fmt.Errorf("conns=%d: want 1 to the number of pods, %d", s.Conns, s.pods())
	case !(s.Churn >= 0 && s.Churn <= 1):
		return fmt.Errorf("churn=%v: want 0 to 1", s.Churn)
	}
	return nil
}

func parseCount(s string) (int, error) {
	mult := 1
	switch {
	case strings.HasSuffix(s, "k"):
		s, mult = s[:len(s)-1], 1000
	case strings.HasSuffix(s, "M"):
		s, mult = s[:len(s)-1], 1_000_000
	}
	n, err := strconv.Atoi(s)
	return n * mult, err
}

func formatCount(n int) string {
	switch {
	case n >= 1_000_000 && n%1_000_000 == 0:
		return strconv.Itoa(n/1_000_000) + "M"
	case n >= 1000 && n%1000 == 0:
		return strconv.Itoa(n/1000) + "k"
	}
	return strconv.Itoa(n)
}

// String is the scenario in the form parseScenario reads.
func (s scenario) String() string {
	t := fmt.Sprintf("%s series=%s k=%d batch=%s conns=%d rounds=%d",
		s.Proto, formatCount(s.Series), s.K, formatCount(s.Batch), s.Conns, s.Rounds)
	if s.Churn > 0 {
		t += fmt.Sprintf(" churn=%v", s.Churn)
	}
	if s.Disk {
		t += " disk"
	}
	return t
}

// benchName is the scenario as part of a benchmark name.
func (s scenario) benchName() string {
	t := fmt.Sprintf("proto=%s/series=%s/k=%d", s.Proto, formatCount(s.Series), s.K)
	if s.Churn > 0 {
		t += fmt.Sprintf("/churn=%v", s.Churn)
	}
	return t
}

func (s scenario) pods() int { return s.Series / seriesPerPod }

// podsReplaced is the number of pods that are new in each measured round.
func (s scenario) podsReplaced() int { return int(s.Churn * float64(s.pods())) }

// totalSeries counts every series ever sent, replaced ones included.
func (s scenario) totalSeries() int {
	return s.Series + s.podsReplaced()*s.Rounds*seriesPerPod
}

// warmSamples is what the warm-up round sends: one sample of every series.
func (s scenario) warmSamples() int { return s.Series }

// windowSamples is what the measured window sends.
func (s scenario) windowSamples() int { return s.Series * s.K * s.Rounds }

// samplesPerSeries is how many samples a series that is never replaced gets.
func (s scenario) samplesPerSeries() int { return 1 + s.K*s.Rounds }

// scenarioSets are the ready-made lists. Rounds are chosen so that the cheapest
// server is busy for about a second or more: /proc counts in ticks of 10 ms, so
// its CPU is then known to 1%. The dearest takes half a minute in "full".
var scenarioSets = map[string][]string{
	"smoke": {
		"rw1 series=5k rounds=4",
		"rw2 series=5k rounds=4",
		"otlp series=5k rounds=4",
		"rw1 series=5k k=10 rounds=4 churn=0.01",
	},
	"quick": {
		"rw1 series=100k rounds=20",
		"rw2 series=100k rounds=20",
		"otlp series=100k rounds=20",
		"rw1 series=20k k=10 rounds=40",
		"rw2 series=20k k=10 rounds=40",
		"rw1 series=100k rounds=20 churn=0.01",
	},
	"full": {
		"rw1 series=100k rounds=40",
		"rw2 series=100k rounds=40",
		"otlp series=100k rounds=20",
		"rw1 series=20k k=10 rounds=80",
		"rw2 series=20k k=10 rounds=80",
		"rw1 series=100k rounds=40 churn=0.01",
		"rw2 series=100k rounds=40 churn=0.01",
		"rw1 series=1M rounds=6",
		"rw2 series=1M rounds=6",
		"otlp series=1M rounds=3",
		"rw1 series=2k k=20 rounds=49 disk",
	},
	"disk": {
		"rw1 series=2k k=20 rounds=49 disk",
		"rw1 series=20k k=20 rounds=49 disk",
	},
}
