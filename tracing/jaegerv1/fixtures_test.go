package jaegerv1

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/open-telemetry/opentelemetry-collector-contrib/pkg/translator/zipkin/zipkinv2"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// fixtures are traces of other projects in the folder WEIR_TESTDATA.
func fixtures(t *testing.T) map[string]*span.Batch {
	t.Helper()
	dir := filepath.Join(cmp.Or(os.Getenv("WEIR_TESTDATA"), filepath.FromSlash("../../../shared/data")), "traces")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the traces of other projects are not here, set WEIR_TESTDATA: %v", err)
	}
	out := make(map[string]*span.Batch)
	for pattern, decode := range map[string]func([]byte) (*span.Batch, error){
		"zipkin_*.json":              fromZipkin,
		"kiali_*_otlp.json":          fromOTLP,
		"kiali_*_search.json":        fromTempoSearch,
		"jaegerui_*graph_trace.json": fromJaegerUI,
	} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("no file %s in %s: %v", pattern, dir, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b, err := decode(text)
			if err != nil {
				t.Fatalf("read %s: %v", file, err)
			}
			if len(b.Spans) == 0 {
				t.Fatalf("%s has no spans", file)
			}
			out[filepath.Base(file)] = b
		}
	}
	return out
}

var addresses = regexp.MustCompile(`"ipv4": *"[0-9.]*"`)

// padded is a part of an address that Go does not read: "52.0.0.04".
var padded = regexp.MustCompile(`\.0+([0-9])`)

func fromZipkin(text []byte) (*span.Batch, error) {
	text = addresses.ReplaceAllFunc(text, func(ip []byte) []byte { return padded.ReplaceAll(ip, []byte(".$1")) })
	traces, err := zipkinv2.NewJSONTracesUnmarshaler(false).UnmarshalTraces(text)
	if err != nil {
		return nil, err
	}
	return span.FromTraces(traces)
}

var (
	base64ID = regexp.MustCompile(`"(traceId|spanId|parentSpanId)": *"([^"]*)"`)
	enum     = regexp.MustCompile(`"STATUS_CODE_(UNSET|OK|ERROR)"`)
)

// fromOTLP reads what Tempo gives: JSON of protobuf, with ids in base64.
func fromOTLP(text []byte) (*span.Batch, error) {
	text = base64ID.ReplaceAllFunc(text, func(field []byte) []byte {
		parts := base64ID.FindSubmatch(field)
		id, err := base64.StdEncoding.DecodeString(string(parts[2]))
		if err != nil {
			return field
		}
		return []byte(`"` + string(parts[1]) + `":"` + hex.EncodeToString(id) + `"`)
	})
	text = regexp.MustCompile(`"batches"`).ReplaceAll(text, []byte(`"resourceSpans"`))
	traces, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(enum.ReplaceAll(text, []byte("1")))
	if err != nil {
		return nil, err
	}
	return span.FromTraces(traces)
}

// fromTempoSearch makes spans of what a search gives of each.
func fromTempoSearch(text []byte) (*span.Batch, error) {
	var in struct {
		Traces []struct {
			TraceID string
			SpanSet struct {
				Spans []struct {
					SpanID, Name      string
					StartTimeUnixNano uint64 `json:",string"`
					DurationNanos     uint64 `json:",string"`
					Attributes        []struct {
						Key   string
						Value struct{ StringValue string }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, err
	}
	m := &maker{}
	for _, t := range in.Traces {
		id, err := span.ParseTraceID(t.TraceID)
		if err != nil {
			return nil, err
		}
		m.begin(id)
		for _, s := range t.SpanSet.Spans {
			service := ""
			var attrs []span.Attr
			for _, a := range s.Attributes {
				if a.Key == "service.name" {
					service = a.Value.StringValue
				}
				attrs = append(attrs, attr(a.Key, a.Value.StringValue))
			}
			spanID, err := span.ParseID(s.SpanID)
			if err != nil {
				return nil, err
			}
			m.add(m.resource(service), s.Name, 0, 0, 0, with(attrs...), func(to *span.Span) {
				to.ID, to.Start, to.End = spanID, s.StartTimeUnixNano, s.StartTimeUnixNano+s.DurationNanos
			})
		}
	}
	return &m.batch, nil
}

// fromJaegerUI reads a trace as the Jaeger UI holds it.
func fromJaegerUI(text []byte) (*span.Batch, error) {
	type tag struct {
		Key   string
		Value any
	}
	var in struct {
		Data struct {
			Processes map[string]struct {
				ServiceName string
				Tags        []tag
			}
			Spans []struct {
				TraceID, SpanID, OperationName, ProcessID string
				StartTime, Duration                       uint64
				References                                []struct{ RefType, TraceID, SpanID string }
				Tags                                      []tag
				Logs                                      []struct {
					Timestamp uint64
					Fields    []tag
				}
			}
		}
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, err
	}
	attrs := func(tags []tag) (out []span.Attr) {
		for _, t := range tags {
			out = append(out, attr(t.Key, t.Value))
		}
		return out
	}
	m := &maker{}
	for _, s := range in.Data.Spans {
		traceID, err := span.ParseTraceID(s.TraceID)
		if err != nil {
			return nil, err
		}
		spanID, err := span.ParseID(s.SpanID)
		if err != nil {
			return nil, err
		}
		m.begin(traceID)
		p := in.Data.Processes[s.ProcessID]
		m.add(m.resource(p.ServiceName, attrs(p.Tags)...), s.OperationName, 0, 0, 0, with(attrs(s.Tags)...), func(to *span.Span) {
			to.ID, to.Start, to.End = spanID, s.StartTime*1000, (s.StartTime+s.Duration)*1000
			for _, ref := range s.References {
				if parent, err := span.ParseID(ref.SpanID); err == nil {
					to.Parent = parent
				}
			}
			for _, t := range s.Tags {
				for k := span.KindInternal; t.Key == "span.kind" && k <= span.KindConsumer; k++ {
					if spanstore.KindName(k) == t.Value {
						to.Kind = k
					}
				}
			}
			to.Attrs = slices.DeleteFunc(to.Attrs, func(a span.Attr) bool { return a.Key == "span.kind" })
			for _, log := range s.Logs {
				to.Events = append(to.Events, span.Event{Time: log.Timestamp * 1000, Attrs: attrs(log.Fields)})
			}
		})
	}
	return &m.batch, nil
}
