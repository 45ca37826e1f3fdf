package jaegerv1

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/weir-dev/weir/tracing/jaegermodel"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

func serve(t *testing.T, deps Deps) http.Handler {
	t.Helper()
	deps.Log = slog.New(slog.DiscardHandler)
	h, err := NewHandler(deps)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func get(h http.Handler, path string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// body of an answer, as clients decode it.
type body struct {
	Data   []json.RawMessage
	Errors []notice
}

func decode(t *testing.T, w *httptest.ResponseRecorder) (b body) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &b); err != nil {
		t.Fatalf("%v in %.200s", err, w.Body)
	}
	return b
}

func TestGrafana(t *testing.T) {
	m := newMemory(shop())
	h := serve(t, Deps{Reader: m})
	micros := func(t time.Time) string { return fmt.Sprint(t.UnixMicro()) }
	millis := func(t time.Time) string { return fmt.Sprint(t.UnixMilli()) }
	end := epoch.Add(2 * time.Hour)
	for _, c := range []struct {
		path   string
		status int
		data   int
	}{
		{"/api/services", 200, 9},
		{"/api/services/" + url.PathEscape("cart/v2") + "/operations", 200, 1},
		{"/api/services/" + url.PathEscape("a+b") + "/operations", 200, 1},
		{"/api/traces?service=front&operation=GET+%2Fcart&start=" + micros(epoch) + "&end=" + micros(end) + "&limit=20&minDuration=1ms&maxDuration=1s", 200, 20},
		{"/api/traces?service=front&start=" + micros(epoch) + "&end=" + micros(end) + "&tags=" + url.QueryEscape(`{"error":"true","http.status_code":"500"}`), 200, 6},
		{"/api/traces/3e9", 200, 1},
		{"/api/traces/3e9?start=" + millis(epoch) + "&end=" + millis(end), 200, 1},
		{"/api/traces/deadbeef", 404, 0},
		{"/api/dependencies?endTs=" + millis(end) + "&lookback=86400000", 200, 8},
	} {
		w := get(h, c.path)
		if b := decode(t, w); w.Code != c.status || len(b.Data) != c.data {
			t.Errorf("%s: got %d with %d, want %d with %d: %.300s", c.path, w.Code, len(b.Data), c.status, c.data, w.Body)
		}
	}
	if want := (spanstore.Window{Start: epoch, End: end}); !m.hints[1].Start.Equal(want.Start) || !m.hints[1].End.Equal(want.End) {
		t.Errorf("milliseconds as microseconds: got hint %v, want %v", m.hints[1], want)
	}
	m.traces[traceID(0, 1001)] = &span.Batch{}
	if w := get(h, "/api/traces/3e9"); w.Code != http.StatusNotFound {
		t.Errorf("trace without spans: got %d %s, want 404, since Grafana takes the first of the data", w.Code, w.Body)
	}
}

func TestPatterns(t *testing.T) {
	mux := http.NewServeMux()
	h := serve(t, Deps{Reader: newMemory(shop()), Base: "/jaeger/"})
	for _, pattern := range Patterns("/jaeger/") {
		mux.Handle(pattern, h)
	}
	for _, path := range []string{
		"/api/services", "/api/services/%2Flead/operations", "/api/services/cart%2Fv2/operations", "/api/services/a%2F%2Fb/operations", "/api/operations?service=front",
		"/api/traces?service=front", "/api/traces/3e9", "/api/dependencies",
	} {
		if w := get(mux, "/jaeger"+path); w.Code != http.StatusOK {
			t.Errorf("%s: got %d %s, want 200", path, w.Code, w.Body)
		}
	}
	if w := get(mux, "/jaeger/api/metrics/calls?service=a"); w.Code != http.StatusNotImplemented {
		t.Errorf("metrics: got %d, want 501", w.Code)
	}
}

func TestGzip(t *testing.T) {
	h := serve(t, Deps{Reader: newMemory(shop())})
	accept := func(v string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Accept-Encoding", v) }
	}
	path := "/api/traces?service=front&limit=3&start=0&end=2000000000000000"
	plain := get(h, path)
	for _, pretty := range []string{"", "&prettyPrint=1"} {
		plain := get(h, path+pretty)
		w := get(h, path+pretty, accept("deflate, gzip;q=0.5, br"))
		if w.Header().Get("Content-Encoding") != "gzip" || w.Header().Get("Vary") != "Accept-Encoding" {
			t.Fatalf("got headers %v, want gzip", w.Header())
		}
		in, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(in); err != nil || string(got) != plain.Body.String() {
			t.Errorf("gzip: got %d bytes and %v, want the %d of the plain answer", len(got), err, plain.Body.Len())
		}
	}
	for _, v := range []string{"", "br", "gzip;q=0", "gzip; q=0.0", "identity"} {
		if w := get(h, path, accept(v)); w.Header().Get("Content-Encoding") != "" || w.Body.String() != plain.Body.String() {
			t.Errorf("Accept-Encoding %q: got %v, want a plain answer", v, w.Header())
		}
	}
	if w := get(h, "/api/traces/x", accept("gzip")); w.Header().Get("Content-Encoding") != "" || w.Code != 400 {
		t.Errorf("error: got %d %v, want it plain", w.Code, w.Header())
	}
}

