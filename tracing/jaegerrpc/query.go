package jaegerrpc

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/weir-dev/weir/tracing/proto/expressionv1"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// defaultDepth is Jaeger's for a search that does not say how many traces it wants.
const defaultDepth = 100

// maxConditions bounds the work that a search makes with each span it looks at. Nobody
// types more; unmeasured.
const maxConditions = 64

// badRequest is an error of the client's making.
type badRequest string

func (e badRequest) Error() string { return string(e) }

func badf(format string, args ...any) error {
	return badRequest(fmt.Sprintf(format, args...))
}

// search is a question for traces in the words of any of the APIs.
type search struct {
	service, operation string
	where              []spanstore.Condition
	start, end         time.Time
	minimum, maximum   time.Duration
	depth              int // 0: not said
	filter             *expressionv1.Call
	page               *page
	raw                bool
}

// page asks for a part of the traces found.
type page struct {
	size  uint32
	token string
}

// query checks a search and says what of it was cut; the note is empty if nothing was.
func (s *Server) query(x search) (q spanstore.Query, note string, err error) {
	q = spanstore.Query{
		Service: x.service, Operation: x.operation, Where: x.where,
		Start: x.start, End: x.end,
		MinDuration: x.minimum, MaxDuration: x.maximum,
	}
	if x.filter != nil {
		if q.Service != "" || q.Operation != "" || len(q.Where) > 0 || q.MinDuration != 0 || q.MaxDuration != 0 {
			return q, "", badf("filter: it cannot be combined with service name, operation name, attributes or durations; say them in the filter")
		}
		if err := narrow(&q, x.filter); err != nil {
			return q, "", err
		}
	}
	switch {
	case len(q.Where) > maxConditions:
		return q, "", badf("got %d attributes to search for, want at most %d", len(q.Where), maxConditions)
	case !q.Start.IsZero() && !q.End.IsZero() && q.End.Before(q.Start):
		return q, "", badf("start time %s is after end time %s", q.Start.UTC().Format(time.RFC3339Nano), q.End.UTC().Format(time.RFC3339Nano))
	case q.MinDuration < 0 || q.MaxDuration < 0:
		return q, "", badf("durations: got %s and %s, want none below 0", q.MinDuration, q.MaxDuration)
	case q.MaxDuration != 0 && q.MaxDuration < q.MinDuration:
		return q, "", badf("maximum duration %s is below minimum duration %s", q.MaxDuration, q.MinDuration)
	}
	if q.Limit, err = x.limit(); err != nil {
		return q, "", err
	}
	if q.Limit > s.limits.MaxTraces {
		note = fmt.Sprintf("%d traces asked for, at most %d are given", q.Limit, s.limits.MaxTraces)
		q.Limit = s.limits.MaxTraces
	}
	return q, note, nil
}

func (x search) limit() (int, error) {
	switch {
	case x.page == nil:
		if x.depth <= 0 {
			return defaultDepth, nil
		}
		return x.depth, nil
	case x.page.token != "":
		return 0, badf("pagination: page token %q is not from here: searches have one page (see Capabilities)", x.page.token)
	case x.page.size == 0:
		return 0, badf("pagination: got page size 0, want 1 or more")
	case x.depth != 0:
		return 0, badf("pagination and search depth exclude each other")
	}
	return int(min(x.page.size, 1<<30)), nil
}

// equals are conditions for attributes given as text, in the order of their keys.
func equals(attributes map[string]string) []spanstore.Condition {
	var where []spanstore.Condition
	for _, key := range slices.Sorted(maps.Keys(attributes)) {
		where = append(where, spanstore.Condition{Key: key, Op: spanstore.Equal, Value: attributes[key]})
	}
	return where
}

// instant reads a time; both none and Go's zero time, which Jaeger's Go clients send
// for none, are the zero time.
func instant(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func duration(d *durationpb.Duration) time.Duration {
	if d == nil {
		return 0
	}
	return d.AsDuration()
}

// window is where to look for a trace, without bounds that say nothing.
func window(start, end time.Time) spanstore.Window {
	if !start.IsZero() && !end.IsZero() && end.Before(start) {
		return spanstore.Window{} // a hint that cannot be true
	}
	return spanstore.Window{Start: start, End: end}
}

// parseKind also takes OTLP's names. Nothing has a kind that it does not know.
func parseKind(name string) (span.Kind, bool) {
	name = strings.TrimPrefix(strings.ToLower(name), "span_kind_")
	if name == "" || name == "unspecified" {
		return span.KindUnspecified, true
	}
	for kind := span.KindInternal; kind <= span.KindConsumer; kind++ {
		if spanstore.KindName(kind) == name {
			return kind, true
		}
	}
	return 0, false
}
