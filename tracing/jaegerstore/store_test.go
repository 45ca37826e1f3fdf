package jaegerstore_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/jaegerstore"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// batch makes a trace of n spans of about 100 bytes.
func batch(n int) *span.Batch {
	b := &span.Batch{
		Resources: []span.Resource{{Service: "shop", Attrs: []span.Attr{{Key: "service.name", Value: span.StringValue("shop")}}}},
		Scopes:    []span.Scope{{}},
	}
	now := uint64(time.Now().Add(-time.Minute).UnixNano())
	for i := range n {
		b.Spans = append(b.Spans, span.Span{
			TraceID: span.TraceID{1, 15: 1}, ID: span.ID{0: 1, 6: byte(i >> 8), 7: byte(i)}, Name: strings.Repeat("x", 60),
			Start: now, End: now + uint64(i),
		})
	}
	return b
}

func TestLargeBatchIsSentInParts(t *testing.T) {
	embedded := embed(t)
	s := connect(t, serve(t, embedded, listen(t)), func(c *jaegerstore.Config) { c.MaxSend = 64 << 10 })
	want := batch(3000)
	if got, err := s.Append(t.Context(), want); err != nil || got.Stored != 3000 {
		t.Fatalf("got %+v and %v", got, err)
	}
	got, err := embedded.Trace(t.Context(), want.Spans[0].TraceID, spanstore.Window{})
	if err != nil || len(got.Spans) != 3000 {
		t.Fatalf("got %v and %v, want 3000 spans", got, err)
	}
	one, err := s.Append(t.Context(), &span.Batch{})
	if err != nil || one.Stored+one.Duplicate != 0 {
		t.Errorf("append of nothing: got %+v and %v", one, err)
	}
}

// A storage that restarts is waited for; one that stays away is named.
func TestUnavailable(t *testing.T) {
	l := listen(t)
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := connect(t, address, nil)
	start := time.Now()
	_, err := s.Append(t.Context(), batch(1))
	var retryable interface{ Retryable() bool }
	if !errors.As(err, &retryable) || !retryable.Retryable() || !strings.Contains(err.Error(), address) {
		t.Fatalf("got %v, want an error that may pass and names %s", err, address)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the error came after %s", took)
	}
	stored := make(chan error, 1)
	go func() {
		var err error
		for range 5 { // gRPC itself waits for a second before it dials again
			if _, err = s.Append(context.Background(), batch(1)); err == nil {
				break
			}
		}
		stored <- err
	}()
	time.Sleep(50 * time.Millisecond)
	l, err = net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, embed(t), l)
	if err := <-stored; err != nil {
		t.Error(err)
	}
}

// strange is a storage that answers as told.
type strange struct {
	collectorv1.UnimplementedTraceServiceServer
	answer *collectorv1.ExportTraceServiceResponse
	wait   bool
}

