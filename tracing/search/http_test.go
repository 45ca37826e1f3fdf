package search

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

var update = flag.Bool("update", false, "write golden files instead of comparing them")

// odd is a trace of what should not be.
func odd() *span.Batch {
	at := uint64(noon.Add(time.Minute).UnixNano())
	tid := span.TraceID{0: 0xff, 15: 1}
	return &span.Batch{
		Resources: []span.Resource{{Service: "odd\x00\xff", Attrs: []span.Attr{str("service.name", "odd\x00\xff")}}},
		Scopes:    []span.Scope{{}},
		Spans: []span.Span{
			{TraceID: tid, ID: id(1), Parent: id(9), Name: "or\xffphan", Start: at, End: at - 5},
			{TraceID: tid, ID: id(2), Parent: id(1), Start: at, End: at + 1e6, Status: span.StatusError, Attrs: []span.Attr{
				str("a", "1"), str("a", "2"), {Key: "nan", Value: span.DoubleValue(math.NaN())}, {Key: "list", Value: span.ArrayValue(span.IntValue(1), span.StringValue("<"))},
				{Key: "bytes", Value: span.BytesValue([]byte{255})}, {Key: "none"}, {Key: "yes", Value: span.BoolValue(true)},
			}},
		},
	}
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// golden compares with a file, or writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s (-update writes it):\n%s", name, got)
	}
}

func TestAnswers(t *testing.T) {
	g := newShop(3)
	traces := g.traces(12, 0, 12*time.Minute)
	g.version = "1.1"
	traces = append(traces, g.traces(3, 12*time.Minute, 3*time.Minute)...)
	h := NewHandler(deps(stored(t, traces, []*span.Batch{odd()})))
	window := "start=2026-08-22T12:00:00Z&end=2026-08-22T12:20:00Z"
	var out strings.Builder
	for _, path := range []string{
		"search?limit=2&" + window,
		"search?start=1787400000&end=1787400120.5&q=" + url.QueryEscape("status=error"),
		"search?q=" + url.QueryEscape("{root} ->> {service=cart && status=error}") + "&" + window,
		"search?q=nothing&" + window,
		traces[1].Spans[0].TraceID.String(),
		"ff000000000000000000000000000001",
		"ff000000000000000000000000000001?limit=1&start=1&end=0",
		"analyze?q=service%3Dcart&sort=total&top=3&columns=4&groups=2&by=region&" + window,
		"analyze?q=service%3Dnobody&" + window,
		"analyze?compare=service.version&a=1.0&b=1.1&top=2&" + window,
		"analyze?compare_start=1787400000&compare_end=1787400300&top=1&" + window,
		// Faults.
		"search?q=a%3D",
		"search?start=yesterday",
		"search?start=2&end=1",
		"search?limit=300000",
		"search?end=1e300",
		"xyz",
		"00000000000000000000000000000077",
		"analyze?sort=name",
		"analyze?columns=201",
		"analyze?compare=a&a=1&b=1",
		"analyze?compare=duration&a=1&b=2",
		"analyze?compare=status&a=1&b=2",
		"analyze?a=1",
		"analyze?compare_start=1",
		"analyze?compare=x&compare_start=1",
	} {
		w := get(h, "/api/v1/traces/"+path)
		var body bytes.Buffer
		if err := json.Indent(&body, w.Body.Bytes(), "", " "); err != nil {
			t.Fatalf("%s: %v in\n%s", path, err, w.Body)
		}
		fmt.Fprintf(&out, "GET %s\n%d %s\n\n", path, w.Code, strings.TrimSpace(compact(body.String())))
	}
	golden(t, "testdata/answers.txt", out.String())
}

// compact writes lists of numbers in a line.
func compact(text string) string {
	var out strings.Builder
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		out.WriteString(line)
		bare := strings.TrimSpace(line)
		next := ""
		if i+1 < len(lines) {
			next = strings.TrimSpace(lines[i+1])
		}
		number := func(s string) bool { return s != "" && strings.Trim(s, "0123456789.e-,") == "" }
		if (number(bare) || strings.HasSuffix(bare, "[")) && (number(next) || strings.HasPrefix(next, "]")) {
			lines[i+1] = next
			continue
		}
		out.WriteString("\n")
	}
	return out.String()
}

func TestAdjusted(t *testing.T) {
	d := deps(stored(t, newShop(1).traces(5, 0, time.Minute)))
	d.Adjust = func(traces ptrace.Traces) {
		for _, r := range traces.ResourceSpans().All() {
			for _, s := range r.ScopeSpans().All() {
				for _, one := range s.Spans().All() {
					one.SetName("adjusted")
				}
			}
		}
	}
	h := NewHandler(d)
	ids, _, err := d.Reader.FindIDs(context.Background(), spanstore.Query{Limit: 1})
	if err != nil || len(ids) == 0 {
		t.Fatal(ids, err)
	}
	for path, want := range map[string]bool{ids[0].String(): true, ids[0].String() + "?raw=true": false, "analyze?start=1787400000&end=1787400060": true} {
		if w := get(h, "/api/v1/traces/"+path); w.Code != 200 || strings.Contains(w.Body.String(), `"operation":"adjusted"`) != want {
			t.Errorf("%s: %d %s, want adjusted %v", path, w.Code, w.Body, want)
		}
	}
}

// failing is a store that answers with an error, or not at all.
type failing struct {
	spanstore.Reader
	err  error
	hold chan struct{}
}

func (f failing) Find(ctx context.Context, _ spanstore.Query, _ func(*span.Batch) error) (spanstore.Notes, error) {
	if f.hold != nil {
		f.hold <- struct{}{}
		<-ctx.Done()
		return spanstore.Notes{}, ctx.Err()
	}
	return spanstore.Notes{}, f.err
}

type retryable struct{ error }

func (retryable) Retryable() bool { return true }

func TestStoreErrors(t *testing.T) {
	for want, err := range map[int]error{500: errors.New("disk gone"), 503: retryable{errors.New("busy")}, 499: context.Canceled} {
		d := deps(nil)
		d.Reader = failing{err: err}
		w := get(NewHandler(d), "/api/v1/traces/search")
		if w.Code != want || !strings.Contains(w.Body.String(), err.Error()) || (want == 503) != (w.Header().Get("Retry-After") != "") {
			t.Errorf("%v: got %d %s", err, w.Code, w.Body)
		}
	}
}

func TestConcurrencyIsBounded(t *testing.T) {
	d := deps(nil)
	hold := make(chan struct{})
	d.Reader = failing{hold: hold}
	d.Limits = Limits{Concurrency: 1, Timeout: 200 * time.Millisecond}
	d.Registerer = prometheus.NewRegistry()
	h := NewHandler(d)
	first := make(chan *httptest.ResponseRecorder)
	go func() { first <- get(h, "/api/v1/traces/search") }()
	<-hold
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/traces/search", nil).WithContext(ctx))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "too many searches at once") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if w := <-first; w.Code != 503 || !strings.Contains(w.Body.String(), `"timeout"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if n := testutil.CollectAndCount(d.Registerer.(*prometheus.Registry), "weir_tracing_search_request_seconds"); n != 1 {
		t.Errorf("got %d series", n)
	}
}
