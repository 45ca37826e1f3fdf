package tiers

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/weir-dev/weir/internal/rollup"
	"github.com/weir-dev/weir/internal/store/block"
)

// Columns selects series with the points and samples of s. Its time is answered as
// the catalogue is now: where data has been deleted since the caller asked Holdings,
// by the finest rung there is. The result holds blocks open until closed.
func (t *Tiers) Columns(ctx context.Context, s rollup.Selection) (rollup.SeriesSet, error) {
	set, err := t.columns(ctx, s)
	if err != nil {
		return nil, err
	}
	return set, nil
}

func (t *Tiers) columns(ctx context.Context, s rollup.Selection) (*seriesSet, error) {
	db := t.deps.DB()
	if db == nil {
		return nil, tsdb.ErrNotReady
	}
	for {
		set := &seriesSet{t: t, db: db, need: s.Need}
		err := set.plan(s.Spans)
		if err == nil {
			err = set.open(ctx, s.Matchers)
		}
		if err != nil {
			return nil, errors.Join(err, set.Close())
		}
		t.mu.RLock()
		same := t.wholeFrom() == set.whole
		t.mu.RUnlock()
		if same {
			return set, nil
		}
		// Raw data may have left before its blocks were opened, which happens once in
		// the time of a block.
		if err := set.Close(); err != nil {
			return nil, err
		}
	}
}

// part is a stretch of time (after, until] with the sources that answer for it.
type part struct {
	after, until int64
	res          int64
	asked        bool      // for this resolution
	by           []*source // several: their points add up
}

// source yields the series of one block, or of the raw data of one part, in label
// order.
type source struct {
	entry *entry       // nil for raw data
	block *block.Block // held open; nil until a block of the bucket is opened
	rung  *rung
	tier  *block.Series

	queriers []storage.Querier // of raw data
	far      []*entry          // raw blocks in the bucket
	after    int64
	until    int64
	raw      storage.SeriesSet

	labels labels.Labels
	here   bool // it has the current series
}

func (s *source) next() bool {
	if s.raw != nil {
		if !s.raw.Next() {
			return false
		}
		s.labels = s.raw.At().Labels()
		return true
	}
	if !s.tier.Next() {
		return false
	}
	s.labels = s.tier.Labels()
	return true
}

func (s *source) err() error {
	if s.raw != nil {
		return s.raw.Err()
	}
	return s.tier.Err()
}

// seriesSet is a [rollup.SeriesSet].
type seriesSet struct {
	t       *Tiers
	db      *tsdb.DB
	need    rollup.Need
	parts   []part
	sources []*source
	deleted []deletion // not yet taken out of the blocks
	whole   int64      // where raw data was whole when this was planned

	waiting sourceHeap // positioned, the least labels first
	current []*source  // those of the current series
	read    rollup.ReadStats
	buf     []byte
	it      chunkenc.Iterator
	added   rollup.Columns // for points that add up
	err     error
}

