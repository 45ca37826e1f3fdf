package pebblestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weir-dev/weir/tracing/internal/index"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

const (
	// keepSpans bounds the spans that a search holds while it looks for further
	// traces; what is beyond is read again when its turn comes. At 1 KiB a span, 64 MiB.
	keepSpans = 64 << 10
	// firstAsk is the least number of candidates that a segment is asked for at a time.
	firstAsk = 32
	// mostAsked bounds the candidates of one asking, 24 bytes each.
	mostAsked = 4096
)

// source is a segment that may be searched.
type source struct {
	cursor   int
	live     *live
	segment  segment
	min, max uint64 // of its spans' starts
}

// found is a trace that was verified.
type found struct {
	id    span.TraceID
	start uint64 // of its newest matching span
	trace *span.Batch
}

// search is one question under way.
type search struct {
	v       *view
	q       spanstore.Query
	m       *spanstore.Matcher
	notes   spanstore.Notes
	visited map[span.TraceID]struct{}
	found   []found // newest first, at most Limit
	spans   int     // looked at
	kept    int     // spans of found
	until   time.Time
}

// Find implements [spanstore.Reader].
func (s *Store) Find(ctx context.Context, q spanstore.Query, yield func(*span.Batch) error) (spanstore.Notes, error) {
	se, err := s.search(ctx, q)
	if err != nil {
		return spanstore.Notes{}, err
	}
	defer se.v.close()
	for _, f := range se.found {
		b := f.trace
		if b == nil {
			b = &span.Batch{}
			if err := se.v.trace(f.id, b); err != nil {
				continue
			}
		}
		if err := ctx.Err(); err != nil {
			return se.notes, err
		}
		if err := yield(b); err != nil {
			return se.notes, err
		}
	}
	return se.notes, nil
}

// FindIDs implements [spanstore.Reader].
func (s *Store) FindIDs(ctx context.Context, q spanstore.Query) ([]span.TraceID, spanstore.Notes, error) {
	se, err := s.search(ctx, q)
	if err != nil {
		return nil, spanstore.Notes{}, err
	}
	defer se.v.close()
	ids := make([]span.TraceID, 0, len(se.found))
	for _, f := range se.found {
		ids = append(ids, f.id)
	}
	return ids, se.notes, nil
}

// search finds the traces of a query; the caller closes its view.
func (s *Store) search(ctx context.Context, q spanstore.Query) (*search, error) {
	q.Limit = max(q.Limit, 1)
	m, err := spanstore.NewMatcher(q)
	if err != nil {
		return nil, err
	}
	if s.current.Load() == nil {
		return nil, ErrClosed
	}
	se := &search{v: s.view(), q: q, m: m, visited: map[span.TraceID]struct{}{}, until: time.Now().Add(s.cfg.Scan.Time.Std())}
	for _, src := range se.sources() {
		if se.enough(src.max) {
			break
		}
		if err := se.in(ctx, &src); err != nil {
			se.v.close()
			return nil, err
		}
		if se.notes.Partial != "" {
			break
		}
	}
	if se.v.damage != nil && se.notes.Partial == "" {
		se.notes.Partial = "a part of the store cannot be read: " + se.v.damage.Error()
	}
	return se, nil
}

// sources are the segments that may have spans of the time asked for, that with the
// newest span first.
func (se *search) sources() []source {
	lo, hi := nanos(se.q.Start, 0), nanos(se.q.End, math.MaxUint64)
	var all []source
	add := func(src source) {
		if src.min <= hi && src.max >= lo {
			src.max = min(src.max, hi)
			all = append(all, src)
		}
	}
	for i := range se.v.cursors {
		p := se.v.cursors[i].p
		p.segMu.RLock()
		for _, l := range p.lives {
			if l.spans.Load() > 0 {
				add(source{cursor: i, live: l, min: l.min.Load(), max: l.max.Load()})
			}
		}
		for _, g := range p.segs {
			add(source{cursor: i, segment: g, min: g.min, max: g.max})
		}
		p.segMu.RUnlock()
	}
	slices.SortStableFunc(all, func(a, b source) int { return cmp.Compare(b.max, a.max) })
	return all
}

func nanos(t time.Time, open uint64) uint64 {
	switch {
	case t.IsZero():
		return open
	case t.Unix() < 0:
		return 0
	case t.Year() > 2500:
		return math.MaxUint64
	}
	return uint64(t.UnixNano())
}

// enough tells whether nothing that starts at or before at can be among the newest.
func (se *search) enough(at uint64) bool {
	return len(se.found) >= se.q.Limit && se.found[len(se.found)-1].start >= at
}

