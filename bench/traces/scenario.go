package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weir-dev/weir/bench/shop"
)

// protocol names one way of sending spans.
type protocol string

const (
	overGRPC protocol = "grpc" // OTLP over gRPC, not compressed
	overHTTP protocol = "http" // OTLP over HTTP, protobuf, not compressed
)

// scenario says what is sent and asked in one run. Its text form is the one
// parseScenario reads.
type scenario struct {
	Proto protocol
	Spans int           // sent in the window, as fast as they are taken
	Batch int           // spans a body
	Conns int           // connections, each with one request in flight
	Split bool          // the spans of a trace come in five bodies, see shop.Spec
	Mesh  bool          // 200 services and 1,500 calls between them instead of the shop
	Over  time.Duration // spans of the window began over this much time; 0: just now
	Rate  int           // spans a second that come in while traces are asked for
	Ask   time.Duration // how long they are asked for; 0: not at all

	// Partition is Weir's tracing.store.partition_size, "" for the default. A partition
	// that is full is compacted, so a small one shows the size and the cost of that.
	Partition string
}

// mesh is that of the service graph.
var mesh = shop.Mesh{Services: 200, Edges: 1500}

// defaultScenario is the load of the peers' figures.
func defaultScenario() scenario {
	return scenario{Proto: overGRPC, Spans: 1_000_000, Batch: 500, Conns: 4, Rate: 20_000}
}

// parseScenario reads "proto key=value ... [split] [mesh]". Counts may end in k or M.
func parseScenario(line string) (scenario, error) {
	s := defaultScenario()
	fields := strings.Fields(line)
	if len(fields) == 0 {
		return s, fmt.Errorf("scenario %q: empty, want a protocol (grpc, http) and settings such as spans=1M", line)
	}
	s.Proto = protocol(fields[0])
	for _, f := range fields[1:] {
		if err := s.set(f); err != nil {
			return s, fmt.Errorf("scenario %q: setting %q: %w", line, f, err)
		}
	}
	if err := s.check(); err != nil {
		return s, fmt.Errorf("scenario %q: %w", line, err)
	}
	return s, nil
}

func (s *scenario) set(field string) (err error) {
	key, val, _ := strings.Cut(field, "=")
	switch key {
	case "spans":
		s.Spans, err = parseCount(val)
	case "batch":
		s.Batch, err = parseCount(val)
	case "conns":
		s.Conns, err = parseCount(val)
	case "rate":
		s.Rate, err = parseCount(val)
	case "over":
		s.Over, err = time.ParseDuration(val)
	case "ask":
		s.Ask, err = time.ParseDuration(val)
	case "partition":
		s.Partition = val
	case "split":
		s.Split = true
	case "mesh":
		s.Mesh = true
	default:
		err = fmt.Errorf("want spans, batch, conns, rate, over, ask, partition, split or mesh")
	}
	return err
}

func (s *scenario) check() error {
	switch {
	case s.Proto != overGRPC && s.Proto != overHTTP:
		return fmt.Errorf("protocol %q: want grpc or http", s.Proto)
	case s.Batch <= 0 || s.Batch%10 != 0:
		return fmt.Errorf("batch=%d: want a multiple of 10, the spans of a trace", s.Batch)
	case s.Conns < 1:
		return fmt.Errorf("conns=%d: want 1 or more", s.Conns)
	case s.Spans < s.Batch*s.Conns:
		return fmt.Errorf("spans=%d: want a body for each connection, %d or more", s.Spans, s.Batch*s.Conns)
	case s.Over < 0 || s.Ask < 0 || s.Rate < 0:
		return fmt.Errorf("over=%s ask=%s rate=%d: want 0 or more", s.Over, s.Ask, s.Rate)
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
	t := fmt.Sprintf("%s spans=%s batch=%s conns=%d", s.Proto, formatCount(s.Spans), formatCount(s.Batch), s.Conns)
	if s.Over > 0 {
		t += " over=" + s.Over.String()
	}
	if s.Ask > 0 {
		t += fmt.Sprintf(" rate=%s ask=%s", formatCount(s.Rate), s.Ask)
	}
	if s.Partition != "" {
		t += " partition=" + s.Partition
	}
	if s.Split {
		t += " split"
	}
	if s.Mesh {
		t += " mesh"
	}
	return t
}

// benchName is the scenario as part of a benchmark name.
func (s scenario) benchName() string {
	return strings.ReplaceAll(s.String(), " ", "/")
}

func (s scenario) spec(seed uint64) shop.Spec {
	spec := shop.Spec{Seed: seed, Batch: s.Batch, Split: s.Split}
	if s.Mesh {
		spec.Mesh = &mesh
	}
	return spec
}

// traces is how many traces a run sends at most.
func (s scenario) traces() int {
	return (s.Spans + s.Batch*s.Conns*10 + int(float64(s.Rate)*s.Ask.Seconds())) / 10
}
