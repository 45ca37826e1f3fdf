package block

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// segmentSize is where a file of chunks ends. It bounds what of an object a reader
// that wants whole objects must fetch. Unlike the TSDB's, our files reserve nothing.
const segmentSize = 64 << 20

// outFile is a file being written, through a buffer.
type outFile struct {
	dir, name string
	f         *os.File
	buf       []byte // not yet written
	flushed   int64
	sum       hash.Hash // nil: none is taken
	patched   bool      // sum is wrong
}

func createFile(dir, name string, buf []byte, sum bool) (*outFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o666)
	if err != nil {
		return nil, fmt.Errorf("write block %s: %w", dir, err)
	}
	w := &outFile{dir: dir, name: name, f: f, buf: buf[:0]}
	if sum {
		w.sum = sha256.New()
	}
	return w, nil
}

func (w *outFile) err(err error) error {
	return fmt.Errorf("write block %s: file %s at byte %d: %w", w.dir, w.name, w.flushed, err)
}

func (w *outFile) pos() int64 { return w.flushed + int64(len(w.buf)) }

// room flushes when the buffer has no room for n bytes more.
func (w *outFile) room(n int) error {
	if len(w.buf)+n <= cap(w.buf) {
		return nil
	}
	return w.flush()
}

func (w *outFile) flush() error {
	n, err := w.f.Write(w.buf)
	w.flushed += int64(n)
	if err != nil {
		return w.err(err)
	}
	if w.sum != nil {
		w.sum.Write(w.buf)
	}
	w.buf = w.buf[:0]
	return nil
}

func (w *outFile) write(b []byte) error {
	if err := w.room(len(b)); err != nil {
		return err
	}
	w.buf = append(w.buf, b...)
	return nil
}

// finish makes the file durable and describes it.
func (w *outFile) finish() (File, error) {
	if err := w.flush(); err != nil {
		return File{}, errors.Join(err, w.f.Close())
	}
	if err := w.f.Sync(); err != nil {
		return File{}, errors.Join(w.err(err), w.f.Close())
	}
	if err := w.f.Close(); err != nil {
		return File{}, w.err(err)
	}
	d := File{RelPath: w.name, SizeBytes: w.flushed}
	if w.sum != nil {
		if err := w.sumAgain(); err != nil {
			return File{}, err
		}
		d.Hash = &Hash{"SHA256", hex.EncodeToString(w.sum.Sum(nil))}
	}
	return d, nil
}

// chunkWriter writes the files of chunks.
type chunkWriter struct {
	dir   string
	buf   []byte
	sum   bool
	w     *outFile
	files []File
	count uint64
	max   int64 // size of the largest, framed
}

func newChunkWriter(dir string, buffer int, sum bool) (*chunkWriter, error) {
	if err := os.Mkdir(filepath.Join(dir, ChunksDir), 0o777); err != nil {
		return nil, fmt.Errorf("write block %s: %w", dir, err)
	}
	return &chunkWriter{dir: dir, buf: make([]byte, 0, buffer), sum: sum}, nil
}

// add appends a chunk and returns its reference.
func (c *chunkWriter) add(enc chunkenc.Encoding, data []byte) (chunks.ChunkRef, error) {
	size := chunks.MaxChunkLengthFieldSize + chunks.ChunkEncodingSize + len(data) + crc32.Size
	if c.w != nil && c.w.pos()+int64(size) > segmentSize {
		if err := c.cut(); err != nil {
			return 0, err
		}
	}
	if c.w == nil {
		var err error
		if c.w, err = createFile(c.dir, SegmentName(len(c.files)), c.buf, c.sum); err != nil {
			return 0, err
		}
		head := binary.BigEndian.AppendUint32(nil, chunks.MagicChunks)
		if err := c.w.write(append(head, segmentV1, 0, 0, 0)); err != nil {
			return 0, err
		}
	}
	w := c.w
	if err := w.room(size); err != nil {
		return 0, err
	}
	start := w.pos()
	w.buf = binary.AppendUvarint(w.buf, uint64(len(data)))
	at := len(w.buf)
	w.buf = append(append(w.buf, byte(enc)), data...)
	w.buf = binary.BigEndian.AppendUint32(w.buf, crc32.Checksum(w.buf[at:], castagnoli))
	c.count++
	c.max = max(c.max, w.pos()-start)
	return chunks.ChunkRef(chunks.NewBlockChunkRef(uint64(len(c.files)), uint64(start))), nil
}

func (c *chunkWriter) cut() error {
	d, err := c.w.finish()
	c.buf, c.w = c.w.buf, nil
	c.files = append(c.files, d)
	return err
}

// finish makes the files durable.
func (c *chunkWriter) finish() error {
	if c.w != nil {
		if err := c.cut(); err != nil {
			return err
		}
	}
	if err := syncDir(filepath.Join(c.dir, ChunksDir)); err != nil {
		return fmt.Errorf("write block %s: %w", c.dir, err)
	}
	return nil
}

func (c *chunkWriter) abort() {
	if c.w != nil {
		c.w.f.Close()
	}
}

// patch overwrites what was written before. A file that is summed is summed again
// by finish.
func (w *outFile) patch(off int64, b []byte) error {
	if off >= w.flushed {
		copy(w.buf[off-w.flushed:], b)
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	if _, err := w.f.WriteAt(b, off); err != nil {
		return w.err(err)
	}
	w.patched = true
	return nil
}

func (w *outFile) sumAgain() error {
	if !w.patched {
		return nil
	}
	f, err := os.Open(filepath.Join(w.dir, w.name))
	if err != nil {
		return w.err(err)
	}
	defer f.Close()
	w.sum.Reset()
	if _, err := io.CopyBuffer(w.sum, onlyReader{f}, w.buf[:cap(w.buf)]); err != nil {
		return w.err(err)
	}
	return nil
}

// onlyReader hides that a file could be copied from in other ways, with other buffers.
type onlyReader struct{ io.Reader }
