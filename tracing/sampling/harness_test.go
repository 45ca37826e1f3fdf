package sampling_test

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/sampling"
	"github.com/weir-dev/weir/tracing/span"
)

var noon = time.Date(2026, 8, 22, 12, 0, 0, 0, time.UTC)

const (
	wait   = 30 * time.Second
	settle = 35 * time.Second
)

// world is a Sampling with a clock, a store that can only drop and count, and pins.
type world struct {
	*sampling.Sampling
	t   testing.TB
	reg *prometheus.Registry

	mu      sync.Mutex
	now     time.Time
	dropped map[span.TraceID]int
	pins    map[span.TraceID]bool
	stored  map[span.TraceID]int
	refuse  error
}

func newWorld(t testing.TB, change func(*sampling.Config)) *world {
	t.Helper()
	w := &world{
		t: t, now: noon, reg: prometheus.NewRegistry(),
		dropped: map[span.TraceID]int{}, pins: map[span.TraceID]bool{}, stored: map[span.TraceID]int{},
	}
	cfg := config(t, change)
	s, err := sampling.New(cfg, sampling.Deps{
		Drop: w.drop, Log: discard, Registerer: w.reg, Now: w.clock,
		Pinned: func(id span.TraceID) bool { w.mu.Lock(); defer w.mu.Unlock(); return w.pins[id] },
		Stored: func(_ context.Context, id span.TraceID) (int, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.stored[id], nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Sampling = s
	return w
}

func config(t testing.TB, change func(*sampling.Config)) sampling.Config {
	t.Helper()
	cfg := sampling.DefaultConfig()
	cfg.Tail.Default = "drop"
	if change != nil {
		change(&cfg)
	}
	var f conf.Faults
	cfg.Validate(&f)
	if err := f.Err(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func (w *world) clock() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }

func (w *world) drop(_ context.Context, ids []span.TraceID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return w.refuse
	}
	for _, id := range ids {
		w.dropped[id]++
	}
	return nil
}

// pass lets time go by, second by second, as Run would.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	for ; d > 0; d -= time.Second {
		w.mu.Lock()
		w.now = w.now.Add(time.Second)
		now, refuse := w.now, w.refuse
		w.mu.Unlock()
		if err := w.Sweep(context.Background(), now); err != nil && !errors.Is(err, refuse) {
			w.t.Fatal(err)
		}
	}
}

func (w *world) take(spans ...one) []bool { return w.Take(batch(w.clock(), spans...), w.clock()) }

func (w *world) wasDropped(id span.TraceID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped[id] > 0
}

// metric is the value of a series such as `traces_total{decision="keep",policy="slow"}`.
func (w *world) metric(series string) float64 {
	w.t.Helper()
	name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
	families, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "weir_tracing_sampling_"+name {
			continue
		}
		for _, m := range f.Metric {
			var have []string
			for _, l := range m.Label {
				have = append(have, l.GetName()+`="`+l.GetValue()+`"`)
			}
			if strings.Join(have, ",") == labels {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

var discard = slog.New(slog.DiscardHandler)

// one is a span; zero values are a root without error that takes no time.
type one struct {
	trace   int
	took    time.Duration
	failed  bool
	attr    string // key=value
	service string
	name    string
	age     time.Duration // how long ago it began
	child   bool
	state   string
	attrs   []span.Attr
}

func id(n int) (t span.TraceID) {
	binary.BigEndian.PutUint64(t[:8], uint64(n)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(t[8:], uint64(n)+1)
	return t
}

func batch(now time.Time, spans ...one) *span.Batch {
	b := &span.Batch{Scopes: []span.Scope{{}}}
	at := map[string]int{}
	for i, o := range spans {
		r, ok := at[o.service]
		if !ok {
			r = len(b.Resources)
			at[o.service] = r
			b.Resources = append(b.Resources, span.Resource{
				Service: o.service, Attrs: []span.Attr{{Key: "service.name", Value: span.StringValue(o.service)}},
			})
		}
		start := uint64(now.Add(-o.age).UnixNano())
		s := span.Span{Resource: r, TraceID: id(o.trace), Name: o.name, State: o.state, Start: start, End: start + uint64(o.took), Attrs: o.attrs}
		binary.BigEndian.PutUint64(s.ID[:], uint64(i)+1)
		if o.failed {
			s.Status = span.StatusError
		}
		if o.child {
			s.Parent = span.ID{1}
		}
		if key, value, ok := strings.Cut(o.attr, "="); ok {
			s.Attrs = append(s.Attrs, span.Attr{Key: key, Value: span.StringValue(value)})
		}
		b.Spans = append(b.Spans, s)
	}
	return b
}

func keepIf(name string, c sampling.Clause) sampling.Policy {
	return sampling.Policy{Name: name, Action: "keep", When: []sampling.Clause{c}}
}

func yes() *bool { v := true; return &v }
func no() *bool  { v := false; return &v }

func policies(p ...sampling.Policy) func(*sampling.Config) {
	return func(c *sampling.Config) { c.Tail.Policies = p }
}

func count(bools []bool) (n int) {
	for _, b := range bools {
		if b {
			n++
		}
	}
	return n
}
