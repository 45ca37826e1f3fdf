package search

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

func analysis(t *testing.T, h *handler, params string) *Analysis {
	t.Helper()
	values := map[string][]string{"start": {"1787400000"}, "end": {"1787403600"}}
	for pair := range strings.SplitSeq(params, "&") {
		k, v, _ := strings.Cut(pair, "=")
		values[k] = []string{v}
	}
	a, _, err := h.analyze(context.Background(), &parameters{values: values, now: noon})
	if err != nil {
		t.Fatal(err)
	}
	return a.(*Analysis)
}

// All times and counts are those of a plain sum over the traces.
func TestAnalysisAddsUp(t *testing.T) {
	g := newShop(5)
	all := g.traces(400, 0, time.Hour)
	h := newHandler(deps(stored(t, all)))
	a := analysis(t, h, "limit=1000&top=100&by=region")
	spans, errors, duration, root := 0, 0, uint64(0), uint64(0)
	for _, b := range all {
		spans += len(b.Spans)
		root += b.Spans[0].Duration()
		for _, s := range b.Spans {
			duration += s.Duration()
			if s.Status == span.StatusError {
				errors++
			}
		}
	}
	if want := (Sample{400, spans, true, a.Sample.Covered}); a.Sample != want || math.Abs(a.Sample.Covered-3600) > .001 {
		t.Errorf("got %+v, want %+v", a.Sample, want)
	}
	calls, failed, total, critical := 0, 0, 0., 0.
	for _, o := range a.Operations {
		calls += o.Calls
		failed += o.Errors
		total += o.Total
		critical += o.Critical
		if math.Abs(o.Rate-float64(o.Calls)/3600) > 1e-6 || o.Self > o.Total || o.P50 > o.P95 || o.P95 > o.Max {
			t.Errorf("got %+v", o)
		}
	}
	if calls != spans || failed != errors || math.Abs(total-seconds(duration)) > 1e-6 || math.Abs(critical-seconds(root)) > 1e-6 {
		t.Errorf("got %d calls, %d errors, %fs, %fs critical; want %d, %d, %f, %f", calls, failed, total, critical, spans, errors, seconds(duration), seconds(root))
	}
	signed, origins := 0, 0
	for _, s := range a.Errors {
		signed += s.Count
		origins += s.Origins
		if want := "order <n> of user-<n>: no answer after <n>ms"; s.Exception != "" && s.Message != want && s.Message != "order <n> of user-<id>: no answer after <n>ms" {
			t.Errorf("got %q", s.Message)
		}
	}
	if signed != errors || origins != errors/2 {
		t.Errorf("%d errors, %d origins; want %d and half", signed, origins, errors)
	}
	cells := 0
	for _, group := range a.Heatmap.Groups {
		sum := 0
		for _, column := range group.Cells {
			for _, n := range column {
				sum += n
			}
		}
		if sum != group.Count {
			t.Errorf("%s: %d in cells, %d in all", group.Value, sum, group.Count)
		}
		cells += sum
	}
	if cells != spans || len(a.Heatmap.Groups) != 3 {
		t.Errorf("%d spans in %d groups, want %d in 3", cells, len(a.Heatmap.Groups), spans)
	}
}

// A sample is spread over the window, and rates are those of all traces.
func TestSampleIsSpread(t *testing.T) {
	h := newHandler(deps(stored(t, newShop(5).traces(1600, 0, time.Hour))))
	a := analysis(t, h, "q=root&limit=160&columns=16")
	if a.Sample.Traces != 160 || a.Sample.Complete || a.Sample.Covered > 400 {
		t.Errorf("got %+v", a.Sample)
	}
	for _, o := range a.Operations {
		if o.Operation == "GET /" && math.Abs(o.Rate-1600./3600) > .05 {
			t.Errorf("got rate %f", o.Rate)
		}
	}
	for c, column := range a.Heatmap.Groups[0].Cells {
		n := 0
		for _, k := range column {
			n += k
		}
		if n != 10 {
			t.Errorf("%d traces in part %d of the window, want 10", n, c)
		}
	}
	// What empty parts do not use, the others have.
	if a := analysis(t, h, "q=root&limit=160&start=1787385600"); a.Sample.Traces != 160 {
		t.Errorf("got %+v", a.Sample)
	}
	if a := analysis(t, h, `q=operation=~"POST.*" && kind=client&limit=10000`); !a.Sample.Complete || a.Sample.Traces < 400 || a.Sample.Traces > 700 {
		t.Errorf("got %+v", a.Sample)
	}
	d := deps(nil)
	d.Reader, d.Limits.MaxSpans = h.Reader, 500
	if a := analysis(t, newHandler(d), "limit=1000"); a.Sample.Spans < 500 || a.Sample.Spans > 520 || a.Sample.Complete || a.Notes.Partial != over(500) {
		t.Errorf("got %+v, %+v", a.Sample, a.Notes)
	}
}

