package block

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

// Select finds the series that match all of ms, or all series if there are none, in
// label order. The block must stay acquired while the result is in use.
func (b *Block) Select(ctx context.Context, ms ...*labels.Matcher) (*Series, error) {
	p, err := postings(ctx, b.index, ms)
	if err != nil {
		return nil, b.selectErr(err)
	}
	return &Series{ctx: ctx, b: b, p: p}, nil
}

func postings(ctx context.Context, r *index.Reader, ms []*labels.Matcher) (index.Postings, error) {
	if len(ms) == 0 {
		return r.Postings(ctx, "", "")
	}
	return tsdb.PostingsForMatchers(ctx, r, ms...)
}

func (b *Block) selectErr(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("select series of block %s: %w", b.dir, err)
	}
	return &Fault{b.dir, IndexFile, -1, err}
}

// Series are the series of a selection. It is used by one goroutine.
type Series struct {
	ctx     context.Context
	b       *Block
	p       index.Postings
	n       int
	builder labels.ScratchBuilder
	chunks  []chunks.Meta
	err     error
}

// ctxEvery is how many series are read between two looks at the context: a look
// costs about a tenth of reading one.
const ctxEvery = 64

// Next goes to the next series.
func (s *Series) Next() bool {
	if s.err != nil {
		return false
	}
	if s.n++; s.n%ctxEvery == 0 && s.ctx.Err() != nil {
		s.err = s.b.selectErr(s.ctx.Err())
		return false
	}
	if !s.p.Next() {
		if err := s.p.Err(); err != nil {
			s.err = s.b.selectErr(err)
		}
		return false
	}
	if err := s.b.index.Series(s.p.At(), &s.builder, &s.chunks); err != nil {
		s.err = &Fault{s.b.dir, IndexFile, int64(s.p.At()) * seriesAlign, err}
		return false
	}
	return true
}

// Labels of the series; they may be kept.
func (s *Series) Labels() labels.Labels { return s.builder.Labels() }

// Chunks of the series in time order, without their data, which [Block.Chunk] reads
// by reference. The slice is valid until Next.
func (s *Series) Chunks() []chunks.Meta { return s.chunks }

// Intervals are those that were deleted from the series.
func (s *Series) Intervals() tombstones.Intervals {
	in, _ := s.b.stones.Get(s.p.At()) // is in memory and returns no error
	return in
}

// Err is why Next returned false, or nil at the end.
func (s *Series) Err() error { return s.err }

const (
	// maxChunk bounds memory for a length that is not to be believed. The TSDB's
	// chunks are below 4 KiB, but for histograms; ours are below 16 KiB.
	maxChunk = 64 << 20
	// firstRead is what is read of a chunk whose length is not known yet: most raw
	// chunks (120 samples at 1 to 8 bytes) are whole then. Unmeasured against buckets,
	// whose readers fetch larger pieces.
	firstRead = 2 << 10
)

// Chunk reads a chunk and checks its CRC. Its data is that of the mapped file, valid
// while the block is acquired, or else in buf, or in a larger buffer if buf is too
// small for it.
func (b *Block) Chunk(ref chunks.ChunkRef, buf []byte) (chunkenc.Encoding, []byte, error) {
	i, off := chunks.BlockChunkRef(ref).Unpack()
	if i >= len(b.segments) {
		return 0, nil, fault(b.dir, SegmentName(i), -1, "is referred to, but there are %d", len(b.segments))
	}
	s := b.segments[i]
	if s.r != nil {
		return b.readChunk(s.r, i, int64(off), buf)
	}
	if off >= len(s.b) {
		return 0, nil, fault(b.dir, SegmentName(i), int64(off), "is beyond the end of the file, of %d bytes", len(s.b))
	}
	enc, data, _, err := parseChunk(s.b[off:])
	if err != nil {
		return 0, nil, &Fault{b.dir, SegmentName(i), int64(off), err}
	}
	return enc, data, nil
}

func (b *Block) readChunk(r io.ReaderAt, i int, off int64, buf []byte) (chunkenc.Encoding, []byte, error) {
	have := 0
	for want := max(cap(buf), firstRead); ; {
		buf = slices.Grow(buf[:have], want-have)[:want]
		n, err := r.ReadAt(buf[have:], off+int64(have))
		have += n
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, nil, fmt.Errorf("read block %s: file %s at byte %d: %w", b.dir, SegmentName(i), off, err)
		}
		enc, data, need, perr := parseChunk(buf[:have])
		if perr == nil {
			return enc, data, nil
		}
		if need <= have || err != nil {
			return 0, nil, &Fault{b.dir, SegmentName(i), off, perr}
		}
		want = need
	}
}

