package pebblestore_test

import (
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// TestManyAtOnce appends from many sides, every request twice at the same time, while
// segments are sealed, partitions change and questions are asked.
func TestManyAtOnce(t *testing.T) {
	before := goleak.IgnoreCurrent()
	start := time.Now().Truncate(time.Hour)
	var mu sync.Mutex
	now := start
	cfg := config(t.TempDir())
	cfg.Index.SegmentSpans = 1000
	s := open(t, cfg, pebblestore.Deps{Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	const sides, requests = 4, 25
	var wg sync.WaitGroup
	stored := make([]int, 2*sides)
	for side := range 2 * sides {
		wg.Go(func() {
			for i := range requests {
				b := newShop(uint64(100+side/2)<<32|uint64(i), start).batch(10)
				got, err := s.Append(ctx, b)
				if err != nil {
					t.Error(err)
					return
				}
				stored[side] += got.Stored
				// Durable means found, whoever stored it.
				if _, err := s.Trace(ctx, b.Spans[0].TraceID, spanstore.Window{}); err != nil {
					t.Errorf("side %d, request %d: %v", side, i, err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3 {
			time.Sleep(30 * time.Millisecond)
			mu.Lock()
			now = now.Add(time.Hour)
			mu.Unlock()
			s.Maintain()
			s.Tidy()
		}
	}()
	wg.Wait()
	<-done
	sum := 0
	for _, n := range stored {
		sum += n
	}
	if want := sides * requests * 100; sum != want {
		t.Errorf("%d spans stored, want %d", sum, want)
	}
	for side := range sides {
		for i := range requests {
			wantTraces(t, s, newShop(uint64(100+side)<<32|uint64(i), start).batch(1))
		}
	}
	found, _, err := s.FindIDs(ctx, spanstore.Query{Service: "cart", Limit: 1 << 20})
	if err != nil || len(found) != sides*requests*10 {
		t.Errorf("search found %d traces, %v, want %d", len(found), err, sides*requests*10)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, before)
}
