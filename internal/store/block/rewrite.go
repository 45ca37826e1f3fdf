package block

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/weir-dev/weir/internal/rollup"
)

// Rewrite makes dest/<ULID> of the block in dir, raw or tier, without what del takes
// out, and notes del in its meta. Of a tier block, every point goes that covers a
// part of an interval. When there is nothing to take out no block is made and the
// Meta is nil; when everything goes, the new block has no series.
//
// The new block's parent is the old one.
func Rewrite(ctx context.Context, dir, dest string, del []Deletion, o Options) (_ *Meta, err error) {
	w := &rewriter{ctx: ctx, dir: dir, o: &o, buffer: o.buffer(6)}
	defer func() { err = errors.Join(err, w.close()) }()
	if w.old, err = Open(dir); err != nil {
		return nil, err
	}
	if err := w.find(del); err != nil {
		return nil, fmt.Errorf("rewrite block %s: %w", dir, err)
	}
	if len(w.gone) == 0 {
		return nil, nil
	}
	meta, err := w.newMeta(del)
	if err != nil {
		return nil, err
	}
	if w.draft, err = newDraft(dest, meta, &o, w.buffer); err != nil {
		return nil, err
	}
	for _, step := range []func() error{w.open, w.symbols, w.series} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("rewrite block %s: %w", dir, err)
		}
	}
	metas, err := commit(ctx, &scratch{}, w.draft)
	if err != nil {
		return nil, err
	}
	return metas[0], nil
}

// rewriter is one pass over a block.
type rewriter struct {
	ctx    context.Context
	dir    string
	o      *Options
	buffer int
	old    *Block
	gone   map[storage.SeriesRef]tombstones.Intervals // what goes, by series

	draft  *draft
	index  *indexScan
	chunks *chunkScan
	used   *ranks
	labels []uint32
	joiner *rollup.Joiner
}

func (w *rewriter) close() error {
	err := w.draft.discard()
	if w.index != nil {
		err = errors.Join(err, w.index.close())
	}
	if w.chunks != nil {
		err = errors.Join(err, w.chunks.close())
	}
	if w.old != nil {
		err = errors.Join(err, w.old.Close())
	}
	return err
}

// find gathers what goes of which series, with what a raw block's tombstones took
// already.
func (w *rewriter) find(del []Deletion) error {
	w.gone = map[storage.SeriesRef]tombstones.Intervals{}
	for _, d := range del {
		if len(d.Matchers) == 0 {
			return errors.New("a deletion without matchers would take everything")
		}
		in := d.Intervals
		if len(in) == 0 {
			in = tombstones.Intervals{{Mint: math.MinInt64, Maxt: math.MaxInt64}}
		}
		s, err := w.old.Select(w.ctx, d.Matchers...)
		if err != nil {
			return err
		}
		for s.Next() {
			for _, x := range in {
				if w.touches(s.Chunks(), x) {
					w.gone[s.p.At()] = w.gone[s.p.At()].Add(x)
				}
			}
		}
		if err := s.Err(); err != nil {
			return err
		}
	}
	if len(w.gone) == 0 {
		return nil
	}
	return w.old.stones.Iter(func(ref storage.SeriesRef, in tombstones.Intervals) error {
		for _, x := range in {
			w.gone[ref] = w.gone[ref].Add(x)
		}
		return nil
	})
}

// touches says that something of the chunks may lie in the interval. A first point
// may begin up to a window before its chunk.
func (w *rewriter) touches(chks []chunks.Meta, x tombstones.Interval) bool {
	return slices.ContainsFunc(chks, func(c chunks.Meta) bool {
		return c.MaxTime >= x.Mint && c.MinTime-w.old.meta.Resolution() <= x.Maxt
	})
}

func (w *rewriter) newMeta(del []Deletion) (*Meta, error) {
	old := w.old.meta
	id, err := w.o.newULID(old.ULID)
	if err != nil {
		return nil, err
	}
	m := tierMeta(id, old.Resolution(), w.o)
	if w.o.Labels == nil {
		m.Thanos.Labels = old.Thanos.Labels
	}
	m.MinTime, m.MaxTime = old.MinTime, old.MaxTime
	m.Compaction = tsdb.BlockMetaCompaction{
		Level:   max(old.Compaction.Level, 1),
		Sources: old.Compaction.Sources,
		Parents: []tsdb.BlockDesc{{ULID: old.ULID, MinTime: old.MinTime, MaxTime: old.MaxTime}},
		Hints:   old.Compaction.Hints,
	}
	if len(m.Compaction.Sources) == 0 {
		m.Compaction.Sources = []ulid.ULID{old.ULID}
	}
	m.Thanos.Rewrites = append(slices.Clone(old.Thanos.Rewrites), Rewritten{Sources: []ulid.ULID{old.ULID}, Deletions: del})
	ours := old.Weir()
	ours.Samples, ours.CRC32C = 0, ""
	m.Thanos.Extensions = Extensions{Weir: &ours, Others: old.Thanos.Extensions.Others}
	return m, nil
}

