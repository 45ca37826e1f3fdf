package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/encoding"
	"github.com/prometheus/prometheus/tsdb/index"
)

// The index file (Prometheus, tsdb/docs/format/index.md).
const (
	indexV2     = 2
	indexHead   = 5 // bytes: magic and version
	tocSize     = 6*8 + 4
	seriesAlign = 16
	segmentV1   = 1
)

// checkTOC says what is wrong with a table of contents whose CRC is right.
func checkTOC(toc *index.TOC, size int64) error {
	end := uint64(size - tocSize)
	last := uint64(indexHead)
	for _, s := range []struct {
		name string
		at   uint64
	}{{"symbols", toc.Symbols}, {"series", toc.Series}, {"postings", toc.Postings}, {"table of postings", toc.PostingsTable}} {
		if s.at < last || s.at > end {
			return fmt.Errorf("the section %s is said to begin at byte %d, want %d to %d", s.name, s.at, last, end)
		}
		last = s.at
	}
	return nil
}

// window reads a file through a buffer, not a mapping: mapped pages would count as
// ours. Reading on from where it was fetches a full buffer, jumping a small piece.
type window struct {
	dir, name string
	f         *os.File
	size      int64
	buf       []byte // of the file, from off
	off       int64
	ahead     int // bytes to fetch
}

// smallFetch is what a jump fetches: a page, since reading two costs no less.
const smallFetch = 4 << 10

func openWindow(dir, name string, buffer int) (*window, error) {
	w := &window{buf: make([]byte, 0, buffer)}
	return w, w.reopen(dir, name)
}

// reopen goes to another file and keeps the buffer.
func (w *window) reopen(dir, name string) error {
	if err := w.close(); err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		if _, gone := os.Stat(dir); gone == nil { // else the whole block was deleted meanwhile
			return &Fault{dir, name, -1, err}
		}
	}
	if err != nil {
		return fmt.Errorf("read block %s: %w", dir, err)
	}
	st, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("read block %s: file %s: %w", dir, name, err), f.Close())
	}
	w.dir, w.name, w.f, w.size = dir, name, f, st.Size()
	w.buf, w.off, w.ahead = w.buf[:0], 0, smallFetch
	return nil
}

func (w *window) close() error {
	if w.f == nil {
		return nil
	}
	f := w.f
	w.f = nil
	return f.Close()
}

func (w *window) fault(off int64, format string, args ...any) error {
	return fault(w.dir, w.name, off, format, args...)
}

// at returns n bytes from off, or those up to the end of the file, valid until the
// next call.
func (w *window) at(off int64, n int) ([]byte, error) {
	if end := w.off + int64(len(w.buf)); off >= w.off && off+int64(n) <= end {
		return w.buf[off-w.off:][:n], nil
	}
	return w.fetch(off, n)
}

func (w *window) fetch(off int64, n int) ([]byte, error) {
	if off >= w.size || off < 0 {
		return nil, nil
	}
	end := w.off + int64(len(w.buf))
	if off < w.off || off > end {
		w.ahead, w.buf = smallFetch, w.buf[:0]
	} else { // keep what overlaps
		w.buf = w.buf[:copy(w.buf, w.buf[off-w.off:])]
		w.ahead = min(w.ahead*2, cap(w.buf))
	}
	w.off = off
	have := len(w.buf)
	want := int(min(int64(max(n, have+min(w.ahead, cap(w.buf)-have))), w.size-off))
	if want > cap(w.buf) {
		w.buf = append(make([]byte, 0, want), w.buf...)
	}
	w.buf = w.buf[:want]
	if have < want {
		if k, err := w.f.ReadAt(w.buf[have:], off+int64(have)); err != nil {
			w.buf = w.buf[:have+k]
			if !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("read block %s: file %s at byte %d: %w", w.dir, w.name, off, err)
			}
		}
	}
	return w.buf[:min(n, len(w.buf))], nil
}

// chunkScan reads chunks by reference, best in the order they lie in.
type chunkScan struct {
	dir  string
	w    *window
	seg  int
	size int // of the last chunk, framed
}

func newChunkScan(dir string, buffer int) *chunkScan {
	return &chunkScan{dir: dir, w: &window{buf: make([]byte, 0, buffer)}, seg: -1}
}

