package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/weir-dev/weir/internal/rollup"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Block is an open block, raw or tier, for any number of readers at a time. It is a
// [tsdb.BlockReader]; what that hands out holds the block open until closed.
type Block struct {
	dir      string // how errors name it: of an object, its ULID
	meta     *Meta
	index    *index.Reader
	mapped   []io.Closer
	segments []segment
	stones   tombstones.Reader
	pool     chunkenc.Pool
	size     int64

	mu      sync.RWMutex
	closing bool
	readers sync.WaitGroup
}

// segment is a file of chunks: mapped, or to be read.
type segment struct {
	b []byte
	r io.ReaderAt
}

// Open maps the block in dir. It checks meta.json, the index's table of contents,
// symbols and table of postings, and the heads of the chunk files; damage is a
// [*Fault]. Chunks and series are checked when they are read.
func Open(dir string) (_ *Block, err error) {
	meta, err := ReadMeta(dir)
	if err != nil {
		return nil, err
	}
	b := &Block{dir: dir, meta: meta, pool: rollup.NewPool()}
	defer func() {
		if err != nil {
			_ = b.unmap()
		}
	}()
	idx, err := b.mapFile(IndexFile)
	if err != nil {
		return nil, err
	}
	if b.index, err = openIndex(dir, mappedIndex(idx)); err != nil {
		return nil, err
	}
	names, err := segmentNames(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		s, err := b.mapFile(name)
		if err != nil {
			return nil, err
		}
		if err := checkSegmentHead(s); err != nil {
			return nil, &Fault{dir, name, 0, err}
		}
		b.segments = append(b.segments, segment{b: s})
	}
	stones, n, err := tombstones.ReadTombstones(dir)
	if err != nil {
		return nil, &Fault{dir, tombstones.TombstonesFilename, -1, err}
	}
	b.stones, b.size = stones, b.size+n
	if st, err := os.Stat(filepath.Join(dir, MetaFile)); err == nil {
		b.size += st.Size()
	}
	return b, nil
}

// OpenAt opens a block that lies elsewhere, such as in a bucket. Its whole index is
// idx, its chunk files are read as chunks are asked for. Size is in bytes. The block
// closes nothing of what it is given; a caller may once [Block.Close] has returned.
func OpenAt(meta *Meta, idx index.ByteSlice, segments []io.ReaderAt, size int64) (*Block, error) {
	b := &Block{dir: meta.ULID.String(), meta: meta, pool: rollup.NewPool(), size: size, stones: tombstones.NewMemTombstones()}
	var err error
	if b.index, err = openIndex(b.dir, idx); err != nil {
		return nil, err
	}
	for _, r := range segments {
		b.segments = append(b.segments, segment{r: r})
	}
	return b, nil
}

// mappedIndex is an [index.ByteSlice].
type mappedIndex []byte

func (b mappedIndex) Len() int                    { return len(b) }
func (b mappedIndex) Range(start, end int) []byte { return b[start:end] }

func openIndex(dir string, idx index.ByteSlice) (*index.Reader, error) {
	toc, err := index.NewTOCFromByteSlice(idx)
	if err != nil {
		return nil, &Fault{dir, IndexFile, max(0, int64(idx.Len()-tocSize)), err}
	}
	if err := checkTOC(toc, int64(idx.Len())); err != nil {
		return nil, &Fault{dir, IndexFile, int64(idx.Len() - tocSize), err}
	}
	r, err := index.NewReader(idx, index.DecodePostingsRaw)
	if err != nil {
		return nil, &Fault{dir, IndexFile, -1, err}
	}
	return r, nil
}

func (b *Block) mapFile(name string) ([]byte, error) {
	f, err := fileutil.OpenMmapFile(filepath.Join(b.dir, name))
	if err != nil {
		if st, serr := os.Stat(filepath.Join(b.dir, name)); serr == nil && st.Size() == 0 {
			return nil, fault(b.dir, name, 0, "is empty")
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil, &Fault{b.dir, name, -1, err}
		}
		return nil, fmt.Errorf("map block %s: file %s: %w", b.dir, name, err)
	}
	b.mapped = append(b.mapped, f)
	b.size += int64(len(f.Bytes()))
	return f.Bytes(), nil
}

// segmentNames lists the chunk files, which must be numbered from 1 without a gap.
func segmentNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, ChunksDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil, &Fault{dir, ChunksDir, -1, err}
	}
	if err != nil {
		return nil, fmt.Errorf("read block %s: %w", dir, err)
	}
	var names []string
	for _, e := range entries { // sorted
		if want := SegmentName(len(names)); filepath.Base(want) != e.Name() {
			return nil, fault(dir, ChunksDir+"/"+e.Name(), -1, "is not %s, the next file of chunks", want)
		}
		names = append(names, SegmentName(len(names)))
	}
	return names, nil
}

func checkSegmentHead(b []byte) error {
	if len(b) < chunks.SegmentHeaderSize {
		return fmt.Errorf("has %d bytes, want a head of %d", len(b), chunks.SegmentHeaderSize)
	}
	if got := binary.BigEndian.Uint32(b); got != chunks.MagicChunks {
		return fmt.Errorf("begins with %08x, want %08x", got, uint32(chunks.MagicChunks))
	}
	if b[4] != segmentV1 {
		return fmt.Errorf("has format %d, want %d", b[4], segmentV1)
	}
	if b[5]|b[6]|b[7] != 0 {
		return errors.New("bytes 5 to 7 are not zero")
	}
	return nil
}

// Meta returns the TSDB's part of the block's meta.
func (b *Block) Meta() tsdb.BlockMeta { return b.meta.BlockMeta }

// FullMeta returns all of the block's meta, to be read only.
func (b *Block) FullMeta() *Meta { return b.meta }

// ULID of the block.
func (b *Block) ULID() ulid.ULID { return b.meta.ULID }

// Dir is the block's directory, or its ULID if it lies elsewhere.
func (b *Block) Dir() string { return b.dir }

// Size of all files in bytes.
func (b *Block) Size() int64 { return b.size }

// Acquire holds the block open until [Block.Release]. It is false when the block is
// being closed.
func (b *Block) Acquire() bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.closing {
		return false
	}
	b.readers.Add(1)
	return true
}

// Release ends what [Block.Acquire] began.
func (b *Block) Release() { b.readers.Done() }

// Close lets no reader in, waits for those within and unmaps the files.
func (b *Block) Close() error {
	b.mu.Lock()
	was := b.closing
	b.closing = true
	b.mu.Unlock()
	b.readers.Wait()
	if was {
		return nil
	}
	return b.unmap()
}

func (b *Block) unmap() error {
	var errs []error
	for _, c := range b.mapped {
		errs = append(errs, c.Close())
	}
	b.mapped = nil
	return errors.Join(errs...)
}
