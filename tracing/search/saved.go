package search

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// SavedSearch is an element of the `tracing.saved_searches` section.
type SavedSearch struct {
	// Value of the label `search` of the series: letters, digits, dots, dashes and underscores. Restart.
	Name string `yaml:"name"`

	// Query as of /api/v1/traces/search. Restart.
	Query string `yaml:"query"`

	// Time between two evaluations, each of the traces since the one before. 0s is 1m. Restart.
	Interval conf.Duration `yaml:"interval"`

	// How long after its start a span is waited for: an evaluation is of the time up to so long ago. Longer than spans take. 0s is 30s. Restart.
	Delay conf.Duration `yaml:"delay"`
}

const (
	defaultInterval = conf.Duration(time.Minute)
	// defaultDelay is above what a sender's batching (5s by default) and most requests
	// take together.
	defaultDelay = conf.Duration(30 * time.Second)
	// maxSaved bounds the series, 8 each, and the searches a minute.
	maxSaved = 100
	// maxCatchUp bounds what an evaluation makes up for where others failed.
	maxCatchUp = time.Hour
	// structureReach is how long before a window the one span of a structure may start
	// whose other is in it. unmeasured: longer than nearly all traces last.
	structureReach = 5 * time.Minute
)

var savedName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)

// ValidateSaved reports what is out of bounds; f is of the list.
func ValidateSaved(list []SavedSearch, f *conf.Faults) {
	if len(list) > maxSaved {
		f.Add("", len(list), fmt.Sprintf("at most %d saved searches", maxSaved))
	}
	for i, s := range list {
		at := f.At(fmt.Sprintf("[%d]", i))
		if !savedName.MatchString(s.Name) {
			at.Add("name", s.Name, "1 to 100 letters, digits, dots, dashes and underscores")
		}
		if slices.ContainsFunc(list[:i], func(o SavedSearch) bool { return o.Name == s.Name }) {
			at.Add("name", s.Name, "a name that no other search has")
		}
		if _, err := Parse(s.Query); err != nil {
			at.Add("query", s.Query, "a query of traces: "+err.Error())
		}
		if s.Interval != 0 && (s.Interval < conf.Duration(10*time.Second) || s.Interval > conf.Duration(maxCatchUp)) {
			at.Add("interval", s.Interval, "0s (1m), or 10s to 1h")
		}
		if s.Delay < 0 || s.Delay > conf.Duration(maxCatchUp) {
			at.Add("delay", s.Delay, "0s (30s) to 1h")
		}
	}
}

// Saved evaluates saved searches one after another and exposes what they find.
type Saved struct {
	deps     Deps
	searches []*saved
	metrics  savedMetrics
}

// saved is one of them.
type saved struct {
	SavedSearch
	q    *Query
	done time.Time // the end of what was evaluated; exclusive
	due  time.Time
}

type savedMetrics struct {
	traces, errors, duration, ended, limited *prometheus.GaugeVec
	failures                                 *prometheus.CounterVec
}

// NewSaved checks the searches and starts nothing. Its limits are those of the deps.
func NewSaved(list []SavedSearch, deps Deps) (*Saved, error) {
	if deps.Reader == nil || deps.Log == nil {
		return nil, errors.New("saved searches: a reader and a logger are required")
	}
	var f conf.Faults
	ValidateSaved(list, f.At("saved_searches"))
	if err := f.Err(); err != nil {
		return nil, err
	}
	deps.Limits = deps.Limits.withDefaults()
	if deps.Now == nil {
		deps.Now = time.Now
	}
	s := &Saved{deps: deps, metrics: newSavedMetrics(deps.Registerer, len(list) > 0)}
	now := deps.Now()
	for _, one := range list {
		if one.Interval == 0 {
			one.Interval = defaultInterval
		}
		if one.Delay == 0 {
			one.Delay = defaultDelay
		}
		q, err := Parse(one.Query)
		if err != nil {
			return nil, fmt.Errorf("saved search %s: %w", one.Name, err)
		}
		s.metrics.failures.WithLabelValues(one.Name)
		s.searches = append(s.searches, &saved{SavedSearch: one, q: q, done: now.Add(-one.Delay.Std()), due: now.Add(one.Interval.Std())})
	}
	return s, nil
}

