package block

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/weir-dev/weir/internal/rollup"
)

// Merge makes dest/<ULID> of tier blocks of one resolution, which lie on disk. Chunks
// of consecutive blocks are packed into fuller ones; points that share a window
// because a block ended in it become one.
//
// Where a block that replaces overlaps an older one with which it shares a source,
// only its points count; else points of the same time are added up. Points are taken
// by their timestamp, so what is seen through a gap in a shadow is exact only where
// the older block's points ended at the gap's edges: at the edges of the blocks it
// was merged of, unless the window went on behind them.
//
// The parents of the new block are the blocks it was made of.
func Merge(ctx context.Context, blocks []*Block, dest string, o Options) (_ *Meta, err error) {
	m := &merger{ctx: ctx, o: &o, buffer: o.buffer(4 + 2*len(blocks))}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := m.open(blocks); err != nil {
		return nil, err
	}
	meta, err := m.mergedMeta()
	if err != nil {
		return nil, err
	}
	if m.draft, err = newDraft(dest, meta, &o, m.buffer); err != nil {
		return nil, err
	}
	for _, step := range []func() error{m.symbols, m.series} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("merge %d blocks into %s: %w", len(blocks), m.draft.dest, err)
		}
	}
	metas, err := commit(ctx, &scratch{}, m.draft)
	if err != nil {
		return nil, err
	}
	return metas[0], nil
}

// merger is one pass over several blocks, series by series in label order.
type merger struct {
	ctx     context.Context
	o       *Options
	buffer  int
	sources []*source
	draft   *draft
	joiner  *rollup.Joiner
	pieces  []piece
}

// source is one of the blocks.
type source struct {
	b       *Block
	visible tombstones.Intervals // timestamps of points
	index   *indexScan
	chunks  *chunkScan
	symbols []uint32 // the new number of each
	labels  []uint32 // of the current series, in new numbers
	done    bool
}

// piece is a chunk of the current series.
type piece struct {
	chunks.Meta
	from *source
}

func (m *merger) open(blocks []*Block) error {
	if len(blocks) == 0 {
		return errors.New("merge blocks: got none")
	}
	metas := make([]*Meta, len(blocks))
	for i, b := range blocks {
		metas[i] = b.meta
		if b.meta.Resolution() == 0 || b.meta.Resolution() != blocks[0].meta.Resolution() {
			return fmt.Errorf("merge blocks: %s has a resolution of %d ms, %s of %d ms, want one, of rollups",
				blocks[0].dir, blocks[0].meta.Resolution(), b.dir, b.meta.Resolution())
		}
		if got, want := b.meta.Weir().Selector, blocks[0].meta.Weir().Selector; got != want {
			return fmt.Errorf("merge blocks: %s has the series of selector %q, %s of %q, want one", blocks[0].dir, want, b.dir, got)
		}
	}
	see := visible(metas)
	for i, b := range blocks {
		if !b.Acquire() {
			return fmt.Errorf("merge blocks: %s: %w", b.dir, tsdb.ErrClosing)
		}
		s := &source{b: b, visible: see[i]}
		m.sources = append(m.sources, s)
		var err error
		if s.index, err = openIndexScan(b.dir, m.buffer); err != nil {
			return err
		}
		s.chunks = newChunkScan(b.dir, m.buffer)
	}
	m.joiner = rollup.NewJoiner(metas[0].Resolution(), func(mint, maxt int64, c rollup.AggrChunk) error {
		if err := m.draft.chunk(mint, maxt, rollup.EncAggr, c); err != nil {
			return sinkErr{err}
		}
		return nil
	})
	return nil
}

func (m *merger) close() error {
	err := m.draft.discard()
	for _, s := range m.sources {
		if s.index != nil {
			err = errors.Join(err, s.index.close())
		}
		if s.chunks != nil {
			err = errors.Join(err, s.chunks.close())
		}
		s.b.Release()
	}
	return err
}

// visible says by which timestamps points are to be taken from each block.
func visible(metas []*Meta) []tombstones.Intervals {
	out := make([]tombstones.Intervals, len(metas))
	for i, old := range metas {
		out[i] = tombstones.Intervals{{Mint: old.MinTime, Maxt: old.MaxTime - 1}}
		for _, by := range metas {
			if shadows(by, old) {
				out[i] = without(out[i], by.MinTime, by.MaxTime-1)
			}
		}
	}
	return out
}

func shadows(by, old *Meta) bool {
	return by.Weir().Replaces && by.ULID.Compare(old.ULID) > 0 && slices.ContainsFunc(by.Compaction.Sources, func(id ulid.ULID) bool {
		return slices.Contains(old.Compaction.Sources, id)
	})
}

