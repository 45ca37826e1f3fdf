package index

import (
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/weir-dev/weir/tracing/internal/pack/packtest"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// BenchmarkAdd adds a small batch again and again under other trace ids, so that what
// it measures is not the collector's work on a large one.
func BenchmarkAdd(b *testing.B) {
	batch := &span.Batch{}
	packtest.Shop(rand.New(rand.NewPCG(*seed, 2)), batch, segment/packtest.SpansPerTrace/16, 1_700_000_000_000_000_000, 5e5)
	ids, groups := packtest.ByTrace(batch)
	b.ReportAllocs()
	from := cpu()
	for b.Loop() {
		x := NewBuilder(DefaultConfig())
		for round := range 16 {
			x.Begin(batch)
			for i, at := range groups {
				id := ids[i]
				id[0] += byte(round)
				x.Add(id, batch, at)
			}
		}
	}
	b.ReportMetric(float64(cpu()-from)/float64(segment*b.N), "cpu-ns/span")
}

func BenchmarkSeal(b *testing.B) {
	x := NewBuilder(DefaultConfig())
	new(taken).add(x, shop(b))
	b.ReportAllocs()
	from := cpu()
	for b.Loop() {
		if err := x.Seal(func(k, v []byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu()-from)/float64(segment*b.N), "cpu-ns/span")
}

func BenchmarkSearch(b *testing.B) {
	batch := shop(b)
	x := NewBuilder(DefaultConfig())
	new(taken).add(x, batch)
	p := sealed(b, x)
	where := func(k, v string) []spanstore.Condition {
		return []spanstore.Condition{{Key: k, Op: spanstore.Equal, Value: v}}
	}
	for _, bench := range []struct {
		name string
		q    spanstore.Query
	}{
		{"service", spanstore.Query{Service: "shop-1"}},
		{"operation", spanstore.Query{Service: "shop-1", Operation: "cart.Cart/Get"}},
		{"tag", spanstore.Query{Service: "shop-0", Operation: "GET /api/cart/{id}", Where: where("http.response.status_code", "400")}},
		{"user", spanstore.Query{Where: where("enduser.id", batch.Spans[500].Attrs[10].Value.Str)}},
		{"nobody", spanstore.Query{Service: "shop-0", Where: where("enduser.id", "nobody")}},
		{"slow", spanstore.Query{Service: "shop-0", MinDuration: 300 * time.Millisecond}},
		{"all", spanstore.Query{}},
	} {
		b.Run("live/"+bench.name, func(b *testing.B) {
			for b.Loop() {
				x.Search(bench.q, 20)
			}
		})
		b.Run("sealed/"+bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Search(p, bench.q, 20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// cpu is the time that the process has used in all its threads, which a busy machine
// changes less than the time that has passed.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
