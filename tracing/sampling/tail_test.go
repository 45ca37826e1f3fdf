package sampling_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/sampling"
	"github.com/weir-dev/weir/tracing/span"
)

func TestPolicies(t *testing.T) {
	slow := conf.Duration(time.Second)
	attr := func(a ...sampling.Attribute) sampling.Clause { return sampling.Clause{Attributes: a} }
	for name, c := range map[string]struct {
		policies []sampling.Policy
		spans    []one
		keep     bool
		by       string
	}{
		"an error anywhere":             {[]sampling.Policy{keepIf("p", sampling.Clause{Errors: yes()})}, []one{{}, {failed: true}, {}}, true, "p"},
		"no error":                      {[]sampling.Policy{keepIf("p", sampling.Clause{Errors: yes()})}, []one{{}, {}}, false, "default"},
		"sound":                         {[]sampling.Policy{keepIf("p", sampling.Clause{Errors: no()})}, []one{{}, {}}, true, "p"},
		"not sound":                     {[]sampling.Policy{keepIf("p", sampling.Clause{Errors: no()})}, []one{{}, {failed: true}}, false, "default"},
		"slow":                          {[]sampling.Policy{keepIf("p", sampling.Clause{LongerThan: slow})}, []one{{took: 2 * time.Second}, {took: 1}}, true, "p"},
		"as long is not longer":         {[]sampling.Policy{keepIf("p", sampling.Clause{LongerThan: slow})}, []one{{took: time.Second}}, false, "default"},
		"as long is at most":            {[]sampling.Policy{keepIf("p", sampling.Clause{AtMost: slow})}, []one{{took: time.Second}}, true, "p"},
		"more than at most":             {[]sampling.Policy{keepIf("p", sampling.Clause{AtMost: slow})}, []one{{took: time.Second + 1}}, false, "default"},
		"attribute of any value":        {[]sampling.Policy{keepIf("p", attr(sampling.Attribute{Key: "debug"}))}, []one{{}, {attr: "debug=x"}}, true, "p"},
		"attribute of a value":          {[]sampling.Policy{keepIf("p", attr(sampling.Attribute{Key: "user", Values: []string{"ann", "bob"}}))}, []one{{attr: "user=bob"}}, true, "p"},
		"attribute of another value":    {[]sampling.Policy{keepIf("p", attr(sampling.Attribute{Key: "user", Values: []string{"ann", "bob"}}))}, []one{{attr: "user=bo"}}, false, "default"},
		"attribute that matches":        {[]sampling.Policy{keepIf("p", attr(sampling.Attribute{Key: "route", Matches: "/pay/.*"}))}, []one{{attr: "route=/pay/1"}}, true, "p"},
		"a match is anchored":           {[]sampling.Policy{keepIf("p", attr(sampling.Attribute{Key: "route", Matches: "/pay"}))}, []one{{attr: "route=/pay/1"}}, false, "default"},
		"attribute of the resource":     {[]sampling.Policy{keepIf("p", attr(sampling.Attribute{Key: "service.name", Values: []string{"shop"}}))}, []one{{service: "cart"}, {service: "shop"}}, true, "p"},
		"attributes of different spans": {[]sampling.Policy{keepIf("p", attr(sampling.Attribute{Key: "a"}, sampling.Attribute{Key: "b"}))}, []one{{attr: "a=1"}, {attr: "b=1"}}, true, "p"},
		"one of two attributes":         {[]sampling.Policy{keepIf("p", attr(sampling.Attribute{Key: "a"}, sampling.Attribute{Key: "b"}))}, []one{{attr: "a=1"}}, false, "default"},
		"an attribute that must not be": {[]sampling.Policy{keepIf("p", attr(sampling.Attribute{Key: "a", Not: true}))}, []one{{}, {attr: "a=1"}}, false, "default"},
		"and is not":                    {[]sampling.Policy{keepIf("p", attr(sampling.Attribute{Key: "a", Not: true}))}, []one{{attr: "b=1"}}, true, "p"},
		"and":                           {[]sampling.Policy{keepIf("p", sampling.Clause{Errors: yes(), LongerThan: slow})}, []one{{failed: true}, {took: 2 * time.Second}}, true, "p"},
		"and, half":                     {[]sampling.Policy{keepIf("p", sampling.Clause{Errors: yes(), LongerThan: slow})}, []one{{failed: true}}, false, "default"},
		"or":                            {[]sampling.Policy{{Name: "p", Action: "keep", When: []sampling.Clause{{Errors: yes()}, {LongerThan: slow}}}}, []one{{took: 2 * time.Second}}, true, "p"},
		"the first that matches": {[]sampling.Policy{
			{Name: "health", Action: "drop", When: []sampling.Clause{attr(sampling.Attribute{Key: "health"})}},
			keepIf("errors", sampling.Clause{Errors: yes()}),
		}, []one{{failed: true, attr: "health=1"}}, false, "health"},
		"all": {[]sampling.Policy{{Name: "all", Action: "keep"}}, []one{{}}, true, "all"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, policies(c.policies...))
			for i := range c.spans {
				if got := w.take(c.spans[i]); got != nil {
					t.Fatalf("span %d is refused before the decision: %v", i, got)
				}
			}
			w.pass(wait)
			if got := !w.Unwanted(id(0)); got != c.keep {
				t.Errorf("kept: got %t, want %t", got, c.keep)
			}
			w.pass(settle)
			if got := !w.wasDropped(id(0)); got != c.keep {
				t.Errorf("kept in the store: got %t, want %t", got, c.keep)
			}
			word := map[bool]string{true: "keep", false: "drop"}[c.keep]
			labels := `{decision="` + word + `",policy="` + c.by + `"}`
			if got := w.metric("traces_total" + labels); got != 1 {
				t.Errorf("traces_total%s: got %v, want 1", labels, got)
			}
			if got := w.metric("spans_total" + labels); got != float64(len(c.spans)) {
				t.Errorf("spans_total%s: got %v, want %d", labels, got, len(c.spans))
			}
		})
	}
}

