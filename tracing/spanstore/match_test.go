package spanstore_test

import (
	"math"
	"testing"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

var noon = time.Date(2026, 8, 22, 12, 0, 0, 0, time.UTC)

func attr(key string, v span.Value) span.Attr { return span.Attr{Key: key, Value: v} }

// one is a batch whose span 1 is asked for; span 0 is of another service.
func one() *span.Batch {
	at := uint64(noon.UnixNano())
	return &span.Batch{
		Resources: []span.Resource{
			{Service: "cart"},
			{Service: "shop", Attrs: []span.Attr{attr("service.name", span.StringValue("shop")), attr("host", span.StringValue("n1"))}},
		},
		Scopes: []span.Scope{{Name: "otelhttp", Version: "1.2"}},
		Spans: []span.Span{
			{Resource: 0, Name: "GET", Start: at, End: at},
			{
				Resource: 1, Name: "POST /pay", Kind: span.KindServer, Start: at, End: at + 5_000_000,
				Status: span.StatusError, Message: "no money", State: "a=b", Parent: span.ID{1},
				Attrs: []span.Attr{
					attr("code", span.IntValue(503)), attr("ok", span.BoolValue(false)), attr("ratio", span.DoubleValue(0.25)),
					attr("user", span.StringValue("ann")), attr("size", span.StringValue("17")), attr("http.status_code", span.IntValue(500)),
					attr("list", span.ArrayValue(span.IntValue(1), span.StringValue("x"))), attr("big", span.IntValue(math.MaxInt64)),
				},
				Events: []span.Event{{Name: "exception", Attrs: []span.Attr{attr("user", span.StringValue("bob")), attr("exception.type", span.StringValue("IOError"))}}},
			},
		},
	}
}

func TestMatchFields(t *testing.T) {
	yes, no := true, false
	for name, c := range map[string]struct {
		q    spanstore.Query
		want bool
	}{
		"nothing asked":     {spanstore.Query{}, true},
		"service":           {spanstore.Query{Service: "shop"}, true},
		"other service":     {spanstore.Query{Service: "cart"}, false},
		"operation":         {spanstore.Query{Operation: "POST /pay"}, true},
		"other operation":   {spanstore.Query{Operation: "POST"}, false},
		"kind":              {spanstore.Query{Kind: span.KindServer}, true},
		"other kind":        {spanstore.Query{Kind: span.KindClient}, false},
		"from the start":    {spanstore.Query{Start: noon}, true},
		"to the start":      {spanstore.Query{End: noon}, true},
		"later":             {spanstore.Query{Start: noon.Add(1)}, false},
		"earlier":           {spanstore.Query{End: noon.Add(-1)}, false},
		"before 1970":       {spanstore.Query{End: time.Unix(-5, 0)}, false},
		"far future":        {spanstore.Query{End: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, true},
		"just long enough":  {spanstore.Query{MinDuration: 5 * time.Millisecond}, true},
		"not long enough":   {spanstore.Query{MinDuration: 5*time.Millisecond + 1}, false},
		"just short enough": {spanstore.Query{MaxDuration: 5 * time.Millisecond}, true},
		"too long":          {spanstore.Query{MaxDuration: 5*time.Millisecond - 1}, false},
		"error":             {spanstore.Query{Error: &yes}, true},
		"no error":          {spanstore.Query{Error: &no}, false},
		"root":              {spanstore.Query{Root: true}, false},
		"one thing wrong":   {spanstore.Query{Service: "shop", Kind: span.KindServer, Operation: "GET"}, false},
	} {
		if got := spanstore.Matches(c.q, one(), 1); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestMatchConditions(t *testing.T) {
	for _, c := range []struct {
		key   string
		op    spanstore.Op
		value string
		want  bool
	}{
		// As text, whatever the type.
		{"code", "=", "503", true}, {"code", "=", "503.0", false}, {"ok", "=", "false", true}, {"ok", "=", "0", false},
		{"ratio", "=", "0.25", true}, {"user", "=", "ann", true}, {"user", "=", "Ann", false}, {"list", "=", `[1,"x"]`, true},
		{"big", "=", "9223372036854775807", true},
		// Where Jaeger looks for tags.
		{"host", "=", "n1", true}, {"user", "=", "bob", true}, {"exception.type", "=", "IOError", true}, {"event", "=", "exception", true},
		{"service.name", "=", "shop", true}, {"missing", "=", "", false},
		// What the translation makes of fields.
		{"error", "=", "true", true}, {"error", "=", "false", false}, {"span.kind", "=", "server", true}, {"span.kind", "=", "client", false},
		{"otel.status_code", "=", "ERROR", true}, {"otel.status_description", "=", "no money", true}, {"w3c.tracestate", "=", "a=b", true},
		{"otel.scope.name", "=", "otelhttp", true}, {"otel.scope.version", "=", "1.2", true},
		// Under either name.
		{"http.response.status_code", "=", "500", true}, {"http.status_code", "=", "500", true}, {"http.response.status_code", ">=", "500", true},
		// Not: there is a value, and none is what is excluded.
		{"code", "!=", "200", true}, {"code", "!=", "503", false}, {"user", "!=", "bob", false}, {"user", "!=", "eve", true}, {"missing", "!=", "x", false},
		// Order: numbers as numbers, text as text.
		{"code", "<", "504", true}, {"code", "<", "503", false}, {"code", "<=", "503", true}, {"code", ">", "60", true}, {"code", ">=", "503.5", false},
		{"ratio", ">", "0.2", true}, {"ratio", "<", "1", true}, {"size", ">", "9", true}, {"size", ">", "abc", false}, {"user", ">", "am", true},
		{"user", ">", "5", false}, {"ok", ">", "0", false}, {"big", ">", "9223372036854775806", true}, {"code", ">", "abc", false}, {"code", "<", "NaN", false},
		// Patterns cover the whole text.
		{"user", "=~", "a.*", true}, {"user", "=~", "n", false}, {"user", "=~", "x|bob", true}, {"code", "=~", "5..", true},
		{"user", "!~", "a.*", false}, {"user", "!~", "z.*", true}, {"missing", "!~", "z", false}, {"user", "=~", "(", false}, {"ok", "=~", "false|true", true},
		{"code", "exists", "", true}, {"missing", "exists", "", false}, {"host", "exists", "", true}, {"code", "like", "5", false},
	} {
		q := spanstore.Query{Where: []spanstore.Condition{{Key: c.key, Op: c.op, Value: c.value}}}
		if got := spanstore.Matches(q, one(), 1); got != c.want {
			t.Errorf("%s %s %q: got %v", c.key, c.op, c.value, got)
		}
	}
}

func TestMatchIsOfOneSpan(t *testing.T) {
	b := one()
	b.Spans[0].Attrs = []span.Attr{attr("a", span.IntValue(1))}
	b.Spans[1].Attrs = []span.Attr{attr("b", span.IntValue(2))}
	q := spanstore.Query{Where: []spanstore.Condition{{Key: "a", Op: spanstore.Equal, Value: "1"}, {Key: "b", Op: spanstore.Equal, Value: "2"}}}
	if spanstore.Matches(q, b, 0) || spanstore.Matches(q, b, 1) {
		t.Error("two spans together fulfil what is asked of one")
	}
}

func TestMatchBareSpan(t *testing.T) {
	b := &span.Batch{Spans: []span.Span{{Resource: 3, Scope: -1, Start: 5, End: 2}}}
	for _, key := range []string{"otel.scope.name", "otel.status_code", "span.kind", "host", "error"} {
		if spanstore.Matches(spanstore.Query{Where: []spanstore.Condition{{Key: key, Op: spanstore.Exists}}}, b, 0) {
			t.Errorf("a span of nothing has %s", key)
		}
	}
	if !spanstore.Matches(spanstore.Query{Root: true, MaxDuration: 1}, b, 0) {
		t.Error("a span that ends before it starts takes no time")
	}
}

func TestBadConditions(t *testing.T) {
	for _, c := range []spanstore.Condition{{Key: "a", Op: "like"}, {Key: "a", Op: spanstore.Match, Value: "("}} {
		if _, err := spanstore.NewMatcher(spanstore.Query{Where: []spanstore.Condition{c}}); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}
