//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jaegertracing/jaeger-idl/model/v1"
	"github.com/jaegertracing/jaeger-idl/proto-gen/api_v2"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/weir-dev/weir/bench/shop"
	"github.com/weir-dev/weir/e2e"
)

// TestE2EJaeger sends the same spans to a real Jaeger and to Weir, and asks both the
// same, by every API that both have.
func TestE2EJaeger(t *testing.T) {
	p := newJaegerPair(t)
	bodies, ids := someTraces(t)
	for _, to := range []string{p.jaeger.OTLP, p.weirOTLP} {
		sendOTLP(t, to, bodies)
	}
	p.names()
	for _, id := range ids {
		p.same("/api/traces/"+id, jaegerTraces)
		p.same("/api/traces/"+id+"?raw=true", jaegerTraces)
		p.same("/api/v3/traces/"+id, otlpSpans)
		p.sameGRPC(id)
	}
	p.searches(ids)
}

type jaegerPair struct {
	*testing.T
	jaeger   *e2e.Jaeger
	weirURL  string // of the Jaeger HTTP APIs
	weirGRPC string
	weirOTLP string
	queries  map[string]api_v2.QueryServiceClient
}

func newJaegerPair(t *testing.T) *jaegerPair {
	dir := t.TempDir()
	jaeger, err := e2e.NewAllInOne(jaegers(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := e2e.Build(t.Context(), dir, e2e.WeirCommand); err != nil {
		t.Fatal(err)
	}
	free, err := e2e.FreeAddresses(4)
	if err != nil {
		t.Fatal(err)
	}
	weir, err := e2e.NewWeir(dir, dir, free[0], fmt.Sprintf(`
server: {listen: "%s"}
store: {dir: "%s"}
ingest: {otlp: {grpc: {endpoint: "%s"}, http: {endpoint: ""}}}
tracing: {query: {http: {endpoint: "%s"}, grpc: {endpoint: "%s"}}}
`, free[0], filepath.Join(dir, "data"), free[1], free[2], free[3]))
	if err != nil {
		t.Fatal(err)
	}
	startProgram(t, jaeger.Program)
	startProgram(t, weir)
	p := &jaegerPair{
		T: t, jaeger: jaeger, weirOTLP: free[1], weirURL: "http://" + free[2], weirGRPC: free[3],
		queries: make(map[string]api_v2.QueryServiceClient),
	}
	for name, address := range map[string]string{"jaeger": jaeger.GRPC, "weir": free[3]} {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(gogoCodec{})))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		p.queries[name] = api_v2.NewQueryServiceClient(conn)
	}
	return p
}

// gogoCodec is for api_v2, whose messages bring their own code.
type gogoCodec struct{}

func (gogoCodec) Name() string { return "proto" }

func (gogoCodec) Marshal(message any) (mem.BufferSlice, error) {
	m, ok := message.(interface{ Marshal() ([]byte, error) })
	if !ok {
		return encoding.GetCodecV2("proto").Marshal(message)
	}
	body, err := m.Marshal()
	return mem.BufferSlice{mem.SliceBuffer(body)}, err
}

func (gogoCodec) Unmarshal(data mem.BufferSlice, message any) error {
	m, ok := message.(interface{ Unmarshal([]byte) error })
	if !ok {
		return encoding.GetCodecV2("proto").Unmarshal(data, message)
	}
	return m.Unmarshal(data.Materialize())
}

// someTraces are a shop's, and one with a bit of everything.
func someTraces(t *testing.T) (bodies [][]byte, ids []string) {
	t.Helper()
	s, err := shop.New(shop.Spec{Seed: 7, Batch: 100})
	if err != nil {
		t.Fatal(err)
	}
	stream := s.Stream(0)
	for range 5 {
		bodies = append(bodies, bytes.Clone(stream.Next(time.Now()).Data))
		ids = append(ids, stream.Sample().ID)
	}
	traces, id := everything()
	body, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(traces)
	if err != nil {
		t.Fatal(err)
	}
	return append(bodies, body), append(ids, id)
}

