package tracing

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/tracing/span"
)

func TestTakeOTLP(t *testing.T) {
	r := newRig(t, nil)
	ctx := context.Background()
	body := batch("shop", 25).Encode(nil)
	got, err := r.TakeOTLP(ctx, body)
	require.NoError(t, err)
	require.Equal(t, Result{Received: 25, Stored: 25}, got)
	clear(body) // it was borrowed
	require.Len(t, r.trace(t, span.TraceID{1, 2}).Spans, 5)

	got, err = r.TakeOTLP(ctx, batch("shop", 26).Encode(nil))
	require.NoError(t, err)
	require.Equal(t, Result{Received: 26, Stored: 1, Duplicate: 25}, got)
	require.Equal(t, 26, r.derived.spans, "duplicates count once")

	b := batch("shop", 30)
	b.Spans[0].TraceID = span.TraceID{}
	b.Spans[29].ID = span.ID{}
	b.Spans[28].Start += uint64(2 * time.Hour)
	b.Spans[27].End += uint64(2 * time.Hour)
	got, err = r.TakeOTLP(ctx, b.Encode(nil))
	require.NoError(t, err)
	require.Equal(t, 4, got.Refused)
	require.Equal(t, "2 spans: trace id or span id missing or zero; 2 spans: starts or ends too far in the future (tracing.limits.max_future_skew)", got.Message)

	none := batch("shop", 3)
	for i := range none.Spans {
		none.Spans[i].ID = span.ID{}
	}
	got, err = r.TakeOTLP(ctx, none.Encode(nil))
	require.ErrorIs(t, err, ErrRefused)
	require.Equal(t, 3, got.Refused)

	_, err = r.TakeOTLP(ctx, []byte("\x0a\x03abc"))
	require.ErrorIs(t, err, span.ErrMalformed)
	got, err = r.TakeOTLP(ctx, nil)
	require.NoError(t, err)
	require.Zero(t, got)

	r.balanced(t)
	require.Equal(t, map[string]int64{"zero_id": 5, "too_far_in_future": 2}, r.book(protoOTLP).Refused)
	require.NoError(t, testutil.GatherAndCompare(r.reg, strings.NewReader(`
		# HELP weir_tracing_spans_received_total Spans received in requests that could be decoded.
		# TYPE weir_tracing_spans_received_total counter
		weir_tracing_spans_received_total{protocol="jaeger_grpc"} 0
		weir_tracing_spans_received_total{protocol="jaeger_thrift"} 0
		weir_tracing_spans_received_total{protocol="otlp"} 84
		weir_tracing_spans_received_total{protocol="zipkin"} 0
		# HELP weir_tracing_spans_total What became of received spans: stored, duplicate, dropped by sampling, or refused for a reason.
		# TYPE weir_tracing_spans_total counter
		weir_tracing_spans_total{outcome="duplicate",protocol="otlp",reason=""} 50
		weir_tracing_spans_total{outcome="refused",protocol="otlp",reason="too_far_in_future"} 2
		weir_tracing_spans_total{outcome="refused",protocol="otlp",reason="zero_id"} 5
		weir_tracing_spans_total{outcome="stored",protocol="otlp",reason=""} 27
	`), "weir_tracing_spans_received_total", "weir_tracing_spans_total"))

	w := httptest.NewRecorder()
	r.StatusHandler().ServeHTTP(w, httptest.NewRequest("GET", "/api/v1/status/traces", nil))
	var answer struct{ Data Ledger }
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer))
	require.EqualValues(t, 27, answer.Data.Protocols[0].Stored)
}

