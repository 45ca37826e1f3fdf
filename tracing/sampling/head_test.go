package sampling_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gogo/protobuf/jsonpb"
	"github.com/jaegertracing/jaeger-idl/proto-gen/api_v2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/sampling"
	"github.com/weir-dev/weir/tracing/span"
)

var update = flag.Bool("update", false, "write golden files")

func shop(c *sampling.Config) {
	c.Head.Default = sampling.Strategy{Type: "probabilistic", Param: 0.25, Operations: []sampling.Operation{{"GET /healthz", 0}}}
	c.Head.Services = []sampling.Service{
		{Service: "cart", Strategy: sampling.Strategy{Type: "probabilistic", Param: 0.5, Operations: []sampling.Operation{{"pay <all>", 1}, {"GET /healthz", 0.001}}}},
		{Service: "mail", Strategy: sampling.Strategy{Type: "ratelimiting", Param: 7}},
		{Service: "stock", Strategy: sampling.Strategy{Type: "adaptive"}},
	}
}

func get(t *testing.T, h http.Handler, path string) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(body)
}

// The answers over HTTP are what Jaeger makes of the messages that gRPC gives; the
// golden files were compared with those of the handler of Jaeger 1.62.
func TestStrategies(t *testing.T) {
	w := newWorld(t, shop)
	w.Adjust(noon)
	w.Observe(batch(noon, one{service: "stock", name: "GET"}, one{service: "stock", name: "POST"}))
	w.Adjust(noon.Add(time.Minute))
	plain := newWorld(t, nil)
	client := dial(t, w)
	for name, c := range map[string]struct {
		w       *world
		service string
	}{
		"default": {w, "other"}, "empty": {w, ""}, "operations": {w, "cart"}, "ratelimiting": {w, "mail"},
		"adaptive": {w, "stock"}, "plain": {plain, "x"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/sampling", "/api/sampling", "/"} {
				r, body := get(t, c.w.Handler(), path+"?service="+c.service)
				if r.StatusCode != 200 || r.Header.Get("Content-Type") != "application/json" {
					t.Fatalf("%s: %s %q", path, r.Status, body)
				}
				suffix := ".json"
				if path == "/" {
					suffix = ".oldest.json"
				}
				golden(t, name+suffix, body)
			}
			if c.w != w {
				return
			}
			got, err := client.GetSamplingStrategy(context.Background(), &api_v2.SamplingStrategyParameters{ServiceName: c.service})
			if err != nil {
				t.Fatal(err)
			}
			text, err := (&jsonpb.Marshaler{EmitDefaults: true}).MarshalToString(got)
			if err != nil {
				t.Fatal(err)
			}
			_, body := get(t, c.w.Handler(), "/sampling?service="+c.service)
			if a, b := withoutNulls(t, text), withoutNulls(t, body); a != b {
				t.Errorf("gRPC and HTTP differ:\n%s\n%s", a, b)
			}
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.TrimSuffix(string(want), "\n") {
		t.Errorf("%s: got\n%s\nwant\n%s", file, got, want)
	}
}

func withoutNulls(t *testing.T, text string) string {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	for k := range v {
		if v[k] == nil {
			delete(v, k)
		}
	}
	var out bytes.Buffer
	if err := json.NewEncoder(&out).Encode(v); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func dial(t *testing.T, w *world) api_v2.SamplingManagerClient {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	w.RegisterGRPC(g)
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return api_v2.NewSamplingManagerClient(conn)
}

func TestBadRequests(t *testing.T) {
	w := newWorld(t, shop)
	for _, path := range []string{"/sampling", "/sampling?service=a&service=b", "/?x=1"} {
		r, body := get(t, w.Handler(), path)
		if r.StatusCode != 400 || body != "'service' parameter must be provided once\n" {
			t.Errorf("%s: got %s %q, want Jaeger's 400", path, r.Status, body)
		}
	}
	if r, _ := get(t, w.Handler(), "/other?service=a"); r.StatusCode != 404 {
		t.Errorf("another path: got %s, want 404", r.Status)
	}
	rec := httptest.NewRecorder()
	w.Handler().ServeHTTP(rec, httptest.NewRequest("POST", "/sampling?service=a", nil))
	if rec.Code != 405 {
		t.Errorf("POST: got %d, want 405", rec.Code)
	}
}

func TestWeight(t *testing.T) {
	w := newWorld(t, shop)
	for _, c := range []struct {
		service, operation string
		want               float64
	}{
		{"other", "GET", 4}, {"other", "GET /healthz", 1}, {"cart", "GET", 2}, {"cart", "pay <all>", 1},
		{"cart", "GET /healthz", 1000}, {"mail", "GET", 1}, {"stock", "GET", 1000},
	} {
		if got := w.Weight(c.service, c.operation); got != c.want {
			t.Errorf("%s %s: got %v, want %v", c.service, c.operation, got, c.want)
		}
	}
}

func tags(kind string, param float64) []span.Attr {
	return []span.Attr{{Key: "jaeger.sampler.type", Value: span.StringValue(kind)}, {Key: "jaeger.sampler.param", Value: span.DoubleValue(param)}}
}

// SDKs that poll at different minutes send by old probabilities; the rate they come to
// is the target all the same.
func TestAdaptiveReachesTheTarget(t *testing.T) {
	adaptive := func(c *sampling.Config) {
		c.Head.Default = sampling.Strategy{Type: "adaptive"}
		c.Head.Adaptive.Target = 5
	}
	for name, how := range map[string]func(p float64) one{
		"tags":       func(p float64) one { return one{attrs: tags("probabilistic", p)} },
		"tracestate": func(p float64) one { return one{state: fmt.Sprintf("a=b,ot=rv:1;th:%014x", uint64((1-p)*(1<<56)))} },
	} {
		t.Run(name, func(t *testing.T) {
			run := func() (history []float64, perSecond float64) {
				w := newWorld(t, adaptive)
				random := rand.New(rand.NewPCG(3, 4))
				now, old, sent := noon, 0.001, 0
				w.Adjust(now)
				for minute := range 40 {
					p := 1 / w.Weight("shop", "GET")
					sent = 0
					for range 60 * 200 { // 200 traces a second
						at := p
						if random.IntN(2) == 0 {
							at = old // half of the instances have not asked yet
						}
						if random.Float64() >= at {
							continue
						}
						sent++
						o := how(at)
						o.service, o.name, o.trace = "shop", "GET", sent
						w.Observe(batch(now, o, one{service: "shop", name: "child", child: true, trace: sent}))
					}
					old = p
					now = now.Add(time.Minute)
					w.Adjust(now)
					history = append(history, p)
					perSecond = float64(sent) / 60
					_ = minute
				}
				return history, perSecond
			}
			history, perSecond := run()
			if perSecond < 4 || perSecond > 6 {
				t.Errorf("%.2f traces a second are sent, want about 5; probabilities %v", perSecond, history)
			}
			if end := history[len(history)-1]; math.Abs(end-0.025) > 0.005 {
				t.Errorf("probability: got %v, want about 0.025", end)
			}
			for i := 1; i < len(history); i++ {
				if history[i] > history[i-1]*2.0001 {
					t.Errorf("minute %d: from %v to %v, want at most twice", i, history[i-1], history[i])
				}
			}
			again, _ := run()
			if fmt.Sprint(again) != fmt.Sprint(history) {
				t.Error("the same traces gave other probabilities")
			}
		})
	}
}

func TestAdaptiveBounds(t *testing.T) {
	w := newWorld(t, func(c *sampling.Config) {
		c.Head.Default = sampling.Strategy{Type: "adaptive"}
		c.Head.Adaptive.MaxServices, c.Head.Adaptive.MaxOperations = 2, 3
		c.Head.Adaptive.Min, c.Head.Adaptive.Max = 0.0005, 0.5
	})
	w.Adjust(noon)
	for s := range 5 {
		for o := range 5 {
			w.Observe(batch(noon, one{service: fmt.Sprint("s", s), name: fmt.Sprint("o", o), attrs: tags("probabilistic", 0.001)}))
		}
	}
	if got := w.metric("adaptive_operations"); got != 6 {
		t.Errorf("operations known: got %v, want 6", got)
	}
	now := noon
	for range 20 {
		now = now.Add(time.Minute)
		w.Observe(batch(noon, one{service: "s0", name: "o0", attrs: tags("lowerbound", 0.01)})) // in use, not by chance
		for range 3000 {
			w.Observe(batch(noon, one{service: "s1", name: "o1", attrs: tags("probabilistic", 1e-4)}))
		}
		w.Adjust(now)
	}
	if got := w.Weight("s0", "o0"); got != 2 {
		t.Errorf("an operation without traffic stands for %v, want 2 (max_probability)", got)
	}
	if got := w.Weight("s1", "o1"); got != 2000 {
		t.Errorf("an operation with much traffic stands for %v, want 2000 (min_probability)", got)
	}
	for range 70 {
		now = now.Add(time.Minute)
		w.Adjust(now)
	}
	if got := w.metric("adaptive_operations"); got != 0 {
		t.Errorf("operations known after an hour of silence: got %v, want 0", got)
	}
}

func TestValidate(t *testing.T) {
	cfg := sampling.DefaultConfig()
	var f conf.Faults
	cfg.Validate(&f)
	if err := f.Err(); err != nil {
		t.Fatalf("defaults: %v", err)
	}
	bad := sampling.Config{
		Head: sampling.Head{
			Default:  sampling.Strategy{Type: "constant", Operations: []sampling.Operation{{"", 2}}},
			Services: []sampling.Service{{Strategy: sampling.Strategy{Type: "ratelimiting", Param: 0.5}}, {Service: "a", Strategy: sampling.Strategy{Type: "adaptive", Param: 1}}},
			Adaptive: sampling.Adaptive{Target: -1, LowerBound: math.NaN(), Max: 2, Initial: 3},
		},
		Tail: sampling.Tail{
			Default: "maybe", Wait: 1, MaxTraces: 1, Remembered: 1,
			Policies: []sampling.Policy{
				{Name: "pinned", Action: "hold", When: []sampling.Clause{{}, {LongerThan: 5, AtMost: 5, Probability: 2, SpansPerSecond: -1, Attributes: []sampling.Attribute{{Matches: "("}, {Key: "a", Values: []string{"b"}, Matches: "c"}}}}},
			},
		},
	}
	bad.Validate(&f)
	err := f.Err()
	if err == nil {
		t.Fatal("no fault is found")
	}
	for _, want := range []string{
		`head.default.type: got "constant"`, "head.default.operations[0].operation", "head.default.operations[0].probability: got 2",
		"head.default.operations: got 1", "head.services[0].service", "head.services[0].param: got 0.5",
		"head.adaptive.target_samples_per_second: got -1", "head.adaptive.interval", "head.adaptive.min_probability", "head.adaptive.max_probability",
		"head.adaptive.initial_probability", "head.adaptive.min_samples_per_second", "head.adaptive.max_services", "head.adaptive.max_operations",
		"tail.default", "tail.decision_wait", "tail.max_traces", "tail.remembered_decisions", `tail.policies[0].name: got "pinned"`,
		"tail.policies[0].action", "tail.policies[0].when[0]: got \"nothing\"", "tail.policies[0].when[1].at_most", "tail.policies[0].when[1].probability",
		"tail.policies[0].when[1].spans_per_second", "tail.policies[0].when[1].attributes[0].key", "tail.policies[0].when[1].attributes[0].matches",
		"tail.policies[0].when[1].attributes[1].matches",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no fault says %q in:\n%v", want, err)
		}
	}
}

func TestYAML(t *testing.T) {
	cfg := sampling.DefaultConfig()
	err := conf.Decode(strings.NewReader(`
head:
  default: {type: adaptive}
  services:
    - {service: cart, type: probabilistic, param: 0.5, operations: [{operation: pay, probability: 1}]}
tail:
  default: drop
  policies:
    - {name: errors, action: keep, when: [{errors: true}, {longer_than: 2s, attributes: [{key: user, values: [ann]}]}]}
    - {name: tenth, action: keep, when: [{probability: 0.1}]}
`), &cfg)
	if err != nil {
		t.Fatal(err)
	}
	if s := cfg.Head.Services[0]; s.Service != "cart" || s.Param != 0.5 || s.Operations[0].Probability != 1 {
		t.Errorf("service: got %+v", s)
	}
	if p := cfg.Tail.Policies; len(p) != 2 || !*p[0].When[0].Errors || p[0].When[1].Attributes[0].Values[0] != "ann" {
		t.Errorf("policies: got %+v", p)
	}
}