// The hash is a format: replicas of two versions must agree.
func TestChanceIsFixed(t *testing.T) {
	for n, want := range chances {
		if got := sampling.Chance(id(n)); got != want {
			t.Errorf("chance of trace %s: got %v, want %v", id(n), got, want)
		}
	}
	const all = 100_000
	below := 0
	for n := range all {
		if sampling.Chance(id(n)) < 0.1 {
			below++
		}
	}
	if math.Abs(float64(below)/all-0.1) > 0.005 {
		t.Errorf("of %d traces %d are below 0.1, want a tenth", all, below)
	}
}

func TestDecidedAfterTheWait(t *testing.T) {
	w := newWorld(t, policies(keepIf("errors", sampling.Clause{Errors: yes()})))
	w.take(one{trace: 1})
	w.pass(wait - time.Second)
	if w.Unwanted(id(1)) {
		t.Fatal("decided before its wait was over")
	}
	w.take(one{trace: 1, failed: true}) // in time
	w.pass(time.Second)
	w.take(one{trace: 2})
	w.pass(wait + settle)
	if w.Unwanted(id(1)) || w.wasDropped(id(1)) {
		t.Error("a trace is dropped though an error came within the wait")
	}
	if !w.wasDropped(id(2)) {
		t.Error("a trace without an error is not dropped")
	}
}

func TestLateSpansFollow(t *testing.T) {
	w := newWorld(t, policies(keepIf("errors", sampling.Clause{Errors: yes()})))
	w.take(one{trace: 1, failed: true}, one{trace: 2})
	w.pass(wait)
	got := w.take(one{trace: 2, failed: true}, one{trace: 1}, one{trace: 3}, one{trace: 2})
	if len(got) != 4 || !got[0] || got[1] || got[2] || !got[3] {
		t.Errorf("late spans unwanted: got %v, want [true false false true]", got)
	}
	for series, want := range map[string]float64{
		`late_spans_total{decision="drop"}`: 2, `late_spans_total{decision="keep"}`: 1, "pending_traces": 1,
	} {
		if got := w.metric(series); got != want {
			t.Errorf("%s: got %v, want %v", series, got, want)
		}
	}
	if w.wasDropped(id(2)) {
		t.Error("the store is told before requests under way at the decision have ended")
	}
	w.pass(settle)
	if !w.wasDropped(id(2)) || w.wasDropped(id(1)) {
		t.Errorf("dropped: got trace 1 %t, trace 2 %t, want only trace 2", w.wasDropped(id(1)), w.wasDropped(id(2)))
	}
}

