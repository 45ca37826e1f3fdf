package bucket

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb/fileutil"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/weir-dev/weir/internal/store/block"
)

// remoteIndex is the index of a block in the bucket, as the TSDB's reader wants it:
// a mapped file of full size and full of holes, into which pages are fetched when
// they are asked for. The reader takes the whole of an index for granted at each
// look at a symbol, so it must be one piece of memory; the pages it does that with,
// symbols and the table of postings, are fetched before it sees the index at all.
//
// The interface knows no errors. For a page that cannot be fetched it gives bytes
// that are no length and have no right checksum, which the reader takes for damage;
// the true cause is logged, and kept in failed, by which [Bucket.Quarantine] can
// tell the one from the other.
type remoteIndex struct {
	id     ulid.ULID
	name   string // of the object
	size   int64
	c      *client
	ctx    context.Context // ends when the cache is closed
	log    *slog.Logger
	file   *os.File
	mapped *fileutil.MmapFile
	have   []atomic.Uint64 // a bit a page
	whole  [2][2]int       // symbols, and table of postings to the end: prefetched

	mu     sync.Mutex // held while a page is fetched: one request an index at a time
	window window
	failed atomic.Pointer[error] // of the last fetch

	refs    int  // blocks that read it, with Bucket.mu, as are the next two
	leaving int  // those of them that have to go
	drop    bool // the file is not to be kept
}

// noise fills what could not be fetched. As a length it is beyond any end, as a
// varint it never ends, and no run of it is its own checksum.
const noise = 0xA5

// haveMagic begins the file that says which pages an index file holds.
const haveMagic = "WEIRHAV1"

// openIndex opens or makes the cache of an index in dir and fetches its header.
func openIndex(ctx context.Context, dir string, id ulid.ULID, name string, size int64, p *pages) (_ *remoteIndex, err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("open index cache (store.bucket.cache_dir): %w", err)
	}
	x := &remoteIndex{
		id: id, name: name, size: size, c: p.c, ctx: p.ctx, log: p.log,
		have: make([]atomic.Uint64, (pageCount(size)+63)/64),
	}
	path := filepath.Join(dir, id.String())
	kept := x.readHave(path + ".have")
	flags := os.O_RDWR | os.O_CREATE
	if !kept {
		flags |= os.O_TRUNC
	}
	if x.file, err = os.OpenFile(path, flags, 0o640); err != nil {
		return nil, fmt.Errorf("open index cache (store.bucket.cache_dir): %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.close(false))
		}
	}()
	if err := x.file.Truncate(size); err != nil {
		return nil, fmt.Errorf("open index cache (store.bucket.cache_dir): %w", err)
	}
	if x.mapped, err = fileutil.OpenMmapFileWithSize(path, int(size)); err != nil {
		return nil, fmt.Errorf("map index cache: %w", err)
	}
	return x, x.prefetch(ctx)
}

func pageCount(size int64) int { return int((size + pageSize - 1) / pageSize) }

// prefetch fetches what is read at open and at each lookup.
func (x *remoteIndex) prefetch(ctx context.Context) error {
	if x.size < 64 {
		return &block.Fault{Dir: x.id.String(), File: block.IndexFile, Offset: -1, Err: fmt.Errorf("has %d bytes", x.size)}
	}
	if err := x.fill(ctx, int(x.size)-1, int(x.size), 1); err != nil {
		return err
	}
	if err := x.fill(ctx, max(0, int(x.size)-128), int(x.size), 1); err != nil {
		return err
	}
	toc, err := index.NewTOCFromByteSlice(x)
	if err != nil {
		return &block.Fault{Dir: x.id.String(), File: block.IndexFile, Offset: -1, Err: err}
	}
	if toc.Symbols > toc.Series || toc.Series > uint64(x.size) || toc.PostingsTable > uint64(x.size) {
		return &block.Fault{Dir: x.id.String(), File: block.IndexFile, Offset: -1, Err: errors.New("its table of contents leads out of the file")}
	}
	x.whole = [2][2]int{{0, int(toc.Series)}, {int(toc.PostingsTable), int(x.size)}}
	for _, span := range x.whole {
		if err := x.fill(ctx, span[0], span[1], maxWhole); err != nil {
			return err
		}
	}
	return nil
}

// Len returns the length of the index in bytes.
func (x *remoteIndex) Len() int { return int(x.size) }

// Range returns bytes start to end, which must not be changed.
func (x *remoteIndex) Range(start, end int) []byte {
	data := x.mapped.Bytes()
	if start == 0 && end == len(data) {
		return data // for a symbol
	}
	if start < 0 || end < start || end > len(data) {
		return unread(min(max(end-start, 0), maxUnread))
	}
	for _, span := range x.whole {
		if start >= span[0] && end <= span[1] {
			return data[start:end:end]
		}
	}
	if !x.holds(start, end) {
		if err := x.fill(x.ctx, start, end, 1); err != nil {
			return unread(end - start)
		}
	}
	return data[start:end:end]
}

// maxUnread bounds what is made up for a range beyond the end of a damaged index.
const maxUnread = 1 << 20

func unread(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = noise
	}
	return b
}

func (x *remoteIndex) holds(start, end int) bool {
	for n := start / pageSize; n*pageSize < end; n++ {
		if x.have[n/64].Load()&(1<<(n%64)) == 0 {
			return false
		}
	}
	return true
}

