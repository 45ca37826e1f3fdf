package jaegermodel

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/jaegertracing/jaeger-idl/model/v1"

	"github.com/weir-dev/weir/tracing/span"
)

// What Trace and Adjust make of odd traces is compared with Jaeger itself by the tests
// of package jaegerv1.

func TestServiceName(t *testing.T) {
	host := []span.Attr{{Key: "host.name", Value: span.StringValue("h")}}
	for want, r := range map[string]span.Resource{
		"shop":     {Service: "shop", Attrs: host},
		NoResource: {},
		NoService:  {Attrs: host},
	} {
		if got := ServiceName(&r); got != want {
			t.Errorf("%+v: got %s, want %s", r, got, want)
		}
		trace, err := Trace(&span.Batch{Resources: []span.Resource{r}, Scopes: make([]span.Scope, 1), Spans: make([]span.Span, 1)})
		if err != nil {
			t.Fatal(err)
		}
		if got := trace.Spans[0].Process.ServiceName; got != want {
			t.Errorf("%+v: the trace has %s, want %s", r, got, want)
		}
	}
}

func TestStoredID(t *testing.T) {
	id, err := span.ParseTraceID("0102030405060708090a0b0c0d0e0f10")
	if err != nil {
		t.Fatal(err)
	}
	if got := StoredID(TraceID(id)); got != id || TraceID(id).String() != id.String() {
		t.Errorf("got %s and %s, want %s", got, TraceID(id), id)
	}
}

func TestBadIndex(t *testing.T) {
	for _, s := range []span.Span{{Resource: 1}, {Resource: -1}, {Scope: 1}, {Scope: -1}} {
		b := &span.Batch{Resources: make([]span.Resource, 1), Scopes: make([]span.Scope, 1), Spans: []span.Span{s}}
		if _, err := Trace(b); err == nil {
			t.Errorf("resource %d, scope %d: got no error", s.Resource, s.Scope)
		}
	}
}

// TestLong has one host behind the other, each a millisecond early.
func TestLong(t *testing.T) {
	const spans = 100_000
	trace := &model.Trace{}
	for i := range spans {
		s := &model.Span{TraceID: model.NewTraceID(0, 1), SpanID: model.SpanID(i + 1), StartTime: time.Unix(1000, 0), Duration: time.Second,
			Process: &model.Process{ServiceName: "s", Tags: []model.KeyValue{model.String("ip", fmt.Sprint(i%7))}}}
		if i > 0 {
			s.References = []model.SpanRef{model.NewChildOfRef(s.TraceID, model.SpanID(i))}
			s.StartTime = time.Unix(1000, -1e6)
		}
		trace.Spans = append(trace.Spans, s)
	}
	Adjust(trace, time.Second)
	for _, s := range trace.Spans {
		if !s.StartTime.Equal(time.Unix(1000, 0)) || s.SpanID > 1 && len(s.Warnings) != 1 {
			t.Fatalf("span %s starts at %s with warnings %q, want the start of its parent and one warning", s.SpanID, s.StartTime, s.Warnings)
		}
	}
}

// TestSharedProcess: what one span moves to its process does not show at another's.
func TestSharedProcess(t *testing.T) {
	text := func(key, value string) span.Attr { return span.Attr{Key: key, Value: span.StringValue(value)} }
	b := &span.Batch{
		Resources: []span.Resource{{Service: "a", Attrs: []span.Attr{text("service.name", "a"), text("z", "1"), text("b", "2")}}},
		Scopes:    make([]span.Scope, 1),
		Spans:     []span.Span{{ID: span.ID{7: 1}, Attrs: []span.Attr{text("telemetry.sdk.name", "x"), text("k", "v")}}, {ID: span.ID{7: 2}}},
	}
	trace, err := Trace(b)
	if err != nil {
		t.Fatal(err)
	}
	Adjust(trace, 0)
	if got := fmt.Sprint(trace.Spans[0].Process.Tags, len(trace.Spans[0].Tags)); got != fmt.Sprint([]model.KeyValue{model.String("b", "2"), model.String("telemetry.sdk.name", "x"), model.String("z", "1")}, 1) {
		t.Errorf("first: got %s", got)
	}
	if got := fmt.Sprint(trace.Spans[1].Process.Tags); got != fmt.Sprint([]model.KeyValue{model.String("b", "2"), model.String("z", "1")}) {
		t.Errorf("second: got %s", got)
	}
}

func TestWhole(t *testing.T) {
	for f, want := range map[float64]uint32{0: 0, 1.9: 1, -2.5: math.MaxUint32 - 1, 3232235777: 3232235777, 1 << 40: 0, 1e300: 0, math.Inf(-1): 0, math.NaN(): 0} {
		if got := whole(f); got != want {
			t.Errorf("%g: got %d, want %d", f, got, want)
		}
	}
}
