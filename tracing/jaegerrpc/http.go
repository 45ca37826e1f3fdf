package jaegerrpc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/weir-dev/weir/tracing/proto/expressionv1"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Handler answers /api/v3 below a base path such as "/jaeger"; "" and "/" are none.
//
// Errors are those of Jaeger: {"error":{"httpCode":404,"message":"..."}}, as text/plain.
// What is missing in an answer is said in Weir-Note (a limit that was cut) and
// Weir-Partial (what the store could not look at; of traces it is a trailer).
func (s *Server) Handler(base string) http.Handler {
	mux := http.NewServeMux()
	base = strings.TrimSuffix(base, "/") + "/api/v3/"
	for route, answer := range map[string]func(http.ResponseWriter, *http.Request) error{
		"services":          s.httpServices,
		"operations":        s.httpOperations,
		"traces":            s.httpTraces,
		"traces/{trace_id}": s.httpTrace,
		"trace-summaries":   s.httpSummaries,
		"dependencies":      s.httpDependencies,
		"capabilities":      s.httpCapabilities,
	} {
		mux.HandleFunc("GET "+base+route, func(w http.ResponseWriter, r *http.Request) {
			ctx, release, err := s.admit(r.Context())
			if err == nil {
				defer release()
				err = answer(w, r.WithContext(ctx))
			}
			if err != nil {
				s.httpError(w, r, err)
			}
		})
	}
	return mux
}

// httpStatus is the status of an error that statusOf knows; others are 500.
var httpStatus = map[codes.Code]int{
	codes.InvalidArgument:   http.StatusBadRequest,
	codes.NotFound:          http.StatusNotFound,
	codes.ResourceExhausted: http.StatusServiceUnavailable,
	codes.Unavailable:       http.StatusServiceUnavailable,
	codes.Unimplemented:     http.StatusNotImplemented,
	codes.DeadlineExceeded:  http.StatusGatewayTimeout,
	codes.Canceled:          499, // nobody reads it
}

// errNoTraces is said in the words of Jaeger, which clients may compare.
var errNoTraces = status.Error(codes.NotFound, "No traces found")

func (s *Server) httpError(w http.ResponseWriter, r *http.Request, err error) {
	code, ok := httpStatus[status.Code(statusOf(err))]
	if !ok {
		code = http.StatusInternalServerError
		s.deps.Log.Error("jaeger request failed", "path", r.URL.Path, "err", err)
	}
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	var body struct {
		Error struct {
			HTTPCode int    `json:"httpCode"`
			Message  string `json:"message"`
		} `json:"error"`
	}
	body.Error.HTTPCode, body.Error.Message = code, status.Convert(statusOf(err)).Message()
	text, err := json.Marshal(body)
	if err != nil {
		text = []byte(http.StatusText(code))
	}
	http.Error(w, string(text), code)
}

// writeJSON does not tell of a client that went away.
func writeJSON(w http.ResponseWriter, body any) error {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(body)
	return nil
}

func (s *Server) httpServices(w http.ResponseWriter, r *http.Request) error {
	services, err := s.deps.Reader.Services(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, map[string][]string{"services": append([]string{}, services...)})
}

func (s *Server) httpOperations(w http.ResponseWriter, r *http.Request) error {
	p := params(r.URL.Query())
	kind, _ := p.get("spanKind")
	found, err := s.operations(r.Context(), r.URL.Query().Get("service"), kind)
	if err != nil {
		return err
	}
	type operation struct {
		Name     string `json:"name"`
		SpanKind string `json:"spanKind"`
	}
	operations := make([]operation, 0, len(found))
	for _, o := range found {
		if o.Kind == span.KindUnspecified {
			o.Kind = span.KindInternal // Jaeger's gateway says so, its gRPC does not
		}
		operations = append(operations, operation{o.Name, spanstore.KindName(o.Kind)})
	}
	return writeJSON(w, map[string][]operation{"operations": operations})
}

func (s *Server) httpTrace(w http.ResponseWriter, r *http.Request) error {
	id, err := parseID(r.PathValue("trace_id"))
	if err != nil {
		return badf("malformed parameter trace_id: %s", err)
	}
	p := params(r.URL.Query())
	hint := spanstore.Window{Start: p.time("startTime"), End: p.time("endTime")}
	raw := p.bool("rawTraces")
	if p.err != nil {
		return p.err
	}
	b, err := s.deps.Reader.Trace(r.Context(), id, window(hint.Start, hint.End))
	if errors.Is(err, spanstore.ErrNotFound) {
		return errNoTraces
	}
	if err != nil {
		return err
	}
	return s.writeTraces(w, raw, func(yield func(*span.Batch) error) error { return yield(b) })
}

