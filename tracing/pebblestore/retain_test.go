package pebblestore_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

func hours(n int) conf.Duration { return conf.Duration(time.Duration(n) * time.Hour) }

// hourly stores batches in partitions of their own.
func hourly(t *testing.T, s *pebblestore.Store, c *clock, g *shop, hours, traces int) []*span.Batch {
	t.Helper()
	var all []*span.Batch
	for range hours {
		b := g.batch(traces)
		put(t, s, b)
		all = append(all, b)
		c.at = c.at.Add(time.Hour)
		g.at = c.at
		s.Maintain()
		s.Tidy()
	}
	return all
}

func there(t *testing.T, s *pebblestore.Store, id span.TraceID) bool {
	t.Helper()
	b, err := s.Trace(ctx, id, spanstore.Window{})
	if errors.Is(err, spanstore.ErrNotFound) {
		return false
	}
	if err != nil || len(b.Spans) != 10 {
		t.Fatalf("trace %s: %v, want 10 spans or none", id, err)
	}
	return true
}

func folders(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return strings.Join(names, " ")
}

func TestRetentionByAge(t *testing.T) {
	c := &clock{noon}
	cfg := config(t.TempDir())
	cfg.Retention.Time = hours(3)
	s := open(t, cfg, pebblestore.Deps{Now: c.now})
	all := hourly(t, s, c, newShop(20, noon), 6, 5)
	for i, b := range all {
		if got, want := there(t, s, b.Spans[0].TraceID), i >= 3; got != want {
			t.Errorf("trace of hour %d: found %v, want %v", i, got, want)
		}
	}
	if got := folders(t, cfg.Dir); got != "20260822T150001Z 20260822T160001Z 20260822T170001Z 20260822T180001Z" {
		t.Errorf("folders %s", got)
	}
}

func TestRetentionBySize(t *testing.T) {
	c := &clock{noon}
	cfg := config(t.TempDir())
	cfg.Retention.Time = 0
	cfg.Retention.Size = 250 << 10
	s := open(t, cfg, pebblestore.Deps{Now: c.now})
	all := hourly(t, s, c, newShop(21, noon), 8, 100)
	var total int64
	for _, p := range s.Status().Partitions {
		total += p.Bytes
	}
	t.Logf("%d bytes in %s", total, folders(t, cfg.Dir))
	if total > 250<<10 || there(t, s, all[0].Spans[0].TraceID) || !there(t, s, all[7].Spans[0].TraceID) {
		t.Errorf("%d bytes in %s, want the oldest gone and the newest kept", total, folders(t, cfg.Dir))
	}
}

