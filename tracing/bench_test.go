package tracing

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// void takes spans and keeps none, so that what is measured is the intake.
type void struct{ Store }

func (void) Append(_ context.Context, b *span.Batch) (spanstore.Appended, error) {
	return spanstore.Appended{Stored: len(b.Spans)}, nil
}

// usual is 500 spans in traces of ten with 12 attributes each.
func usual() *span.Batch {
	b := batch("shop", 500)
	for i := range b.Spans {
		s := &b.Spans[i]
		s.Attrs = nil
		for j := range 9 {
			s.Attrs = append(s.Attrs, span.Attr{Key: fmt.Sprintf("http.request.attribute.%d", j), Value: span.StringValue(fmt.Sprintf("value-%d-%d", i, j))})
		}
		for j := range 3 {
			s.Attrs = append(s.Attrs, span.Attr{Key: fmt.Sprintf("number.%d", j), Value: span.IntValue(int64(i))})
		}
	}
	return b
}

// BenchmarkTake is decoding, cleaning, limits and books, without the store.
func BenchmarkTake(b *testing.B) {
	r := newRig(b, func(_ *Config, d *Deps) { d.Store = void{d.Store} })
	body := usual().Encode(nil)
	r.sizes.since.Store(now.UnixNano())
	cfg := r.cfg
	cfg.Limits.MaxSpansPerTrace = 1 << 30
	r.Apply(cfg)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.TakeOTLP(context.Background(), body); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/span")
}

// BenchmarkTakeStored is with the embedded store, unsynced, and spans that are new.
func BenchmarkTakeStored(b *testing.B) {
	r := newRig(b, nil)
	batch := usual()
	n := uint64(0)
	var body []byte
	for b.Loop() {
		b.StopTimer()
		for i := range batch.Spans {
			n++
			binary.BigEndian.PutUint64(batch.Spans[i].TraceID[8:], n/10+1)
			binary.BigEndian.PutUint64(batch.Spans[i].ID[:], n)
		}
		body = batch.Encode(body[:0])
		b.StartTimer()
		_, err := r.TakeOTLP(context.Background(), body)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/span")
}
