package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/search"
	"github.com/weir-dev/weir/tracing/span"
)

// traceStart is when the first trace of the tests starts, 1787400000 in Unix seconds.
var traceStart = time.Date(2026, 8, 22, 12, 0, 0, 0, time.UTC)

// shopTraces are n, one a second, of which each fifth fails in the second service, and
// those of version 2 are slower.
func shopTraces(n int) *span.Batch {
	text := func(k, v string) span.Attr { return span.Attr{Key: k, Value: span.StringValue(v)} }
	b := &span.Batch{Scopes: []span.Scope{{}}}
	for _, r := range []struct{ name, version string }{{"frontend", "1"}, {"cart", "1"}, {"cart", "2"}} {
		b.Resources = append(b.Resources, span.Resource{Service: r.name, Attrs: []span.Attr{text("service.name", r.name), text("service.version", r.version)}})
	}
	for i := range n {
		at := uint64(traceStart.Add(time.Duration(i) * time.Second).UnixNano())
		add := func(id, parent byte, resource int, name string, from, to uint64) *span.Span {
			b.Spans = append(b.Spans, span.Span{
				TraceID: span.TraceID{0: 0xab, 14: byte(i >> 8), 15: byte(i)}, ID: span.ID{7: id}, Parent: span.ID{7: parent},
				Resource: resource, Name: name, Kind: span.KindServer, Start: at + from*1e5, End: at + to*1e5,
			})
			return &b.Spans[len(b.Spans)-1]
		}
		slow, version := uint64(i%7)*10, 1
		if i%3 == 0 {
			slow, version = slow+300, 2
		}
		add(1, 0, 0, "GET /", 0, 500+slow)
		add(2, 1, 0, "render", 5, 45)
		add(3, 1, 0, "call cart", 50, 450+slow).Kind = span.KindClient
		cart := add(4, 3, version, "GET /cart/{id}", 60, 440+slow)
		cart.Attrs = []span.Attr{text("region", []string{"eu", "us"}[i%2])}
		if i%5 == 0 {
			cart.Status, cart.Message = span.StatusError, fmt.Sprintf("no answer of 10.0.0.%d:5432\nafter %dms", i%250, i)
		}
		add(5, 4, version, "SELECT", 70, 200)
	}
	return b
}

// hostileTrace has names that would play with a terminal, is deep, and lacks its root.
func hostileTrace() *span.Batch {
	b := &span.Batch{Scopes: []span.Scope{{}}, Resources: []span.Resource{{Service: "größe\x1b[2J"}, {Service: "価格"}}}
	at := uint64(traceStart.Add(time.Hour).UnixNano())
	for i := range byte(30) {
		b.Spans = append(b.Spans, span.Span{
			TraceID: span.TraceID{15: 0xee}, ID: span.ID{0: 1, 7: i + 1}, Parent: span.ID{0: 1, 7: i}, Resource: int(i % 2),
			Name: "ein langer Name, der nicht passt\r\n\u202e\x07", Start: at + uint64(i)*1e6, End: at + 2_000_000_000 - uint64(i)*5e7,
		})
	}
	return b
}

