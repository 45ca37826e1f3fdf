package block

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/weir-dev/weir/internal/rollup"
)

// Rung is where the rollups of one resolution go.
type Rung struct {
	Resolution int64             // milliseconds
	Selectors  []*labels.Matcher // of one selector: the series that it takes; none: all
	Dir        string            // where the block's directory <ULID> is made; it must exist
}

// Roll rolls the raw block in rawDir up to all rungs (ascending resolutions, each
// dividing the next; at most 64) in one pass. It returns one Meta a rung, in order;
// a rung that takes no series, or finds no samples, gets a block without series,
// which is to be kept (it says what is covered) and not to be shipped.
//
// Each block is put into its place when all are complete and verified, one after the
// other: after a crash some rungs may have theirs and others not.
func Roll(ctx context.Context, rawDir string, rungs []Rung, o Options) (_ []*Meta, err error) {
	r, err := newRoller(rawDir, rungs, &o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	for _, step := range []func(context.Context) error{r.selectSeries, r.markSymbols, r.begin, r.fold} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("roll up block %s: %w", rawDir, err)
		}
	}
	return commit(ctx, &r.scratch, r.drafts...)
}

// roller is one pass over a raw block.
type roller struct {
	dir    string
	raw    *Meta
	rungs  []Rung
	o      *Options
	buffer int

	stones tombstones.Reader
	index  *indexScan
	chunks *chunkScan
	folder *rollup.Folder

	// Per rung; nil where it takes all series.
	takes []bitset // by reference
	used  []*ranks // symbols of the series that it takes

	drafts  []*draft
	folded  []uint64 // raw samples folded into each
	passed  uint64   // series
	read    uint64   // samples
	labels  []uint32
	scratch scratch
}

func newRoller(dir string, rungs []Rung, o *Options) (_ *roller, err error) {
	r := &roller{dir: dir, rungs: rungs, o: o, buffer: o.buffer(4 + 3*len(rungs))}
	resolutions := make([]int64, len(rungs))
	for i, g := range rungs {
		resolutions[i] = g.Resolution
	}
	if r.folder, err = rollup.NewFolder(resolutions, r.sink); err != nil {
		return nil, fmt.Errorf("roll up block %s: %w", dir, err)
	}
	if r.raw, err = ReadMeta(dir); err != nil {
		return nil, err
	}
	if got := r.raw.Resolution(); got != 0 {
		return nil, fmt.Errorf("roll up block %s: it has a resolution of %d ms, want samples", dir, got)
	}
	if r.stones, _, err = tombstones.ReadTombstones(dir); err != nil {
		return nil, &Fault{dir, tombstones.TombstonesFilename, -1, err}
	}
	if r.index, err = openIndexScan(dir, r.buffer); err != nil {
		return nil, err
	}
	r.chunks = newChunkScan(dir, 2*r.buffer)
	r.takes, r.used, r.folded = make([]bitset, len(rungs)), make([]*ranks, len(rungs)), make([]uint64, len(rungs))
	return r, nil
}

func (r *roller) close() error {
	return errors.Join(r.index.close(), r.chunks.close(), discardAll(r.drafts))
}

// selectSeries finds the series that each rung takes, through a mapping of the index
// that is gone afterwards.
func (r *roller) selectSeries(ctx context.Context) error {
	if !slices.ContainsFunc(r.rungs, func(g Rung) bool { return len(g.Selectors) > 0 }) {
		return nil
	}
	f, err := fileutil.OpenMmapFile(filepath.Join(r.dir, IndexFile))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	idx, err := openIndex(r.dir, mappedIndex(f.Bytes()))
	if err != nil {
		return err
	}
	for i, g := range r.rungs {
		if len(g.Selectors) == 0 {
			continue
		}
		p, err := tsdb.PostingsForMatchers(ctx, idx, g.Selectors...)
		if err != nil {
			return fmt.Errorf("select %s: %w", Matchers(g.Selectors), err)
		}
		r.takes[i] = newBitset(uint32(r.index.end/seriesAlign) + 1)
		for p.Next() {
			if !r.takes[i].set(uint32(p.At())) {
				return &Fault{r.dir, IndexFile, int64(p.At()) * seriesAlign, errors.New("a list of postings has a series beyond the end of the series")}
			}
		}
		if err := p.Err(); err != nil {
			return &Fault{r.dir, IndexFile, -1, err}
		}
	}
	return nil
}

// markSymbols finds the symbols that each rung needs, so that a small one does not
// get the symbols of a large block. It costs a pass over the index.
func (r *roller) markSymbols(ctx context.Context) error {
	some := false
	marks := make([]bitset, len(r.rungs))
	for i := range r.rungs {
		if r.takes[i] != nil {
			some, marks[i] = true, newBitset(r.index.symbols)
		}
	}
	if !some {
		return nil
	}
	for n := 0; ; n++ {
		if n%ctxEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		ok, err := r.index.nextSeries()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		for i, take := range r.takes {
			if take == nil || !take.has(r.index.ref) {
				continue
			}
			for _, s := range r.index.labels {
				if !marks[i].set(s) {
					return r.index.w.fault(int64(r.index.ref)*seriesAlign, "a series has symbol %d of %d", s, r.index.symbols)
				}
			}
		}
	}
	r.index.rewind()
	for i, m := range marks {
		if m != nil {
			r.used[i] = newRanks(m)
		}
	}
	return nil
}

