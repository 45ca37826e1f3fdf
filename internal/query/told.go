package query

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/weir-dev/weir/internal/query/plan"
	"github.com/weir-dev/weir/internal/rollup"
)

// SelectorReport is what clients are told of one selector, in stats and by
// explain.
type SelectorReport struct {
	// Expr is what is answered, as it reads in the query.
	Expr string `json:"expr"`
	// Rollups tells whether any are used; if not, Prometheus' engine reads samples.
	Rollups bool `json:"rollups"`
	// Why in a few words.
	Why string `json:"why"`
	// Spans of time in order, and the resolution that each is answered from. Time
	// that none covers is held by no tier.
	Spans []SpanReport `json:"spans"`
	// Widened is how far is looked back at most, if windows are wider than the range
	// asked for.
	Widened string `json:"widened,omitempty"`
	// Exact tells that aligned windows give what samples give, and Bound how far off
	// the others may be.
	Exact bool   `json:"exact"`
	Bound string `json:"bound,omitempty"`
	// Read is set when the query was run and used rollups for this selector.
	Read *ReadReport `json:"read,omitempty"`
}

// SpanReport is a stretch of time and the resolution it is answered from.
type SpanReport struct {
	Resolution string  `json:"resolution"` // "raw", "5m"
	From       float64 `json:"from"`       // Unix seconds, exclusive
	To         float64 `json:"to"`         // Unix seconds, inclusive
}

// ReadReport counts what was read for a selector.
type ReadReport struct {
	Series  int `json:"series"`
	Samples int `json:"samples"`
	Points  int `json:"points"`
	Bytes   int `json:"bytes"`
	Values  int `json:"values"` // given to the engine
}

// report returns what to tell of p; ran says that the query was executed.
func (p *planned) report(ran bool) *SelectorReport {
	t := &SelectorReport{Expr: p.text, Rollups: p.rolled(), Why: p.choice.Why, Exact: !p.rolled() || p.exact, Spans: []SpanReport{}}
	for _, s := range p.spans() {
		t.Spans = append(t.Spans, SpanReport{resolutionName(s.Resolution), seconds(s.After), seconds(s.Until)})
	}
	if !p.rolled() {
		return t
	}
	t.Bound = p.bound
	if w := p.choice.Widest(); w > p.Range {
		t.Widened = plan.Duration(w)
	}
	if ran {
		t.Read = &ReadReport{p.read.Series, p.read.Samples, p.read.Points, p.read.Bytes, p.values}
	}
	return t
}

func seconds(ms int64) float64 { return float64(ms) / 1000 }

// spans are the spans within the time that the query asks for.
func (p *planned) spans() (spans []rollup.Span) {
	after, until := p.Stretch()
	for _, s := range p.choice.Spans {
		s.After, s.Until = max(s.After, after), min(s.Until, until)
		if s.After < s.Until {
			spans = append(spans, s)
		}
	}
	return spans
}

func resolutionName(ms int64) string {
	if ms == rollup.Raw {
		return "raw"
	}
	return plan.Duration(ms)
}

// tell adds to the annotations of an answer one info for each selector that
// rollups answered.
func (q *rolledQuery) tell(notes *annotations.Annotations) {
	for _, p := range q.planned {
		if p.rolled() {
			notes.Add(fmt.Errorf("%w: %s", annotations.PromQLInfo, p.info()))
		}
	}
	// Upstream leaves this warning to whoever renders stats in a way of his own.
	switch s := q.request.stats; s {
	case "", "true", "all":
	default:
		notes.Add(fmt.Errorf("value %q for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\"", s))
	}
}

// info is "rate(x[5m]): 1h rollups until 2026-01-02T03:04:05Z, raw after; …".
func (p *planned) info() string {
	var b strings.Builder
	b.WriteString(shortened(p.text) + ": ")
	spans := p.spans()
	for i, s := range spans {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(resolutionName(s.Resolution))
		if s.Resolution != rollup.Raw {
			b.WriteString(" rollups")
		}
		switch {
		case i < len(spans)-1:
			b.WriteString(" until " + time.UnixMilli(s.Until+1).UTC().Format(time.RFC3339)) // blocks end a millisecond early
		case i > 0:
			b.WriteString(" after")
		}
	}
	if w := p.choice.Widest(); w > p.Range {
		b.WriteString("; looks back " + plan.Duration(w) + " where windows are wider than " + plan.Duration(p.Range))
	}
	if p.bound != "" {
		short, _, _ := strings.Cut(strings.TrimSuffix(p.bound, "."), ";") // explain has all of it
		b.WriteString("; bound: " + short)
	}
	return b.String()
}

// shortened cuts what would make an info unreadable.
func shortened(text string) string {
	const most = 120 // runes: a line and a half of a terminal
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}

// statsRenderer adds to upstream's statistics what was read from rollups, if any
// were. Without rollups it is upstream's own.
func (a *API) statsRenderer() v1.StatsRenderer {
	if _, ok := a.queries.(*resolver); !ok {
		return nil
	}
	return func(ctx context.Context, s *stats.Statistics, param string) stats.QueryStats {
		basic := v1.DefaultStatsRenderer(ctx, s, param)
		if basic == nil {
			return nil
		}
		var rollups []*SelectorReport
		for _, p := range requestOf(ctx).planned {
			if p.rolled() {
				rollups = append(rollups, p.report(true))
			}
		}
		if rollups == nil {
			return basic
		}
		return &rolledStats{basic.Builtin(), rollups}
	}
}

// rolledStats is upstream's statistics with a section for rollups.
type rolledStats struct {
	stats.BuiltinStats
	Rollups []*SelectorReport `json:"rollups"`
}

// Builtin is upstream's part.
func (s *rolledStats) Builtin() stats.BuiltinStats { return s.BuiltinStats }

// rollupMetrics counts what rollups did for queries.
type rollupMetrics struct {
	selectors             *prometheus.CounterVec // by resolution
	points, samples, size prometheus.Counter
}

func newRollupMetrics(reg prometheus.Registerer) *rollupMetrics {
	m := &rollupMetrics{
		selectors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_query_rollup_selectors_total",
			Help: "Selectors of executed queries that read the resolution; one may read several.",
		}, []string{"resolution"}),
		points: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_query_rollup_points_read_total",
			Help: "Points of rollups read to answer queries.",
		}),
		samples: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_query_rollup_samples_read_total",
			Help: "Samples read beside rollups, to answer the same selectors.",
		}),
		size: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_query_rollup_read_bytes_total",
			Help: "Bytes of chunks read to answer selectors that use rollups.",
		}),
	}
	reg.MustRegister(m.selectors, m.points, m.samples, m.size)
	return m
}

func (m *rollupMetrics) count(all []*planned) {
	for _, p := range all {
		seen := map[int64]bool{}
		for _, s := range p.choice.Spans {
			if !seen[s.Resolution] {
				seen[s.Resolution] = true
				m.selectors.WithLabelValues(resolutionName(s.Resolution)).Inc()
			}
		}
		m.points.Add(float64(p.read.Points))
		m.samples.Add(float64(p.read.Samples))
		m.size.Add(float64(p.read.Bytes))
	}
}