// chunk returns data that is valid until the next call.
func (s *chunkScan) chunk(ref chunks.ChunkRef) (chunkenc.Encoding, []byte, error) {
	i, at := chunks.BlockChunkRef(ref).Unpack()
	if i != s.seg {
		if err := s.w.reopen(s.dir, SegmentName(i)); err != nil {
			return 0, nil, err
		}
		s.seg = i
		head, err := s.w.at(0, chunks.SegmentHeaderSize)
		if err != nil {
			return 0, nil, err
		}
		if err := checkSegmentHead(head); err != nil {
			return 0, nil, &Fault{s.dir, SegmentName(i), 0, err}
		}
	}
	off := int64(at)
	need := chunks.MaxChunkLengthFieldSize
	for {
		p, err := s.w.at(off, need)
		if err != nil {
			return 0, nil, err
		}
		if need == chunks.MaxChunkLengthFieldSize {
			p = s.w.buf[min(off-s.w.off, int64(len(s.w.buf))):] // all there is
		}
		enc, data, size, err := parseChunk(p)
		if err == nil {
			s.size = size
			return enc, data, nil
		}
		if size <= need || size <= len(p) || off+int64(size) > s.w.size {
			return 0, nil, &Fault{s.dir, s.w.name, off, err}
		}
		need = size
	}
}

func (s *chunkScan) close() error { return s.w.close() }

// indexScan reads an index file from its beginning to its end.
type indexScan struct {
	w   *window
	toc *index.TOC

	symbols uint32 // number of; to be believed once they have been read
	next    int64  // where the next series may begin
	end     int64  // of the series

	ref    uint32 // of the series: its offset / 16
	labels []uint32
	chunks []chunks.Meta
}

func openIndexScan(dir string, buffer int) (_ *indexScan, err error) {
	w, err := openWindow(dir, IndexFile, buffer)
	if err != nil {
		return nil, err
	}
	s := &indexScan{w: w}
	defer func() {
		if err != nil {
			_ = s.close()
		}
	}()
	if w.size < indexHead+tocSize {
		return nil, w.fault(-1, "has %d bytes, want at least %d", w.size, indexHead+tocSize)
	}
	b, err := w.at(0, indexHead)
	if err != nil {
		return nil, err
	}
	if got := binary.BigEndian.Uint32(b); got != index.MagicIndex {
		return nil, w.fault(0, "begins with %08x, want %08x", got, uint32(index.MagicIndex))
	}
	if b[4] != indexV2 {
		return nil, w.fault(4, "has format %d, want %d", b[4], indexV2)
	}
	if b, err = w.at(w.size-tocSize, tocSize); err != nil {
		return nil, err
	}
	if s.toc, err = index.NewTOCFromByteSlice(mappedIndex(b)); err != nil {
		return nil, &Fault{dir, IndexFile, w.size - tocSize, err}
	}
	if err := checkTOC(s.toc, w.size); err != nil {
		return nil, &Fault{dir, IndexFile, w.size - tocSize, err}
	}
	if b, err = w.at(int64(s.toc.Symbols), 8); err != nil {
		return nil, err
	}
	if len(b) == 8 {
		s.symbols = binary.BigEndian.Uint32(b[4:])
	}
	if uint64(s.symbols) > s.toc.Series-s.toc.Symbols { // each takes a byte at least
		return nil, w.fault(int64(s.toc.Symbols), "%d symbols are said to be in %d bytes", s.symbols, s.toc.Series-s.toc.Symbols)
	}
	s.next, s.end = int64(s.toc.Series), int64(s.toc.Postings)
	if li := int64(s.toc.LabelIndices); li >= s.next && li < s.end {
		s.end = li
	}
	return s, nil
}

func (s *indexScan) close() error { return s.w.close() }

// section calls f with the content of the section at off, its CRC checked behind, in
// pieces, and returns where the section ends. Each piece must be taken but for a
// rest of less than a piece; all of it is in f's last call.
func (s *indexScan) section(off int64, f func(p []byte, last bool) (taken int, err error)) (int64, error) {
	b, err := s.w.at(off, 4)
	if err != nil {
		return 0, err
	}
	if len(b) < 4 {
		return 0, s.w.fault(off, "the file ends within the length of a section")
	}
	size := int64(binary.BigEndian.Uint32(b))
	at, end := off+4, off+4+size
	if end+crc32.Size > s.w.size-tocSize {
		return 0, s.w.fault(off, "a section claims %d bytes, more than there are", size)
	}
	crc, sum := uint32(0), at
	for piece := minBuffer; at < end || at == off+4; {
		n := int(min(int64(piece), end-at))
		b, err := s.w.at(at, n)
		if err != nil {
			return 0, err
		}
		if len(b) < n {
			return 0, s.w.fault(at, "the file became shorter")
		}
		if fresh := at + int64(n) - sum; fresh > 0 {
			crc = crc32.Update(crc, castagnoli, b[int64(n)-fresh:])
			sum += fresh
		}
		last := at+int64(n) == end
		taken, err := f(b, last)
		if err != nil {
			var is *Fault
			if errors.As(err, &is) {
				return 0, err
			}
			return 0, &Fault{s.w.dir, s.w.name, at, err}
		}
		at += int64(taken)
		if last {
			break
		}
		if taken == 0 {
			piece *= 2
		}
	}
	b, err = s.w.at(end, crc32.Size)
	if err != nil {
		return 0, err
	}
	if want := binary.BigEndian.Uint32(b); want != crc {
		return 0, s.w.fault(off, "the CRC-32C of a section is %08x, want %08x", crc, want)
	}
	return end + crc32.Size, nil
}