func newSavedMetrics(registerer prometheus.Registerer, register bool) savedMetrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "weir_trace_search_" + name, Help: help}, append([]string{"search"}, labels...))
	}
	m := savedMetrics{
		traces:   gauge("traces", "Traces that a saved search found since the evaluation before."),
		errors:   gauge("error_ratio", "Part of these that has a span whose status is error; NaN of none."),
		duration: gauge("duration_seconds", "Quantiles of how long these took, from their first start to their last end; NaN of none.", "quantile"),
		ended:    gauge("evaluated_until_timestamp_seconds", "Up to which start of spans a saved search has been evaluated."),
		limited:  gauge("limited", "1 where the last evaluation could not look at all traces."),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_trace_search_failures_total",
			Help: "Evaluations of a saved search that failed; the next one makes up for them, up to an hour.",
		}, []string{"search"}),
	}
	if registerer != nil && register {
		registerer.MustRegister(m.traces, m.errors, m.duration, m.ended, m.limited, m.failures)
	}
	return m
}

// Run evaluates each search when its interval is over, until ctx ends.
func (s *Saved) Run(ctx context.Context) error {
	if len(s.searches) == 0 {
		<-ctx.Done()
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := s.searches[0]
		for _, one := range s.searches[1:] {
			if one.due.Before(next.due) {
				next = one
			}
		}
		timer.Reset(max(0, next.due.Sub(s.deps.Now())))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		s.evaluate(ctx, next, s.deps.Now())
	}
}

// evaluate looks at the time since the last evaluation, and sets when the next is due.
func (s *Saved) evaluate(ctx context.Context, one *saved, now time.Time) {
	interval := one.Interval.Std()
	if one.due = one.due.Add(interval); !one.due.After(now) { // the machine slept
		one.due = now.Add(interval)
	}
	w := spanstore.Window{Start: one.done, End: now.Add(-one.Delay.Std())}
	if w.End.Sub(w.Start) > maxCatchUp {
		w.Start = w.End.Add(-maxCatchUp)
	}
	if !w.End.After(w.Start) {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, s.deps.Limits.Timeout)
	defer cancel()
	r, err := s.look(bounded, one.q, w)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		s.metrics.failures.WithLabelValues(one.Name).Inc()
		s.deps.Log.Warn("saved search failed", "search", one.Name, "err", err)
	default:
		one.done = w.End
		s.metrics.set(one.Name, r, w.End)
	}
}

// result is what an evaluation found.
type result struct {
	durations []uint64
	errors    int
	notes     Notes
}

// look counts each trace in the window in which the first span starts that makes it one
// which the query selects.
func (s *Saved) look(ctx context.Context, q *Query, w spanstore.Window) (result, error) {
	var r result
	b := boundsOf(w)
	b.end = max(b.start, b.end-1) // the next window has it
	pages := newPager(s.deps.Reader, q, b, s.deps.Limits.MaxExamined, &r.notes)
	pages.whole.start = 0
	if len(q.chains) > 1 || len(q.chains[0].selectors) > 1 {
		pages.part.start -= min(pages.part.start, uint64(structureReach))
	}
	err := pages.next(ctx, s.deps.Limits.MaxExamined, func(trace *span.Batch, _ []int32) {
		if b.start > 0 && q.match(trace, bounds{0, b.start - 1}) != nil {
			return // counted then
		}
		first, last := extent(trace)
		r.durations = append(r.durations, last-first)
		for i := range trace.Spans {
			if trace.Spans[i].Status == span.StatusError {
				r.errors++
				break
			}
		}
	})
	slices.Sort(r.durations)
	return r, err
}

func (m *savedMetrics) set(name string, r result, until time.Time) {
	m.traces.WithLabelValues(name).Set(float64(len(r.durations)))
	m.ended.WithLabelValues(name).Set(float64(until.UnixMilli()) / 1000)
	limited, errorRatio := 0., math.NaN()
	if r.notes.Partial != "" {
		limited = 1
	}
	if len(r.durations) > 0 {
		errorRatio = float64(r.errors) / float64(len(r.durations))
	}
	m.limited.WithLabelValues(name).Set(limited)
	m.errors.WithLabelValues(name).Set(errorRatio)
	for _, q := range []struct {
		label string
		value float64
	}{{"0.5", .5}, {"0.95", .95}, {"0.99", .99}} {
		value := math.NaN()
		if len(r.durations) > 0 {
			value = quantile(r.durations, q.value)
		}
		m.duration.WithLabelValues(name, q.label).Set(value)
	}
}