func (s *Server) httpTraces(w http.ResponseWriter, r *http.Request) error {
	q, raw, err := s.httpQuery(w, r)
	if err != nil {
		return err
	}
	w.Header().Set("Trailer", "Weir-Partial")
	return s.writeTraces(w, raw, func(yield func(*span.Batch) error) error {
		notes, err := s.deps.Reader.Find(r.Context(), q, yield)
		if notes.Partial != "" {
			w.Header().Set("Weir-Partial", notes.Partial)
		}
		return err
	})
}

// writeTraces writes {"result":{"resourceSpans":[...]}} trace by trace, so that one is
// in memory at a time. Once it has begun, an error can only cut the answer off.
func (s *Server) writeTraces(w http.ResponseWriter, raw bool, each func(func(*span.Batch) error) error) error {
	const before, after = `{"resourceSpans":[`, `]}`
	begun := false
	err := each(func(b *span.Batch) error {
		traces, err := s.adjustedTraces(b, raw)
		if err != nil {
			return err
		}
		body, err := (&ptrace.JSONMarshaler{}).MarshalTraces(traces)
		text := string(body)
		if err != nil || len(text) <= len(before)+len(after) {
			return err // no spans
		}
		separator := ","
		if !begun {
			begun = true
			w.Header().Set("Content-Type", "application/json")
			separator = `{"result":` + before
		}
		return writeStrings(w, separator, strings.TrimSuffix(strings.TrimPrefix(text, before), after))
	})
	switch {
	case err != nil && begun:
		s.deps.Log.Warn("jaeger answer cut off", "err", err)
		panic(http.ErrAbortHandler)
	case err != nil:
		return err
	case !begun:
		return errNoTraces
	}
	return writeStrings(w, after, "}")
}

func writeStrings(w http.ResponseWriter, texts ...string) error {
	for _, text := range texts {
		if _, err := w.Write([]byte(text)); err != nil {
			return context.Canceled // the client went away
		}
	}
	return nil
}

func (s *Server) httpSummaries(w http.ResponseWriter, r *http.Request) error {
	q, _, err := s.httpQuery(w, r)
	if err != nil {
		return err
	}
	type traceSummary struct {
		TraceID              string           `json:"traceId"`
		RootServiceName      string           `json:"rootServiceName,omitempty"`
		RootOperationName    string           `json:"rootOperationName,omitempty"`
		MinStartTimeUnixNano uint64           `json:"minStartTimeUnixNano,omitempty,string"`
		MaxEndTimeUnixNano   uint64           `json:"maxEndTimeUnixNano,omitempty,string"`
		SpanCount            int32            `json:"spanCount,omitempty"`
		ErrorSpanCount       int32            `json:"errorSpanCount,omitempty"`
		OrphanSpanCount      int32            `json:"orphanSpanCount,omitempty"`
		Services             []serviceSummary `json:"services,omitempty"`
	}
	summaries := []traceSummary{}
	notes, err := s.deps.Reader.Find(r.Context(), q, func(b *span.Batch) error {
		b, err := s.adjusted(b, false)
		if err != nil {
			return err
		}
		sum := summarize(b)
		summaries = append(summaries, traceSummary{
			sum.id.String(), sum.service, sum.name, sum.start, sum.end, sum.spans, sum.errors, sum.orphans, sum.services,
		})
		return nil
	})
	if err != nil {
		return err
	}
	if notes.Partial != "" {
		w.Header().Set("Weir-Partial", notes.Partial)
	}
	return writeJSON(w, map[string][]traceSummary{"summaries": summaries})
}

func (s *Server) httpDependencies(w http.ResponseWriter, r *http.Request) error {
	p := params(r.URL.Query())
	win := spanstore.Window{Start: p.time("startTime"), End: p.time("endTime")}
	if p.err != nil {
		return p.err
	}
	if win.Start.IsZero() || win.End.IsZero() {
		return badf("startTime and endTime are required")
	}
	found, err := s.dependencies(r.Context(), win)
	if err != nil {
		return err
	}
	type dependency struct {
		Parent    string `json:"parent"`
		Child     string `json:"child"`
		CallCount uint64 `json:"callCount,string"`
	}
	dependencies := make([]dependency, 0, len(found))
	for _, d := range found {
		dependencies = append(dependencies, dependency{d.Parent, d.Child, d.Calls})
	}
	return writeJSON(w, map[string][]dependency{"dependencies": dependencies})
}

func (s *Server) httpCapabilities(w http.ResponseWriter, r *http.Request) error {
	capabilities, err := apiV3Capabilities{}.GetCapabilities(r.Context(), nil)
	if err != nil {
		return err
	}
	body, err := protojson.Marshal(capabilities)
	if err != nil {
		return err
	}
	return writeJSON(w, json.RawMessage(body))
}

