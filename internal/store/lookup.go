package store

import (
	"context"
	"sync"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// lookup is what one lookup by reference needs, kept for the next.
type lookup struct {
	labels labels.ScratchBuilder
	chunks []chunks.Meta
	it     chunkenc.Iterator
}

// lookups keeps ended lookups for the next ones. Their iterators may point into
// chunks that are gone, and are only ever reset.
type lookups struct{ pool sync.Pool }

func (p *lookups) get() *lookup {
	if l, ok := p.pool.Get().(*lookup); ok {
		return l
	}
	return &lookup{labels: labels.NewScratchBuilder(0)}
}

// Last returns the newest sample of a series of the head that arrived in order, as
// far as it is committed: its time in milliseconds, its value unless it is a
// histogram. ok is false when the head does not know ref, or holds no samples of it.
func (s *Store) Last(ref storage.SeriesRef) (t int64, v float64, isHistogram, ok bool) {
	db := s.db.Load()
	if db == nil {
		return 0, 0, false, false
	}
	l := s.lookups.get()
	defer s.lookups.pool.Put(l)
	if !l.series(db, ref) {
		return 0, 0, false, false
	}
	cr, err := db.Head().Chunks()
	if err != nil {
		return 0, 0, false, false
	}
	defer cr.Close()
	for i := len(l.chunks) - 1; i >= 0 && !ok; i-- { // a second round only if nothing of the newest chunk is committed
		if !l.open(cr, l.chunks[i]) {
			return 0, 0, false, false
		}
		for typ := l.it.Next(); typ != chunkenc.ValNone; typ = l.it.Next() {
			ok, isHistogram = true, typ != chunkenc.ValFloat
			if isHistogram {
				t, v = l.it.AtT(), 0
			} else {
				t, v = l.it.At()
			}
		}
	}
	return t, v, isHistogram, ok
}

// SampleAt returns the committed sample of a series of the head at exactly t
// (milliseconds), wherever it is kept: the head, its out-of-order part, a block.
// At most one of v, h and fh is meaningful: fh or h when not nil, else v. The
// counter reset hint of a histogram depends on where it was found; all else is as
// appended. Deletions are not heeded in the head, where the sample still keeps
// another of its time from being appended.
func (s *Store) SampleAt(ref storage.SeriesRef, t int64) (v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, ok bool) {
	db := s.db.Load()
	if db == nil {
		return 0, nil, nil, false
	}
	l := s.lookups.get()
	defer s.lookups.pool.Put(l)
	if !l.series(db, ref) {
		return 0, nil, nil, false
	}
	v, h, fh, ok, sure := l.inOrder(db, t)
	if ok || sure && !elsewhere(db, t) {
		return v, h, fh, ok
	}
	return l.anywhere(db, t)
}

// series reads the labels of ref and the places of its chunks in the head.
func (l *lookup) series(db *tsdb.DB, ref storage.SeriesRef) bool {
	ir, err := db.Head().Index()
	if err != nil {
		return false
	}
	defer ir.Close()
	return ir.Series(ref, &l.labels, &l.chunks) == nil
}

// open sets l.it to the beginning of a chunk.
func (l *lookup) open(cr tsdb.ChunkReader, meta chunks.Meta) bool {
	c, _, err := cr.ChunkOrIterable(meta)
	if err != nil || c == nil {
		return false
	}
	l.it = c.Iterator(l.it)
	return true
}

// inOrder looks for t in the head's in-order chunks. sure is false when it could
// not look, because the head is being truncated at this moment.
func (l *lookup) inOrder(db *tsdb.DB, t int64) (v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, ok, sure bool) {
	head := db.Head()
	if t < head.MinTime() {
		return 0, nil, nil, false, true
	}
	at := -1
	for i, c := range l.chunks {
		if c.MinTime <= t && t <= c.MaxTime {
			at = i
		}
	}
	if at < 0 {
		return 0, nil, nil, false, true
	}
	// The reader is registered with the head, so that truncation waits for it and
	// does not unmap the chunk; one that began before is seen by the second call.
	cr, err := head.Chunks()
	if err != nil {
		return 0, nil, nil, false, false
	}
	defer cr.Close()
	if colliding, _, _ := head.IsQuerierCollidingWithTruncation(t, t); colliding || !l.open(cr, l.chunks[at]) {
		return 0, nil, nil, false, false
	}
	// Not Seek: the iterator that hides uncommitted samples does so in Next only.
	for typ := l.it.Next(); typ != chunkenc.ValNone; typ = l.it.Next() {
		if now := l.it.AtT(); now < t {
			continue
		} else if now > t {
			break
		}
		v, h, fh = value(l.it, typ)
		return v, h, fh, true, true
	}
	return 0, nil, nil, false, true
}

// elsewhere says whether a sample of time t may be outside the in-order head.
func elsewhere(db *tsdb.DB, t int64) bool {
	head := db.Head()
	if head.MinOOOTime() <= t && t <= head.MaxOOOTime() {
		return true
	}
	for _, b := range db.Blocks() {
		if b.OverlapsClosedInterval(t, t) {
			return true
		}
	}
	return false
}

// anywhere asks the database as a query would, by all labels of the series.
func (l *lookup) anywhere(db *tsdb.DB, t int64) (v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, ok bool) {
	q, err := db.Querier(t, t)
	if err != nil {
		return 0, nil, nil, false
	}
	defer q.Close()
	want := l.labels.Labels()
	equal := make([]*labels.Matcher, 0, want.Len())
	want.Range(func(lb labels.Label) {
		equal = append(equal, labels.MustNewMatcher(labels.MatchEqual, lb.Name, lb.Value))
	})
	set := q.Select(context.Background(), false, &storage.SelectHints{Start: t, End: t}, equal...)
	for set.Next() { // series with more labels match as well
		if series := set.At(); labels.Equal(series.Labels(), want) {
			l.it = nil
			it := series.Iterator(nil)
			if typ := it.Seek(t); typ != chunkenc.ValNone && it.AtT() == t {
				v, h, fh = value(it, typ)
				return v, h, fh, true
			}
			return 0, nil, nil, false
		}
	}
	return 0, nil, nil, false
}

func value(it chunkenc.Iterator, typ chunkenc.ValueType) (v float64, h *histogram.Histogram, fh *histogram.FloatHistogram) {
	switch typ {
	case chunkenc.ValHistogram:
		_, h = it.AtHistogram(nil)
	case chunkenc.ValFloatHistogram:
		_, fh = it.AtFloatHistogram(nil)
	default:
		_, v = it.At()
	}
	return v, h, fh
}