func (w *rewriter) open() (err error) {
	if w.index, err = openIndexScan(w.dir, w.buffer); err != nil {
		return err
	}
	w.chunks = newChunkScan(w.dir, w.buffer)
	w.joiner = rollup.NewJoiner(w.old.meta.Resolution(), func(mint, maxt int64, c rollup.AggrChunk) error {
		if err := w.draft.chunk(mint, maxt, rollup.EncAggr, c); err != nil {
			return sinkErr{err}
		}
		return nil
	})
	return nil
}

// wholly says that nothing is left of the series.
func (w *rewriter) wholly(ref uint32, chks []chunks.Meta) bool {
	in := w.gone[storage.SeriesRef(ref)]
	return len(in) > 0 && !slices.ContainsFunc(chks, func(c chunks.Meta) bool {
		return !tombstones.Interval{Mint: c.MinTime, Maxt: c.MaxTime}.IsSubrange(in)
	})
}

// symbols writes those of the series that stay: what is deleted must not be read
// from the table of symbols.
func (w *rewriter) symbols() error {
	marks := newBitset(w.index.symbols)
	err := w.eachSeries(func() error {
		if w.wholly(w.index.ref, w.index.chunks) {
			return nil
		}
		for _, s := range w.index.labels {
			if !marks.set(s) {
				return w.index.w.fault(int64(w.index.ref)*seriesAlign, "a series has symbol %d of %d", s, w.index.symbols)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	w.index.rewind()
	w.used = newRanks(marks)
	x, n := w.draft.index, uint32(0)
	if err := x.beginSymbols(w.used.total); err != nil {
		return err
	}
	err = w.index.eachSymbol(func(sym []byte) error {
		n++
		if !w.used.has(n - 1) {
			return nil
		}
		return x.addSymbol(sym)
	})
	if err != nil {
		return err
	}
	return x.endSymbols()
}

func (w *rewriter) eachSeries(f func() error) error {
	for {
		if w.ctx.Err() != nil {
			return w.ctx.Err()
		}
		ok, err := w.index.nextSeries()
		if err != nil || !ok {
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
}

func (w *rewriter) series() error {
	return w.eachSeries(func() error {
		if w.wholly(w.index.ref, w.index.chunks) {
			return nil
		}
		var err error
		switch in := w.gone[storage.SeriesRef(w.index.ref)]; {
		case len(in) == 0:
			err = w.copy()
		case w.old.meta.Resolution() == 0:
			err = w.cutSamples(in)
		default:
			err = w.cutPoints(in)
		}
		if err != nil {
			return err
		}
		w.labels = w.used.translate(w.labels[:0], w.index.labels)
		return w.draft.endSeries(w.labels)
	})
}

func (w *rewriter) copy() error {
	for _, c := range w.index.chunks {
		enc, data, err := w.chunks.chunk(c.Ref)
		if err != nil {
			return err
		}
		if err := w.draft.chunk(c.MinTime, c.MaxTime, enc, data); err != nil {
			return err
		}
	}
	return nil
}

// cutSamples leaves it to the TSDB to encode samples anew.
func (w *rewriter) cutSamples(in tombstones.Intervals) error {
	ref := storage.SeriesRef(w.index.ref)
	stones := tombstones.NewMemTombstones()
	stones.AddInterval(ref, in...)
	idx, err := w.old.Index()
	if err != nil {
		return err
	}
	defer idx.Close()
	m := w.old.meta
	set := tsdb.NewBlockChunkSeriesSet(m.ULID, idx, chunkReader{w.old}, stones, index.NewListPostings([]storage.SeriesRef{ref}), m.MinTime, m.MaxTime-1, false)
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() {
			c := it.At()
			if err := w.draft.chunk(c.MinTime, c.MaxTime, c.Chunk.Encoding(), c.Chunk.Bytes()); err != nil {
				return err
			}
		}
		if err := it.Err(); err != nil {
			return &Fault{w.dir, filepath.Join(ChunksDir), -1, err}
		}
	}
	return set.Err()
}

// cutPoints decodes the chunks that lose points.
func (w *rewriter) cutPoints(in tombstones.Intervals) error {
	w.joiner.Begin(w.old.meta.MinTime, w.old.meta.MaxTime)
	before := int64(math.MinInt64)
	resolution := w.old.meta.Resolution()
	for _, c := range w.index.chunks {
		enc, data, err := w.chunks.chunk(c.Ref)
		if err != nil {
			return err
		}
		_, off := chunks.BlockChunkRef(c.Ref).Unpack()
		if enc != rollup.EncAggr {
			return w.chunks.w.fault(int64(off), "a chunk has encoding %d, want %d", enc, rollup.EncAggr)
		}
		p, err := decodePoints(data)
		if err != nil {
			return &Fault{w.dir, w.chunks.w.name, int64(off), err}
		}
		last := p.at[len(p.at)-1].end
		cut := p.keep(func(start, end int64) bool {
			return !slices.ContainsFunc(in, func(x tombstones.Interval) bool { return x.Mint <= end && start < x.Maxt })
		}, resolution, before)
		before = last
		if cut {
			err = p.encode(w.joiner.Join)
		} else {
			err = w.joiner.Join(data)
		}
		if err != nil {
			return unsink(err)
		}
	}
	return unsink(w.joiner.End())
}