// TestBadInput: what is odd is stored bounded and marked, and counted.
func TestBadInput(t *testing.T) {
	many := func(n int) (attrs []span.Attr) {
		for i := range n {
			attrs = append(attrs, span.Attr{Key: strings.Repeat("k", 1+i%7) + string(rune('a'+i%26)), Value: span.IntValue(int64(i))})
		}
		return attrs
	}
	big := strings.Repeat("é", 1<<19)
	for _, c := range []struct {
		name    string
		spoil   func(b *span.Batch, s *span.Span)
		mark    string // weir.truncated
		warning string
		changed string
		check   func(t *testing.T, b *span.Batch, s *span.Span)
	}{
		{
			name: "10k attributes", spoil: func(_ *span.Batch, s *span.Span) { s.Attrs = many(10_000) },
			mark: "attributes", changed: "attributes",
			check: func(t *testing.T, _ *span.Batch, s *span.Span) {
				require.Len(t, s.Attrs, 129)
				require.EqualValues(t, 10_000-128, s.DroppedAttrs)
			},
		},
		{
			name: "1 MB attribute", spoil: func(_ *span.Batch, s *span.Span) {
				s.Attrs = []span.Attr{{Key: "sql", Value: span.StringValue("x" + big)}}
			},
			mark: "attribute_value sql", changed: "attribute_value",
			check: func(t *testing.T, _ *span.Batch, s *span.Span) {
				v := attr(s.Attrs, "sql")
				require.Len(t, v, 64<<10-1, "between two characters")
				require.True(t, utf8.ValidString(v))
			},
		},
		{
			name: "1 MB array", spoil: func(_ *span.Batch, s *span.Span) {
				s.Attrs = []span.Attr{{Key: "list", Value: span.ArrayValue(span.StringValue(big))}}
			},
			mark: "attribute_value list", changed: "attribute_value",
			check: func(t *testing.T, _ *span.Batch, s *span.Span) {
				require.LessOrEqual(t, len(attr(s.Attrs, "list")), 64<<10)
			},
		},
		{
			name: "1 MB bytes", spoil: func(_ *span.Batch, s *span.Span) {
				s.Attrs = []span.Attr{{Key: "raw", Value: span.BytesValue([]byte(big))}}
			},
			mark: "attribute_value raw", changed: "attribute_value",
		},
		{
			name: "not UTF-8", spoil: func(_ *span.Batch, s *span.Span) {
				s.Name = "a\xffb"
				s.Attrs = []span.Attr{
					{Key: "k\xfe", Value: span.StringValue("v\xfe")},
					{Key: "in", Value: span.MapValue(span.Attr{Key: "\xff", Value: span.ArrayValue(span.StringValue("\xff"))})},
				}
			},
			mark: "invalid_utf8, invalid_utf8 k\uFFFD, invalid_utf8 in", changed: "invalid_utf8",
			check: func(t *testing.T, _ *span.Batch, s *span.Span) {
				require.Equal(t, "a\uFFFDb", s.Name)
				require.Equal(t, "v\uFFFD", attr(s.Attrs, "k\uFFFD"))
				require.Equal(t, "{\"\uFFFD\":[\"\uFFFD\"]}", attr(s.Attrs, "in"))
			},
		},
		{
			name: "ends before it starts", spoil: func(_ *span.Batch, s *span.Span) { s.End = s.Start - uint64(5*time.Second) },
			warning: "ends 5s before it starts", changed: "negative_duration",
		},
		{
			name: "2000 events", spoil: func(_ *span.Batch, s *span.Span) {
				s.Events = slices.Repeat([]span.Event{{Name: "an event", Time: 1}}, 2000)
			},
			mark: "events", changed: "events",
			check: func(t *testing.T, _ *span.Batch, s *span.Span) {
				require.Len(t, s.Events, 1024)
				require.EqualValues(t, 976, s.DroppedEvents)
			},
		},
		{
			name: "2000 links", spoil: func(_ *span.Batch, s *span.Span) {
				s.Links = slices.Repeat([]span.Link{{TraceID: span.TraceID{1}}}, 2000)
			},
			mark: "links", changed: "links",
		},
		{
			name: "long name", spoil: func(_ *span.Batch, s *span.Span) { s.Name = big },
			mark: "name", changed: "name",
		},
		{
			name: "no service", spoil: func(b *span.Batch, _ *span.Span) { b.Resources[0] = span.Resource{} },
			changed: "no_service",
		},
		{
			name: "service behind 10k attributes", spoil: func(b *span.Batch, _ *span.Span) {
				b.Resources[0].Attrs = append(many(10_000), b.Resources[0].Attrs...)
			},
			changed: "attributes",
			check: func(t *testing.T, b *span.Batch, _ *span.Span) {
				require.Equal(t, "shop", b.Resources[0].Service)
				require.Equal(t, "attributes", attr(b.Resources[0].Attrs, truncatedKey))
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			b := batch("shop", 2)
			c.spoil(b, &b.Spans[0])
			got, err := r.TakeOTLP(context.Background(), b.Encode(nil))
			require.NoError(t, err)
			require.Equal(t, 2, got.Stored)
			require.Equal(t, map[string]uint64{c.changed: 1}, r.ledger.totals().Changed)
			stored := r.trace(t, b.Spans[0].TraceID)
			require.Len(t, stored.Spans, 2)
			for i := range stored.Spans {
				s := &stored.Spans[i]
				if s.ID != b.Spans[0].ID {
					require.Empty(t, attr(s.Attrs, truncatedKey), "the other is not harmed")
					continue
				}
				require.Equal(t, c.mark, attr(s.Attrs, truncatedKey))
				require.Equal(t, c.warning, attr(s.Attrs, warningKey))
				if c.check != nil {
					c.check(t, stored, s)
				}
			}
			r.balanced(t)
		})
	}
}

