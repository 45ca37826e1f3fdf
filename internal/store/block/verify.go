package block

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

// Report is what [Verify] found.
type Report struct {
	Meta    *Meta // nil if it cannot be read
	Series  uint64
	Chunks  uint64
	Points  uint64 // entries of chunks: samples of a raw block, points of a tier block
	Samples uint64 // raw samples: those of a raw block, those that points count
	Bytes   int64  // of all files that were read
	Faults  []*Fault
	More    int // faults beyond the first [maxFaults]
}

// maxFaults bounds a report; who sees a hundred faults needs the block's copy and
// not the rest of the list.
const maxFaults = 100

// Err joins the faults; nil if there are none.
func (r *Report) Err() error {
	var errs []error
	for _, f := range r.Faults {
		errs = append(errs, f)
	}
	if r.More > 0 {
		errs = append(errs, fmt.Errorf("and %d faults more", r.More))
	}
	return errors.Join(errs...)
}

// Verify reads every byte of the block in dir, raw or tier: CRCs of all sections and
// chunks, hashes if meta.json has them; order of symbols, series, labels, chunks and
// points; that postings and series say the same; ranges; that points can be decoded;
// that the counts of meta.json are right. The error is the file system's or the
// context's; damage is in the report.
func Verify(ctx context.Context, dir string) (Report, error) {
	return verify(ctx, dir, (&Options{}).buffer(8), true)
}

func verify(ctx context.Context, dir string, buffer int, hashes bool) (Report, error) {
	v := &verifier{dir: dir, buffer: buffer}
	err := v.meta()
	if err == nil && hashes {
		err = v.hashes(ctx)
	}
	if err == nil {
		err = v.block(ctx)
	}
	if err != nil {
		return v.r, err
	}
	if st, err := os.Stat(filepath.Join(dir, MetaFile)); err == nil {
		v.r.Bytes += st.Size()
	}
	v.counts()
	return v.r, nil
}

// checkFolded compares what all points of a draft count so far with the raw samples
// that were folded into it. What is then written is compared with what the points
// count when it is read back.
func checkFolded(d *draft, samples uint64) error {
	if got := d.meta.Thanos.Extensions.Weir.Samples; got != samples {
		return fmt.Errorf("make block %s: its points count %d samples, but %d were folded into them", d.dest, got, samples)
	}
	return nil
}

// verifier is one pass over a block.
type verifier struct {
	dir    string
	buffer int
	r      Report

	index  *indexScan
	chunks *chunkScan
	points aggrChecker

	symbols []uint32 // CRC of each
	refs    bitset   // of series
	last    []uint32 // labels of the series before

	// Sums over all postings of what identifies each, as the series have them and as
	// the lists have them; and over all series.
	want, got       uint64
	wantAll, gotAll uint64

	segments   []File // with their sizes
	chunkBytes int64  // framed
}

// note takes a fault into the report and passes any other error on.
func (v *verifier) note(err error) error {
	if err == nil {
		return nil
	}
	var f *Fault
	if !errors.As(err, &f) {
		return err
	}
	if len(v.r.Faults) >= maxFaults {
		v.r.More++
		return nil
	}
	v.r.Faults = append(v.r.Faults, f)
	return nil
}

func (v *verifier) fault(file string, off int64, format string, args ...any) {
	_ = v.note(fault(v.dir, file, off, format, args...)) // is a Fault and comes not back
}

func (v *verifier) meta() error {
	m, err := ReadMeta(v.dir)
	if errors.Is(err, os.ErrNotExist) {
		err = &Fault{v.dir, MetaFile, -1, os.ErrNotExist}
	}
	v.r.Meta = m
	if err != nil {
		v.r.Meta = nil
	}
	return v.note(err)
}