// parseChunk reads the chunk that begins with p and checks its CRC. Size is how many
// bytes it has, or needs of p, when it is known.
func parseChunk(p []byte) (enc chunkenc.Encoding, data []byte, size int, err error) {
	l, n := binary.Uvarint(p[:min(len(p), chunks.MaxChunkLengthFieldSize)])
	switch {
	case n == 0 && len(p) < chunks.MaxChunkLengthFieldSize:
		return 0, nil, chunks.MaxChunkLengthFieldSize, errors.New("the file ends within the length of a chunk")
	case n <= 0 || l > maxChunk:
		return 0, nil, 0, fmt.Errorf("a chunk claims %d bytes", l)
	}
	end := n + chunks.ChunkEncodingSize + int(l)
	size = end + crc32.Size
	if len(p) < size {
		return 0, nil, size, fmt.Errorf("the file ends within a chunk of %d bytes", size)
	}
	want, got := binary.BigEndian.Uint32(p[end:]), crc32.Checksum(p[n:end], castagnoli)
	if got != want {
		return 0, nil, size, fmt.Errorf("the CRC-32C of a chunk is %08x, want %08x", got, want)
	}
	return chunkenc.Encoding(p[n]), p[n+1 : end : end], size, nil
}

// Index implements [tsdb.BlockReader].
func (b *Block) Index() (tsdb.IndexReader, error) {
	if !b.Acquire() {
		return nil, tsdb.ErrClosing
	}
	return &indexReader{b.index, b}, nil
}

// Chunks implements [tsdb.BlockReader].
func (b *Block) Chunks() (tsdb.ChunkReader, error) {
	if !b.Acquire() {
		return nil, tsdb.ErrClosing
	}
	return chunkReader{b}, nil
}

// Tombstones implements [tsdb.BlockReader].
func (b *Block) Tombstones() (tombstones.Reader, error) {
	if !b.Acquire() {
		return nil, tsdb.ErrClosing
	}
	return stoneReader{b.stones, b}, nil
}

type stoneReader struct {
	tombstones.Reader
	b *Block
}

func (r stoneReader) Close() error { r.b.Release(); return nil }

type chunkReader struct{ b *Block }

func (r chunkReader) Close() error { r.b.Release(); return nil }

func (r chunkReader) ChunkOrIterable(m chunks.Meta) (chunkenc.Chunk, chunkenc.Iterable, error) {
	enc, data, err := r.b.Chunk(m.Ref, nil)
	if err != nil {
		return nil, nil, err
	}
	c, err := r.b.pool.Get(enc, data)
	return c, nil, err
}

// indexReader adds what the TSDB's reader of index files leaves to it: matchers.
type indexReader struct {
	*index.Reader
	b *Block
}

func (r *indexReader) Close() error { r.b.Release(); return nil }

func (r *indexReader) LabelNames(ctx context.Context, ms ...*labels.Matcher) ([]string, error) {
	if len(ms) == 0 {
		return r.Reader.LabelNames(ctx)
	}
	p, err := postings(ctx, r.Reader, ms)
	if err != nil {
		return nil, err
	}
	return r.LabelNamesFor(ctx, p)
}

func (r *indexReader) SortedLabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, error) {
	vs, err := r.LabelValues(ctx, name, hints, ms...)
	slices.Sort(vs)
	return vs, err
}

// LabelValues returns those values of a label that a series has which matches all
// of ms.
func (r *indexReader) LabelValues(ctx context.Context, name string, hints *storage.LabelHints, ms ...*labels.Matcher) ([]string, error) {
	if len(ms) == 0 {
		return r.Reader.LabelValues(ctx, name, hints)
	}
	all, err := r.Reader.LabelValues(ctx, name, nil)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(v string) bool {
		return slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return m.Name == name && !m.Matches(v) })
	})
	p, err := postings(ctx, r.Reader, ms)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	candidates := make([]index.Postings, len(all))
	for i, v := range all {
		if candidates[i], err = r.Postings(ctx, name, v); err != nil {
			return nil, err
		}
	}
	found, err := index.FindIntersectingPostings(p, candidates)
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	var vs []string
	for _, i := range found {
		if hints != nil && hints.Limit > 0 && len(vs) >= hints.Limit {
			break
		}
		vs = append(vs, all[i])
	}
	return vs, nil
}