// plan says who answers for which time, and holds the blocks open.
func (s *seriesSet) plan(spans []rollup.Span) error {
	t, db := s.t, s.db
	t.mu.RLock()
	defer t.mu.RUnlock()
	raw := t.seen
	rawless := t.rawless(db.Head(), raw)
	s.deleted, s.whole = slices.Clone(t.state.Deletions), t.wholeFrom()
	of := map[*entry]*source{}
	tier := func(g rungSegment, asked bool) error {
		p := part{after: g.from - 1, until: g.to - 1, res: g.rung.res, asked: asked}
		for _, e := range g.by {
			if of[e] == nil {
				if !e.far() && !e.open.Acquire() {
					return fmt.Errorf("read block %s: %w", e.ULID(), tsdb.ErrClosing)
				}
				of[e] = &source{entry: e, rung: g.rung, block: e.open}
				s.sources = append(s.sources, of[e])
			}
			p.by = append(p.by, of[e])
		}
		s.parts = append(s.parts, p)
		return nil
	}
	for _, sp := range spans {
		want := span{plus(sp.After, 1), plus(sp.Until, 1)}
		if sp.Resolution != rollup.Raw {
			i := slices.IndexFunc(t.rungs, func(r *rung) bool { return r.res == sp.Resolution })
			if i < 0 {
				return fmt.Errorf("read rollups of %s: store.rollups has no such rung", ms(sp.Resolution))
			}
			for _, g := range t.ofRung(t.rungs[i], want) {
				if err := tier(g, true); err != nil {
					return err
				}
			}
			continue
		}
		for _, g := range t.finestOf(rawless, want) {
			if err := tier(g, false); err != nil {
				return err
			}
		}
		if left := want.minus(rawless); len(left) > 0 {
			src := &source{after: left[0].from - 1, until: left[len(left)-1].to - 1}
			s.sources = append(s.sources, src)
			for _, l := range left {
				s.parts = append(s.parts, part{after: l.from - 1, until: l.to - 1, res: rollup.Raw, by: []*source{src}})
			}
			for _, e := range t.far {
				reads := span{src.after + 1, want.to}.cut(e.span)
				if slices.ContainsFunc(t.gaps(db.Head(), raw), reads.overlaps) {
					src.far = append(src.far, e)
				}
			}
		}
	}
	slices.SortFunc(s.parts, func(a, b part) int { return cmp.Compare(a.after, b.after) })
	s.join()
	return nil
}

// join moves the seam behind a part to the end of its last window, if its blocks go
// on by now: when the caller asked, a block ended there, and its last window with it.
func (s *seriesSet) join() {
	for i := 1; i < len(s.parts); i++ {
		p, next := &s.parts[i-1], &s.parts[i]
		if !p.asked || p.until != next.after || p.res <= next.res {
			continue
		}
		end := windowEnd(p.until, p.res)
		if end < next.until && slices.ContainsFunc(p.by, func(src *source) bool { return src.entry.to > end }) {
			p.until, next.after = end, end
		}
	}
}

// rawLead is how long before a stretch raw data is read from, for the value that a
// counter had before it: a sample is there if series are sampled every five minutes,
// the engine's lookback, at least. Without it the rollups before the stretch tell.
const rawLead = 5 * 60 * 1000

// rawFrom is the time to read raw data of src from.
func (s *seriesSet) rawFrom(src *source) int64 {
	if s.need&rollup.NeedInc == 0 {
		return plus(src.after, 1)
	}
	return plus(src.after, 1-rawLead)
}

// query opens the queriers of raw data.
func (s *seriesSet) query(ctx context.Context, src *source) error {
	from := s.rawFrom(src)
	q, err := s.db.Querier(from, src.until)
	if err != nil {
		return err
	}
	src.queriers = append(src.queriers, q)
	for _, e := range src.far {
		q, err := s.t.farQuerier(ctx, e, from, src.until)
		if err != nil {
			return err
		}
		src.queriers = append(src.queriers, q)
	}
	return nil
}

// rungSegment is a stretch of one rung.
type rungSegment struct {
	rung *rung
	segment
}

// ofRung is what r has of s, and where it has left since the caller asked, what the
// finest rung has. Where less than a window is missing, it lies between blocks of
// other makers, whose windows are there.
func (t *Tiers) ofRung(r *rung, s span) (out []rungSegment) {
	var known []span
	for _, g := range r.cutSegments(s) {
		out = append(out, rungSegment{r, g})
		known = append(known, g.span)
	}
	for _, gap := range s.minus(known) {
		if gap.to-gap.from < r.res {
			continue
		}
		for _, g := range t.finest(gap) {
			if slices.ContainsFunc(g.by, func(e *entry) bool { return len(t.unknown(r, e, g.span)) > 0 }) {
				out = append(out, g)
			}
		}
	}
	slices.SortFunc(out, func(a, b rungSegment) int { return cmp.Compare(a.from, b.from) })
	return seams(out)
}