func TestPinned(t *testing.T) {
	w := newWorld(t, policies(keepIf("errors", sampling.Clause{Errors: yes()})))
	w.take(one{trace: 1}, one{trace: 2}, one{trace: 3})
	w.pins[id(1)] = true
	w.pass(wait)
	w.mu.Lock()
	w.pins[id(2)] = true // after the decision, before the store is told
	w.mu.Unlock()
	w.pass(settle)
	for n, want := range map[int]bool{1: false, 2: false, 3: true} {
		if w.wasDropped(id(n)) != want || w.Unwanted(id(n)) != want {
			t.Errorf("trace %d: dropped %t, unwanted %t, want %t", n, w.wasDropped(id(n)), w.Unwanted(id(n)), want)
		}
	}
	if got := w.metric(`traces_total{decision="keep",policy="pinned"}`); got != 1 {
		t.Errorf("traces kept for a pin: got %v, want 1", got)
	}
	if got := w.metric("rescued_traces_total"); got != 1 {
		t.Errorf("traces rescued: got %v, want 1", got)
	}
}

// Who pins and then asks Unwanted, and sampling, never both believe the other absent.
func TestPinAgainstDecision(t *testing.T) {
	const traces = 2000
	w := newWorld(t, policies(keepIf("errors", sampling.Clause{Errors: yes()})))
	for n := range traces {
		w.take(one{trace: n})
	}
	shown := make([]bool, traces)
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := range traces {
			w.mu.Lock()
			w.pins[id(n)] = true
			w.mu.Unlock()
			shown[n] = !w.Unwanted(id(n))
		}
	})
	w.pass(wait)
	wg.Wait()
	for n := range traces {
		if shown[n] && w.Unwanted(id(n)) {
			t.Fatalf("trace %d has an exemplar and is dropped", n)
		}
	}
}

// Replicas are given the same spans in whatever order, in whatever batches.
func TestReplicasAgree(t *testing.T) {
	slow := sampling.Clause{LongerThan: conf.Duration(900 * time.Millisecond)}
	rules := policies(
		sampling.Policy{Name: "health", Action: "drop", When: []sampling.Clause{{Errors: no(), Attributes: []sampling.Attribute{{Key: "route", Values: []string{"/healthz"}}}}}},
		keepIf("errors", sampling.Clause{Errors: yes()}), keepIf("slow", slow),
		keepIf("vip", sampling.Clause{Attributes: []sampling.Attribute{{Key: "user", Matches: "vip-.*"}, {Key: "bot", Not: true}}}),
		keepIf("share", sampling.Clause{Probability: 0.2}),
	)
	const traces = 3000
	random := rand.New(rand.NewPCG(1, 2))
	attrs := []string{"", "", "", "", "route=/healthz", "user=vip-1", "bot=1", "user=ann"}
	var spans []one
	for n := range traces {
		for range 1 + random.IntN(8) {
			spans = append(spans, one{
				trace: n, took: time.Duration(random.Int64N(int64(time.Second))),
				failed: random.IntN(40) == 0, attr: attrs[random.IntN(len(attrs))], child: random.IntN(3) > 0,
			})
		}
	}
	var decisions [3][traces]bool
	kept := 0
	for replica := range decisions {
		w := newWorld(t, rules)
		random.Shuffle(len(spans), func(i, j int) { spans[i], spans[j] = spans[j], spans[i] })
		left := spans
		for second := 0; second < 28; second++ {
			for k := 0; k < 40 && len(left) > 0; k++ {
				n := min(len(left), 1+random.IntN(len(spans)/500))
				w.take(left[:n]...)
				left = left[n:]
			}
			w.pass(time.Second)
		}
		if len(left) > 0 {
			t.Fatalf("%d spans did not fit into the wait", len(left))
		}
		w.pass(wait + settle)
		for n := range traces {
			decisions[replica][n] = w.Unwanted(id(n))
			if w.wasDropped(id(n)) != decisions[replica][n] {
				t.Fatalf("replica %d, trace %d: store and decision differ", replica, n)
			}
			if !decisions[replica][n] {
				kept++
			}
			if decisions[replica][n] != decisions[0][n] {
				t.Fatalf("replica %d decides otherwise on trace %d", replica, n)
			}
		}
	}
	if kept < traces/2 || kept > traces*5/2 {
		t.Errorf("of 3 times %d traces %d are kept: the rules decide nothing", traces, kept)
	}
}