// TestRetentionBySelector keeps errors for ten hours and slow spans for six.
func TestRetentionBySelector(t *testing.T) {
	c := &clock{noon}
	cfg := config(t.TempDir())
	cfg.Retention.Time = hours(3)
	slow := 35 * time.Millisecond
	cfg.Retention.Keep = []pebblestore.Keep{
		{Where: pebblestore.Where{Error: true}, Time: hours(10)},
		{Where: pebblestore.Where{Service: "cart", MinDuration: conf.Duration(slow), Attributes: map[string]string{"cache.hit": "true"}}, Time: hours(6)},
	}
	s := open(t, cfg, pebblestore.Deps{Now: c.now})
	g := newShop(22, noon)
	b := g.batch(60)
	put(t, s, b)
	late := b.Spans[0]
	late.ID, late.Name = span.ID{7}, "late"
	has := func(id span.TraceID, fits func(*span.Span) bool) bool {
		for i := range b.Spans {
			if b.Spans[i].TraceID == id && fits(&b.Spans[i]) {
				return true
			}
		}
		return false
	}
	isError := func(s *span.Span) bool { return s.Status == span.StatusError }
	isSlow := func(s *span.Span) bool {
		return b.Resources[s.Resource].Service == "cart" && s.Duration() >= uint64(slow) && s.Attrs[11].Value.Num == 1
	}
	check := func(hour int, want func(id span.TraceID) bool) {
		t.Helper()
		for c.at.Before(noon.Add(time.Duration(hour) * time.Hour)) {
			c.at = c.at.Add(30 * time.Minute)
			s.Maintain()
			s.Tidy()
		}
		kept := 0
		for _, id := range ids(b) {
			if got := there(t, s, id); got != want(id) {
				t.Errorf("hour %d, trace %s: found %v", hour, id, got)
			} else if got {
				kept++
			}
		}
		found, notes, err := s.FindIDs(ctx, spanstore.Query{Service: "frontend", Limit: 1000})
		if err != nil || notes.Partial != "" || len(found) != kept {
			t.Errorf("hour %d: search found %d traces, %v, %v, want %d", hour, len(found), notes, err, kept)
		}
		t.Logf("hour %d: %d traces of 60 in %s", hour, kept, folders(t, cfg.Dir))
	}
	check(3, func(span.TraceID) bool { return true })
	check(5, func(id span.TraceID) bool { return has(id, isError) || has(id, isSlow) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg, pebblestore.Deps{Now: c.now})
	check(6, func(id span.TraceID) bool { return has(id, isError) || has(id, isSlow) })
	check(8, func(id span.TraceID) bool { return has(id, isError) })
	check(12, func(span.TraceID) bool { return false })
	if got := folders(t, cfg.Dir); strings.Contains(got, "T120001Z") {
		t.Errorf("folders %s", got)
	}
}

// TestRewritingCutShort opens what a crash leaves between the two steps of replacing
// a partition, and in the middle of writing it.
func TestRewritingCutShort(t *testing.T) {
	c := &clock{noon}
	cfg := config(t.TempDir())
	deps := pebblestore.Deps{Now: c.now}
	s := open(t, cfg, deps)
	all := hourly(t, s, c, newShop(23, noon), 1, 20)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(cfg.Dir, "20260822T120001Z")
	for _, name := range []string{"-1", "-1.tmp", "-2.tmp", ".tmp-for-deletion"} {
		if err := os.CopyFS(old+name, os.DirFS(old)); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, cfg, deps)
	wantTraces(t, s, all[0])
	if got := folders(t, cfg.Dir); got != "20260822T120001Z-1 20260822T130001Z" {
		t.Errorf("folders %s", got)
	}
}

// TestDropped forgets nine of ten traces, as tail sampling does.
func TestDropped(t *testing.T) {
	c := &clock{noon}
	cfg := config(t.TempDir())
	cfg.Index.SegmentSpans = 700
	s := open(t, cfg, pebblestore.Deps{Now: c.now})
	g := newShop(24, noon)
	b := g.batch(300)
	put(t, s, b)
	all := ids(b)
	if err := s.Drop(ctx, all[:135]); err != nil {
		t.Fatal(err)
	}
	c.at = c.at.Add(time.Hour)
	s.Maintain() // the rest is dropped by the next partition
	if err := s.Drop(ctx, all[135:270]); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		for i, id := range all {
			if got, want := there(t, s, id), i >= 270; got != want {
				t.Errorf("trace %d: found %v, want %v", i, got, want)
			}
		}
		found, notes, err := s.FindIDs(ctx, spanstore.Query{Service: "cart", Limit: 1000})
		if err != nil || notes.Partial != "" || len(found) != 30 {
			t.Errorf("search found %d, %v, %v, want 30", len(found), notes, err)
		}
	}
	check()
	s.Tidy() // closes the first, and rewrites it
	check()
	if got := folders(t, cfg.Dir); got != "20260822T120001Z-1 20260822T130001Z" {
		t.Errorf("folders %s, want the first rewritten", got)
	}
	if got := s.Status().Partitions[0].Spans; got != 300 {
		t.Errorf("%d spans left, want 300", got)
	}
}

// TestQuestionsWhilePartitionsGo reads while partitions are closed, rewritten and
// deleted: an answer is a whole trace or none.
func TestQuestionsWhilePartitionsGo(t *testing.T) {
	c := &clock{noon}
	cfg := config(t.TempDir())
	cfg.Retention.Time = hours(2)
	cfg.Retention.Keep = []pebblestore.Keep{{Where: pebblestore.Where{Error: true}, Time: hours(4)}}
	s := open(t, cfg, pebblestore.Deps{Now: c.now})
	g := newShop(25, noon)
	first := g.batch(20)
	put(t, s, first)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, id := range ids(first) {
				if b, err := s.Trace(ctx, id, spanstore.Window{}); err == nil && len(b.Spans) != 10 || err != nil && !errors.Is(err, spanstore.ErrNotFound) {
					t.Errorf("trace %s: %v", id, err)
				}
			}
			_, err := s.Find(ctx, spanstore.Query{Service: "cart", Limit: 10}, func(b *span.Batch) error {
				if len(b.Spans) != 10 {
					t.Errorf("%d spans found of 10", len(b.Spans))
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
	}()
	hourly(t, s, c, g, 8, 20)
	close(stop)
	<-ended
	if st := s.Status(); len(st.Quarantined) > 0 || len(st.Partitions) > 6 {
		t.Errorf("%+v", st)
	}
}