// finestOf is finest of what of s lies in any of spans.
func (t *Tiers) finestOf(spans []span, s span) (out []rungSegment) {
	for _, x := range spans {
		out = append(out, t.finest(x.cut(s))...)
	}
	return out
}

// finest says which rung knows most of each part of s, in time order.
func (t *Tiers) finest(s span) (out []rungSegment) {
	if s.empty() {
		return nil
	}
	left := []span{s}
	for _, r := range t.rungs {
		var known []span
		for _, l := range left {
			for _, g := range r.cutSegments(l) {
				out = append(out, rungSegment{r, g})
				known = append(known, g.span)
			}
		}
		var rest []span
		for _, l := range left {
			rest = append(rest, l.minus(known)...)
		}
		left = rest
	}
	slices.SortFunc(out, func(a, b rungSegment) int { return cmp.Compare(a.from, b.from) })
	return seams(out)
}

// seams lets a coarse window that reaches into the time of a finer rung end there:
// the finer one answers from its end on.
func seams(segs []rungSegment) (out []rungSegment) {
	for _, g := range segs {
		if n := len(out); n > 0 && out[n-1].to >= g.from && out[n-1].rung.res > g.rung.res {
			last := &out[n-1]
			if end := windowEnd(last.to-1, last.rung.res) + 1; slices.ContainsFunc(last.by, func(e *entry) bool { return e.to >= end }) {
				last.to, g.from = end, end
			}
		}
		if !g.empty() {
			out = append(out, g)
		}
	}
	return out
}

func (s *seriesSet) open(ctx context.Context, ms []*labels.Matcher) error {
	for _, src := range s.sources {
		if src.entry != nil {
			var err error
			if src.block == nil {
				if src.block, err = s.t.deps.remote().OpenRemote(ctx, src.entry.ULID()); err != nil {
					return err
				}
			}
			if src.tier, err = src.block.Select(ctx, ms...); err != nil {
				s.t.suspectFault(src.rung, src.entry, err)
				return err
			}
		} else {
			if err := s.query(ctx, src); err != nil {
				return err
			}
			// Trimmed by the reader of the columns: the TSDB panics when it trims the end
			// of a series that has deletions (tombstones.Intervals.Add, 0.315).
			hints := &storage.SelectHints{Start: s.rawFrom(src), End: src.until, DisableTrimming: true}
			src.raw = storage.NewMergeQuerier(src.queriers, nil, storage.ChainedSeriesMerge).Select(ctx, true, hints, ms...)
		}
		s.push(src)
	}
	return s.err
}

// push moves a source on and puts it where its labels belong.
func (s *seriesSet) push(src *source) {
	if src.next() {
		heap.Push(&s.waiting, src)
		return
	}
	if err := src.err(); err != nil {
		if src.entry != nil {
			s.t.suspectFault(src.rung, src.entry, err)
		}
		s.err = errors.Join(s.err, err)
	}
}

func (s *seriesSet) Next() bool {
	for s.err == nil {
		for _, src := range s.current {
			src.here = false
			s.push(src)
		}
		s.current = s.current[:0]
		if s.err != nil || len(s.waiting) == 0 {
			return false
		}
		for first := s.waiting[0].labels; len(s.waiting) > 0 && labels.Equal(s.waiting[0].labels, first); {
			src := heap.Pop(&s.waiting).(*source)
			src.here = true
			s.current = append(s.current, src)
		}
		if s.anything() {
			s.read.Series++
			return true
		}
	}
	return false
}

// anything says whether a chunk of the current series lies in the time asked for.
func (s *seriesSet) anything() bool {
	for _, p := range s.parts {
		for _, src := range p.by {
			if src.here && (src.raw != nil || src.hasChunk(p)) {
				return true
			}
		}
	}
	return false
}

func (s *source) hasChunk(p part) bool {
	for _, c := range s.tier.Chunks() {
		if c.MaxTime > p.after && c.MinTime <= p.until {
			return true
		}
	}
	return false
}

func (s *seriesSet) Labels() labels.Labels { return s.current[0].labels }

