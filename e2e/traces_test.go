//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/weir-dev/weir/bench/shop"
	"github.com/weir-dev/weir/e2e"
)

// TestE2ETraces sends a shop's traces and asks for them as Grafana and the Jaeger UI
// do, before and after a kill -9, and for what is derived from them.
func TestE2ETraces(t *testing.T) {
	s := newTracesStack(t)
	s.start(s.weir)
	var known []shop.Trace
	for range 30 {
		tr, err := s.shop.Send(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		known = append(known, tr)
	}
	s.checkTraces(known)
	s.checkDerived(30 * 100)
	s.weir.Kill()
	s.start(s.weir)
	s.checkTraces(known)
	s.checkDerived(30 * 100)
	if binary := os.Getenv("WEIR_JAEGER"); binary != "" { // none is in a module, so CI has none
		s.throughJaeger(binary, known)
	}
}

// throughJaeger asks a stock Jaeger for the same traces.
func (s *tracesStack) throughJaeger(binary string, known []shop.Trace) {
	s.t.Helper()
	jaeger, err := e2e.NewJaeger(binary, s.t.TempDir(), s.grpc)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		jaeger.Kill()
		if s.t.Failed() {
			s.t.Logf("log of jaeger ends with:\n%s", jaeger.LogTail())
		}
	})
	s.start(jaeger)
	for _, tr := range known {
		var one struct{ Data []found }
		if err := e2e.GetJSON(s.t.Context(), jaeger.URL+"/api/traces/"+tr.ID, &one); err != nil {
			s.t.Fatal(err)
		}
		if len(one.Data) != 1 || !slices.Equal(one.Data[0].spans(), spansOf(tr)) {
			s.t.Errorf("trace %s through Jaeger: got %v, want %v", tr.ID, one.Data, spansOf(tr))
		}
	}
}

// tracesStack is a Weir and a shop that sends to it.
type tracesStack struct {
	t    *testing.T
	weir *e2e.Program
	shop *e2e.Shop
	url  string // of Jaeger's HTTP APIs
	grpc string // host:port of Jaeger's gRPC APIs
}

func newTracesStack(t *testing.T) *tracesStack {
	dir := t.TempDir()
	if err := e2e.Build(t.Context(), dir, e2e.WeirCommand); err != nil {
		t.Fatal(err)
	}
	free, err := e2e.FreeAddresses(4)
	if err != nil {
		t.Fatal(err)
	}
	weir, err := e2e.NewWeir(dir, dir, free[0], fmt.Sprintf(`
server: {listen: "%s"}
store: {dir: "%s"}
ingest: {otlp: {grpc: {endpoint: "%s"}, http: {endpoint: ""}}}
tracing: {query: {http: {endpoint: "%s"}, grpc: {endpoint: "%s"}}}
`, free[0], filepath.Join(dir, "data"), free[1], free[2], free[3]))
	if err != nil {
		t.Fatal(err)
	}
	sh, err := e2e.NewShop(free[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sh.Close(); err != nil {
			t.Error(err)
		}
		weir.Kill()
		if t.Failed() {
			t.Logf("log of weir ends with:\n%s", weir.LogTail())
		}
	})
	return &tracesStack{t, weir, sh, "http://" + free[2], free[3]}
}

func (s *tracesStack) start(p *e2e.Program) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	if err := p.Start(ctx); err != nil {
		s.t.Fatal(err)
	}
}

func (s *tracesStack) get(path string, into any) {
	s.t.Helper()
	if err := e2e.GetJSON(s.t.Context(), s.url+path, into); err != nil {
		s.t.Fatal(err)
	}
}

// found is a trace of Jaeger's API v1.
type found struct {
	TraceID string
	Spans   []struct{ OperationName, ProcessID string }

	Processes map[string]struct{ ServiceName string }
}

// checkTraces asks for each trace by its id in both generations of the API, and by
// its order.
func (s *tracesStack) checkTraces(known []shop.Trace) {
	s.t.Helper()
	for _, tr := range known {
		var one, searched struct{ Data []found }
		s.get("/api/traces/"+tr.ID, &one)
		s.get("/api/traces?"+url.Values{
			"service": {"frontend"}, "tags": {fmt.Sprintf(`{"shop.order.id":%q}`, tr.Order)},
		}.Encode(), &searched)
		for what, data := range map[string][]found{"by id": one.Data, "by order": searched.Data} {
			if len(data) != 1 {
				s.t.Errorf("trace %s %s: got %d traces, want 1", tr.ID, what, len(data))
				continue
			}
			if got, want := data[0].spans(), spansOf(tr); !slices.Equal(got, want) {
				s.t.Errorf("trace %s %s: got spans\n%v, want\n%v", tr.ID, what, got, want)
			}
		}
		var third struct {
			Result struct {
				ResourceSpans []struct {
					ScopeSpans []struct{ Spans []struct{ Name string } }
				}
			}
		}
		s.get("/api/v3/traces/"+tr.ID, &third)
		n := 0
		for _, r := range third.Result.ResourceSpans {
			for _, sc := range r.ScopeSpans {
				n += len(sc.Spans)
			}
		}
		if n != len(tr.Spans) {
			s.t.Errorf("trace %s by API v3: got %d spans, want %d", tr.ID, n, len(tr.Spans))
		}
	}
}

// spans are service and name of each, sorted.
func (f *found) spans() []string {
	var out []string
	for _, sp := range f.Spans {
		out = append(out, f.Processes[sp.ProcessID].ServiceName+" "+sp.OperationName)
	}
	slices.Sort(out)
	return out
}

func spansOf(tr shop.Trace) []string {
	var out []string
	for _, sp := range tr.Spans {
		out = append(out, sp.Service+" "+sp.Name)
	}
	slices.Sort(out)
	return out
}

// checkDerived waits until every span has been counted, once, and every call is in
// the graph as often as it was made.
func (s *tracesStack) checkDerived(spans float64) {
	s.t.Helper()
	var counted float64
	var graph map[shop.Edge]int
	want := s.shop.Calls()
	for begun := time.Now(); time.Since(begun) < time.Minute; time.Sleep(500 * time.Millisecond) {
		counted = 0
		for _, v := range s.query(`sum(traces_spanmetrics_calls_total)`) {
			counted += value(s.t, v)
		}
		graph = map[shop.Edge]int{}
		for _, v := range s.query(`sum by (client, server) (traces_service_graph_request_total)`) {
			e := shop.Edge{From: v.Metric["client"], To: v.Metric["server"]}
			if _, ours := want[e]; ours { // others are databases and users
				graph[e] = int(value(s.t, v))
			}
		}
		if counted == spans && maps.Equal(graph, want) {
			return
		}
	}
	s.t.Errorf("derived: got %v calls and the graph %v, want %v and %v", counted, graph, spans, want)
}

func (s *tracesStack) query(expr string) []e2e.Series {
	s.t.Helper()
	out, err := e2e.Query(s.t.Context(), s.weir.URL, expr)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func value(t *testing.T, s e2e.Series) float64 {
	t.Helper()
	text, _ := s.Value[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
