package store_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/store"
	"github.com/weir-dev/weir/internal/store/storetest"
)

// randomSeries appends n samples to each of four series, about a tenth of them out of
// order, and returns labels, references and the newest sample of each in order.
type randomSeries struct {
	rnd  *rand.Rand
	ls   []labels.Labels
	refs []storage.SeriesRef
	have []map[int64]bool
	last []storetest.Sample
}

func newRandom() *randomSeries {
	r := &randomSeries{rnd: rand.New(rand.NewPCG(1, 0))}
	for i := range 4 {
		ls := labels.FromStrings(model.MetricNameLabel, "m", "n", fmt.Sprint(i))
		if i == 3 { // the equality matchers of series 2 match this one too
			ls = labels.FromStrings(model.MetricNameLabel, "m", "n", "2", "more", "x")
		}
		r.ls, r.have = append(r.ls, ls), append(r.have, map[int64]bool{})
	}
	r.refs, r.last = make([]storage.SeriesRef, 4), make([]storetest.Sample, 4)
	return r
}

func (r *randomSeries) append(t *testing.T, s *store.Store, from int64, n int) {
	t.Helper()
	app := s.AppenderV2(context.Background())
	for i := range n {
		for k, ls := range r.ls {
			x := storetest.Sample{T: from + int64(i)*1000, V: r.rnd.Float64()}
			if r.rnd.IntN(10) == 0 {
				x.T -= int64(r.rnd.IntN(600_000)) + 1
			}
			if k == 1 && r.rnd.IntN(3) > 0 {
				x.H = storetest.Integer(int64(i % 50))
			}
			if k == 2 && i > n/2 {
				x.FH = storetest.Custom(int64(i % 50)).ToFloat(nil)
			}
			if r.have[k][x.T] {
				continue
			}
			r.have[k][x.T] = true
			var err error
			if r.refs[k], err = app.Append(r.refs[k], ls, 0, x.T, x.V, x.H, x.FH, storage.AOptions{}); err != nil {
				t.Fatal(err)
			}
			if x.T > r.last[k].T {
				r.last[k] = x
			}
		}
		if i%10 == 9 {
			if err := app.Commit(); err != nil {
				t.Fatal(err)
			}
			app = s.AppenderV2(context.Background())
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
}

// check compares lookups with a query, at each time that has a sample and beside it.
func (r *randomSeries) check(t *testing.T, s *store.Store, when string) {
	t.Helper()
	for k, ls := range r.ls {
		all := storetest.Read(t, s, ls)
		if len(all) != len(r.have[k]) {
			t.Fatalf("%s: series %d has %d samples, want %d", when, k, len(all), len(r.have[k]))
		}
		for _, want := range all {
			got := storetest.Sample{T: want.T}
			var ok bool
			if got.V, got.H, got.FH, ok = s.SampleAt(r.refs[k], want.T); !ok || !storetest.Same(got, want) {
				t.Fatalf("%s: series %d: got %s (found %v), want %s", when, k, got, ok, want)
			}
			for _, at := range []int64{want.T - 1, want.T + 1} {
				if _, _, _, ok := s.SampleAt(r.refs[k], at); ok != r.have[k][at] {
					t.Fatalf("%s: series %d at %d: found %v", when, k, at, ok)
				}
			}
		}
		at, v, isHistogram, ok := s.Last(r.refs[k])
		want := r.last[k]
		if !ok || at != want.T || isHistogram != (want.H != nil || want.FH != nil) || !isHistogram && v != want.V {
			t.Fatalf("%s: series %d: last is %d %g (histogram %v, found %v), want %s", when, k, at, v, isHistogram, ok, want)
		}
	}
	if _, _, _, ok := s.SampleAt(1<<40, storetest.Base); ok {
		t.Fatal("a sample of an unknown series was found")
	}
	if _, _, _, ok := s.Last(1 << 40); ok {
		t.Fatal("the last sample of an unknown series was found")
	}
}

func TestLookup(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.MinBlockDuration = conf.Duration(5 * time.Minute)
	s, closing := open(t, cfg, nil)
	r := newRandom()
	r.append(t, s, storetest.Base, 500)
	r.check(t, s, "in memory")
	s.DB().ForceHeadMMap()
	r.check(t, s, "memory mapped")
	r.append(t, s, storetest.Base+500_000, 1000)
	r.check(t, s, "more")

	var wg sync.WaitGroup
	wg.Go(func() { r.check(t, s, "while compacting") })
	if err := s.DB().Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if len(s.DB().Blocks()) == 0 || s.DB().Head().MinTime() <= storetest.Base {
		t.Fatal("the head was not truncated")
	}
	r.check(t, s, "truncated")
	if err := s.DB().CompactOOOHead(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.check(t, s, "out-of-order blocks")
	r.append(t, s, storetest.Base+1500_000, 300)
	r.check(t, s, "more after truncation")
	closing()
	s, _ = open(t, cfg, nil)
	r.check(t, s, "reopened")
}

// TestLookupUncommitted: what is not committed is not seen, what others commit
// meanwhile is.
func TestLookupUncommitted(t *testing.T) {
	s, _ := open(t, config(t.TempDir()), nil)
	ls := labels.FromStrings("a", "1")
	ref := add(t, s, ls, storetest.Base, 1)
	app := s.AppenderV2(context.Background())
	if _, err := app.Append(ref, ls, 0, storetest.Base+5, 2, nil, nil, storage.AOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, _, _, ok := s.SampleAt(ref, storetest.Base+5); ok {
		t.Error("an uncommitted sample was found")
	}
	if at, _, _, _ := s.Last(ref); at != storetest.Base {
		t.Errorf("last is %d", at)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	if v, _, _, ok := s.SampleAt(ref, storetest.Base+5); !ok || v != 2 {
		t.Errorf("got %g, found %v", v, ok)
	}
}

func BenchmarkLookup(b *testing.B) {
	s, _ := open(b, config(b.TempDir()), nil)
	refs := make([]storage.SeriesRef, 10_000)
	for i := range refs {
		values := make([]float64, 240)
		for k := range values {
			values[k] = float64(k * i)
		}
		ls := labels.FromStrings(model.MetricNameLabel, "m", "cluster", "c", "namespace", "n", "pod", fmt.Sprint("p", i), "container", "x", "job", "j")
		refs[i] = add(b, s, ls, storetest.Base, values...)
	}
	newest := storetest.Base + 239_000
	i := 0
	next := func() storage.SeriesRef { i++; return refs[i*7919%len(refs)] }
	bench := func(name string, f func()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f()
			}
		})
	}
	bench("last", func() { s.Last(next()) })
	bench("at newest", func() { s.SampleAt(next(), newest) })
	bench("at absent", func() { s.SampleAt(next(), newest-500) })
	bench("at previous chunk", func() { s.SampleAt(next(), storetest.Base+60_000) })
	s.DB().ForceHeadMMap()
	bench("at mapped chunk", func() { s.SampleAt(next(), storetest.Base+60_000) })
	for _, ref := range refs {
		app := s.AppenderV2(context.Background())
		if _, err := app.Append(ref, labels.EmptyLabels(), 0, storetest.Base-500, 1, nil, nil, storage.AOptions{}); err != nil {
			b.Fatal(err)
		}
		if err := app.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	bench("at out of order", func() { s.SampleAt(next(), storetest.Base-500) })
}