// eachSymbol calls f with each symbol, in order, valid until f returns.
func (s *indexScan) eachSymbol(f func(sym []byte) error) error {
	count, seen, first := uint32(0), uint32(0), true
	_, err := s.section(int64(s.toc.Symbols), func(p []byte, last bool) (int, error) {
		d := encoding.Decbuf{B: p}
		if first {
			count, first = d.Be32(), false
		}
		taken := len(p) - d.Len()
		for d.Err() == nil && seen < count {
			sym := d.UvarintBytes()
			if d.Err() != nil {
				break
			}
			if err := f(sym); err != nil {
				return 0, err
			}
			seen++
			taken = len(p) - d.Len()
		}
		if last && (seen < count || taken < len(p)) {
			return 0, fmt.Errorf("%d symbols are said to be in %d bytes, found %d", count, len(p), seen)
		}
		return taken, nil
	})
	return err
}

// rewind makes nextSeries begin anew.
func (s *indexScan) rewind() { s.next = int64(s.toc.Series) }

// nextSeries reads the next series entry; it is false at the end. After a Fault it
// may be called again when the entry's length could be read.
func (s *indexScan) nextSeries() (bool, error) {
	if err := s.skipPadding(); err != nil {
		return true, err
	}
	if s.next >= s.end {
		return false, nil
	}
	off := s.next
	p, err := s.w.at(off, int(min(binary.MaxVarintLen32, s.end-off)))
	if err != nil {
		return false, err
	}
	l, n := binary.Uvarint(p)
	if n <= 0 || int64(l) > s.end-off-int64(n)-crc32.Size || l > maxChunk {
		s.next = s.end
		return true, s.w.fault(off, "a series entry claims %d bytes, the section ends in %d", l, s.end-off)
	}
	size := n + int(l) + crc32.Size
	s.next = off + int64(size)
	if p, err = s.w.at(off, size); err != nil {
		return false, err
	}
	if len(p) < size {
		return true, s.w.fault(off, "the file became shorter")
	}
	body := p[n : n+int(l)]
	want, got := binary.BigEndian.Uint32(p[n+int(l):]), crc32.Checksum(body, castagnoli)
	if want != got {
		return true, s.w.fault(off, "the CRC-32C of a series entry is %08x, want %08x", got, want)
	}
	s.ref = uint32(off / seriesAlign)
	if err := s.parse(body); err != nil {
		return true, &Fault{s.w.dir, s.w.name, off, err}
	}
	return true, nil
}

func (s *indexScan) skipPadding() error {
	from := s.next
	s.next = min((s.next+seriesAlign-1)&^(seriesAlign-1), max(s.end, from))
	p, err := s.w.at(from, int(s.next-from))
	if err != nil {
		return err
	}
	for i, b := range p {
		if b != 0 {
			return s.w.fault(from+int64(i), "padding is %02x, want 00", b)
		}
	}
	return nil
}

func (s *indexScan) parse(body []byte) error {
	d := encoding.Decbuf{B: body}
	s.labels, s.chunks = s.labels[:0], s.chunks[:0]
	for k := d.Uvarint64(); k > 0 && d.Err() == nil; k-- {
		s.labels = append(s.labels, d.Uvarint32(), d.Uvarint32())
	}
	k := d.Uvarint64()
	for i := uint64(0); i < k && d.Err() == nil; i++ {
		var c chunks.Meta
		if i == 0 {
			c.MinTime = d.Varint64()
			c.MaxTime = c.MinTime + int64(d.Uvarint64())
			c.Ref = chunks.ChunkRef(d.Uvarint64())
		} else {
			last := s.chunks[i-1]
			c.MinTime = last.MaxTime + int64(d.Uvarint64())
			c.MaxTime = c.MinTime + int64(d.Uvarint64())
			c.Ref = last.Ref + chunks.ChunkRef(d.Varint64())
		}
		s.chunks = append(s.chunks, c)
	}
	if d.Err() != nil {
		return fmt.Errorf("decode a series entry: %w", d.Err())
	}
	if d.Len() > 0 {
		return fmt.Errorf("a series entry has %d bytes more than it uses", d.Len())
	}
	return nil
}
