package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"

	"github.com/weir-dev/weir/bench/shop"
)

// keeper is a server as small as the driver can be tried on: it takes OTLP, keeps
// the names of spans by trace, and answers what the driver asks by counting.
type keeper struct {
	ptraceotlp.UnimplementedGRPCServer
	lose int // the n-th span that comes; 0 for none
	deny int // the n-th request; 0 for none

	mu       sync.Mutex
	requests int
	spans    int
	traces   map[string]int
	services map[string]int
	asked    []string
}

func (k *keeper) Export(_ context.Context, req ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.requests++; k.requests == k.deny {
		return ptraceotlp.NewExportResponse(), errors.New("denied")
	}
	for _, rs := range req.Traces().ResourceSpans().All() {
		service, _ := rs.Resource().Attributes().Get("service.name")
		for _, ss := range rs.ScopeSpans().All() {
			for _, sp := range ss.Spans().All() {
				k.keep(service.Str(), sp)
			}
		}
	}
	return ptraceotlp.NewExportResponse(), nil
}

func (k *keeper) keep(service string, sp ptrace.Span) {
	if k.spans++; k.spans == k.lose {
		return
	}
	k.traces[sp.TraceID().String()]++
	k.services[service]++
}

func (k *keeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/traces" {
		body, err := io.ReadAll(r.Body)
		req := ptraceotlp.NewExportRequest()
		if err == nil {
			err = req.UnmarshalProto(body)
		}
		if err == nil {
			_, err = k.Export(r.Context(), req)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked = append(k.asked, r.URL.String())
	spans := k.services[r.URL.Query().Get("service")]
	if id, ok := strings.CutPrefix(r.URL.Path, "/api/traces/"); ok {
		spans = k.traces[id]
	}
	type span struct{ SpanID string }
	type found struct{ Spans []span }
	answer := map[string][]found{"data": {}}
	if spans > 0 {
		answer["data"] = []found{{Spans: make([]span, min(spans, 10))}}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// startKeeper returns it as a server to attach to.
func startKeeper(t *testing.T, k *keeper) contestant {
	t.Helper()
	k.traces, k.services = map[string]int{}, map[string]int{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gs := grpc.NewServer()
	ptraceotlp.RegisterGRPCServer(gs, k)
	served := make(chan error, 1)
	go func() { served <- gs.Serve(l) }()
	hs := httptest.NewServer(k)
	t.Cleanup(func() {
		hs.Close()
		gs.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	c, err := attach(fmt.Sprintf("weir grpc=%s http=%s/v1/traces query=%[2]s pid=%d", l.Addr(), hs.URL, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func runKeeper(t *testing.T, line string, k *keeper) []result {
	t.Helper()
	sc, err := parseScenario(line)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		contestants: []contestant{startKeeper(t, k)}, dir: t.TempDir(), seed: 1, pairs: 1, log: slog.New(slog.DiscardHandler),
		waits: waits{settle: time.Millisecond, background: 20 * time.Millisecond, settled: 10 * time.Millisecond},
	}
	var out []result
	if err := b.runScenario(t.Context(), sc, func(r result) error { out = append(out, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRunOnAServer(t *testing.T) {
	for _, line := range []string{
		"grpc spans=40k batch=100 conns=4 rate=20k ask=200ms",
		"http spans=40k batch=100 conns=2 split rate=20k ask=200ms",
		"grpc spans=40k batch=500 conns=1 over=24h mesh rate=0 ask=100ms",
	} {
		t.Run(line, func(t *testing.T) {
			k := &keeper{}
			rs := runKeeper(t, line, k)
			r := rs[0]
			if r.Fault+r.AskFault != "" {
				t.Fatal(r.Fault + r.AskFault)
			}
			if r.All != k.spans || r.Spans < 40_000 || r.Spans > 45_000 || len(k.traces)*10 != k.spans {
				t.Errorf("got %d spans in the window, %d in all; the server has %d in %d traces", r.Spans, r.All, k.spans, len(k.traces))
			}
			if r.Scenario.Rate > 0 && (r.AskRate < 2000 || r.AskRate > 30_000) {
				t.Errorf("came in at %.0f spans a second, want about 20000", r.AskRate)
			}
			if n := len(r.Asked); n != 12 || len(r.Asked[traceByID].times) < 10 {
				t.Errorf("got answers to %d questions, want trace by id, ten searches and their sum", n)
			}
			checkReport(t, line, rs)
		})
	}
}

func checkReport(t *testing.T, line string, rs []result) {
	t.Helper()
	rep := newReport("traces", nil)
	rep.results = rs
	var text strings.Builder
	rep.render(&text)
	for _, want := range []string{"B a span on the wire", "trace by id", "service, one order", allSearches, "BenchmarkTraces/" + strings.Fields(line)[0] + "/"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report has no %q:\n%s", want, text.String())
		}
	}
}

func TestLossIsAFault(t *testing.T) {
	for name, test := range map[string]struct {
		keeper *keeper
		want   string
	}{
		"refused in the warm-up": {&keeper{deny: 3}, "warm-up: 1 of 40 requests refused"},
		"refused in the window":  {&keeper{deny: 45}, "window: 1 of 20 requests refused"},
		"taken and forgotten":    {&keeper{lose: -1}, "after the window: "},
	} {
		t.Run(name, func(t *testing.T) {
			if test.keeper.lose < 0 {
				forgetful(t, test.want)
				return
			}
			if rs := runKeeper(t, "grpc spans=2k batch=100", test.keeper); !strings.Contains(rs[0].Fault, test.want) {
				t.Errorf("got fault %q, want %q", rs[0].Fault, test.want)
			}
		})
	}
}

// forgetful loses the first span. There are 11 bodies of one trace each, all are
// remembered, and a hundred times one of them is looked up.
func forgetful(t *testing.T, want string) {
	t.Helper()
	rs := runKeeper(t, "grpc spans=10 batch=10 conns=1", &keeper{lose: 1})
	if !strings.Contains(rs[0].Fault, want) || !strings.Contains(rs[0].Fault, "got 9 spans, want 10") {
		t.Errorf("got fault %q, want %q and 9 spans", rs[0].Fault, want)
	}
}

func TestJaegerQuestions(t *testing.T) {
	at := time.UnixMicro(1_790_000_000_000_000)
	tr := shop.Trace{ID: "1f", Start: at, End: at, Order: "00ff", User: "u-000001", Spans: []shop.Span{
		{Service: "a", Name: "GET /x"}, {}, {Service: "b", Name: "s/M"},
	}}
	want := []string{
		"/api/traces?end=1790000001000000&limit=20&service=b&start=1789999999000000",
		"/api/traces?end=1790000001000000&limit=20&operation=s%2FM&service=b&start=1789999999000000",
		"/api/traces?end=1790000001000000&limit=20&service=b&start=1789999999000000&tags=%7B%22error%22%3A%22true%22%7D",
		"/api/traces?end=1790000001000000&limit=20&minDuration=1s&service=b&start=1789999999000000",
		"/api/traces?end=1790000001000000&limit=20&maxDuration=200ms&minDuration=100ms&operation=GET+%2Fx&service=a&start=1789999999000000",
		"/api/traces?end=1790000001000000&limit=20&service=a&start=1789999999000000&tags=%7B%22http.response.status_code%22%3A%22500%22%7D",
		"/api/traces?end=1790000001000000&limit=20&service=a&start=1789999999000000&tags=%7B%22shop.order.id%22%3A%2200ff%22%7D",
		"/api/traces?end=1790000001000000&limit=20&service=a&start=1789999999000000&tags=%7B%22enduser.id%22%3A%22u-000001%22%7D",
		"/api/traces?end=1790000001000000&limit=20&service=b&start=1789999999000000&tags=%7B%22cloud.availability_zone%22%3A%22us-east-1c%22%2C%22rpc.grpc.status_code%22%3A%2214%22%7D",
		"/api/traces?end=1790000030000000&limit=200&service=b&start=1789999970000000",
	}
	for i, q := range questions(tr, at.Add(-time.Second), at.Add(time.Second)) {
		if got := jaeger.search("", &q); got != want[i] {
			t.Errorf("%s:\n got %s\nwant %s", q.name, got, want[i])
		}
	}
}

func TestTraceQL(t *testing.T) {
	q := question{service: "a", operation: "GET /x", failed: true, min: time.Second, max: 2 * time.Second, tags: []tag{{"n", 5}, {"s", "x"}}}
	want := `{ resource.service.name = "a" && name = "GET /x" && status = error && duration >= 1s && duration <= 2s && span.n = 5 && span.s = "x" }`
	if got := q.traceQL(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestScenarios(t *testing.T) {
	for _, line := range []string{
		"grpc spans=1M batch=500 conns=4",
		"http spans=100M batch=500 conns=4 over=24h0m0s rate=20k ask=5m0s partition=64MiB split mesh",
	} {
		if sc, err := parseScenario(line); err != nil || sc.String() != line {
			t.Errorf("scenario %q: got %q, %v", line, sc, err)
		}
	}
	for _, bad := range []string{"", "udp", "grpc spans=x", "grpc batch=15", "grpc conns=0", "grpc spans=10", "grpc ask=-1s", "grpc colour=red"} {
		if _, err := parseScenario(bad); err == nil {
			t.Errorf("scenario %q: got no error", bad)
		}
	}
}

func TestMemoryIsFairAndSettled(t *testing.T) {
	m := newMemory(1, 0)
	for i := range 3 * remembered {
		m.add(func() shop.Trace { return shop.Trace{ID: strconv.Itoa(i)} })
	}
	early := 0
	for _, s := range m.kept {
		if n, _ := strconv.Atoi(s.ID); n < remembered {
			early++
		}
	}
	if len(m.kept) != remembered || early < remembered/4 || early > remembered/2 {
		t.Errorf("of %d kept %d are of the first third, want a third", len(m.kept), early)
	}
	m.settled = time.Hour
	if _, err := m.pick(); err == nil {
		t.Error("picked a trace that has not settled")
	}
}