func TestHEAD(t *testing.T) {
	server := httptest.NewServer(serve(t, Deps{Reader: newMemory(shop())}))
	defer server.Close()
	for path, status := range map[string]int{"/api/services": 200, "/api/traces/3e9": 200, "/api/traces/ffff": 404, "/api/traces": 400} {
		w, err := http.Head(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(w.Body)
		w.Body.Close()
		if w.StatusCode != status || len(text) != 0 || err != nil {
			t.Errorf("%s: got %d, %q, %v, want %d without a body", path, w.StatusCode, text, err, status)
		}
	}
}

func TestBounds(t *testing.T) {
	m := newMemory(shop())
	h := serve(t, Deps{Reader: m, Limits: Limits{MaxTraces: 3, MaxBody: 20}})
	search := "/api/traces?start=0&end=2000000000000000&service="
	for _, c := range []struct {
		query string
		data  int
		note  string
	}{
		{"front", 3, ""},
		{"front&limit=2", 2, ""},
		{"front&limit=3", 3, ""},
		{"front&limit=300000", 3, "limit 300000 is above the largest of 3, and there may be more traces"},
		{"front&limit=0", 3, "limit 0 stands for as many as possible: these are 3, and there may be more"},
		{"nobody&limit=300000", 0, ""},
	} {
		b := decode(t, get(h, search+c.query))
		note := ""
		if len(b.Errors) > 0 {
			note = b.Errors[0].Msg
		}
		if len(b.Data) != c.data || note != c.note {
			t.Errorf("%s: got %d traces and %q, want %d and %q", c.query, len(b.Data), note, c.data, c.note)
		}
	}
	for _, c := range []struct {
		query, msg string
	}{
		{"front" + strings.Repeat("&traceID=1", 4), "got 4 traceID params, want at most 3"},
		{"front" + tags(65), "got 65 tags to search for, want at most 64"},
	} {
		if w := get(h, search+c.query); w.Code != 400 || decode(t, w).Errors[0].Msg != c.msg {
			t.Errorf("got %d %s, want 400 and %s", w.Code, w.Body, c.msg)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/transform", strings.NewReader(strings.Repeat(" ", 21))))
	if w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("large body: got %d %s, want 413", w.Code, w.Body)
	}
}

func tags(n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, "&tag=k%d:v", i)
	}
	return out.String()
}

func TestStoreFails(t *testing.T) {
	m := newMemory(shop())
	m.fail = errors.New("disk gone")
	h := serve(t, Deps{Reader: m})
	for _, path := range []string{"/api/services", "/api/services/a/operations", "/api/operations?service=a", "/api/traces?service=a", "/api/traces/1", "/api/dependencies", "/api/traces?traceID=1"} {
		w := get(h, path)
		if b := decode(t, w); w.Code != 500 || b.Errors[0] != (notice{Code: 500, Msg: "disk gone"}) {
			t.Errorf("%s: got %d %s, want 500", path, w.Code, w.Body)
		}
	}
	m.fail, m.notes.Partial = nil, "a partition is damaged"
	b := decode(t, get(h, "/api/traces?service=front&start=0&end=2000000000000000&limit=2"))
	if len(b.Data) != 2 || b.Errors[0].Msg != "traces may be missing: a partition is damaged" {
		t.Errorf("got %d traces and %v", len(b.Data), b.Errors)
	}
	half := serve(t, Deps{Reader: halfway{m}})
	for _, pretty := range []string{"", "&prettyPrint=1"} {
		w := get(half, "/api/traces?service=front&start=0&end=2000000000000000"+pretty)
		if b := decode(t, w); w.Code != 200 || len(b.Data) != 1 || b.Errors[0].Msg != "the answer is incomplete: disk gone" {
			t.Errorf("got %d with %d traces and %v", w.Code, len(b.Data), b.Errors)
		}
	}
}

// halfway fails after the first trace.
type halfway struct{ *memory }

func (h halfway) Find(ctx context.Context, q spanstore.Query, yield func(*span.Batch) error) (spanstore.Notes, error) {
	q.Limit = 1
	if _, err := h.memory.Find(ctx, q, yield); err != nil {
		return spanstore.Notes{}, err
	}
	return spanstore.Notes{}, errors.New("disk gone")
}