// without takes [mint, maxt] out of disjoint intervals.
func without(in tombstones.Intervals, mint, maxt int64) (out tombstones.Intervals) {
	for _, x := range in {
		if x.Mint < mint {
			out = append(out, tombstones.Interval{Mint: x.Mint, Maxt: min(x.Maxt, mint-1)})
		}
		if x.Maxt > maxt {
			out = append(out, tombstones.Interval{Mint: max(x.Mint, maxt+1), Maxt: x.Maxt})
		}
	}
	return out
}

func inAny(in tombstones.Intervals, t int64) bool {
	return slices.ContainsFunc(in, func(x tombstones.Interval) bool { return x.InBounds(t) })
}

func (m *merger) mergedMeta() (*Meta, error) {
	first := m.sources[0].b.meta
	out := tierMeta(ulid.ULID{}, first.Resolution(), m.o)
	out.MinTime, out.MaxTime = math.MaxInt64, math.MinInt64
	var parents []ulid.ULID
	for _, s := range m.sources {
		b := s.b.meta
		parents = append(parents, b.ULID)
		out.MinTime, out.MaxTime = min(out.MinTime, b.MinTime), max(out.MaxTime, b.MaxTime)
		out.Compaction.Level = max(out.Compaction.Level, b.Compaction.Level+1)
		out.Compaction.Sources = append(out.Compaction.Sources, b.Compaction.Sources...)
		out.Compaction.Parents = append(out.Compaction.Parents, tsdb.BlockDesc{ULID: b.ULID, MinTime: b.MinTime, MaxTime: b.MaxTime})
		out.Thanos.Rewrites = append(out.Thanos.Rewrites, b.Thanos.Rewrites...)
		out.Thanos.Extensions.Weir.Replaces = out.Thanos.Extensions.Weir.Replaces || b.Weir().Replaces
	}
	slices.SortFunc(out.Compaction.Sources, ulid.ULID.Compare)
	out.Compaction.Sources = slices.Compact(out.Compaction.Sources)
	slices.SortStableFunc(out.Compaction.Parents, func(a, b tsdb.BlockDesc) int { return int(a.MinTime - b.MinTime) })
	out.Thanos.Extensions.Weir.Selector = first.Weir().Selector
	id, err := m.o.newULID(parents...)
	out.ULID = id
	return out, err
}

// symbols merges the tables of symbols: once to number them, once to write them.
func (m *merger) symbols() error {
	for _, s := range m.sources {
		s.symbols = make([]uint32, 0, s.index.symbols)
	}
	total := uint32(0)
	err := m.eachSymbol(func(_ string, in []*source) error {
		for _, s := range in {
			s.symbols = append(s.symbols, total)
		}
		total++
		return nil
	})
	if err != nil {
		return err
	}
	x := m.draft.index
	if err := x.beginSymbols(total); err != nil {
		return err
	}
	if err := m.eachSymbol(func(sym string, _ []*source) error { return x.addSymbol([]byte(sym)) }); err != nil {
		return err
	}
	return x.endSymbols()
}

// eachSymbol calls f with each symbol, in order, and the blocks that have it.
func (m *merger) eachSymbol(f func(sym string, in []*source) error) error {
	its := make([]index.StringIter, len(m.sources))
	more := make([]bool, len(m.sources))
	for i, s := range m.sources {
		its[i] = s.b.index.Symbols()
		more[i] = its[i].Next()
	}
	var in []*source
	for n := 0; ; n++ {
		if n%1024 == 0 && m.ctx.Err() != nil {
			return m.ctx.Err()
		}
		least, found := "", false
		for i, it := range its {
			if more[i] && (!found || it.At() < least) {
				least, found = it.At(), true
			}
		}
		if !found {
			break
		}
		in = in[:0]
		for i, it := range its {
			if more[i] && it.At() == least {
				in = append(in, m.sources[i])
			}
		}
		if err := f(least, in); err != nil {
			return err
		}
		for i, it := range its {
			if more[i] && it.At() == least {
				more[i] = it.Next()
			}
		}
	}
	for i, it := range its {
		if err := it.Err(); err != nil {
			return &Fault{m.sources[i].b.dir, IndexFile, int64(m.sources[i].index.toc.Symbols), err}
		}
	}
	return nil
}

// series merges the series of all blocks.
func (m *merger) series() error {
	for _, s := range m.sources {
		if err := s.next(); err != nil {
			return err
		}
	}
	for {
		if m.ctx.Err() != nil {
			return m.ctx.Err()
		}
		var least *source
		for _, s := range m.sources {
			if !s.done && (least == nil || slices.Compare(s.labels, least.labels) < 0) {
				least = s
			}
		}
		if least == nil {
			return nil
		}
		labels := slices.Clone(least.labels)
		m.pieces = m.pieces[:0]
		for _, s := range m.sources {
			if s.done || !slices.Equal(s.labels, labels) {
				continue
			}
			for _, c := range s.index.chunks {
				if s.sees(c) {
					m.pieces = append(m.pieces, piece{c, s})
				}
			}
		}
		if err := m.join(); err != nil {
			return err
		}
		if err := m.draft.endSeries(labels); err != nil {
			return err
		}
		for _, s := range m.sources {
			if !s.done && slices.Equal(s.labels, labels) {
				if err := s.next(); err != nil {
					return err
				}
			}
		}
	}
}

