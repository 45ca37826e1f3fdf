package shop

import (
	"bytes"
	"encoding/hex"
	"maps"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
)

// at is when the traces of these tests end.
var at = time.Unix(1_790_000_000, 0)

type seen struct {
	service string
	span    ptrace.Span
}

// parse reads bodies with the collector's own decoder and returns their spans by
// trace and by id.
func parse(t *testing.T, bodies ...[]byte) map[pcommon.TraceID]map[pcommon.SpanID]seen {
	t.Helper()
	out := map[pcommon.TraceID]map[pcommon.SpanID]seen{}
	for _, b := range bodies {
		req := ptraceotlp.NewExportRequest()
		if err := req.UnmarshalProto(b); err != nil {
			t.Fatal(err)
		}
		for _, rs := range req.Traces().ResourceSpans().All() {
			if n := rs.Resource().Attributes().Len(); n != 11 {
				t.Fatalf("resource: got %d attributes, want 11", n)
			}
			service, _ := rs.Resource().Attributes().Get("service.name")
			for _, sp := range rs.ScopeSpans().At(0).Spans().All() {
				if out[sp.TraceID()] == nil {
					out[sp.TraceID()] = map[pcommon.SpanID]seen{}
				}
				out[sp.TraceID()][sp.SpanID()] = seen{service.Str(), sp}
			}
		}
	}
	return out
}

// take makes a shop and n bodies of it.
func take(t *testing.T, spec Spec, n int) (*Stream, [][]byte, int) {
	t.Helper()
	s, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	st := s.Stream(0)
	var bodies [][]byte
	var spans int
	for range n {
		b := st.Next(at)
		bodies = append(bodies, bytes.Clone(b.Data))
		spans += b.Spans
	}
	return st, bodies, spans
}

func TestBodyIsWhatTheIssueAsksFor(t *testing.T) {
	st, bodies, spans := take(t, Spec{Seed: 1, Batch: 500}, 40)
	traces := parse(t, bodies...)
	if spans != 20_000 || len(traces) != 2000 {
		t.Fatalf("got %d spans in %d traces, want 20000 in 2000", spans, len(traces))
	}
	var size, failed, long int
	for _, b := range bodies {
		size += len(b)
	}
	for id, tr := range traces {
		services := map[string]bool{}
		for _, sp := range tr {
			services[sp.service] = true
			if n := sp.span.Attributes().Len(); n != 12 {
				t.Fatalf("span %s: got %d attributes, want 12", sp.span.Name(), n)
			}
			if sp.span.ParentSpanID().IsEmpty() {
				if sp.span.Status().Code() == ptrace.StatusCodeError {
					failed++
				}
				if sp.span.EndTimestamp()-sp.span.StartTimestamp() > pcommon.Timestamp(time.Second) {
					long++
				}
			}
		}
		if len(tr) != 10 || len(services) != 5 {
			t.Fatalf("trace %s: got %d spans of %d services, want 10 of 5", id, len(tr), len(services))
		}
	}
	if each := size / spans; each < 490 || each > 540 {
		t.Errorf("a span has %d bytes, want about 514", each)
	}
	if failed < 5 || failed > 60 || long < 10 || long > 100 {
		t.Errorf("of 2000 traces %d failed and %d took over a second: want about 20 each", failed, long)
	}
	checkSample(t, st.Sample(), traces)
}

