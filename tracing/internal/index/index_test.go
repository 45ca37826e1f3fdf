package index

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/weir-dev/weir/tracing/internal/pack/packtest"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

var seed = flag.Uint64("index.seed", 1, "of the generated spans and questions")

// pages are a sealed segment.
type pages struct{ keys, values [][]byte }

func sealed(t testing.TB, b *Builder) *pages {
	t.Helper()
	p := &pages{}
	err := b.Seal(func(k, v []byte) error {
		if n := len(p.keys); n > 0 && bytes.Compare(p.keys[n-1], k) >= 0 {
			return fmt.Errorf("key %x after %x", k, p.keys[n-1])
		}
		if len(v) > 32<<10 {
			return fmt.Errorf("page %x of %d bytes", k, len(v))
		}
		p.keys, p.values = append(p.keys, bytes.Clone(k)), append(p.values, bytes.Clone(v))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pages) SeekLE(key []byte) (k, v []byte, err error) {
	i, ok := slices.BinarySearchFunc(p.keys, key, bytes.Compare)
	if !ok {
		i--
	}
	if i < 0 {
		return nil, nil, nil
	}
	return p.keys[i], p.values[i], nil
}

func (p *pages) Get(key []byte) ([]byte, error) {
	i, ok := slices.BinarySearchFunc(p.keys, key, bytes.Compare)
	if !ok {
		return nil, nil
	}
	return p.values[i], nil
}

// taken is what a segment was built from.
type taken []*span.Batch

func (t *taken) add(x *Builder, b *span.Batch) {
	*t = append(*t, b)
	ids, groups := packtest.ByTrace(b)
	for i, at := range groups {
		x.Add(ids[i], b, at)
	}
}

// matching is the newest start of each trace that has a span for which q is true.
func (t taken) matching(q spanstore.Query) map[span.TraceID]uint64 {
	out := map[span.TraceID]uint64{}
	for _, b := range t {
		for i := range b.Spans {
			s := &b.Spans[i]
			if have, ok := out[s.TraceID]; matches(&q, b, s) && (!ok || s.Start > have) {
				out[s.TraceID] = s.Start
			}
		}
	}
	return out
}

// matches is written apart from spanstore.Matches, from Query's documentation, and has
// only what the index serves.
func matches(q *spanstore.Query, b *span.Batch, s *span.Span) bool {
	res, scope := b.Resources[s.Resource], b.Scopes[s.Scope]
	d := time.Duration(s.Duration())
	if q.Service != "" && res.Service != q.Service || q.Operation != "" && s.Name != q.Operation ||
		q.Kind != 0 && s.Kind != q.Kind || q.Error != nil && *q.Error != (s.Status == span.StatusError) ||
		q.Root && s.Parent != (span.ID{}) ||
		!q.Start.IsZero() && s.Start < uint64(q.Start.UnixNano()) || !q.End.IsZero() && s.Start > uint64(q.End.UnixNano()) ||
		q.MinDuration != 0 && uint64(d) < uint64(q.MinDuration) || q.MaxDuration != 0 && uint64(d) > uint64(q.MaxDuration) {
		return false
	}
	if len(q.Where) == 0 {
		return true
	}
	tags := tagsOf(s.Attrs)
	tags = append(tags, tagsOf(res.Attrs)...)
	for _, e := range s.Events {
		tags = append(tags, tagsOf(e.Attrs)...)
		tags = append(tags, [2]string{"event", e.Name})
	}
	for _, tag := range [][2]string{
		{"otel.scope.name", scope.Name}, {"otel.scope.version", scope.Version}, {"w3c.tracestate", s.State},
		{"otel.status_description", s.Message},
		{"span.kind", []string{"", "internal", "server", "client", "producer", "consumer"}[s.Kind]},
		{"error", []string{"", "", "true"}[s.Status]}, {"otel.status_code", []string{"", "OK", "ERROR"}[s.Status]},
	} {
		if tag[1] != "" {
			tags = append(tags, tag)
		}
	}
	for _, c := range q.Where {
		if !slices.ContainsFunc(tags, func(tag [2]string) bool {
			return sameKey(tag[0]) == sameKey(c.Key) && tag[1] == c.Value
		}) {
			return false
		}
	}
	return true
}

func sameKey(key string) string {
	return strings.Replace(key, "http.response.status_code", "http.status_code", 1)
}

func tagsOf(attrs []span.Attr) (tags [][2]string) {
	for _, a := range attrs {
		tags = append(tags, [2]string{a.Key, a.Value.Text()})
	}
	return tags
}

// pick asks something that a span of the batch answers, more or less.
func pick(r *rand.Rand, b *span.Batch) spanstore.Query {
	s := &b.Spans[r.IntN(len(b.Spans))]
	q := spanstore.Query{}
	maybe := func(f func()) {
		if r.IntN(4) == 0 {
			f()
		}
	}
	maybe(func() { q.Service = b.Resources[s.Resource].Service })
	maybe(func() { q.Operation = s.Name })
	maybe(func() { q.Kind = s.Kind })
	maybe(func() { failed := s.Status == span.StatusError; q.Error = &failed })
	maybe(func() { q.Root = true })
	maybe(func() { q.MinDuration = time.Duration(min(s.Duration(), 1e15)) })
	maybe(func() { q.MaxDuration = time.Duration(min(s.Duration(), 1e15)) })
	if s.Start < 1<<62 {
		maybe(func() { q.Start = time.Unix(0, int64(s.Start)) })
		maybe(func() { q.End = time.Unix(0, int64(s.Start)) })
	}
	where := func(k, v string) {
		q.Where = append(q.Where, spanstore.Condition{Key: k, Op: spanstore.Equal, Value: v})
	}
	tags := append(tagsOf(s.Attrs), tagsOf(b.Resources[s.Resource].Attrs)...)
	for _, e := range s.Events {
		tags = append(append(tags, tagsOf(e.Attrs)...), [2]string{"event", e.Name})
	}
	tags = append(tags, [2]string{"error", "true"}, [2]string{"span.kind", "client"}, [2]string{"otel.status_code", "OK"},
		[2]string{"otel.status_code", "ERROR"}, [2]string{"otel.scope.name", b.Scopes[s.Scope].Name}, [2]string{"otel.status_description", s.Message},
		[2]string{"w3c.tracestate", s.State}, [2]string{"k", "there is no such value"})
	for range r.IntN(3) {
		tag := tags[r.IntN(len(tags))]
		if strings.HasPrefix(tag[0], "otel.s") && tag[1] == "" || tag[0] == "w3c.tracestate" && tag[1] == "" || tag[0] == "event" && tag[1] == "" {
			continue
		}
		if tag[0] == "http.status_code" && r.IntN(2) == 0 {
			tag[0] = "http.response.status_code"
		}
		where(tag[0], tag[1])
	}
	return q
}

func TestSearchFindsWhatMatches(t *testing.T) {
	r := rand.New(rand.NewPCG(*seed, 0))
	found := 0
	for round := range 24 {
		cfg := DefaultConfig()
		if round%3 == 1 {
			cfg.MaxTermsPerSpan = 3
		}
		x, all := NewBuilder(cfg), taken{}
		spans := []int{1, 40, 400, 3000}[round%4]
		for range 1 + round%3 {
			b := packtest.Any(r, spans)
			for i := range b.Spans { // more traces than Any's four
				b.Spans[i].TraceID[7] = byte(r.IntN(1 + spans/8))
			}
			all.add(x, b)
		}
		p := sealed(t, x)
		for range 150 {
			b := all[r.IntN(len(all))]
			q := pick(r, b)
			limit := r.IntN(3) * r.IntN(20)
			want := all.matching(q)
			found += len(want)
			hits, exact := x.Search(q, limit)
			check(t, "live", q, limit, hits, exact, want)
			hits, exact, err := Search(p, q, limit)
			if err != nil {
				t.Fatal(err)
			}
			check(t, "sealed", q, limit, hits, exact, want)
			if t.Failed() {
				t.Fatalf("round %d, -index.seed %d", round, *seed)
			}
		}
	}
	if found < 1000 {
		t.Errorf("the questions had %d answers in all, want 1000 or the test shows little", found)
	}
}

func check(t *testing.T, which string, q spanstore.Query, limit int, hits []Hit, exact Exactness, want map[span.TraceID]uint64) {
	t.Helper()
	if !slices.IsSortedFunc(hits, func(a, b Hit) int {
		switch {
		case a.Start > b.Start:
			return -1
		case a.Start < b.Start:
			return 1
		}
		return 0
	}) {
		t.Errorf("%s: %+v: hits are not newest first", which, q)
	}
	if limit > 0 && len(hits) > limit {
		t.Errorf("%s: %+v: %d hits, limit %d", which, q, len(hits), limit)
	}
	if slices.ContainsFunc(exact.Unserved, func(u string) bool { return !strings.Contains(u, " = ") || len(u) < 256 }) {
		t.Errorf("%s: %+v: unserved %q", which, q, exact.Unserved)
	}
	loose := exact.Verify || len(exact.Unserved) > 0
	got := map[span.TraceID]uint64{}
	for _, h := range hits {
		got[h.Trace] = h.Start
		if start, ok := want[h.Trace]; !loose && (!ok || start != h.Start) {
			t.Errorf("%s: %+v: hit %s at %d, want %d %v", which, q, h.Trace, h.Start, start, ok)
		}
	}
	if len(got) != len(hits) {
		t.Errorf("%s: %+v: a trace twice", which, q)
	}
	if limit > 0 && len(hits) == limit { // the newest are there
		last := hits[limit-1].Start
		for id, start := range want {
			if _, ok := got[id]; !ok && start > last {
				t.Errorf("%s: %+v: trace %s at %d is newer than the last hit's %d and not there", which, q, id, start, last)
			}
		}
		return
	}
	for id, start := range want {
		if got[id] < start {
			t.Errorf("%s: %+v: trace %s: got %d, want %d", which, q, id, got[id], start)
		}
	}
}

func TestHitsAreFew(t *testing.T) {
	x, all := NewBuilder(DefaultConfig()), taken{}
	b := &span.Batch{}
	r := rand.New(rand.NewPCG(*seed, 1))
	packtest.Shop(r, b, 400, 1e18, 1e6)
	all.add(x, b)
	p := sealed(t, x)
	for range 300 {
		q := pick(r, b)
		want := all.matching(q)
		live, _ := x.Search(q, 0)
		hits, _, err := Search(p, q, 0)
		if err != nil {
			t.Fatal(err)
		}
		// Nothing is left out of this index and no two of its terms have one hash, so
		// that hits are exact though they ask to be verified.
		if len(live) != len(want) || len(hits) != len(want) {
			t.Fatalf("%+v: %d live and %d sealed hits, want %d", q, len(live), len(hits), len(want))
		}
	}
}

func TestUnserved(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Exclude = []string{"secret", "http.status_code"}
	cfg.MaxValueBytes = 8
	x, all := NewBuilder(cfg), taken{}
	b := &span.Batch{}
	packtest.Shop(rand.New(rand.NewPCG(*seed, 1)), b, 10, 1e18, 1e6)
	all.add(x, b)
	q := spanstore.Query{Service: "shop-1", Where: []spanstore.Condition{
		{Key: "secret", Op: spanstore.Equal, Value: "x"},
		{Key: "http.response.status_code", Op: spanstore.Equal, Value: "200"},
		{Key: "url.path", Op: spanstore.Match, Value: "/api/.*"},
		{Key: "url.path", Op: spanstore.Equal, Value: "/api/cart/1"},
		{Key: "url.path", Op: spanstore.Exists},
	}}
	want := []string{`secret = "x"`, `http.response.status_code = "200"`, `url.path =~ "/api/.*"`, `url.path = "/api/cart/1"`, `url.path exists ""`}
	hits, exact := x.Search(q, 0)
	if !slices.Equal(exact.Unserved, want) || len(hits) != 10 {
		t.Errorf("live: %d hits, unserved %q; want 10, %q", len(hits), exact.Unserved, want)
	}
	hits, exact, err := Search(sealed(t, x), q, 0)
	if err != nil || !slices.Equal(exact.Unserved, want) || len(hits) != 10 {
		t.Errorf("sealed: %d hits, unserved %q, error %v; want 10, %q", len(hits), exact.Unserved, err, want)
	}
}

func TestSearchWhileAdding(t *testing.T) {
	x := NewBuilder(DefaultConfig())
	b := &span.Batch{}
	packtest.Shop(rand.New(rand.NewPCG(*seed, 1)), b, 500, 1e18, 1e6)
	ids, groups := packtest.ByTrace(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i, at := range groups {
			x.Add(ids[i], b, at)
		}
	}()
	q := spanstore.Query{Service: "shop-4", Where: []spanstore.Condition{{Key: "url.scheme", Op: spanstore.Equal, Value: "https"}}}
	for last := 0; last < 500; {
		hits, _ := x.Search(q, 0)
		if len(hits) < last {
			t.Fatalf("%d hits after %d", len(hits), last)
		}
		last = len(hits)
	}
	<-done
}

func TestEmpty(t *testing.T) {
	x := NewBuilder(DefaultConfig())
	hits, _, err := Search(sealed(t, x), spanstore.Query{Service: "a"}, 10)
	if len(hits) != 0 || err != nil {
		t.Errorf("got %v, %v; want nothing", hits, err)
	}
	if _, _, err := Search(&pages{}, spanstore.Query{}, 10); !errors.Is(err, ErrCorrupt) {
		t.Errorf("without a head: got error %v, want %v", err, ErrCorrupt)
	}
}

// FuzzSearch damages a page of a segment.
func FuzzSearch(f *testing.F) {
	x, all := NewBuilder(DefaultConfig()), taken{}
	b := &span.Batch{}
	r := rand.New(rand.NewPCG(1, 1))
	packtest.Shop(r, b, 200, 1e18, 1e6)
	all.add(x, b)
	good := sealed(f, x)
	var asked []spanstore.Query
	for range 30 {
		asked = append(asked, pick(r, b))
	}
	asked = append(asked, spanstore.Query{}, spanstore.Query{MinDuration: 1})
	for i, v := range good.values {
		f.Add(uint16(i), v)
		f.Add(uint16(i), v[:len(v)/2])
	}
	f.Fuzz(func(t *testing.T, page uint16, value []byte) {
		bad := &pages{keys: good.keys, values: slices.Clone(good.values)}
		bad.values[int(page)%len(bad.values)] = value
		for _, q := range asked {
			if _, _, err := Search(bad, q, 20); err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%+v: error %v, want none or %v", q, err, ErrCorrupt)
			}
		}
	})
}

const segment = 128_000

// shop is a segment of a shop that takes 20,000 spans a second.
func shop(tb testing.TB) *span.Batch {
	tb.Helper()
	b := &span.Batch{}
	packtest.Shop(rand.New(rand.NewPCG(*seed, 2)), b, segment/packtest.SpansPerTrace, 1_700_000_000_000_000_000, 5e5)
	return b
}

// TestBytesPerSpan holds the index's part of the bar of 150 bytes a span on disk.
func TestBytesPerSpan(t *testing.T) {
	const bar = 35
	x := NewBuilder(DefaultConfig())
	new(taken).add(x, shop(t))
	p := sealed(t, x)
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	var block []byte
	raw, small := map[byte]int{}, 0
	for i, v := range p.values {
		raw[p.keys[i][0]] += len(v) + len(p.keys[i])
		block = append(append(block, p.keys[i]...), v...)
		if len(block) > 48<<10 || i == len(p.values)-1 {
			small += len(enc.EncodeAll(block, nil))
			block = block[:0]
		}
	}
	sum := 0.0
	for _, kind := range []byte{keyHead, keyTraces, keyRows, keyTerms} {
		t.Logf("%c: %.2f bytes a span", kind, float64(raw[kind])/segment)
		sum += float64(raw[kind]) / segment
	}
	t.Logf("%.1f bytes a span, %.1f after zstd, in %d pages", sum, float64(small)/segment, len(p.keys))
	if sum > bar {
		t.Errorf("%.1f bytes a span, want at most %d", sum, bar)
	}
}