// next goes to the block's next series.
func (s *source) next() error {
	ok, err := s.index.nextSeries()
	if err != nil {
		return err
	}
	s.done = !ok
	s.labels = s.labels[:0]
	if !ok {
		return nil
	}
	for _, n := range s.index.labels {
		if int(n) >= len(s.symbols) {
			return s.index.w.fault(int64(s.index.ref)*seriesAlign, "a series has symbol %d of %d", n, len(s.symbols))
		}
		s.labels = append(s.labels, s.symbols[n])
	}
	return nil
}

// join hands the pieces of one series to the joiner, in order: as they are, or
// edited where they overlap or are seen in part.
func (m *merger) join() error {
	slices.SortStableFunc(m.pieces, func(a, b piece) int {
		if a.MinTime != b.MinTime {
			return int(max(min(a.MinTime-b.MinTime, 1), -1))
		}
		return int(max(min(a.MaxTime-b.MaxTime, 1), -1))
	})
	m.joiner.Begin(m.draft.meta.MinTime, m.draft.meta.MaxTime)
	for at := 0; at < len(m.pieces); {
		end, reach := at+1, m.pieces[at].MaxTime
		for end < len(m.pieces) && m.pieces[end].MinTime <= reach {
			reach = max(reach, m.pieces[end].MaxTime)
			end++
		}
		if err := m.joinRun(m.pieces[at:end]); err != nil {
			return err
		}
		at = end
	}
	if err := m.joiner.End(); err != nil {
		return unsink(err)
	}
	return nil
}

func unsink(err error) error {
	if s := (sinkErr{}); errors.As(err, &s) {
		return s.error
	}
	return err
}

// joinRun takes pieces that overlap, or a single one.
func (m *merger) joinRun(run []piece) error {
	m.joiner.BlockEnd = rollup.NoTime
	for _, p := range run {
		m.joiner.BlockEnd = max(m.joiner.BlockEnd, p.from.b.meta.MaxTime-1)
	}
	if len(run) == 1 && whole(run[0]) {
		return run[0].read(m.joiner.Join)
	}
	byBlock := map[*source]*points{}
	var all []*points
	for _, p := range run {
		var x *points
		err := p.read(func(c rollup.AggrChunk) (err error) { x, err = decodePoints(c); return err })
		if err != nil {
			return err
		}
		x.keep(func(_, end int64) bool { return inAny(p.from.visible, end) }, m.draft.meta.Resolution(), math.MinInt64)
		if len(x.at) == 0 {
			continue
		}
		if had := byBlock[p.from]; had == nil || !had.extend(x) {
			byBlock[p.from] = x
			all = append(all, x)
		}
	}
	if len(all) == 0 {
		return nil
	}
	x, err := all[0], error(nil)
	if len(all) > 1 {
		if x, err = addPoints(all); err != nil {
			return &Fault{run[0].from.b.dir, ChunksDir, -1, err}
		}
	}
	return unsink(x.encode(m.joiner.Join))
}

// sees says that some points of the chunk may be visible.
func (s *source) sees(c chunks.Meta) bool {
	return slices.ContainsFunc(s.visible, func(x tombstones.Interval) bool { return x.Mint <= c.MaxTime && c.MinTime <= x.Maxt })
}

// whole says that all of the piece's points are visible.
func whole(p piece) bool {
	return slices.ContainsFunc(p.from.visible, func(x tombstones.Interval) bool { return x.Mint <= p.MinTime && p.MaxTime <= x.Maxt })
}

// read calls f with the chunk, whose fault it is if f cannot use it.
func (p piece) read(f func(rollup.AggrChunk) error) error {
	enc, data, err := p.from.chunks.chunk(p.Ref)
	if err != nil {
		return err
	}
	_, off := chunks.BlockChunkRef(p.Ref).Unpack()
	if enc != rollup.EncAggr {
		return p.from.chunks.w.fault(int64(off), "a chunk has encoding %d, want %d", enc, rollup.EncAggr)
	}
	if err := f(data); err != nil {
		if s := (sinkErr{}); errors.As(err, &s) {
			return s.error
		}
		return &Fault{p.from.b.dir, p.from.chunks.w.name, int64(off), err}
	}
	return nil
}