// After its decision is forgotten a kept trace is not dropped by a late span, and
// chance decides as before.
func TestForgottenDecisions(t *testing.T) {
	w := newWorld(t, func(c *sampling.Config) {
		c.Tail.Remembered = 1024
		c.Tail.Policies = []sampling.Policy{keepIf("errors", sampling.Clause{Errors: yes()}), keepIf("share", sampling.Clause{Probability: 0.3})}
	})
	var byError, byChance, dropped int
	for n := 1; byError == 0 || byChance == 0 || dropped == 0; n++ {
		switch chance := sampling.Chance(id(n)); {
		case chance < 0.3:
			byChance = n
		case byError == 0:
			byError = n
		default:
			dropped = n
		}
	}
	w.take(one{trace: byError, failed: true}, one{trace: byChance}, one{trace: dropped})
	w.pass(wait + settle)
	w.stored[id(byError)], w.stored[id(byChance)] = 1, 1
	for n := range 10_000 { // others, that the decisions are forgotten for
		w.take(one{trace: 1_000_000 + n, failed: n%2 == 0})
	}
	w.pass(wait + settle)
	if w.metric("forgotten_decisions_total") < 5000 {
		t.Fatal("decisions are not forgotten")
	}
	if got := count(w.take(one{trace: dropped, age: 2 * time.Minute, child: true})); got != 0 {
		t.Fatal("the decision is not forgotten")
	}
	w.take(one{trace: byError, child: true}, one{trace: byChance, child: true}) // young spans of old traces
	w.stored[id(byError)], w.stored[id(byChance)], w.stored[id(dropped)] = 2, 2, 1
	delete(w.dropped, id(dropped))
	w.pass(wait + settle)
	if w.wasDropped(id(byError)) || w.wasDropped(id(byChance)) {
		t.Errorf("a kept trace is dropped after its decision is forgotten: by error %t, by chance %t", w.wasDropped(id(byError)), w.wasDropped(id(byChance)))
	}
	if !w.wasDropped(id(dropped)) {
		t.Error("the late span of a dropped trace stays")
	}
}

// What came with its root was never decided before, so nobody asks the store.
func TestNoDoubtOfNewTraces(t *testing.T) {
	w := newWorld(t, policies(keepIf("errors", sampling.Clause{Errors: yes()})))
	w.stored[id(1)], w.stored[id(2)], w.stored[id(3)], w.stored[id(4)] = 9, 9, 9, 1
	w.pass(10 * time.Second)
	w.take(one{trace: 1}, one{trace: 2, child: true}, one{trace: 3, age: time.Minute}, one{trace: 4, child: true})
	w.pass(wait + settle)
	for n, want := range map[int]bool{1: true, 2: false, 3: false, 4: true} {
		if got := w.wasDropped(id(n)); got != want {
			t.Errorf("trace %d dropped: got %t, want %t", n, got, want)
		}
	}
	if got := w.metric(`traces_total{decision="keep",policy="uncertain"}`); got != 2 {
		t.Errorf("uncertain: got %v, want 2", got)
	}
	w.pass(time.Hour)
	w.stored[id(5)] = 9
	w.take(one{trace: 5, child: true})
	w.pass(wait + settle)
	if !w.wasDropped(id(5)) {
		t.Error("an hour after the start a trace without a root is kept")
	}
}

