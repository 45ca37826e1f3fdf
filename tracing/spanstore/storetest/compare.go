package storetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weir-dev/weir/tracing/span"
)

// differ compares two traces as sets of spans; empty: they are equal.
func (s *suite) differ(got, want *span.Batch) string {
	describe := exact
	if s.lacks[Fidelity] {
		describe = asJaeger
	}
	g, w := lines(got, describe), lines(want, describe)
	missing, surplus := without(w, g), without(g, w)
	if len(missing)+len(surplus) == 0 {
		return ""
	}
	return fmt.Sprintf("got %d spans, want %d; %d missing:\n%s\n%d not wanted:\n%s", len(g), len(w),
		len(missing), first(missing), len(surplus), first(surplus))
}

func first(lines []string) string { return strings.Join(lines[:min(3, len(lines))], "\n") }

// without is a without b, as multisets.
func without(a, b []string) []string {
	has := make(map[string]int)
	for _, x := range b {
		has[x]++
	}
	var out []string
	for _, x := range a {
		if has[x]--; has[x] < 0 {
			out = append(out, x)
		}
	}
	return out
}

func lines(b *span.Batch, describe func(*span.Batch, *span.Span) string) []string {
	out := make([]string, len(b.Spans))
	for i := range b.Spans {
		out[i] = describe(b, &b.Spans[i])
	}
	slices.Sort(out)
	return out
}

// exact is all that a span has.
func exact(b *span.Batch, s *span.Span) string {
	x := *s
	x.Resource, x.Scope = 0, 0
	var r span.Resource
	var c span.Scope
	if s.Resource < len(b.Resources) {
		r = b.Resources[s.Resource]
	}
	if s.Scope < len(b.Scopes) {
		c = b.Scopes[s.Scope]
	}
	if len(x.Events) == 0 {
		x.Events = nil
	}
	// %q of the strings in values would hide which of them are not UTF-8; %#v does not.
	return fmt.Sprintf("%s %s %#v %#v %#v", s.ID, s.Name, x, r, c)
}

// asJaeger is what Jaeger's model keeps of a span, and Weir reads there.
func asJaeger(b *span.Batch, s *span.Span) string {
	var out strings.Builder
	r := &b.Resources[s.Resource]
	fmt.Fprintf(&out, "%s %s parent=%s %q kind=%d %d+%d status=%d %q service=%q attrs=%v resource=%v", s.TraceID, s.ID, s.Parent,
		s.Name, s.Kind, s.Start, s.Duration(), s.Status, s.Message, r.Service, texts(s.Attrs), texts(r.Attrs))
	var events []string
	for _, e := range s.Events {
		events = append(events, fmt.Sprintf("%d %q %v", e.Time, e.Name, texts(e.Attrs)))
	}
	slices.Sort(events)
	var links []string
	for _, l := range s.Links {
		links = append(links, l.TraceID.String()+" "+l.ID.String())
	}
	slices.Sort(links)
	fmt.Fprintf(&out, " events=%v links=%v", events, links)
	return out.String()
}

// added are attributes that Jaeger's translations leave on spans.
var added = []string{
	"span.kind", "error", "otel.status_code", "otel.status_description", "otel.scope.name", "otel.scope.version",
	"otel.library.name", "otel.library.version", "w3c.tracestate", "internal.span.format", "opentracing.ref_type",
	"service.name", "event", "message", "@jaeger@warnings",
}

func texts(attrs []span.Attr) []string {
	out := make([]string, 0, len(attrs))
	for _, a := range attrs {
		if slices.Contains(added, a.Key) || a.Value.Type == span.TypeEmpty {
			continue
		}
		key := a.Key
		if key == "http.status_code" {
			key = "http.response.status_code"
		}
		out = append(out, fmt.Sprintf("%s=%q", key, a.Value.Text()))
	}
	slices.Sort(out)
	return out
}