func TestRateLimit(t *testing.T) {
	r := newRig(t, func(c *Config, _ *Deps) { c.Limits.MaxSpansPerSecond, c.Limits.SpansBurst = 10, 20 })
	ctx := context.Background()
	got, err := r.TakeOTLP(ctx, batch("loud", 25).Encode(nil))
	require.NoError(t, err)
	require.Equal(t, 20, got.Stored)
	require.Contains(t, got.Message, "tracing.limits.max_spans_per_second")
	got, err = r.TakeOTLP(ctx, batch("quiet", 20).Encode(nil))
	require.NoError(t, err)
	require.Zero(t, got.Refused)
	_, err = r.TakeOTLP(ctx, batch("loud", 25).Encode(nil))
	require.ErrorIs(t, err, ErrRefused)
	r.at = r.at.Add(time.Second)
	got, err = r.TakeOTLP(ctx, batch("loud", 25).Encode(nil))
	require.NoError(t, err)
	require.Equal(t, 15, got.Refused)

	cfg := r.cfg
	cfg.Limits.MaxSpansPerSecond = 0
	r.Apply(cfg)
	got, err = r.TakeOTLP(ctx, batch("loud", 25).Encode(nil))
	require.NoError(t, err)
	require.Zero(t, got.Refused)
	r.balanced(t)
}

// TestRatesAreBounded: further services share an allowance, until idle ones are
// forgotten.
func TestRatesAreBounded(t *testing.T) {
	l := &Limits{MaxSpansPerSecond: 1, SpansBurst: 10}
	r := newRates()
	name := func(i int) string { return string(rune(i)) + "x" }
	for i := range maxServices {
		require.Equal(t, 1, r.take(name(i), 1, l, now))
	}
	require.Equal(t, 6, r.take("one", 6, l, now))
	require.Equal(t, 4, r.take("more", 6, l, now))
	require.Equal(t, 6, r.take("later", 6, l, now.Add(time.Second)))
	require.Len(t, r.buckets, 1)
}

// TestLargeTrace: of a trace that is too large the first spans are kept, within one
// request and over many, and other traces are not harmed.
func TestLargeTrace(t *testing.T) {
	r := newRig(t, func(c *Config, _ *Deps) { c.Limits.MaxSpansPerTrace = 100 })
	ctx := context.Background()
	large := func(first, n int) []byte {
		b := batch("shop", first+n)
		b.Spans = b.Spans[first:]
		for i := range b.Spans {
			b.Spans[i].TraceID = span.TraceID{7}
		}
		return b.Encode(nil)
	}
	got, err := r.TakeOTLP(ctx, large(0, 60))
	require.NoError(t, err)
	require.Equal(t, 60, got.Stored)
	got, err = r.TakeOTLP(ctx, large(60, 150))
	require.NoError(t, err)
	require.Equal(t, 40, got.Stored)
	require.Equal(t, 110, got.Refused)
	require.Contains(t, got.Message, "tracing.limits.max_spans_per_trace")
	_, err = r.TakeOTLP(ctx, large(300, 1))
	require.ErrorIs(t, err, ErrRefused)
	got, err = r.TakeOTLP(ctx, batch("shop", 50).Encode(nil))
	require.NoError(t, err)
	require.Zero(t, got.Refused)
	r.at = r.at.Add(time.Hour)
	_, err = r.TakeOTLP(ctx, large(300, 1))
	require.NoError(t, err)
	require.Len(t, r.trace(t, span.TraceID{7}).Spans, 101)
	r.balanced(t)
}

// TestUnwanted: late spans of a trace that sampling has dropped are counted and not
// stored.
func TestUnwanted(t *testing.T) {
	r := newRig(t, func(_ *Config, d *Deps) {
		d.Unwanted = func(id span.TraceID) bool { return id[1] == 1 }
	})
	for range 2 {
		got, err := r.TakeOTLP(context.Background(), batch("shop", 30).Encode(nil))
		require.NoError(t, err)
		require.Equal(t, 10, got.Dropped)
	}
	require.Equal(t, 40, r.derived.spans)
	require.EqualValues(t, 20, r.book(protoOTLP).Dropped)
	r.balanced(t)
}

// TestStoreRefuses: what the store does not take may be sent again.
func TestStoreRefuses(t *testing.T) {
	r := newRig(t, nil)
	require.NoError(t, r.store.Close())
	_, err := r.TakeOTLP(context.Background(), batch("shop", 3).Encode(nil))
	code, result := verdict(err)
	require.Equal(t, "unavailable", result, "%d %v", code, err)
	require.EqualValues(t, 3, r.book(protoOTLP).Refused["unavailable"])
	require.Zero(t, r.derived.spans)
	r.balanced(t)
}

// TestInFlight: requests are turned away before they take more memory than there is,
// and small ones that would become large are not read on.
func TestInFlight(t *testing.T) {
	r := newRig(t, func(c *Config, _ *Deps) { c.Limits.MaxInFlightBytes = 1 << 20 })
	body := batch("shop", 2000).Encode(nil)
	_, err := r.TakeOTLP(context.Background(), body)
	require.ErrorContains(t, err, "tracing.limits.max_in_flight_bytes")
	_, result := verdict(err)
	require.Equal(t, "unavailable", result)
	_, err = r.TakeOTLP(context.Background(), []byte("\x0a\x84\x80\x02\x12\x80\x80\x02"+strings.Repeat("\x12\x00", 16<<10)))
	require.ErrorIs(t, err, span.ErrTooLarge)
	require.Zero(t, r.flight.held.Load())
	r.balanced(t)
}