func TestRate(t *testing.T) {
	w := newWorld(t, policies(keepIf("budget", sampling.Clause{SpansPerSecond: 20})))
	n := 0
	second := func(traces int) {
		for range traces {
			n++
			w.take(one{trace: n}, one{trace: n, child: true})
		}
		w.pass(time.Second)
	}
	kept := func(traces, seconds int) float64 {
		before := w.metric(`spans_total{decision="keep",policy="budget"}`)
		for range seconds {
			second(traces)
		}
		return (w.metric(`spans_total{decision="keep",policy="budget"}`) - before) / float64(seconds)
	}
	kept(100, 70)
	if got := kept(100, 40); got < 15 || got > 25 {
		t.Errorf("of 200 spans a second %.0f are kept, want about 20", got)
	}
	kept(1000, 70) // wait, and 40s to adapt
	if got := kept(1000, 40); got < 15 || got > 26 {
		t.Errorf("of 2000 spans a second %.0f are kept, want about 20", got)
	}
	kept(4, 150) // the burst is past: 12 half-lives after the wait
	if got := kept(4, 20); got != 8 {
		t.Errorf("of 8 spans a second %.0f are kept, want all", got)
	}
}

func TestBoundedMemory(t *testing.T) {
	const traces, most = 1_000_000, 50_000
	w := newWorld(t, func(c *sampling.Config) {
		c.Tail.MaxTraces, c.Tail.Remembered = most, 1<<18
		c.Tail.Policies = []sampling.Policy{keepIf("share", sampling.Clause{Probability: 0.5})}
	})
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	b := batch(noon, make([]one, 1000)...)
	for from := 0; from < traces; from += len(b.Spans) {
		w.now = w.now.Add(50 * time.Millisecond) // 20k a second
		for i := range b.Spans {
			b.Spans[i].TraceID, b.Spans[i].Start = id(from+i), uint64(w.now.UnixNano())
		}
		w.Take(b, w.now)
	}
	// 50k traces of about 120 bytes with their place in the map, 50k drops of 24, a
	// table of 3 MB; 1M of any would be far above.
	if grown := heap() - before; grown > 20<<20 {
		t.Errorf("1M traces take %d bytes, want at most 20 MiB", grown)
	}
	pending, evicted := w.metric("pending_traces"), w.metric("evicted_total")
	if pending > most || pending < most/2 || pending+evicted != traces {
		t.Errorf("pending %v, evicted %v, want at most %d and %d in all", pending, evicted, most, traces)
	}
	w.pass(wait)
	kept, dropped := w.metric(`traces_total{decision="keep",policy="share"}`), w.metric(`traces_total{decision="drop",policy="default"}`)
	if kept+dropped != traces || kept < traces*0.49 || kept > traces*0.51 {
		t.Errorf("kept %v, dropped %v, want half of %d each", kept, dropped, traces)
	}
	w.pass(settle)
	if got, lost := len(w.dropped), w.metric("lost_drops_total"); float64(got)+lost != dropped || got < most/2 {
		t.Errorf("the store was told of %d, lost %v, want %v together", got, lost, dropped)
	}
}

func TestDropsAreRepeated(t *testing.T) {
	w := newWorld(t, policies(keepIf("errors", sampling.Clause{Errors: yes()})))
	w.refuse = errors.New("disk full")
	w.take(one{trace: 1})
	w.pass(wait + settle + 5*time.Second)
	if w.wasDropped(id(1)) || w.metric("drop_failures_total") == 0 || w.metric("pending_drops") != 1 {
		t.Fatal("the store did not refuse")
	}
	w.refuse = nil
	w.pass(time.Second)
	if w.dropped[id(1)] != 1 || w.metric("pending_drops") != 0 {
		t.Errorf("dropped %d times, want once", w.dropped[id(1)])
	}
}