func checkSample(t *testing.T, want Trace, traces map[pcommon.TraceID]map[pcommon.SpanID]seen) {
	t.Helper()
	raw, err := hex.DecodeString(want.ID)
	if err != nil {
		t.Fatal(err)
	}
	got := traces[pcommon.TraceID(raw)]
	left := maps.Clone(got)
	var last pcommon.Timestamp
	for _, w := range want.Spans {
		for id, sp := range left {
			d := time.Duration(sp.span.EndTimestamp() - sp.span.StartTimestamp())
			if sp.service == w.Service && sp.span.Name() == w.Name && d == w.Duration {
				delete(left, id)
			}
			if order, ok := sp.span.Attributes().Get("shop.order.id"); ok && order.Str() != want.Order {
				t.Errorf("shop.order.id: got %s, want %s", order.Str(), want.Order)
			}
			last = max(last, sp.span.EndTimestamp())
		}
	}
	if len(got) != 10 || len(left) != 0 {
		t.Errorf("sample %s: %d of its %d spans are not as it says", want.ID, len(left), len(got))
	}
	if off := want.End.Sub(last.AsTime()).Abs(); off > time.Microsecond || last.AsTime().After(at) {
		t.Errorf("sample %s ends %s, its last span %s, bodies are of %s", want.ID, want.End, last.AsTime(), at)
	}
}

func TestSpansHangTogether(t *testing.T) {
	for name, spec := range map[string]Spec{
		"shop":  {Seed: 2, Batch: 500},
		"split": {Seed: 2, Batch: 500, Split: true},
		"mesh":  {Seed: 2, Batch: 500, Mesh: &Mesh{Services: 200, Edges: 1500}},
	} {
		t.Run(name, func(t *testing.T) {
			st, bodies, _ := take(t, spec, 400)
			if !st.Whole() {
				t.Fatal("400 bodies end within a trace, want at its end")
			}
			calls := map[Edge]int{}
			for id, tr := range parse(t, bodies...) {
				if len(tr) != 10 {
					t.Fatalf("trace %s: got %d spans, want 10", id, len(tr))
				}
				for _, sp := range tr {
					parent, ok := tr[sp.span.ParentSpanID()]
					if ok == sp.span.ParentSpanID().IsEmpty() {
						t.Fatalf("span %s %s: its parent is not there", sp.service, sp.span.Name())
					}
					if ok && parent.span.StartTimestamp() > sp.span.StartTimestamp() {
						t.Fatalf("span %s %s begins before its parent", sp.service, sp.span.Name())
					}
					if ok && parent.service != sp.service {
						calls[Edge{parent.service, sp.service}]++
					}
				}
			}
			if want := st.Calls(); !maps.Equal(calls, want) {
				t.Errorf("calls: got %d edges %v, want %d %v", len(calls), calls, len(want), want)
			}
			if spec.Mesh != nil && len(calls) != 1500 {
				t.Errorf("got %d edges, want 1500", len(calls))
			}
		})
	}
}

func TestSplitBodiesAreOfOneService(t *testing.T) {
	_, bodies, spans := take(t, Spec{Seed: 3, Batch: 500, Split: true}, 5)
	if spans != 2500 {
		t.Errorf("five bodies: got %d spans, want 2500", spans)
	}
	for i, b := range bodies {
		services := map[string]bool{}
		for _, tr := range parse(t, b) {
			for _, sp := range tr {
				services[sp.service] = true
			}
		}
		if len(services) != 1 {
			t.Errorf("body %d has spans of %d services, want 1", i, len(services))
		}
	}
}

func TestSeedDecides(t *testing.T) {
	_, a, _ := take(t, Spec{Seed: 4, Batch: 100}, 3)
	_, b, _ := take(t, Spec{Seed: 4, Batch: 100}, 3)
	_, c, _ := take(t, Spec{Seed: 5, Batch: 100}, 3)
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			t.Errorf("body %d differs with the same seed", i)
		}
		if bytes.Equal(a[i], c[i]) {
			t.Errorf("body %d is the same with another seed", i)
		}
	}
}

func TestBadSpecs(t *testing.T) {
	for name, spec := range map[string]Spec{
		"no spans":      {},
		"half a trace":  {Batch: 15},
		"too few edges": {Batch: 10, Mesh: &Mesh{Services: 3, Edges: 1}},
		"too many":      {Batch: 10, Mesh: &Mesh{Services: 3, Edges: 4}},
	} {
		if _, err := New(spec); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	s, err := New(Spec{Seed: 1, Batch: 500})
	if err != nil {
		b.Fatal(err)
	}
	st := s.Stream(0)
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(st.Next(at).Data)))
	}
}