// traceServing answers as "weir serve" does, until the test ends.
func traceServing(t *testing.T) string {
	t.Helper()
	cfg := pebblestore.DefaultConfig()
	cfg.Dir, cfg.MinFree = t.TempDir(), 0
	now := func() time.Time { return traceStart.Add(2 * time.Hour) }
	s, err := pebblestore.New(cfg, pebblestore.Deps{Logger: slog.New(slog.DiscardHandler), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	for _, b := range []*span.Batch{shopTraces(300), hostileTrace()} {
		if _, err := s.Append(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(search.NewHandler(search.Deps{Reader: s, Log: slog.New(slog.DiscardHandler), Now: now}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func runTrace(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errOut strings.Builder
	c := traceCommand()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&errOut)
	c.SilenceUsage, c.SilenceErrors = true, true
	err = c.ExecuteContext(t.Context())
	return out.String(), errOut.String(), err
}

// TestTraceOutput compares what the verbs print with testdata/trace.
func TestTraceOutput(t *testing.T) {
	url := traceServing(t)
	window := []string{"--start", "1787400000", "--end", "1787400300"}
	for name, args := range map[string][]string{
		"search":        append(window, "search", "--limit", "3", "status=error"),
		"search-below":  append(window, "search", "{service=frontend} ->> {status=error && region=us}", "--limit", "2"),
		"search-none":   append(window, "search", "service=nobody"),
		"search-odd":    {"search", "--start", "1787403600"},
		"search-json":   append(window, "search", "--limit", "1", "-o", "json"),
		"show":          {"show", "ab00000000000000000000000000000f"},
		"show-narrow":   {"show", "ab00000000000000000000000000000f", "--width", "60", "--limit", "3"},
		"show-odd":      {"show", "ee", "--width", "80"},
		"show-json":     {"show", "ab000000000000000000000000000001", "--json"},
		"analyze":       append(window, "analyze", "--by", "region", "--columns", "40", "service=cart"),
		"analyze-part":  append(window, "analyze", "--limit", "32", "--sort", "calls", "--top", "1"),
		"compare":       append(window, "analyze", "--compare", "service.version=1,2", "service=cart"),
		"compare-times": append(window, "analyze", "--compare-start", "1787399000", "--compare-end", "1787400010", "root"),
	} {
		stdout, stderr, err := runTrace(t, append(args, "--url", url)...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := "$ weir trace " + strings.Join(args, " ") + "\n" + stdout
		if stderr != "" {
			got += "-- stderr --\n" + stderr
		}
		if strings.ContainsAny(got, "\x1b\x07\r\u202e") {
			t.Errorf("%s: control characters of a stranger in\n%q", name, got)
		}
		file := filepath.Join("testdata", "trace", name+".txt")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs from %s (-update writes it):\n%s", name, file, got)
		}
	}
}

func TestTraceFaults(t *testing.T) {
	url := traceServing(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"search", "a=1 || b=2"}, `invalid parameter "q": query, column 5: got "||", want "&&" or the end; alternatives are a pattern: a=~"a|b"`},
		{[]string{"search", "--limit", "5000"}, `invalid parameter "limit": got "5000", want 1 to 1500`},
		{[]string{"show", "77"}, "trace not found"},
		{[]string{"show", "../search"}, `trace id "../search": want 1 to 32 hex digits`},
		{[]string{"show", "77", "--width", "10"}, "--width: got 10, want 60 to 1000, or 0 for that of the terminal"},
		{[]string{"analyze", "--compare", "version"}, `--compare: got "version", want an attribute and two values such as service.version=1.4,1.5`},
		{[]string{"analyze", "--since", "-1h"}, "--since: got -1h0m0s, want more than 0s"},
		{[]string{"analyze", "--since", "1h", "--start", "5"}, "if any flags in the group [since start] are set none of the others can be; [since start] were all set"},
	} {
		_, _, err := runTrace(t, append(c.args, "--url", url)...)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", c.args, err, c.want)
		}
	}
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	if _, _, err := runTrace(t, "search", "--url", other.URL); err == nil || !strings.Contains(err.Error(), "answered 404 Not Found, not in JSON: is it a Weir server?") {
		t.Errorf("got %v", err)
	}
}

func TestWaterfallColours(t *testing.T) {
	trace := search.Trace{Summary: search.Summary{TraceID: "1", Duration: 1, Spans: 2, Errors: 1}, Spans: []search.Span{
		{Service: "a", Operation: "b", Duration: 1, Critical: true}, {Service: "a", Operation: "c", Depth: 1, Duration: .5, Status: "error"},
	}}
	got := waterfall(&trace, screen{width: 60, colours: true})
	for _, want := range []string{"\x1b[31m1 error\x1b[0m", "\x1b[31m!\x1b[0m", "\x1b[31m━"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%q", want, got)
		}
	}
}

func TestTook(t *testing.T) {
	for seconds, want := range map[float64]string{
		0: "0", 1e-9: "1ns", 123e-9: "123ns", 1.5e-6: "1.5µs", .0456: "45.6ms", .2: "200ms", .9996: "1s", 1.234: "1.23s",
		59.94: "59.9s", 60: "1m0s", 4000: "1h6m40s", -.002: "-2ms",
	} {
		if got := took(seconds); got != want {
			t.Errorf("%v: got %s, want %s", seconds, got, want)
		}
	}
}