func everything() (ptrace.Traces, string) {
	td := ptrace.NewTraces()
	now := uint64(time.Now().Add(-time.Minute).UnixMicro()) * 1000
	id := [16]byte{1, 2, 3, 15: 4}
	for i, service := range []string{"odd/größe a", "odd.b"} {
		rs := td.ResourceSpans().AppendEmpty()
		rs.Resource().Attributes().PutStr("service.name", service)
		rs.Resource().Attributes().PutInt("process.pid", 17)
		ss := rs.ScopeSpans().AppendEmpty()
		ss.Scope().SetName("lib")
		ss.Scope().SetVersion("1")
		for k := range 6 {
			sp := ss.Spans().AppendEmpty()
			sp.SetTraceID(id)
			sp.SetSpanID([8]byte{byte(i + 1), 7: byte(k + 1)})
			if i+k > 0 {
				sp.SetParentSpanID([8]byte{1, 7: 1})
			}
			sp.SetName(fmt.Sprintf("步 %d", k))
			sp.SetKind(ptrace.SpanKind(k))
			sp.SetStartTimestamp(pcommon.Timestamp(now + uint64(k)*1000))
			sp.SetEndTimestamp(pcommon.Timestamp(now + uint64(k*3+1)*1000_000))
			sp.Attributes().PutStr("text", "a \"b\" <c>")
			sp.Attributes().PutInt("int", -5)
			sp.Attributes().PutInt("big", 1<<60)
			sp.Attributes().PutDouble("ratio", 0.1)
			sp.Attributes().PutBool("yes", true)
			sp.Attributes().PutEmptySlice("list").AppendEmpty().SetStr("x")
			sp.Attributes().PutEmptyMap("map").PutInt("k", 1)
			switch k {
			case 2:
				sp.Status().SetCode(ptrace.StatusCodeError)
				sp.Status().SetMessage("gone")
			case 3:
				sp.Status().SetCode(ptrace.StatusCodeOk)
				sp.TraceState().FromRaw("vendor=1")
			case 4:
				e := sp.Events().AppendEmpty()
				e.SetName("exception")
				e.SetTimestamp(pcommon.Timestamp(now + 5000))
				e.Attributes().PutStr("exception.type", "Timeout")
			case 5:
				l := sp.Links().AppendEmpty()
				l.SetTraceID([16]byte{9})
				l.SetSpanID([8]byte{9})
			}
		}
	}
	return td, fmt.Sprintf("%x", id)
}

func sendOTLP(t *testing.T, to string, bodies [][]byte) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+to, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, body := range bodies {
		req := ptraceotlp.NewExportRequest()
		if err := req.UnmarshalProto(body); err != nil {
			t.Fatal(err)
		}
		if _, err := ptraceotlp.NewGRPCClient(conn).Export(t.Context(), req, grpc.WaitForReady(true)); err != nil {
			t.Fatalf("send to %s: %v", to, err)
		}
	}
}

// same asks both until they answer the same: Jaeger stores after it has answered.
func (p *jaegerPair) same(path string, view func(any) []string) {
	p.Helper()
	var want, got []string
	for range 100 {
		want, got = p.ask(p.jaeger.URL+path, view), p.ask(p.weirURL+path, view)
		if len(want) > 0 && slices.Equal(got, want) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.Errorf("%s: got %d, Jaeger has %d; first difference:\ngot  %s\nwant %s", path, len(got), len(want), other(got, want), other(want, got))
}

// other is the first of a that b has not.
func other(a, b []string) string {
	for _, x := range a {
		if !slices.Contains(b, x) {
			return x
		}
	}
	return "(none)"
}

func (p *jaegerPair) ask(url string, view func(any) []string) []string {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 10*time.Second)
	defer cancel()
	var answer any
	if err := e2e.GetJSON(ctx, url, &answer); err != nil {
		return []string{strings.ReplaceAll(err.Error(), url, "")}
	}
	return view(answer)
}

// names compares the lists, in no order: that of Jaeger's memory is random.
func (p *jaegerPair) names() {
	p.same("/api/services", list)
	p.same("/api/v3/services", list)
	for _, service := range []string{"frontend", "odd/größe a", "odd.b"} {
		p.same("/api/services/"+url.PathEscape(service)+"/operations", list)
		for _, kind := range []string{"", "server", "client", "consumer"} {
			q := url.Values{"service": {service}}
			if kind != "" {
				q.Set("spanKind", kind)
			}
			p.same("/api/operations?"+q.Encode(), list)
			delete(q, "spanKind")
			if kind != "" {
				q.Set("span_kind", kind)
			}
			p.same("/api/v3/operations?"+q.Encode(), thirdKinds)
		}
	}
}

// thirdKinds is list where spans without a kind have the one that API v3 gives them
// since Jaeger 2.
func thirdKinds(answer any) []string {
	out := list(answer)
	for i := range out {
		out[i] = strings.ReplaceAll(out[i], `"unspecified"`, `"internal"`)
	}
	slices.Sort(out)
	return out
}

// list is every leaf of an answer but its length, sorted.
func list(answer any) []string {
	var out []string
	switch x := answer.(type) {
	case map[string]any:
		keys := make([]string, 0, len(x))
		for k := range x {
			if k == "name" { // an element that is an object
				return []string{compact(x)}
			}
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			if k == "total" {
				out = append(out, fmt.Sprintf("total %v", x[k]))
			} else {
				out = append(out, list(x[k])...)
			}
		}
	case []any:
		for _, e := range x {
			out = append(out, list(e)...)
		}
		if len(x) == 0 {
			out = append(out, "[]")
		}
	default:
		out = append(out, compact(x))
	}
	slices.Sort(out)
	return out
}