func (x strange) Export(ctx context.Context, _ *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	if x.wait {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return x.answer, nil
}

func serveStrange(t *testing.T, x strange) string {
	t.Helper()
	g := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(g, x)
	l := listen(t)
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func TestRefusedSpansAreAnError(t *testing.T) {
	s := connect(t, serveStrange(t, strange{answer: &collectorv1.ExportTraceServiceResponse{
		PartialSuccess: &collectorv1.ExportTracePartialSuccess{RejectedSpans: 2, ErrorMessage: "too old"},
	}}), nil)
	_, err := s.Append(t.Context(), batch(3))
	var retryable interface{ Retryable() bool }
	if err == nil || !strings.Contains(err.Error(), "refused 2 of them: too old") || errors.As(err, &retryable) {
		t.Errorf("got %v, want what was refused, for good", err)
	}
}

func TestTimeout(t *testing.T) {
	s := connect(t, serveStrange(t, strange{wait: true}), func(c *jaegerstore.Config) { c.Timeout = conf.Duration(50 * time.Millisecond) })
	_, err := s.Append(t.Context(), batch(1))
	var retryable interface{ Retryable() bool }
	if !errors.As(err, &retryable) || !retryable.Retryable() || !strings.Contains(err.Error(), "jaeger.timeout") {
		t.Errorf("got %v, want one that may pass and names jaeger.timeout", err)
	}
}

// A Jaeger of before 1.67, and a collector, serve something else at their port.
func TestProtocolIsNotSpoken(t *testing.T) {
	s := connect(t, serveStrange(t, strange{}), nil)
	_, err := s.Services(t.Context())
	if err == nil || !strings.Contains(err.Error(), "jaeger.storage.v2") {
		t.Errorf("got %v, want one that names the protocol", err)
	}
}

func TestResultIsBounded(t *testing.T) {
	embedded := embed(t)
	s := connect(t, serve(t, embedded, listen(t)), func(c *jaegerstore.Config) { c.MaxResult = 64 << 10 })
	b := batch(1200)
	for i := range b.Spans { // three traces of 400 spans, 36 kB each
		b.Spans[i].TraceID[14] = byte(i / 400)
	}
	big := batch(2000)
	for i := range big.Spans {
		big.Spans[i].TraceID[13] = 1
		big.Spans[i].Name = "big " + big.Spans[i].Name
	}
	for _, b := range []*span.Batch{b, big} {
		if _, err := embedded.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Trace(t.Context(), big.Spans[0].TraceID, spanstore.Window{}); err == nil || !strings.Contains(err.Error(), "jaeger.max_result") {
		t.Errorf("got %v, want one that names jaeger.max_result", err)
	}
	found := 0
	notes, err := s.Find(t.Context(), spanstore.Query{Service: "shop", Operation: b.Spans[0].Name, Start: time.Now().Add(-time.Hour), Limit: 10},
		func(b *span.Batch) error {
			found++
			if len(b.Spans) != 400 {
				return fmt.Errorf("a trace of %d spans, want 400", len(b.Spans))
			}
			return nil
		})
	if err != nil || found == 0 || found > 2 || !strings.Contains(notes.Partial, "jaeger.max_result") {
		t.Errorf("got %d traces, %+v and %v, want some whole ones and a note", found, notes, err)
	}
}

// What the protocol cannot ask is found beyond the limit, and no further than told.
func TestVerifiedSearchGoesDeeper(t *testing.T) {
	embedded := embed(t)
	endpoint := serve(t, embedded, listen(t))
	b := batch(300)
	for i := range b.Spans {
		b.Spans[i].TraceID = span.TraceID{2, 14: byte(i >> 8), 15: byte(i)}
		b.Spans[i].Start += uint64(i) * 1e6
		b.Spans[i].End = b.Spans[i].Start + 1
		b.Spans[i].Attrs = []span.Attr{{Key: "n", Value: span.IntValue(int64(i))}}
	}
	if _, err := embedded.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	q := spanstore.Query{
		Service: "shop", Start: time.Now().Add(-time.Hour), Limit: 2,
		Where: []spanstore.Condition{{Key: "n", Op: spanstore.Less, Value: "10"}},
	}
	for _, c := range []struct {
		most, want int
		note       string
	}{{1000, 2, ""}, {100, 0, "jaeger.max_traces"}} {
		s := connect(t, endpoint, func(cfg *jaegerstore.Config) { cfg.MaxTraces = c.most })
		ids, notes, err := s.FindIDs(t.Context(), q)
		if err != nil || len(ids) != c.want || !strings.Contains(notes.Partial, c.note) || c.note == "" && notes.Partial != "" {
			t.Errorf("of at most %d: got %v, %+v and %v", c.most, ids, notes, err)
		}
		if c.want == 2 && (ids[0] != b.Spans[9].TraceID || ids[1] != b.Spans[8].TraceID) {
			t.Errorf("got %v, want the newest two that match", ids)
		}
	}
}

func TestConfig(t *testing.T) {
	for want, change := range map[string]func(*jaegerstore.Config){
		"jaeger.endpoint":       func(c *jaegerstore.Config) { c.Endpoint = "" },
		"jaeger.write_endpoint": func(c *jaegerstore.Config) { c.WriteEndpoint = "host" },
		"jaeger.timeout":        func(c *jaegerstore.Config) { c.Timeout = 0 },
		"jaeger.max_recv":       func(c *jaegerstore.Config) { c.MaxRecv = 1 },
		"jaeger.max_traces":     func(c *jaegerstore.Config) { c.MaxTraces = 0 },
		"jaeger.lookback":       func(c *jaegerstore.Config) { c.Lookback = -1 },
		"jaeger.tls.key_file":   func(c *jaegerstore.Config) { c.TLS = jaegerstore.TLS{Enabled: true, CertFile: "x"} },
		"jaeger.tls.enabled":    func(c *jaegerstore.Config) { c.TLS.CAFile = "x" },
	} {
		cfg := jaegerstore.DefaultConfig()
		cfg.Endpoint = "127.0.0.1:1"
		change(&cfg)
		if _, err := jaegerstore.New(cfg, jaegerstore.Deps{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a fault of %s", err, want)
		}
	}
	cfg := jaegerstore.DefaultConfig()
	cfg.Endpoint, cfg.TLS = "127.0.0.1:1", jaegerstore.TLS{Enabled: true, CAFile: "/nowhere/ca.pem"}
	s, err := jaegerstore.New(cfg, jaegerstore.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "jaeger.tls.ca_file") {
		t.Errorf("got %v, want one that names jaeger.tls.ca_file", err)
	}
}