func (s *seriesSet) Columns(c *rollup.Columns) error {
	c.Reset(s.need)
	for _, p := range s.parts {
		err := s.append(c, p)
		if err != nil {
			s.err = err
			return err
		}
	}
	return nil
}

func (s *seriesSet) append(c *rollup.Columns, p part) error {
	var one *source
	n := 0
	for _, src := range p.by {
		if src.here {
			one = src
			n++
		}
	}
	switch {
	case n == 0:
		return nil
	case p.res == rollup.Raw:
		return s.appendRaw(c, p, one)
	case n == 1:
		return s.appendTier(c, p, one)
	}
	return s.appendSum(c, p, slices.DeleteFunc(slices.Clone(p.by), func(src *source) bool { return !src.here }))
}

func (s *seriesSet) appendRaw(c *rollup.Columns, p part, src *source) error {
	n := len(c.End)
	s.it = src.raw.At().Iterator(s.it)
	if err := c.AppendRaw(s.it, p.after, p.until); err != nil {
		return err
	}
	s.read.Samples += len(c.End) - n
	return nil
}

// chunkHead is what frames a chunk's data in its file, at least: length, encoding
// and checksum.
const chunkHead = 2 + 1 + 4

func (s *seriesSet) appendTier(c *rollup.Columns, p part, src *source) error {
	n := len(c.End)
	c.BlockEnd = src.entry.to - 1
	for _, left := range s.undeleted(src, p) {
		for _, m := range src.tier.Chunks() {
			if m.MaxTime < left.from || m.MinTime >= left.to {
				continue
			}
			enc, data, err := src.block.Chunk(m.Ref, s.buf)
			if err == nil && enc != rollup.EncAggr {
				err = &block.Fault{Dir: src.entry.dir(), Offset: -1, Err: fmt.Errorf("a chunk has encoding %d, want %d", enc, rollup.EncAggr)}
			}
			if err == nil {
				s.read.Bytes += len(data) + chunkHead
				if cap(data) > cap(s.buf) && src.entry.far() {
					s.buf = data[:0]
				}
				if err = c.AppendAggr(rollup.AggrChunk(data), p.res, left.from-1, left.to-1); err != nil {
					err = &block.Fault{Dir: src.entry.dir(), Offset: -1, Err: fmt.Errorf("series %s: %w", src.labels, err)}
				}
			}
			if err != nil {
				s.t.suspectFault(src.rung, src.entry, err)
				return err
			}
		}
	}
	s.read.Points += len(c.End) - n
	return nil
}

// undeleted returns what of a part no deletion reaches that is still to be carried
// out.
func (s *seriesSet) undeleted(src *source, p part) []span {
	var holes []span
	for _, d := range s.deleted {
		if d.hidesIn(src.entry) && matches(src.labels, d.Matchers) {
			holes = append(holes, d.hole(p.res))
		}
	}
	return span{p.after + 1, plus(p.until, 1)}.minus(holes)
}

func (s *seriesSet) Read() rollup.ReadStats { return s.read }

func (s *seriesSet) Err() error { return s.err }

func (s *seriesSet) Warnings() (w annotations.Annotations) {
	for _, src := range s.sources {
		if src.raw != nil {
			w.Merge(src.raw.Warnings())
		}
	}
	return w
}

func (s *seriesSet) Close() error {
	var errs []error
	for _, src := range s.sources {
		if src.block != nil {
			src.block.Release()
		}
		for _, q := range src.queriers {
			errs = append(errs, q.Close())
		}
	}
	s.sources, s.parts, s.current, s.waiting = nil, nil, nil, nil
	return errors.Join(errs...)
}

// sourceHeap has the least labels first.
type sourceHeap []*source

func (h sourceHeap) Len() int           { return len(h) }
func (h sourceHeap) Less(i, j int) bool { return labels.Compare(h[i].labels, h[j].labels) < 0 }
func (h sourceHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *sourceHeap) Push(x any)        { *h = append(*h, x.(*source)) }
func (h *sourceHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