func TestApply(t *testing.T) {
	w := newWorld(t, policies(keepIf("a", sampling.Clause{Attributes: []sampling.Attribute{{Key: "a"}}})))
	w.take(one{trace: 1, attr: "a=1"}, one{trace: 2, attr: "b=1"})
	if err := w.Apply(config(t, policies(keepIf("b", sampling.Clause{Attributes: []sampling.Attribute{{Key: "b"}}})))); err != nil {
		t.Fatal(err)
	}
	w.take(one{trace: 1}, one{trace: 3, attr: "a=1"}, one{trace: 4, attr: "b=1"})
	w.pass(wait)
	for n, want := range map[int]bool{1: false, 2: true, 3: true, 4: false} {
		if got := w.Unwanted(id(n)); got != want {
			t.Errorf("trace %d unwanted: got %t, want %t", n, got, want)
		}
	}
	if err := w.Apply(config(t, nil)); err != nil {
		t.Fatal(err)
	}
	if w.Unwanted(id(2)) || w.take(one{trace: 2}) != nil {
		t.Error("without policies spans are unwanted")
	}
}

func TestRunDropsAtTheEnd(t *testing.T) {
	w := newWorld(t, policies(keepIf("errors", sampling.Clause{Errors: yes()})))
	w.take(one{trace: 1})
	w.pass(wait)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !w.wasDropped(id(1)) {
		t.Error("a decision is lost at the end")
	}
}

func TestConcurrentUse(t *testing.T) {
	w := newWorld(t, func(c *sampling.Config) {
		c.Tail.MaxTraces, c.Tail.Remembered = 1024, 2048
		c.Head.Default = sampling.Strategy{Type: "adaptive"}
		c.Tail.Policies = []sampling.Policy{keepIf("errors", sampling.Clause{Errors: yes()}), keepIf("rate", sampling.Clause{SpansPerSecond: 10})}
	})
	cfg := config(t, policies(keepIf("share", sampling.Clause{Probability: .5})))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for n := range 3000 {
				b := batch(noon, one{trace: n, service: "shop", name: "GET", failed: n%7 == g}, one{trace: n * g, child: true})
				w.Observe(b)
				w.Take(b, w.clock())
				w.Unwanted(id(n))
				w.Weight("shop", "GET")
			}
		})
	}
	wg.Go(func() {
		for range 100 {
			w.pass(time.Second)
			w.Adjust(w.clock())
		}
	})
	wg.Go(func() {
		for range 20 {
			if err := w.Apply(cfg); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
}

func TestMetricNames(t *testing.T) {
	w := newWorld(t, policies(keepIf("errors", sampling.Clause{Errors: yes()})))
	w.take(one{trace: 1})
	w.pass(wait)
	problems, err := testutil.GatherAndLint(w.reg)
	if err != nil || len(problems) > 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}

func TestNoDropNoPolicies(t *testing.T) {
	cfg := config(t, policies(keepIf("errors", sampling.Clause{Errors: yes()})))
	w := newWorld(t, nil)
	deps := sampling.Deps{Log: discard}
	if _, err := sampling.New(cfg, deps); err == nil {
		t.Error("policies are accepted that the store cannot follow")
	}
	if w.take(one{trace: 1}) != nil || w.metric("pending_traces") != 0 {
		t.Error("without policies traces wait")
	}
}

func BenchmarkTake(b *testing.B) {
	w := newWorld(b, policies(
		keepIf("errors", sampling.Clause{Errors: yes()}), keepIf("slow", sampling.Clause{LongerThan: conf.Duration(time.Second)}),
		keepIf("vip", sampling.Clause{Attributes: []sampling.Attribute{{Key: "user.tier", Values: []string{"gold"}}}}),
		keepIf("share", sampling.Clause{Probability: .1}),
	))
	spans := make([]one, 10)
	for i := range spans {
		spans[i] = one{service: "shop", child: i > 0}
		for k := range 12 {
			spans[i].attrs = append(spans[i].attrs, span.Attr{Key: "http.request.header" + string(rune('a'+k)), Value: span.StringValue("v")})
		}
	}
	request := batch(noon, spans...)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		for i := range request.Spans {
			request.Spans[i].TraceID = id(n)
		}
		w.Take(request, noon)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n*len(spans)), "ns/span")
}