// fill fetches what is missing of bytes start to end, at least so many pages at once.
func (x *remoteIndex) fill(ctx context.Context, start, end, least int) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for n := start / pageSize; n*pageSize < end; n++ {
		if x.holds(n*pageSize, n*pageSize+1) {
			continue
		}
		want := max(least, (end-1)/pageSize-n+1)
		count := 1
		for limit := x.window.from(uint32(n), min(want, pageCount(x.size)-n)); count < limit && n+count < pageCount(x.size); count++ {
			if x.holds((n+count)*pageSize, (n+count)*pageSize+1) {
				break
			}
		}
		err := x.fetch(ctx, n, count)
		if old := x.failed.Swap(&err); err != nil && ctx.Err() == nil && (old == nil || *old == nil) {
			x.log.Warn("index of a remote block not read", "block", x.id.String(), "err", err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fetch writes pages to the file rather than to the mapping, where a full disk would
// be a signal and not an error.
func (x *remoteIndex) fetch(ctx context.Context, n, count int) error {
	free, err := x.c.slot(ctx)
	if err != nil {
		return err
	}
	defer free()
	off := int64(n) * pageSize
	buf := make([]byte, min(int64(count)*pageSize, x.size-off))
	if err := x.c.getRange(ctx, x.name, off, buf); err != nil {
		return err
	}
	if _, err := x.file.WriteAt(buf, off); err != nil {
		return fmt.Errorf("write index cache (store.bucket.cache_dir, store.bucket.cache_size): %w", err)
	}
	for i := n; i < n+count; i++ {
		x.have[i/64].Or(1 << (i % 64))
	}
	x.c.metrics.pageHits.WithLabelValues("bucket").Add(float64(count))
	return nil
}

// bytes is what the index takes on disk.
func (x *remoteIndex) bytes() (n int64) {
	for i := range x.have {
		n += int64(bits.OnesCount64(x.have[i].Load())) * pageSize
	}
	return n
}

// close unmaps the index and keeps, or removes, what was fetched.
func (x *remoteIndex) close(keep bool) error {
	var errs []error
	if x.mapped != nil {
		errs = append(errs, x.mapped.Close())
	}
	if keep {
		errs = append(errs, x.writeHave(x.file.Name()+".have"))
	} else {
		errs = append(errs, os.Remove(x.file.Name()))
	}
	return errors.Join(append(errs, x.file.Close())...)
}

// writeHave notes which pages the file has, once they are on disk: magic 8, size 8,
// the bits, CRC-32C.
func (x *remoteIndex) writeHave(path string) error {
	b := binary.LittleEndian.AppendUint64([]byte(haveMagic), uint64(x.size))
	for i := range x.have {
		b = binary.LittleEndian.AppendUint64(b, x.have[i].Load())
	}
	return os.WriteFile(path, binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), 0o640)
}

// readHave reads the note and removes it: after a crash there is none, for nobody
// knows then which pages the disk has.
func (x *remoteIndex) readHave(path string) bool {
	b, err := os.ReadFile(path)
	if err != nil || os.Remove(path) != nil {
		return false
	}
	if len(b) != 16+8*len(x.have)+4 || string(b[:8]) != haveMagic || binary.LittleEndian.Uint64(b[8:]) != uint64(x.size) {
		return false
	}
	if crc32.Checksum(b[:len(b)-4], castagnoli) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return false
	}
	for i := range x.have {
		x.have[i].Store(binary.LittleEndian.Uint64(b[16+8*i:]))
	}
	return true
}

// openBlock is a block that is open for reading.
type openBlock struct {
	*block.Block
	index *remoteIndex
}

// grace is how long a block that has to go can yet be used as if it had not: who has
// just got it makes a querier of it next, which a closing block refuses. It takes
// microseconds; a minute is for a process that was stopped in between.
const grace = time.Minute

// retire closes a block after a while, once its readers have let go of it, and its
// index unless the block was opened again meanwhile. b.mu is held.
func (b *Bucket) retire(o *openBlock, keep bool) {
	x := o.index
	x.drop = x.drop || !keep
	x.leaving++
	b.retiring.Go(func() {
		sleep(b.pages.ctx, b.grace)
		errs := []error{o.Close()}
		if keep {
			errs = append(errs, x.file.Sync()) // before the note of what it holds, and without b.mu
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		x.leaving--
		if x.refs--; x.refs == 0 {
			delete(b.indexes, x.id)
			errs = append(errs, x.close(!x.drop))
		}
		if err := errors.Join(errs...); err != nil {
			b.deps.Log.Warn("remote block not closed", "block", x.id.String(), "err", err)
		}
	})
}

// trim closes and deletes indexes, those not open first, until they take no more than
// half of store.bucket.cache_size, save for those that are about to go. b.mu is held.
func (b *Bucket) trim() {
	dir := filepath.Join(b.cache, "index")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	var total int64
	for _, x := range b.indexes {
		if x.refs > x.leaving {
			total += x.bytes()
		}
	}
	limit := int64(b.cfg.CacheSize) / 2
	var closed []os.FileInfo
	for _, e := range entries {
		id, err := ulid.ParseStrict(e.Name())
		info, ierr := e.Info()
		if err != nil || ierr != nil || b.indexes[id] != nil || b.opening[id] != nil {
			continue
		}
		closed = append(closed, info)
		total += info.Size() // at most: it may have holes
	}
	slices.SortFunc(closed, func(x, y os.FileInfo) int { return x.ModTime().Compare(y.ModTime()) })
	for _, info := range closed {
		if total <= limit {
			return
		}
		total -= info.Size()
		_ = os.Remove(filepath.Join(dir, info.Name()+".have"))
		_ = os.Remove(filepath.Join(dir, info.Name()))
	}
	for total > limit && len(b.open.at) > 1 {
		e := b.open.ring[b.open.free()]
		if !e.held {
			return
		}
		b.open.remove(e.key)
		total -= e.value.index.bytes()
		b.retire(e.value, false)
	}
}
