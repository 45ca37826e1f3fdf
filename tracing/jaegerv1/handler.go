package jaegerv1

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Limits bound what clients can make the handler do. Zero fields are the defaults.
type Limits struct {
	// MaxTraces of one answer; more are not sent, and its errors say so. 1,500 by
	// default: the largest number that the Jaeger UI offers.
	MaxTraces int
	// Timeout of a request. 1m by default: Grafana's data sources give up after 30s,
	// Kiali after 1m.
	Timeout time.Duration
	// Concurrency of requests over all clients; further ones wait until they time out.
	// 16 by default: unmeasured, each holds at least one trace in memory.
	Concurrency int
	// MaxBody of what is to be transformed, in bytes. 16 MiB by default: some 20,000
	// spans as JSON; unmeasured.
	MaxBody int64
	// MaxSkew is by how much clocks of other hosts are corrected at most. 0, Jaeger's
	// default: not at all, spans only say so.
	MaxSkew time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.MaxTraces == 0 {
		l.MaxTraces = 1500
	}
	if l.Timeout == 0 {
		l.Timeout = time.Minute
	}
	if l.Concurrency == 0 {
		l.Concurrency = 16
	}
	if l.MaxBody == 0 {
		l.MaxBody = 16 << 20
	}
	return l
}

// Deps of [NewHandler]. Reader and Log are required.
type Deps struct {
	Reader spanstore.Reader
	// Metrics answers from the span metrics; nil: 501.
	Metrics Querier
	// Archive keeps a trace for good, or says [spanstore.ErrNotFound]; nil: as a Jaeger
	// that has none, 500.
	Archive func(ctx context.Context, id span.TraceID, hint spanstore.Window) error
	// Base is a path before all others, such as "/jaeger"; "" and "/" are none.
	Base string

	Limits Limits
	Now    func() time.Time // nil: time.Now
	Log    *slog.Logger
}

// Patterns of a [http.ServeMux] behind which the handler lies below a base path.
func Patterns(base string) []string {
	base = strings.TrimSuffix(base, "/")
	patterns := []string{"/api/services", "/api/services/", "/api/operations", "/api/traces", "/api/traces/",
		"/api/dependencies", "/api/metrics/", "/api/archive/", "/api/transform"}
	for i := range patterns {
		patterns[i] = base + patterns[i]
	}
	return patterns
}

type handler struct {
	deps   Deps
	limits Limits
	base   string
	places chan struct{} // one for each running request
}

