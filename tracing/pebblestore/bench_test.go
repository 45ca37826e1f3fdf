package pebblestore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// benchConfig is the default one, with no guard of the disk.
func benchConfig(dir string) pebblestore.Config {
	cfg := pebblestore.DefaultConfig()
	cfg.Dir = dir
	cfg.MinFree = 0
	return cfg
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func folderBytes(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

// BenchmarkAppend stores requests of 500 spans, fifty traces of ten. It reports CPU a
// span with all background work, and bytes a span once the partition is closed.
func BenchmarkAppend(b *testing.B) {
	c := &clock{time.Now()}
	cfg := benchConfig(b.TempDir())
	s := open(b, cfg, pebblestore.Deps{Now: func() time.Time { return c.at }})
	g := newShop(1, time.Now())
	batches := make([]*span.Batch, 64)
	for i := range batches {
		batches[i] = g.batch(50)
	}
	runtime.GC()
	n := 0
	var spent time.Duration
	for i := 0; b.Loop(); i++ {
		batch := batches[i%len(batches)]
		if i >= len(batches) { // other spans, made outside of the reckoning
			b.StopTimer()
			batch = g.batch(50)
			b.StartTimer()
		}
		from := cpu()
		if _, err := s.Append(ctx, batch); err != nil {
			b.Fatal(err)
		}
		spent += cpu() - from
		c.at = c.at.Add(time.Millisecond)
		n += len(batch.Spans)
	}
	b.StopTimer()
	from := cpu()
	c.at = c.at.Add(time.Hour)
	s.Maintain()
	s.Tidy()
	closing := cpu() - from
	b.ReportMetric(float64(spent.Nanoseconds())/float64(n), "cpu-ns/span")
	b.ReportMetric(float64(closing.Nanoseconds())/float64(n), "closing-cpu-ns/span")
	b.ReportMetric(float64(folderBytes(cfg.Dir))/float64(n), "B/span")
	b.ReportMetric(float64(n), "spans")
}

// BenchmarkTrace looks traces up, over 24 partitions, the last of which takes spans.
func BenchmarkTrace(b *testing.B) {
	c := &clock{time.Now()}
	s := open(b, benchConfig(b.TempDir()), pebblestore.Deps{Now: func() time.Time { return c.at }})
	g := newShop(1, time.Now())
	var known []span.TraceID
	for range 24 {
		for range 10 {
			batch := g.batch(50)
			put(b, s, batch)
			known = append(known, ids(batch)...)
			c.at = c.at.Add(time.Second)
		}
		c.at = c.at.Add(time.Hour)
		s.Maintain()
		s.Tidy()
	}
	for i := 0; b.Loop(); i++ {
		if _, err := s.Trace(ctx, known[i*7919%len(known)], spanstore.Window{}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFind asks the usual searches of 24 partitions.
func BenchmarkFind(b *testing.B) {
	c := &clock{time.Now()}
	s := open(b, benchConfig(b.TempDir()), pebblestore.Deps{Now: func() time.Time { return c.at }})
	g := newShop(1, time.Now())
	for range 24 {
		for range 20 {
			put(b, s, g.batch(500))
			c.at = c.at.Add(time.Second)
		}
		c.at = c.at.Add(time.Hour)
		g.at = g.at.Add(time.Hour)
		s.Maintain()
		s.Tidy()
	}
	yes := true
	for name, q := range map[string]spanstore.Query{
		"service":  {Service: "cart"},
		"slow":     {Service: "cart", Operation: "GET /cart", MinDuration: 40 * time.Millisecond},
		"error":    {Service: "payment", Error: &yes},
		"rare_tag": {Service: "cart", Operation: "GET /cart", Where: []spanstore.Condition{{Key: "enduser.id", Op: spanstore.Equal, Value: fmt.Sprintf("user-%05d", 4711)}}},
		"no_tag":   {Service: "cart", Operation: "GET /cart", Where: []spanstore.Condition{{Key: "enduser.id", Op: spanstore.Equal, Value: "nobody"}}},
	} {
		q.Limit = 20
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Find(ctx, q, func(*span.Batch) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
