package bucket

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/oklog/ulid/v2"
)

const (
	// pageSize is the least that is fetched of an object. A request to S3 takes some
	// 20 ms whatever it fetches, in which a line of 1 Gbit/s moves 2 MiB, so that much
	// smaller pages win nothing; much larger ones waste the cache on series nobody
	// asked for. Unmeasured against a real S3.
	pageSize = 64 << 10
	// maxAhead bounds the pages fetched by one request when an object is read in
	// order: 1 MiB.
	maxAhead = 16
	// maxWhole bounds the pages fetched by one request when so many are asked for.
	maxWhole = pieceSize / pageSize
	// memoryPages is how many pages are kept in memory, 16 MiB, so that neighbouring
	// series and chunks cost no read and no checksum of a page each.
	memoryPages = 256
	// minCache leaves room for the header of a large block's index.
	minCache = 32 << 20
)

// pageHeader is what stands before each page on disk: magic 8, block 16, file 4,
// page 4, length 4, CRC-32C of block to length and of the data 4, zeros.
const (
	pageHeader = 64
	pageMagic  = "WEIRPAG1"
	slotSize   = pageHeader + pageSize
)

// pageKey names a page of a block in the bucket. Such blocks never change.
type pageKey struct {
	block ulid.ULID
	file  uint32 // n: the n-th segment of chunks
	page  uint32
}

// pages fetches objects page by page, keeps the pages in one file of fixed slots,
// and the latest of them in memory. The file outlives the process; a page whose
// checksum is wrong, as after a crash, is fetched again.
type pages struct {
	c     *client
	log   *slog.Logger
	file  *os.File
	ctx   context.Context // ends when the cache is closed
	close context.CancelFunc

	mu      sync.Mutex
	memory  *clock[pageKey, []byte]
	disk    *clock[pageKey, struct{}] // the place is the slot
	flights map[pageKey]*flight
	full    bool // the last write failed, and was logged
}

// flight is a page that is being fetched.
type flight struct {
	done chan struct{}
	data []byte
	err  error
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func openPages(dir string, size int64, c *client, log *slog.Logger) (*pages, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("open page cache (store.bucket.cache_dir): %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "pages"), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open page cache (store.bucket.cache_dir): %w", err)
	}
	slots := int(size / slotSize)
	p := &pages{
		c: c, log: log, file: file, flights: make(map[pageKey]*flight),
		memory: newClock[pageKey, []byte](memoryPages), disk: newClock[pageKey, struct{}](slots),
	}
	p.ctx, p.close = context.WithCancel(context.Background())
	if err := p.scan(slots); err != nil {
		return nil, errors.Join(fmt.Errorf("open page cache %s: %w", file.Name(), err), file.Close())
	}
	return p, nil
}

// scan finds the pages that an earlier process left.
func (p *pages) scan(slots int) error {
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	if most := int64(slots) * slotSize; info.Size() > most {
		if err := p.file.Truncate(most); err != nil {
			return err
		}
	}
	var head [pageHeader]byte
	for i := range int(min(int64(slots), (info.Size()+slotSize-1)/slotSize)) { // the last one may be short
		if _, err := p.file.ReadAt(head[:], int64(i)*slotSize); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		key, _, _, ok := readHeader(head[:])
		if _, _, twice := p.disk.get(key); ok && !twice {
			p.disk.restore(i, key, struct{}{})
		}
	}
	p.c.metrics.pagesOnDisk.Set(float64(len(p.disk.at)))
	return nil
}