// httpQuery reads the parameters of a search.
func (s *Server) httpQuery(w http.ResponseWriter, r *http.Request) (q spanstore.Query, raw bool, err error) {
	x, err := searchHTTP(r.URL.Query())
	if err != nil {
		return q, false, err
	}
	q, note, err := s.query(x)
	if note != "" {
		w.Header().Set("Weir-Note", note)
	}
	return q, x.raw, err
}

func searchHTTP(values url.Values) (search, error) {
	p := params(values)
	var x search
	x.service, _ = p.get("query.serviceName")
	x.operation, _ = p.get("query.operationName")
	x.start, x.end = p.time("query.startTimeMin"), p.time("query.startTimeMax")
	x.minimum, x.maximum = p.duration("query.durationMin"), p.duration("query.durationMax")
	x.raw = p.bool("query.rawTraces")
	p.attributes(&x)
	p.filter(&x)
	p.depth(&x)
	switch {
	case p.err != nil:
		return search{}, p.err
	case x.start.IsZero() || x.end.IsZero():
		return search{}, badf("query.startTimeMin and query.startTimeMax are required")
	case !x.start.Before(x.end):
		return search{}, badf("query.startTimeMin must be before query.startTimeMax")
	}
	return x, nil
}

// parameters remembers the first that is malformed.
type parameters struct {
	values url.Values
	err    error
}

func params(values url.Values) *parameters { return &parameters{values: values} }

// get returns a parameter and the name that it came under: its own, or with
// underscores, as it was before Jaeger 2.
func (p *parameters) get(name string) (value, under string) {
	if value := p.values.Get(name); value != "" {
		return value, name
	}
	var snake strings.Builder
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			snake.WriteByte('_')
			c += 'a' - 'A'
		}
		snake.WriteRune(c)
	}
	return p.values.Get(snake.String()), snake.String()
}

func (p *parameters) fault(name string, err error) {
	if p.err == nil && err != nil {
		// protobuf's errors have a no-break space now and then, lest they be compared.
		p.err = badf("malformed parameter %s: %s", name, strings.ReplaceAll(err.Error(), "\u00a0", " "))
	}
}

func (p *parameters) time(name string) time.Time {
	value, under := p.get(name)
	if value == "" {
		return time.Time{}
	}
	// Grafana does not escape the plus of an offset, which then arrives as a space.
	t, err := time.Parse(time.RFC3339Nano, strings.Replace(value, " ", "+", 1))
	p.fault(under, err)
	return t.UTC()
}

func (p *parameters) duration(name string) time.Duration {
	value, under := p.get(name)
	if value == "" {
		return 0
	}
	d, err := time.ParseDuration(value)
	p.fault(under, err)
	return d
}

func (p *parameters) bool(name string) bool {
	value, under := p.get(name)
	if value == "" {
		return false
	}
	b, err := strconv.ParseBool(value)
	p.fault(under, err)
	return b
}

func (p *parameters) attributes(x *search) {
	value, under := p.get("query.attributes")
	if value == "" {
		return
	}
	var attributes map[string]string
	p.fault(under, json.Unmarshal([]byte(value), &attributes))
	x.where = equals(attributes)
}

func (p *parameters) filter(x *search) {
	value, under := p.get("query.filter")
	if value == "" {
		return
	}
	x.filter = &expressionv1.Call{}
	p.fault(under, protojson.Unmarshal([]byte(value), x.filter))
}

func (p *parameters) depth(x *search) {
	value, under := p.get("query.searchDepth")
	if value == "" {
		under = "query.num_traces"
		value = p.values.Get(under)
	}
	if value == "" {
		return
	}
	n, err := strconv.Atoi(value)
	p.fault(under, err)
	if err == nil && n < 1 && p.err == nil {
		p.err = badf("malformed parameter %s: got %d, want 1 or more", under, n)
	}
	x.depth = n
}

// parseID reads 1 to 32 hex digits, or the base64 of 16 bytes.
func parseID(text string) (span.TraceID, error) {
	id, err := span.ParseTraceID(text)
	if err != nil && (len(text) == 22 || len(text) == 24) {
		plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
		if raw, decoded := base64.RawStdEncoding.DecodeString(plain); decoded == nil && len(raw) == len(id) {
			id, err = span.TraceID(raw), nil
		}
	}
	if err != nil {
		return id, badf("trace id: %s", err)
	}
	if id.IsZero() {
		return id, badf("trace id %q: got zeros only", text)
	}
	return id, nil
}