func find(t *testing.T, c *Comparison, service, name string) Delta {
	t.Helper()
	for _, d := range c.Operations {
		if d.Service == service && d.Operation == name {
			return d
		}
	}
	t.Fatalf("no %s %s in %+v", service, name, c.Operations)
	return Delta{}
}

// A version that is slower is found out, and nothing else is; in a window that is no
// different, nothing is.
func TestCompare(t *testing.T) {
	g := newShop(5)
	all := g.traces(400, 0, 30*time.Minute)
	h := newShop(6)
	h.version, h.slow = "1.1", 8*time.Millisecond
	all = append(all, h.traces(200, 30*time.Minute, 30*time.Minute)...)
	handler := newHandler(deps(stored(t, all)))
	c := analysis(t, handler, "q=service=cart&compare=service.version&a=1.0&b=1.1&limit=1000").Comparison
	if c.A.Sample.Traces != 400 || c.B.Sample.Traces != 200 || !c.A.Sample.Complete {
		t.Fatalf("got %+v and %+v", c.A, c.B)
	}
	cart := find(t, c, "cart", "GET /cart")
	if !cart.P50.Significant || !cart.P95.Significant || cart.ErrorRatio.Significant || math.Abs(cart.P50.B-cart.P50.A-.008) > .002 {
		t.Errorf("got %+v", cart)
	}
	pay := find(t, c, "payment", "POST /pay")
	if pay.P50.Significant || pay.P95.Significant || pay.ErrorRatio.Significant {
		t.Errorf("got %+v", pay)
	}
	if c.Operations[0].Operation == "POST /pay" {
		t.Errorf("ordered as %+v", c.Operations)
	}
	same := analysis(t, handler, "end=1787400900&compare_start=1787400900&compare_end=1787401800&limit=1000").Comparison
	for _, d := range same.Operations {
		for _, change := range d.changes() {
			if change.Significant {
				t.Errorf("%s %s: %+v", d.Service, d.Operation, change)
			}
		}
	}
	// Half as many traces a second: that is what the windows differ in.
	rate := find(t, analysis(t, handler, "start=1787401800&compare_start=1787400000&compare_end=1787401800&limit=1000").Comparison, "frontend", "GET /").Rate
	if !rate.Significant || math.Abs(rate.B/rate.A-.5) > .02 {
		t.Errorf("got %+v", rate)
	}
	if few := find(t, analysis(t, handler, "end=1787400040&compare_start=1787401800&compare_end=1787401900&limit=1000").Comparison, "frontend", "GET /"); !few.Few || few.P50.P != nil {
		t.Errorf("got %+v", few)
	}
}

func TestNormalMessages(t *testing.T) {
	for message, want := range map[string]string{
		"":                                 "",
		"timeout":                          "timeout",
		"no answer after 12.5ms (3 of 4).": "no answer after <n>ms (<n> of <n>).",
		"dial tcp 10.0.0.17:8080: connection refused":     "dial tcp <n>: connection refused",
		"order 7f9c24e5-2a1b-4c3d-9e8f-0123456789ab gone": "order <id> gone",
		"trace 4bf92f3577b34da6a3ce929d0e0e4736: bad":     "trace <id>: bad",
		"at 2026-08-22T12:00:00.123Z in user-42":          "at <n>T<n>Z in user-<n>",
		"pod cart-7d9f8b6c5-x2kqz":                        "pod <id>",
		"x509: http2 error -5":                            "x<n>: http<n> error -<n>",
		"a\n\tb   c\x00\xff":                              "a b c\x00\uFFFD",
		"größe 5 — unbekannt":                             "größe <n> — unbekannt",
		"facade feedbeef":                                 "facade feedbeef",
		"deadbeef01":                                      "<id>",
		"key_1=v2, k:3":                                   "key_<n>=v<n>, k:<n>",
		"user 5: 6. End":                                  "user <n>: <n>. End",
		strings.Repeat("x", 5000):                         strings.Repeat("x", 300) + "...",
	} {
		if got := normal(message); got != want {
			t.Errorf("%.80q: got %q, want %q", message, got, want)
		}
	}
}

func FuzzNormal(f *testing.F) {
	f.Add("dial tcp 10.0.0.17:8080: ü 7f9c24e5-2a1b-4c3d-9e8f-0123456789ab")
	f.Fuzz(func(t *testing.T, message string) {
		got := normal(message)
		if strings.ToValidUTF8(got, "") != got || len(got) > 4*maxMessage {
			t.Errorf("%q is %q", message, got)
		}
	})
}