// hashes compares the files with the list in meta.json.
func (v *verifier) hashes(ctx context.Context) error {
	if v.r.Meta == nil {
		return nil
	}
	for _, f := range v.r.Meta.Thanos.Files {
		if f.RelPath == MetaFile || f.Hash == nil {
			continue
		}
		if !filepath.IsLocal(f.RelPath) || f.Hash.Func != "SHA256" {
			v.fault(MetaFile, -1, "field thanos.files: got path %q and hash %q, want a path within the block and SHA256", f.RelPath, f.Hash.Func)
			continue
		}
		sum, err := hashFile(ctx, filepath.Join(v.dir, f.RelPath), v.buffer)
		if errors.Is(err, os.ErrNotExist) {
			v.fault(f.RelPath, -1, "is missing, but %s has it", MetaFile)
			continue
		}
		if err != nil {
			return fmt.Errorf("read block %s: %w", v.dir, err)
		}
		if sum != f.Hash.Value {
			v.fault(f.RelPath, -1, "its SHA-256 is %s, want %s", sum, f.Hash.Value)
		}
	}
	return nil
}

func hashFile(ctx context.Context, path string, buffer int) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	for b := make([]byte, buffer); ; {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		n, err := f.Read(b)
		h.Write(b[:n])
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// block goes over the index and, with it, over the chunks.
func (v *verifier) block(ctx context.Context) (err error) {
	if err := v.files(); err != nil {
		return err
	}
	if v.index, err = openIndexScan(v.dir, v.buffer); err != nil {
		return v.note(err)
	}
	v.chunks = newChunkScan(v.dir, v.buffer)
	defer func() { err = errors.Join(err, v.index.close(), v.chunks.close()) }()
	v.r.Bytes += v.index.w.size
	for _, step := range []func(context.Context) error{v.readSymbols, v.readSeries, v.readPostings} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// files checks that the files of chunks, and those that meta.json lists, are there.
func (v *verifier) files() error {
	names, err := segmentNames(v.dir)
	if err := v.note(err); err != nil {
		return err
	}
	for _, name := range names {
		st, err := os.Stat(filepath.Join(v.dir, name))
		if err != nil {
			return fmt.Errorf("read block %s: %w", v.dir, err)
		}
		v.segments = append(v.segments, File{RelPath: name, SizeBytes: st.Size()})
		v.r.Bytes += st.Size()
	}
	if _, _, err := tombstones.ReadTombstones(v.dir); err != nil {
		v.fault(tombstones.TombstonesFilename, -1, "%w", err)
	}
	if v.r.Meta == nil {
		return nil
	}
	for _, f := range v.r.Meta.Thanos.Files {
		if f.RelPath == MetaFile || !filepath.IsLocal(f.RelPath) {
			continue
		}
		st, err := os.Stat(filepath.Join(v.dir, f.RelPath))
		switch {
		case errors.Is(err, os.ErrNotExist):
			v.fault(f.RelPath, -1, "is missing, but %s has it", MetaFile)
		case err != nil:
			return fmt.Errorf("read block %s: %w", v.dir, err)
		case f.SizeBytes > 0 && st.Size() != f.SizeBytes:
			v.fault(f.RelPath, -1, "has %d bytes, want %d", st.Size(), f.SizeBytes)
		}
	}
	return nil
}

func (v *verifier) readSymbols(context.Context) error {
	var last []byte
	v.symbols = make([]uint32, 0, v.index.symbols)
	err := v.index.eachSymbol(func(sym []byte) error {
		if len(v.symbols) > 0 && string(sym) <= string(last) {
			v.fault(IndexFile, -1, "symbol %d is %q, after %q", len(v.symbols), sym, last)
		}
		last = append(last[:0], sym...)
		v.symbols = append(v.symbols, crc32.Checksum(sym, castagnoli))
		return nil
	})
	return v.note(err)
}

func (v *verifier) readSeries(ctx context.Context) error {
	v.refs = newBitset(uint32(v.index.end/seriesAlign) + 1)
	for {
		if ctx.Err() != nil {
			return fmt.Errorf("verify block %s: %w", v.dir, ctx.Err())
		}
		ok, err := v.index.nextSeries()
		if !ok {
			if err := v.note(err); err != nil {
				return err
			}
			break
		}
		if err != nil {
			if err := v.note(err); err != nil {
				return err
			}
			continue
		}
		if err := v.series(); err != nil {
			return err
		}
	}
	total := int64(0)
	for _, s := range v.segments {
		total += s.SizeBytes - chunks.SegmentHeaderSize
	}
	if len(v.r.Faults) == 0 && total != v.chunkBytes {
		v.fault(ChunksDir, -1, "the files hold %d bytes of chunks, but series refer to %d", total, v.chunkBytes)
	}
	return nil
}

func (v *verifier) series() error {
	s := v.index
	off := int64(s.ref) * seriesAlign
	v.r.Series++
	v.refs.set(s.ref)
	v.wantAll += mix(0, s.ref)
	if slices.Compare(v.last, s.labels) >= 0 && v.r.Series > 1 {
		v.fault(IndexFile, off, "the series is not after the one before in the order of labels")
	}
	v.last = append(v.last[:0], s.labels...)
	for i := 0; i < len(s.labels); i += 2 {
		n, x := s.labels[i], s.labels[i+1]
		if int(max(n, x)) >= len(v.symbols) {
			v.fault(IndexFile, off, "the series has symbol %d of %d", max(n, x), len(v.symbols))
			continue
		}
		if i > 0 && n <= s.labels[i-2] {
			v.fault(IndexFile, off, "the label names of the series are not in order")
		}
		v.want += mix(pair(v.symbols[n], v.symbols[x]), s.ref)
	}
	if len(s.chunks) == 0 {
		v.fault(IndexFile, off, "the series has no chunks")
	}
	for i, c := range s.chunks {
		if i > 0 && c.MinTime <= s.chunks[i-1].MaxTime || c.MaxTime < c.MinTime {
			v.fault(IndexFile, off, "chunk %d of the series, from %d to %d, is not after the one before", i, c.MinTime, c.MaxTime)
		}
		if m := v.r.Meta; m != nil && (c.MinTime < m.MinTime || c.MaxTime >= m.MaxTime) {
			v.fault(IndexFile, off, "chunk %d of the series, from %d to %d, is not within the block, from %d to before %d", i, c.MinTime, c.MaxTime, m.MinTime, m.MaxTime)
		}
		if err := v.note(v.chunk(c)); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) chunk(c chunks.Meta) error {
	v.r.Chunks++
	enc, data, err := v.chunks.chunk(c.Ref)
	if err != nil {
		return err
	}
	v.chunkBytes += int64(v.chunks.size)
	points, samples, err := v.points.check(enc, data, c.MinTime, c.MaxTime, v.r.Meta)
	v.r.Points += points
	v.r.Samples += samples
	if err != nil {
		_, off := chunks.BlockChunkRef(c.Ref).Unpack()
		return &Fault{v.dir, v.chunks.w.name, int64(off), err}
	}
	return nil
}

// counts compares what was found with what meta.json says.
func (v *verifier) counts() {
	m := v.r.Meta
	if m == nil || len(v.r.Faults) > 0 {
		return
	}
	type count struct {
		field     string
		said, got uint64
	}
	cs := []count{
		{"stats.numSeries", m.Stats.NumSeries, v.r.Series},
		{"stats.numChunks", m.Stats.NumChunks, v.r.Chunks},
	}
	if m.Resolution() == 0 || m.Thanos.Extensions.Weir != nil {
		cs = append(cs, count{"stats.numSamples", m.Stats.NumSamples, v.r.Points})
	}
	if w := m.Thanos.Extensions.Weir; w != nil {
		cs = append(cs, count{"thanos.extensions.weir.samples", w.Samples, v.r.Samples})
	}
	for _, c := range cs {
		if c.said != c.got {
			v.fault(MetaFile, -1, "field %s: got %d, but the block has %d", c.field, c.said, c.got)
		}
	}
}