// begin makes the drafts and writes their symbols.
func (r *roller) begin(context.Context) error {
	after := []ulid.ULID{}
	for i, g := range r.rungs {
		id, err := r.o.newULID(after...)
		if err != nil {
			return err
		}
		after = append(after, id)
		d, err := newDraft(g.Dir, r.tierMeta(id, g), r.o, r.buffer)
		if err != nil {
			return err
		}
		r.drafts = append(r.drafts, d)
		n := r.index.symbols
		if r.used[i] != nil {
			n = r.used[i].total
		}
		if err := d.index.beginSymbols(n); err != nil {
			return err
		}
	}
	n := uint32(0)
	err := r.index.eachSymbol(func(sym []byte) error {
		for i, d := range r.drafts {
			if r.used[i] == nil || r.used[i].has(n) {
				if err := d.index.addSymbol(sym); err != nil {
					return err
				}
			}
		}
		n++
		return nil
	})
	if err != nil {
		return err
	}
	for _, d := range r.drafts {
		if err := d.index.endSymbols(); err != nil {
			return err
		}
	}
	return nil
}

func (r *roller) tierMeta(id ulid.ULID, g Rung) *Meta {
	m := tierMeta(id, g.Resolution, r.o)
	m.MinTime, m.MaxTime = r.raw.MinTime, r.raw.MaxTime
	m.Compaction = tsdb.BlockMetaCompaction{Level: r.raw.Compaction.Level, Sources: slices.Clone(r.raw.Compaction.Sources)}
	if len(m.Compaction.Sources) == 0 { // of a block that nobody compacted
		m.Compaction.Sources = []ulid.ULID{r.raw.ULID}
	}
	*m.Thanos.Extensions.Weir = Weir{
		Selector:   Matchers(g.Selectors).String(),
		Replaces:   len(r.raw.Compaction.Parents) > 0,
		RolledFrom: []ulid.ULID{r.raw.ULID},
	}
	return m
}

// progressEvery is how many series are rolled up between two calls of
// [Options.Progress]: a few hundred times a second, so that its cost is none.
const progressEvery = 256

// fold reads all series.
func (r *roller) fold(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		ok, err := r.index.nextSeries()
		if err != nil {
			return err
		}
		if !ok {
			r.tell()
			return nil
		}
		if err := r.foldSeries(); err != nil {
			return err
		}
		if r.passed++; r.passed%progressEvery == 0 {
			r.tell()
		}
	}
}

func (r *roller) tell() {
	if r.o.Progress != nil {
		r.o.Progress(r.passed, r.read)
	}
}

func (r *roller) foldSeries() error {
	ref := r.index.ref
	var rungs uint64
	for i, take := range r.takes {
		if take == nil || take.has(ref) {
			rungs |= 1 << i
		}
	}
	if rungs == 0 {
		return nil
	}
	deleted, err := r.stones.Get(storage.SeriesRef(ref))
	if err != nil {
		return err
	}
	before := r.folder.Samples()
	r.folder.Begin(r.raw.MinTime, r.raw.MaxTime, rungs)
	for _, c := range r.index.chunks {
		enc, data, err := r.chunks.chunk(c.Ref)
		if err != nil {
			return err
		}
		if err := r.folder.Fold(enc, data, deleted); err != nil {
			return r.foldErr(int64(c.Ref), err)
		}
		r.read += uint64(samplesOf(data))
	}
	if err := r.folder.End(); err != nil {
		return r.foldErr(-1, err)
	}
	for i, d := range r.drafts {
		if rungs&(1<<i) == 0 {
			continue
		}
		r.folded[i] += r.folder.Samples() - before
		if err := checkFolded(d, r.folded[i]); err != nil {
			return fmt.Errorf("series at byte %d of the index: %w", int64(ref)*seriesAlign, err)
		}
		labels := r.index.labels
		if u := r.used[i]; u != nil {
			r.labels = u.translate(r.labels[:0], labels)
			labels = r.labels
		}
		if err := d.endSeries(labels); err != nil {
			return err
		}
	}
	return nil
}

// sinkErr tells an error of writing from one of the folder.
type sinkErr struct{ error }

func (e sinkErr) Unwrap() error { return e.error }

// foldErr blames the chunk, unless it was the writing that went wrong.
func (r *roller) foldErr(ref int64, err error) error {
	if s := (sinkErr{}); errors.As(err, &s) {
		return s.error
	}
	off := int64(-1)
	if ref >= 0 {
		off = ref & (1<<32 - 1)
	}
	return &Fault{r.dir, r.chunks.w.name, off, err}
}

func (r *roller) sink(rung int, mint, maxt int64, chunk rollup.AggrChunk) error {
	if err := r.drafts[rung].chunk(mint, maxt, rollup.EncAggr, chunk); err != nil {
		return sinkErr{err}
	}
	return nil
}