// Of more names than there is room for, most are told apart and the rest is counted.
func TestManyNames(t *testing.T) {
	o, g, h := newOperations(), newSignatures(), newHeat(&analysisRequest{by: "k", columns: 1, w: spanstore.Window{Start: noon, End: noon.Add(time.Hour)}})
	for i := range maxOperations + 50 {
		b := batch(sp{id: 1, end: 5})
		b.Spans[0].Name = fmt.Sprint("op", i)
		b.Spans[0].Start = uint64(noon.UnixNano())
		b.Spans[0].Attrs = []span.Attr{num("k", int64(i))}
		b.Spans[0].Status = span.StatusError
		o.take(b)
		g.take(b, o.tree)
		h.take(b, []int32{0})
	}
	if len(o.by) != maxOperations+1 || !o.folded || len(o.by[operationKey{otherName, otherName}].durations) != 50 {
		t.Errorf("got %d operations", len(o.by))
	}
	if len(g.by) != maxSignatures+1 || !g.folded || len(h.groups) != maxValues+1 || !h.folded {
		t.Errorf("got %d signatures and %d values", len(g.by), len(h.groups))
	}
	if m := h.done(3); len(m.Groups) != 3 || !m.Groups[2].Other || m.Groups[2].Count != maxValues+48 {
		t.Errorf("got %d groups, the last of %d", len(m.Groups), m.Groups[2].Count)
	}
}

// Worked out by hand: 2*(10*10+1)/C(20,10), 2*C(20,5)/C(40,5), and tails of the normal
// distribution.
func TestSignificance(t *testing.T) {
	for _, c := range []struct {
		k1, n1, k2, n2 int
		want           float64
	}{
		{1, 10, 9, 10, 0.001093}, {3, 4, 1, 4, 0.485714}, {0, 20, 5, 20, 0.047124}, {15, 100, 30, 100, 0.011085}, {5, 5, 5, 5, 1}, {0, 9, 0, 3, 1},
	} {
		if got := proportionsDiffer(c.k1, c.n1, c.k2, c.n2); math.Abs(got-c.want) > 2e-6 {
			t.Errorf("%d/%d and %d/%d: got %f, want %f", c.k1, c.n1, c.k2, c.n2, got, c.want)
		}
	}
	if got := sharesDiffer(50, 100, .5); got != 1 {
		t.Errorf("got %f", got)
	}
	if got := sharesDiffer(61, 100, .5); math.Abs(got-0.035729) > 1e-5 {
		t.Errorf("got %f", got)
	}
}

// Where nothing differs, a test of level p calls about p of all samples different.
func TestFalseAlarms(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	alarms := map[string]int{}
	const rounds = 2000
	for range rounds {
		var sides [2][]uint64
		var failed [2]int
		for k, n := range []int{60, 200} {
			for range n {
				sides[k] = append(sides[k], uint64(1e6*math.Exp(rnd.NormFloat64())))
				if rnd.IntN(20) == 0 {
					failed[k]++
				}
			}
		}
		slices.Sort(sides[0])
		slices.Sort(sides[1])
		for name, p := range map[string]float64{
			"median": quantilesDiffer(sides[0], sides[1], .5), "p95": quantilesDiffer(sides[0], sides[1], .95),
			"errors": proportionsDiffer(failed[0], 60, failed[1], 200),
		} {
			if p < .05 {
				alarms[name]++
			}
		}
	}
	for name, n := range alarms {
		if n > rounds*8/100 {
			t.Errorf("%s: %d false alarms of %d, want about 5%%", name, n, rounds)
		}
	}
	t.Log(alarms)
}

// The spans that a query stands for get one condition more, in its own language.
func TestNarrowed(t *testing.T) {
	for text, want := range map[string]string{
		"":                           `status=error`,
		`a="}"`:                      `a="}" && status=error`,
		"{root} -> {a=1}":            "{root} -> {a=1 && status=error}",
		"{root} ->> {} && {b} -> {}": "{root} ->> {} && {b} -> {status=error}",
	} {
		q, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := q.narrowed("status", "error")
		if err != nil || got.String() != want || q.String() != text {
			t.Errorf("%s: got %v, %v, want %s", q, got, err, want)
		}
	}
	q, _ := Parse("")
	if got, err := q.narrowed("a b", `x"}`); err != nil || got.String() != `"a b"="x\"}"` {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := q.narrowed("a\xff", "1"); err == nil {
		t.Errorf("got %v", got)
	}
}
