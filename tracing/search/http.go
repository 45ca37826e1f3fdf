package search

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Limits bound what clients can make the handler do. Zero fields are the defaults.
type Limits struct {
	// MaxTraces that a search lists. 1,500 by default, as the Jaeger APIs.
	MaxTraces int
	// MaxExamined traces of one search, where not all that the index finds is what is
	// searched for. 20,000 by default: unmeasured, about 200,000 spans, as many as the
	// embedded store looks at for one question.
	MaxExamined int
	// MaxSample is the traces of one analysis. 10,000 by default, likewise.
	MaxSample int
	// MaxSpans of one analysis: it stops after the trace that exceeds it. 1,000,000 by
	// default, which takes 16 bytes each.
	MaxSpans int
	// Timeout of a request. 1m by default.
	Timeout time.Duration
	// Concurrency of requests; others wait for their turn until they time out. 4 by
	// default: an analysis is bound by the processor.
	Concurrency int
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *int
		value int
	}{{&l.MaxTraces, 1500}, {&l.MaxExamined, 20_000}, {&l.MaxSample, 10_000}, {&l.MaxSpans, 1_000_000}, {&l.Concurrency, 4}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if l.Timeout <= 0 {
		l.Timeout = time.Minute
	}
	return l
}

// Deps of [NewHandler] and [NewSaved]. Reader and Log are required.
type Deps struct {
	Reader spanstore.Reader
	// Adjust corrects a trace before people look at it, and before times of its spans
	// are set against each other; nil: it stays as stored.
	Adjust     func(ptrace.Traces)
	Limits     Limits
	Log        *slog.Logger
	Registerer prometheus.Registerer // may be nil
	Now        func() time.Time      // nil: the system's clock
}

// adjusted is a trace as people see it.
func (d *Deps) adjusted(b *span.Batch) (*span.Batch, error) {
	if d.Adjust == nil {
		return b, nil
	}
	traces, err := b.Traces()
	if err != nil {
		return nil, fmt.Errorf("adjust trace: %w", err)
	}
	d.Adjust(traces)
	return span.FromTraces(traces)
}

type answering func(context.Context, *parameters) (any, Notes, error)

// handler answers requests, as many at once as it has places.
type handler struct {
	Deps
	places  chan struct{}
	seconds *prometheus.HistogramVec
}

// NewHandler answers GET below /api/v1/traces/: search, analyze, and what else stands
// there as a trace id. Answers have the envelope of Prometheus' API.
func NewHandler(deps Deps) http.Handler {
	h := newHandler(deps)
	mux := http.NewServeMux()
	for route, answer := range map[string]answering{
		"search": h.search, "analyze": h.analyze, "{id}": h.trace,
	} {
		mux.HandleFunc("GET /api/v1/traces/"+route, func(w http.ResponseWriter, r *http.Request) { h.serve(w, r, route, answer) })
	}
	return mux
}

func newHandler(deps Deps) *handler {
	deps.Limits = deps.Limits.withDefaults()
	if deps.Now == nil {
		deps.Now = time.Now
	}
	h := &handler{Deps: deps, places: make(chan struct{}, deps.Limits.Concurrency)}
	h.seconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "weir_tracing_search_request_seconds",
		Help:    "How long requests for traces beyond Jaeger's APIs took, by their path and how they ended.",
		Buckets: []float64{.005, .02, .1, .3, 1, 5, 30},
	}, []string{"path", "code"})
	if deps.Registerer != nil {
		deps.Registerer.MustRegister(h.seconds)
	}
	return h
}

// badRequest is an error of the client's making.
type badRequest string

func (e badRequest) Error() string { return string(e) }

func badf(format string, args ...any) error { return badRequest(fmt.Sprintf(format, args...)) }

var errBusy = errors.New("too many searches at once: this one had no turn")

func (h *handler) serve(w http.ResponseWriter, r *http.Request, route string, answer answering) {
	started := time.Now()
	ctx, cancel := context.WithTimeout(r.Context(), h.Limits.Timeout)
	defer cancel()
	var data any
	var notes Notes
	err := errBusy
	select {
	case h.places <- struct{}{}:
		defer func() { <-h.places }()
		data, notes, err = answer(ctx, &parameters{values: r.URL.Query(), path: r.PathValue("id"), now: h.Now()})
	case <-ctx.Done():
	}
	code := h.write(w, r, data, notes, err)
	h.seconds.WithLabelValues(route, strconv.Itoa(code)).Observe(time.Since(started).Seconds())
}