func compact(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// notOurs are tags that the collector of Jaeger 1.62 adds, and Weir does not: what
// format a span came in.
var notOurs = []string{"internal.span.format"}

// jaegerTraces is the spans of an answer of API v1, each with its process, in no order.
// Process ids are numbered as they come.
func jaegerTraces(answer any) []string {
	var out []string
	envelope, _ := answer.(map[string]any)
	data, _ := envelope["data"].([]any)
	for _, t := range data {
		trace, _ := t.(map[string]any)
		processes, _ := trace["processes"].(map[string]any)
		spans, _ := trace["spans"].([]any)
		for _, x := range spans {
			span, _ := x.(map[string]any)
			id, _ := span["processID"].(string)
			span["process"] = processes[id]
			delete(span, "processID")
			sortTags(span)
			if process, ok := span["process"].(map[string]any); ok {
				sortTags(process)
			}
			out = append(out, compact(span))
		}
		out = append(out, "warnings "+compact(trace["warnings"]))
	}
	slices.Sort(out)
	return out
}

func sortTags(of map[string]any) {
	tags, _ := of["tags"].([]any)
	tags = slices.DeleteFunc(tags, func(tag any) bool {
		t, _ := tag.(map[string]any)
		key, _ := t["key"].(string)
		return slices.Contains(notOurs, key)
	})
	slices.SortFunc(tags, func(a, b any) int { return strings.Compare(compact(a), compact(b)) })
	of["tags"] = tags
}

// otlpSpans is the spans of an answer of API v3 by what both name alike: Jaeger's have
// been through its own model.
func otlpSpans(answer any) []string {
	var out []string
	walk(answer, func(span map[string]any) {
		line := map[string]any{}
		for _, key := range []string{"traceId", "spanId", "parentSpanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano", "status"} {
			if line[key] = span[key]; line[key] == "" { // Jaeger 1.62 writes that a root has no parent
				line[key] = nil
			}
		}
		out = append(out, compact(line))
	})
	slices.Sort(out)
	return out
}

func walk(v any, see func(map[string]any)) {
	switch x := v.(type) {
	case map[string]any:
		if _, ok := x["spanId"]; ok && x["name"] != nil {
			see(x)
			return
		}
		for _, e := range x {
			walk(e, see)
		}
	case []any:
		for _, e := range x {
			walk(e, see)
		}
	}
}

func (p *jaegerPair) sameGRPC(id string) {
	p.Helper()
	trace, err := model.TraceIDFromString(id)
	if err != nil {
		p.Fatal(err)
	}
	spans := make(map[string][]string)
	for name, client := range p.queries {
		stream, err := client.GetTrace(p.Context(), &api_v2.GetTraceRequest{TraceID: trace})
		for err == nil {
			var chunk *api_v2.SpansResponseChunk
			if chunk, err = stream.Recv(); err == nil {
				for i := range chunk.Spans {
					spans[name] = append(spans[name], modelLine(&chunk.Spans[i]))
				}
			}
		}
		slices.Sort(spans[name])
	}
	got, want := spans["weir"], spans["jaeger"]
	if len(want) == 0 || !slices.Equal(got, want) {
		p.Errorf("api_v2 trace %s: got %d spans, Jaeger has %d; first difference:\ngot  %s\nwant %s", id, len(got), len(want), other(got, want), other(want, got))
	}
}

func modelLine(s *model.Span) string {
	s.Tags = slices.DeleteFunc(s.Tags, func(kv model.KeyValue) bool { return slices.Contains(notOurs, kv.Key) })
	model.KeyValues(s.Tags).Sort()
	if s.Process != nil {
		model.KeyValues(s.Process.Tags).Sort()
	}
	return compact(s)
}

func (p *jaegerPair) searches(ids []string) {
	now := time.Now()
	base := url.Values{
		"start": {fmt.Sprint(now.Add(-time.Hour).UnixMicro())}, "end": {fmt.Sprint(now.Add(time.Hour).UnixMicro())}, "limit": {"1000"},
	}
	for _, more := range []url.Values{
		{"service": {"frontend"}},
		{"service": {"odd.b"}},
		{"service": {"odd.b"}, "operation": {"步 2"}},
		{"service": {"odd.b"}, "operation": {"nothing"}},
		{"service": {"odd.b"}, "tags": {`{"error":"true"}`}},
		{"service": {"odd.b"}, "tags": {`{"int":"-5","yes":"true"}`}},
		{"service": {"odd.b"}, "tag": {"ratio:0.1"}},
		{"service": {"odd.b"}, "tags": {`{"exception.type":"Timeout"}`}},
		{"service": {"odd.b"}, "tags": {`{"process.pid":"17"}`}},
		{"service": {"odd.b"}, "tags": {`{"text":"a"}`}},
		{"service": {"odd.b"}, "minDuration": {"16ms"}},
		{"service": {"odd.b"}, "minDuration": {"17ms"}},
		{"service": {"odd.b"}, "maxDuration": {"900us"}},
		{"service": {"nobody"}},
		{"traceID": ids[:2]},
		{"traceID": {ids[0], "ffff"}},
	} {
		q := url.Values{}
		for _, part := range []url.Values{base, more} {
			for k, v := range part {
				q[k] = v
			}
		}
		p.same("/api/traces?"+q.Encode(), func(answer any) []string {
			envelope, _ := answer.(map[string]any)
			return append(jaegerTraces(answer), "errors "+compact(envelope["errors"]))
		})
	}
}