// Close ends what is being fetched. It may be called twice.
func (p *pages) Close() error {
	p.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.file.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

func writeHeader(head []byte, k pageKey, data []byte) {
	copy(head, pageMagic)
	copy(head[8:], k.block[:])
	binary.LittleEndian.PutUint32(head[24:], k.file)
	binary.LittleEndian.PutUint32(head[28:], k.page)
	binary.LittleEndian.PutUint32(head[32:], uint32(len(data)))
	binary.LittleEndian.PutUint32(head[36:], pageSum(head, data))
}

func readHeader(head []byte) (k pageKey, length int, sum uint32, ok bool) {
	copy(k.block[:], head[8:])
	k.file = binary.LittleEndian.Uint32(head[24:])
	k.page = binary.LittleEndian.Uint32(head[28:])
	length = int(binary.LittleEndian.Uint32(head[32:]))
	return k, length, binary.LittleEndian.Uint32(head[36:]), string(head[:8]) == pageMagic && length <= pageSize
}

func pageSum(head, data []byte) uint32 {
	return crc32.Update(crc32.Checksum(head[8:36], castagnoli), castagnoli, data)
}

// load reads a page from its slot; false when something else is there by now.
func (p *pages) load(slot int, key pageKey) ([]byte, bool) {
	buf := make([]byte, slotSize)
	n, err := p.file.ReadAt(buf, int64(slot)*slotSize)
	if n < pageHeader || err != nil && !errors.Is(err, io.EOF) {
		return nil, false
	}
	k, length, sum, ok := readHeader(buf)
	if !ok || k != key || n < pageHeader+length {
		return nil, false
	}
	data := buf[pageHeader : pageHeader+length : pageHeader+length]
	return data, pageSum(buf, data) == sum
}

// keep stores a page in memory and on disk. p.mu is held.
func (p *pages) keep(key pageKey, data []byte, toDisk bool) {
	p.memory.put(key, data)
	if !toDisk {
		return
	}
	slot, _, _ := p.disk.put(key, struct{}{})
	buf := make([]byte, pageHeader+len(data))
	writeHeader(buf, key, data)
	copy(buf[pageHeader:], data)
	_, err := p.file.WriteAt(buf, int64(slot)*slotSize)
	if err != nil {
		p.disk.remove(key)
		if !p.full {
			p.log.Warn("page cache not written, pages are fetched again", "file", p.file.Name(), "err", err)
		}
	}
	p.full = err != nil
	p.c.metrics.pagesOnDisk.Set(float64(len(p.disk.at)))
}

// forget drops all pages of a block, which turned out to be corrupt or has gone.
func (p *pages) forget(block ulid.ULID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range p.memory.at {
		if k.block == block {
			p.memory.remove(k)
		}
	}
	zero := make([]byte, pageHeader)
	for k, slot := range p.disk.at {
		if k.block == block {
			p.disk.remove(k)
			_, _ = p.file.WriteAt(zero, int64(slot)*slotSize) // else the next process finds it again
		}
	}
}

// page returns page n of o; the caller must not change it. It fetches up to ahead
// pages from n on at once.
func (p *pages) page(o *object, n uint32, ahead int) ([]byte, error) {
	key := pageKey{o.block, o.file, n}
	p.mu.Lock()
	if data, _, ok := p.memory.get(key); ok {
		p.mu.Unlock()
		p.c.metrics.pageHits.WithLabelValues("memory").Inc()
		return data, nil
	}
	if f := p.flights[key]; f != nil {
		p.mu.Unlock()
		<-f.done
		return f.data, f.err
	}
	_, slot, onDisk := p.disk.get(key)
	run := []*flight{{done: make(chan struct{})}}
	p.flights[key] = run[0]
	if !onDisk {
		run = append(run, p.takeOff(o, n+1, o.window.from(n, ahead)-1)...)
	}
	p.mu.Unlock()
	if onDisk {
		if data, ok := p.load(slot, key); ok {
			p.c.metrics.pageHits.WithLabelValues("disk").Inc()
			p.land(o, n, run, [][]byte{data}, nil, false)
			return data, nil
		}
	}
	p.c.metrics.pageHits.WithLabelValues("bucket").Inc()
	list, err := p.fetch(o, n, len(run))
	p.land(o, n, run, list, err, true)
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// takeOff marks up to count pages from n on as being fetched, as far as they are
// not there yet. p.mu is held.
func (p *pages) takeOff(o *object, n uint32, count int) (run []*flight) {
	for i := n; len(run) < count && int64(i)*pageSize < o.size; i++ {
		key := pageKey{o.block, o.file, i}
		if _, there := p.disk.at[key]; there || p.flights[key] != nil {
			break
		}
		f := &flight{done: make(chan struct{})}
		p.flights[key] = f
		run = append(run, f)
	}
	return run
}

func (p *pages) land(o *object, n uint32, run []*flight, list [][]byte, err error, toDisk bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, f := range run {
		key := pageKey{o.block, o.file, n + uint32(i)}
		if f.err = err; err == nil {
			f.data = list[i]
			p.keep(key, f.data, toDisk)
		}
		delete(p.flights, key)
		close(f.done)
	}
}

// fetch gets count pages from n on from the bucket.
func (p *pages) fetch(o *object, n uint32, count int) ([][]byte, error) {
	free, err := p.c.slot(p.ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	off := int64(n) * pageSize
	buf := make([]byte, min(int64(count)*pageSize, o.size-off))
	if err := p.c.getRange(p.ctx, o.name, off, buf); err != nil {
		return nil, err
	}
	list := make([][]byte, count)
	for i := range list {
		// Copied, for a page kept would else keep all of buf.
		list[i] = append([]byte(nil), buf[i*pageSize:min((i+1)*pageSize, len(buf))]...)
	}
	return list, nil
}

// object is one object of a block, read through the cache.
type object struct {
	pages *pages
	block ulid.ULID
	file  uint32
	name  string
	size  int64

	window window // with pages.mu
}

// window says how much to fetch at once.
type window struct {
	next  uint32 // the page after the last one fetched
	ahead int    // pages to fetch if that is asked for
}

// from returns how many pages to fetch from n on, at least (within reason) least:
// more and more while they are asked for in order.
func (w *window) from(n uint32, least int) int {
	if w.ahead > 0 && n == w.next {
		w.ahead = min(2*w.ahead, maxAhead)
	} else {
		w.ahead = 1
	}
	count := max(w.ahead, min(least, maxWhole))
	w.next = n + uint32(count)
	return count
}

// ReadAt is as io.ReaderAt says.
func (o *object) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= o.size {
		return 0, io.EOF
	}
	last := (min(off+int64(len(b)), o.size) - 1) / pageSize
	done := 0
	for done < len(b) && off < o.size {
		n := off / pageSize
		data, err := o.pages.page(o, uint32(n), int(last-n)+1)
		if err != nil {
			return done, err
		}
		c := copy(b[done:], data[off-n*pageSize:])
		done += c
		off += int64(c)
	}
	if done < len(b) {
		return done, io.EOF
	}
	return done, nil
}