// envelope is Prometheus'.
type envelope struct {
	Status    string   `json:"status"`
	Data      any      `json:"data,omitempty"`
	ErrorType string   `json:"errorType,omitempty"`
	Error     string   `json:"error,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
}

func (h *handler) write(w http.ResponseWriter, r *http.Request, data any, notes Notes, err error) (code int) {
	body := envelope{Status: "success", Data: data}
	code = http.StatusOK
	if notes.Partial != "" {
		body.Warnings = []string{notes.Partial}
	}
	if err != nil {
		var kind string
		code, kind = fault(err)
		body = envelope{Status: "error", ErrorType: kind, Error: err.Error()}
		if kind == "internal" {
			h.Log.Error("search of traces failed", "path", r.URL.Path, "err", err)
		}
	}
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(body) // the client went away
	return code
}

// fault is the status and the type of an error, as Prometheus has them.
func fault(err error) (code int, kind string) {
	var bad badRequest
	var syntax *SyntaxError
	var passes interface{ Retryable() bool }
	switch {
	case errors.As(err, &bad), errors.As(err, &syntax):
		return http.StatusBadRequest, "bad_data"
	case errors.Is(err, spanstore.ErrNotFound):
		return http.StatusNotFound, "not_found"
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusServiceUnavailable, "timeout"
	case errors.Is(err, context.Canceled):
		return 499, "canceled" // nobody reads it
	case errors.Is(err, errBusy), errors.As(err, &passes) && passes.Retryable():
		return http.StatusServiceUnavailable, "unavailable"
	}
	return http.StatusInternalServerError, "internal"
}

// parameters of a request.
type parameters struct {
	values url.Values
	path   string
	now    time.Time
}

// defaultWindow is looked at where a request says no start.
const defaultWindow = time.Hour

// maxUnix bounds times to what nanoseconds in 63 bits can say, year 2200.
const maxUnix = 7_258_118_400

func parseTime(s string) (time.Time, error) {
	if at, err := strconv.ParseFloat(s, 64); err == nil && at >= 0 && at < maxUnix {
		whole, part := math.Modf(at)
		return time.Unix(int64(whole), int64(math.Round(part*1e6))*1000).UTC(), nil
	}
	// The plus of an offset that was not escaped arrives as a space.
	if t, err := time.Parse(time.RFC3339Nano, strings.Replace(s, " ", "+", 1)); err == nil && t.Unix() >= 0 && t.Unix() < maxUnix {
		return t.UTC(), nil
	}
	return time.Time{}, badf("got %q, want Unix seconds or RFC 3339, from 1970 to 2199", s)
}

func (p *parameters) time(name string, otherwise time.Time) (time.Time, error) {
	s := p.values.Get(name)
	if s == "" {
		return otherwise, nil
	}
	t, err := parseTime(s)
	if err != nil {
		return t, badf("invalid parameter %q: %s", name, err)
	}
	return t, nil
}

// window reads two parameters; without them it ends now and is an hour long.
func (p *parameters) window(from, to string) (w spanstore.Window, err error) {
	if w.End, err = p.time(to, p.now.UTC()); err != nil {
		return w, err
	}
	if w.Start, err = p.time(from, w.End.Add(-defaultWindow)); err != nil {
		return w, err
	}
	if w.End.Before(w.Start) {
		return w, badf("invalid parameter %q: %s is before %s, %s", to, w.End.Format(time.RFC3339Nano), from, w.Start.Format(time.RFC3339Nano))
	}
	return w, nil
}

// count reads a number from 1 to most.
func (p *parameters) count(name string, otherwise, most int) (int, error) {
	s := p.values.Get(name)
	if s == "" {
		return min(otherwise, most), nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > most {
		return 0, badf("invalid parameter %q: got %q, want 1 to %d", name, s, most)
	}
	return n, nil
}

func (p *parameters) query() (*Query, error) {
	q, err := Parse(p.values.Get("q"))
	if err != nil {
		return nil, fmt.Errorf("invalid parameter \"q\": %w", err)
	}
	return q, nil
}

// search lists traces: q, start, end, limit.
func (h *handler) search(ctx context.Context, p *parameters) (any, Notes, error) {
	q, err := p.query()
	if err != nil {
		return nil, Notes{}, err
	}
	w, err := p.window("start", "end")
	if err != nil {
		return nil, Notes{}, err
	}
	limit, err := p.count("limit", 20, h.Limits.MaxTraces)
	if err != nil {
		return nil, Notes{}, err
	}
	found, err := h.find(ctx, q, w, limit)
	if err != nil {
		return nil, Notes{}, err
	}
	return found, found.Notes, nil
}

func (h *handler) find(ctx context.Context, q *Query, w spanstore.Window, limit int) (*Found, error) {
	found := &Found{Query: q.String(), Start: w.Start, End: w.End, Traces: []Summary{}}
	pages := newPager(h.Reader, q, boundsOf(w), h.Limits.MaxExamined, &found.Notes)
	err := pages.next(ctx, limit+1, func(b *span.Batch, hits []int32) {
		if len(found.Traces) == limit {
			found.More = true
			return
		}
		sum := summarize(b)
		sum.Matched = len(hits)
		found.Traces = append(found.Traces, sum)
	})
	sortSummaries(found.Traces)
	return found, err
}