func TestConcurrency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(shop())
		m.block = make(chan struct{})
		h := serve(t, Deps{Reader: m, Limits: Limits{Concurrency: 1, Timeout: time.Second}})
		first := make(chan int)
		go func() { first <- get(h, "/api/services").Code }()
		synctest.Wait()
		w := get(h, "/api/services")
		// Both waits end at the same instant, and the second may have got the place.
		if w.Code != http.StatusServiceUnavailable && w.Code != http.StatusGatewayTimeout {
			t.Errorf("second: got %d %s, want 503", w.Code, w.Body)
		}
		if got := <-first; got != http.StatusGatewayTimeout {
			t.Errorf("first: got %d, want 504", got)
		}
		close(m.block)
		if w := get(h, "/api/services"); w.Code != 200 {
			t.Errorf("third: got %d, want 200: a place was not given back", w.Code)
		}
	})
}

func TestExpressions(t *testing.T) {
	p := &prometheus{answers: map[string]json.RawMessage{"histogram_quantile": json.RawMessage(noSeries), "STATUS_CODE_ERROR": json.RawMessage(noSeries), "calls_total": json.RawMessage(noSeries)}}
	h := serve(t, Deps{Reader: newMemory(&span.Batch{}), Metrics: p})
	for _, query := range []string{
		"latencies?quantile=0.999&ratePer=90000&step=90000&service=" + url.QueryEscape(`a.b"\|*`),
		"calls?service=x&service=y&groupByOperation=1&endTs=1714557600",
		"errors?service=&spanKind=consumer",
	} {
		if w := get(h, "/api/metrics/"+query); w.Code != 200 {
			t.Errorf("%s: got %d %s", query, w.Code, w.Body)
		}
	}
	if w := get(h, "/api/metrics/calls?service=x&step=1&lookback=3600000"); w.Code != 400 {
		t.Errorf("3.6M points: got %d, want 400", w.Code)
	}
	want := `1000 * histogram_quantile(0.999, sum(rate(traces_spanmetrics_latency_bucket{service =~ "a\\.b\"\\\\\\|\\*", span_kind =~ "SPAN_KIND_SERVER"}[1m30s])) by (service,le))`
	if !strings.HasPrefix(p.asked[0], want+" start=") {
		t.Errorf("got  %s\nwant %s", p.asked[0], want)
	}
	for _, asked := range p.asked {
		expr, _, _ := strings.Cut(asked, " start=")
		if _, err := parser.NewParser(parser.Options{}).ParseExpr(expr); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

// TestOrder has the same answers whatever order the store has.
func TestOrder(t *testing.T) {
	for _, b := range []*span.Batch{chance(60), odd()} {
		m := newMemory(b)
		for _, id := range m.ids {
			var want string
			for i := range 4 {
				trace, err := jaegermodel.Trace(m.traces[id])
				if err != nil {
					t.Fatal(err)
				}
				jaegermodel.Adjust(trace, time.Second)
				got := string(appendTrace(nil, trace))
				if i == 0 {
					want = got
				}
				if got != want {
					t.Fatalf("trace %s\ngot  %s\nwant %s", id, got, want)
				}
				dice := rand.New(rand.NewPCG(1, uint64(i)))
				dice.Shuffle(len(m.traces[id].Spans), func(i, k int) {
					s := m.traces[id].Spans
					s[i], s[k] = s[k], s[i]
				})
			}
		}
	}
}

func TestNewHandler(t *testing.T) {
	for want, deps := range map[string]Deps{
		"jaeger v1 API: a reader and a logger are required":                                                         {Log: slog.Default()},
		"jaeger v1 API: got limits {MaxTraces:-1 Timeout:0s Concurrency:0 MaxBody:0 MaxSkew:0s}, want none below 0": {Reader: newMemory(&span.Batch{}), Log: slog.Default(), Limits: Limits{MaxTraces: -1}},
	} {
		if _, err := NewHandler(deps); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// BenchmarkTrace is a trace of 10,000 spans from the store's batch to JSON.
func BenchmarkTrace(b *testing.B) {
	m := &maker{}
	m.begin(traceID(1, 1))
	services := make([]int, 20)
	for i := range services {
		services[i] = m.resource(fmt.Sprintf("service-%d", i), attr("host.name", "h"), attr("ip", "10.0.0.1"))
	}
	for i := range 10_000 {
		m.add(services[i%20], "operation", uint64(i/3), float64(i), 10, kind(span.KindServer),
			with(attr("http.method", "GET"), attr("http.status_code", 200), attr("http.url", "http://example.org/path"), attr("retry", false), attr("size", 12.5), attr("peer", "other")))
	}
	buf := []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		t, err := jaegermodel.Trace(&m.batch)
		if err != nil {
			b.Fatal(err)
		}
		jaegermodel.Adjust(t, 0)
		buf = appendTrace(buf[:0], t)
	}
	b.ReportMetric(float64(len(buf))/1e6, "MB/answer")
}