// in looks through one segment.
func (se *search) in(ctx context.Context, src *source) error {
	ask, done := se.asker(src)
	if ask == nil {
		return nil
	}
	defer done()
	q := se.q
	limit := max(q.Limit, firstAsk)
	for {
		hits, exact, err := ask(q, limit)
		if err != nil {
			se.v.cursors[src.cursor].p.damage(err)
			se.v.note(err)
			return nil
		}
		if len(exact.Unserved) > 0 {
			se.notes.Scanned = true
		}
		for _, hit := range hits {
			if se.enough(hit.Start) {
				return nil
			}
			if err := se.verify(ctx, hit); err != nil || se.notes.Partial != "" {
				return err
			}
		}
		if len(hits) < limit {
			return nil
		}
		// On with what is older; those that start in the same nanosecond come again.
		last := hits[len(hits)-1].Start
		if hits[0].Start == last {
			limit *= 4
			continue
		}
		q.End = time.Unix(0, int64(last))
		limit = min(2*limit, mostAsked)
	}
}

type asking func(spanstore.Query, int) ([]index.Hit, index.Exactness, error)

// asker gives the way to ask a segment, and what to call afterwards.
func (se *search) asker(src *source) (asking, func()) {
	if src.live != nil {
		return func(q spanstore.Query, limit int) ([]index.Hit, index.Exactness, error) {
			hits, exact := src.live.b.Search(q, limit)
			return hits, exact, nil
		}, func() {}
	}
	c := se.v.open(src.cursor)
	if c == nil {
		return nil, nil
	}
	g, err := newPages(c.h.db, src.segment.id)
	if err != nil {
		se.v.note(err)
		return nil, nil
	}
	return func(q spanstore.Query, limit int) ([]index.Hit, index.Exactness, error) {
		return index.Search(g, q, limit)
	}, g.close
}

// verify reads the trace of a hit and looks at its spans.
func (se *search) verify(ctx context.Context, hit index.Hit) error {
	if _, again := se.visited[hit.Trace]; again {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	scan := &se.v.s.cfg.Scan
	if se.spans >= scan.Spans || time.Now().After(se.until) {
		se.notes.Partial = fmt.Sprintf("search stopped after %d spans of candidates (scan.spans %d, scan.time %s)", se.spans, scan.Spans, scan.Time)
		return nil
	}
	se.visited[hit.Trace] = struct{}{}
	b := &span.Batch{}
	if err := se.v.trace(hit.Trace, b); err != nil {
		se.spans++
		return nil // dropped, or not readable, which is noted
	}
	se.spans += len(b.Spans)
	start, matched := uint64(0), false
	for i := range b.Spans {
		if se.m.Match(b, i) {
			start, matched = max(start, b.Spans[i].Start), true
		}
	}
	if matched {
		se.keep(found{hit.Trace, start, b})
	}
	return nil
}

func (se *search) keep(f found) {
	if se.enough(f.start) {
		return
	}
	if se.kept += len(f.trace.Spans); se.kept > keepSpans {
		se.kept -= len(f.trace.Spans)
		f.trace = nil
	}
	at, _ := slices.BinarySearchFunc(se.found, f.start, func(o found, start uint64) int {
		if o.start >= start {
			return -1
		}
		return 1
	})
	se.found = slices.Insert(se.found, at, f)
	if len(se.found) > se.q.Limit {
		if last := se.found[len(se.found)-1].trace; last != nil {
			se.kept -= len(last.Spans)
		}
		se.found = se.found[:len(se.found)-1]
	}
}

// pages gives the index the pages of one segment.
type pages struct {
	db     *pebble.DB
	prefix []byte
	key    []byte
	it     *pebble.Iterator
}

func newPages(db *pebble.DB, segment uint64) (*pages, error) {
	g := &pages{db: db, prefix: pagePrefix(segment)}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: g.prefix, UpperBound: pagePrefix(segment + 1)})
	if err != nil {
		return nil, err
	}
	g.it = it
	return g, nil
}

func (g *pages) close() { _ = g.it.Close() } // what it could not read, its calls have told

// SeekLE implements index.Getter.
func (g *pages) SeekLE(key []byte) (k, v []byte, err error) {
	g.key = append(append(append(g.key[:0], g.prefix...), key...), 0)
	if !g.it.SeekLT(g.key) {
		return nil, nil, g.it.Error()
	}
	v, err = g.it.ValueAndErr()
	return g.it.Key()[len(g.prefix):], v, err
}

// Get implements index.Getter.
func (g *pages) Get(key []byte) ([]byte, error) {
	g.key = append(append(g.key[:0], g.prefix...), key...)
	v, err := get(g.db, g.key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	return v, err
}
