package sampling_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/sampling"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The embedded store, with the calls in the order of intake: Unwanted, Append, Take.
func TestEmbeddedStore(t *testing.T) {
	ctx := context.Background()
	now := noon
	clock := func() time.Time { return now }
	cfg := pebblestore.DefaultConfig()
	cfg.Dir, cfg.MinFree = t.TempDir(), 0
	cfg.Memory.Cache, cfg.Memory.Memtable, cfg.Memory.RecentSpans = 8<<20, 4<<20, 64<<10
	store, err := pebblestore.New(cfg, pebblestore.Deps{Logger: discard, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Open(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	stored := func(ctx context.Context, id span.TraceID) (int, error) {
		b, err := store.Trace(ctx, id, spanstore.Window{})
		if errors.Is(err, spanstore.ErrNotFound) {
			return 0, nil
		} else if err != nil {
			return 0, err
		}
		return len(b.Spans), nil
	}
	start := func() *sampling.Sampling {
		s, err := sampling.New(config(t, policies(keepIf("errors", sampling.Clause{Errors: yes()}))), sampling.Deps{
			Drop: store.Drop, Stored: stored, Log: discard, Now: clock,
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := start()
	seq := byte(0)
	request := func(spans ...one) {
		b := batch(now, spans...)
		all := b.Spans
		b.Spans = nil
		for i := range all {
			seq++
			all[i].ID[7] = seq
			if !s.Unwanted(all[i].TraceID) {
				b.Spans = append(b.Spans, all[i])
			}
		}
		if len(b.Spans) > 0 {
			if _, err := store.Append(ctx, b); err != nil {
				t.Fatal(err)
			}
		}
		b.Spans = all
		s.Take(b, now)
	}
	pass := func(d time.Duration) {
		for ; d > 0; d -= time.Second {
			now = now.Add(time.Second)
			if err := s.Sweep(ctx, now); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := func(when string, trace, spans int) {
		t.Helper()
		got, err := stored(ctx, id(trace))
		if err != nil {
			t.Fatal(err)
		}
		if got != spans {
			t.Errorf("%s: the store has %d spans of trace %d, want %d", when, got, trace, spans)
		}
	}
	request(one{trace: 1, failed: true}, one{trace: 2})
	request(one{trace: 1}, one{trace: 2})
	want("before the decision", 2, 2)
	pass(wait)
	request(one{trace: 1}, one{trace: 2})
	want("late", 1, 3)
	want("late", 2, 2)
	pass(settle)
	want("at last", 1, 3)
	want("at last", 2, 0)

	s = start() // after a restart nothing is remembered
	request(one{trace: 1, age: time.Minute}, one{trace: 2, age: time.Minute})
	pass(wait + settle)
	want("after a restart", 1, 4)
	want("after a restart", 2, 0)
}