// NewHandler checks deps and starts nothing.
func NewHandler(deps Deps) (http.Handler, error) {
	if deps.Reader == nil || deps.Log == nil {
		return nil, errors.New("jaeger v1 API: a reader and a logger are required")
	}
	limits := deps.Limits.withDefaults()
	if limits.MaxTraces < 0 || limits.Timeout < 0 || limits.Concurrency < 0 || limits.MaxBody < 0 || limits.MaxSkew < 0 {
		return nil, fmt.Errorf("jaeger v1 API: got limits %+v, want none below 0", deps.Limits)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &handler{
		deps:   deps,
		limits: limits,
		base:   strings.TrimSuffix(deps.Base, "/") + "/api/",
		places: make(chan struct{}, limits.Concurrency),
	}, nil
}

// answer writes an answer, or returns why it cannot; arg is a part of the path, as the
// client escaped it.
type answer func(w http.ResponseWriter, r *http.Request, arg string) error

// route is the answer of a path, with the method it wants. Jaeger's routes know paths
// as they were sent, so that a service may have a slash in its name.
func (h *handler) route(escaped string) (string, answer, string) {
	path, ok := strings.CutPrefix(escaped, h.base)
	if !ok {
		return "", nil, ""
	}
	parts := strings.Split(path, "/")
	switch {
	case len(parts) == 1:
		switch parts[0] {
		case "services":
			return http.MethodGet, h.services, ""
		case "operations":
			return http.MethodGet, h.operations, ""
		case "traces":
			return http.MethodGet, h.search, ""
		case "dependencies":
			return http.MethodGet, h.dependencies, ""
		case "transform":
			return http.MethodPost, h.transform, ""
		}
	case parts[1] == "":
	case len(parts) == 2 && parts[0] == "traces":
		return http.MethodGet, h.trace, parts[1]
	case len(parts) == 2 && parts[0] == "archive":
		return http.MethodPost, h.archive, parts[1]
	case len(parts) == 2 && parts[0] == "metrics":
		switch parts[1] {
		case "latencies", "calls", "errors":
			return http.MethodGet, h.metrics, parts[1]
		case "minstep":
			return http.MethodGet, h.minStep, ""
		}
	case len(parts) == 3 && parts[0] == "services" && parts[2] == "operations":
		return http.MethodGet, h.serviceOperations, parts[1]
	}
	return "", nil, ""
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method, answer, arg := h.route(r.URL.EscapedPath())
	switch {
	case answer == nil:
		http.NotFound(w, r)
		return
	case r.Method != method && (r.Method != http.MethodHead || method != http.MethodGet):
		w.Header().Set("Allow", method)
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.limits.Timeout)
	defer cancel()
	out := compressed(w, r)
	defer out.Close()
	err := h.enter(ctx)
	if err == nil {
		defer func() { <-h.places }()
		err = answer(out, r.WithContext(ctx), arg)
	}
	if err != nil {
		h.writeError(out, r, err)
	}
}

func (h *handler) enter(ctx context.Context) error {
	select {
	case h.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fail(http.StatusServiceUnavailable, fmt.Errorf("%d requests are running, and none ended in time", h.limits.Concurrency))
	}
}

// failure is an error with the status that tells the client whose fault it is.
type failure struct {
	status int
	error
}

func (f failure) Unwrap() error { return f.error }

func fail(status int, err error) error { return failure{status, err} }

func bad(err error) error { return fail(http.StatusBadRequest, err) }

// statusOf is 500 for what nobody has thought of.
func statusOf(err error) int {
	var f failure
	switch {
	case errors.As(err, &f):
		return f.status
	case errors.Is(err, spanstore.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// envelope is around every answer but those of /api/metrics.
type envelope struct {
	Data   any      `json:"data"`
	Total  int      `json:"total"`
	Limit  int      `json:"limit"`
	Offset int      `json:"offset"`
	Errors []notice `json:"errors"`
}

type notice struct {
	Code    int    `json:"code,omitempty"`
	Msg     string `json:"msg"`
	TraceID string `json:"traceID,omitempty"`
}

// writeError writes JSON as text/plain, as Jaeger does.
func (h *handler) writeError(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if status == http.StatusInternalServerError && !errors.Is(err, context.Canceled) {
		h.deps.Log.Error("jaeger request failed", "path", r.URL.Path, "err", err)
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	text, err := json.Marshal(envelope{Errors: []notice{{Code: status, Msg: err.Error()}}})
	if err != nil {
		text = []byte(http.StatusText(status))
	}
	http.Error(w, string(text), status)
}

// pretty tells that the client wants its JSON indented.
func pretty(r *http.Request) bool {
	v := r.FormValue("prettyPrint")
	return v != "" && v != "false"
}

const indent = "    "

func writeJSON(w http.ResponseWriter, r *http.Request, body any) error {
	var text []byte
	var err error
	if pretty(r) {
		text, err = json.MarshalIndent(body, "", indent)
	} else {
		text, err = json.Marshal(body)
	}
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // the client is gone
	return nil
}

func (h *handler) services(w http.ResponseWriter, r *http.Request, _ string) error {
	services, err := h.deps.Reader.Services(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, r, list(services))
}

// list is null where there is nothing, as Jaeger has it.
func list(names []string) envelope {
	if len(names) == 0 {
		return envelope{Data: []string(nil)}
	}
	return envelope{Data: names, Total: len(names)}
}

// serviceOperations are names alone. Jaeger reads a plus sign in the path as a space,
// which Go's clients (Grafana) do not escape: so if there is no such service, it is
// read as what it is.
func (h *handler) serviceOperations(w http.ResponseWriter, r *http.Request, escaped string) error {
	service, err := url.QueryUnescape(escaped)
	if err != nil {
		return writeJSON(w, r, list(nil))
	}
	found, err := h.deps.Reader.Operations(r.Context(), service, span.KindUnspecified)
	if literal, bad := url.PathUnescape(escaped); err == nil && bad == nil && len(found) == 0 && literal != service {
		found, err = h.deps.Reader.Operations(r.Context(), literal, span.KindUnspecified)
	}
	if err != nil {
		return err
	}
	var names []string
	for _, o := range found {
		if len(names) == 0 || names[len(names)-1] != o.Name { // they are sorted
			names = append(names, o.Name)
		}
	}
	return writeJSON(w, r, list(names))
}

// unspecified is how Jaeger calls the kind of a span that has none.
const unspecified = "unspecified"

func (h *handler) operations(w http.ResponseWriter, r *http.Request, _ string) error {
	type operation struct {
		Name     string `json:"name"`
		SpanKind string `json:"spanKind"`
	}
	service := r.FormValue("service")
	if service == "" {
		return bad(errNoService)
	}
	found, err := h.deps.Reader.Operations(r.Context(), service, span.KindUnspecified)
	if err != nil {
		return err
	}
	wanted := r.FormValue("spanKind")
	operations := make([]operation, 0, len(found))
	for _, o := range found {
		kind := spanstore.KindName(o.Kind)
		if kind == "" {
			kind = unspecified
		}
		if wanted == "" || wanted == kind {
			operations = append(operations, operation{o.Name, kind})
		}
	}
	return writeJSON(w, r, envelope{Data: operations, Total: len(operations)})
}

func (h *handler) dependencies(w http.ResponseWriter, r *http.Request, _ string) error {
	type link struct {
		Parent    string `json:"parent"`
		Child     string `json:"child"`
		CallCount uint64 `json:"callCount"`
	}
	window, err := dependencyWindow(r, h.deps.Now())
	if err != nil {
		return bad(err)
	}
	found, err := h.deps.Reader.Dependencies(r.Context(), window)
	if err != nil {
		return err
	}
	service := r.FormValue("service")
	links := make([]link, 0, len(found))
	for _, d := range found {
		if service != "" && d.Parent != service && d.Child != service {
			continue
		}
		if n := len(links); n > 0 && links[n-1].Parent == d.Parent && links[n-1].Child == d.Child { // they are sorted
			links[n-1].CallCount += d.Calls
			continue
		}
		links = append(links, link{d.Parent, d.Child, d.Calls})
	}
	return writeJSON(w, r, envelope{Data: links})
}
