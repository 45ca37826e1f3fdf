package block

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/encoding"
	"github.com/prometheus/prometheus/tsdb/index"
)

// indexWriter writes an index file: symbols, then series, then all that follows from
// these.
//
// Why: the TSDB's writer takes labels as strings, looks each up in a map of all
// symbols and needs 20 MiB of buffers; here labels are numbers of symbols from the
// index that is read to the one that is written.
// Holds: symbols are sorted, so that comparing numbers is comparing strings.
// Cost: no allocation a series; finish takes 16 bytes a series and 8 a label value.
type indexWriter struct {
	dir string
	w   *outFile
	toc index.TOC

	symbols uint32
	lookup  []int64 // where each 32nd symbol begins
	crc     uint32

	series  uint64
	last    []uint32          // labels of the last series
	lastRef chunks.ChunkRef   // of its chunks
	names   map[uint32]uint32 // series that have a label of this name
	counted []nameCount       // by position in the last series
	max     int64             // size of the largest entry
	body    []byte
}

type nameCount struct{ name, n uint32 }

const lookupEvery = 32

func newIndexWriter(dir string, buffer int, sum bool) (*indexWriter, error) {
	w, err := createFile(dir, IndexFile, make([]byte, 0, buffer), sum)
	if err != nil {
		return nil, err
	}
	x := &indexWriter{dir: dir, w: w, names: map[uint32]uint32{}}
	return x, w.write(append(binary.BigEndian.AppendUint32(nil, index.MagicIndex), indexV2))
}

// beginSymbols announces how many symbols will be added.
func (x *indexWriter) beginSymbols(n uint32) error {
	x.toc.Symbols = uint64(x.w.pos())
	b := binary.BigEndian.AppendUint32(make([]byte, 4, 8), n) // the length is set later
	x.crc = crc32.Checksum(b[4:], castagnoli)
	return x.w.write(b)
}

func (x *indexWriter) addSymbol(sym []byte) error {
	if x.symbols%lookupEvery == 0 {
		x.lookup = append(x.lookup, x.w.pos())
	}
	x.symbols++
	if err := x.w.room(binary.MaxVarintLen32 + len(sym)); err != nil {
		return err
	}
	at := len(x.w.buf)
	x.w.buf = append(binary.AppendUvarint(x.w.buf, uint64(len(sym))), sym...)
	x.crc = crc32.Update(x.crc, castagnoli, x.w.buf[at:])
	return nil
}

func (x *indexWriter) endSymbols() error {
	if err := x.endSection(int64(x.toc.Symbols)); err != nil {
		return err
	}
	x.toc.Series = uint64(x.w.pos())
	return nil
}

// endSection writes the CRC behind a section and its length before it.
func (x *indexWriter) endSection(start int64) error {
	size := x.w.pos() - start - 4
	if size > math.MaxUint32 {
		return x.w.err(fmt.Errorf("a section has %d bytes, at most %d fit the format", size, uint32(math.MaxUint32)))
	}
	if err := x.w.write(binary.BigEndian.AppendUint32(nil, x.crc)); err != nil {
		return err
	}
	return x.w.patch(start, binary.BigEndian.AppendUint32(nil, uint32(size)))
}

func (x *indexWriter) pad(align int64) error {
	if n := x.w.pos() % align; n > 0 {
		return x.w.write(make([]byte, align-n))
	}
	return nil
}

// addSeries adds a series; its labels are pairs of symbols.
func (x *indexWriter) addSeries(labels []uint32, chks []chunks.Meta) error {
	if err := x.checkOrder(labels, chks); err != nil {
		return x.w.err(err)
	}
	if err := x.pad(seriesAlign); err != nil {
		return err
	}
	start := x.w.pos()
	if start/seriesAlign > math.MaxUint32 {
		return x.w.err(errors.New("the series take more than 64 GiB"))
	}
	b := binary.AppendUvarint(x.body[:0], uint64(len(labels)/2))
	for i, s := range labels {
		b = binary.AppendUvarint(b, uint64(s))
		if i%2 == 0 {
			x.count(i/2, s)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(chks)))
	for i, c := range chks {
		if i == 0 {
			b = binary.AppendVarint(b, c.MinTime)
			b = binary.AppendUvarint(b, uint64(c.MaxTime-c.MinTime))
			b = binary.AppendUvarint(b, uint64(c.Ref))
			continue
		}
		b = binary.AppendUvarint(b, uint64(c.MinTime-chks[i-1].MaxTime))
		b = binary.AppendUvarint(b, uint64(c.MaxTime-c.MinTime))
		b = binary.AppendVarint(b, int64(c.Ref)-int64(chks[i-1].Ref))
	}
	x.body = b
	if err := x.w.room(binary.MaxVarintLen32 + len(b) + crc32.Size); err != nil {
		return err
	}
	x.w.buf = append(binary.AppendUvarint(x.w.buf, uint64(len(b))), b...)
	x.w.buf = binary.BigEndian.AppendUint32(x.w.buf, crc32.Checksum(b, castagnoli))
	x.series++
	x.max = max(x.max, x.w.pos()-start)
	return nil
}

func (x *indexWriter) checkOrder(labels []uint32, chks []chunks.Meta) error {
	if x.series > 0 && slices.Compare(x.last, labels) >= 0 {
		return fmt.Errorf("series with symbols %v follows one with %v", labels, x.last)
	}
	x.last = append(x.last[:0], labels...)
	for i, s := range labels {
		if s >= x.symbols {
			return fmt.Errorf("a series has symbol %d of %d", s, x.symbols)
		}
		if i >= 2 && i%2 == 0 && s <= labels[i-2] {
			return fmt.Errorf("a series has label names %d and %d in this order", labels[i-2], s)
		}
	}
	for i, c := range chks {
		if c.Ref < x.lastRef || c.MaxTime < c.MinTime || i > 0 && c.MinTime <= chks[i-1].MaxTime {
			return fmt.Errorf("chunk %d (%d to %d) of a series is out of order", i, c.MinTime, c.MaxTime)
		}
		x.lastRef = c.Ref
	}
	return nil
}

// count counts a label name. Neighbours have the same names mostly, so the count is
// kept by position and goes to the map when the name there changes.
func (x *indexWriter) count(i int, name uint32) {
	if i == len(x.counted) {
		x.counted = append(x.counted, nameCount{name, 0})
	}
	if c := &x.counted[i]; c.name != name {
		x.names[c.name] += c.n
		*c = nameCount{name, 0}
	}
	x.counted[i].n++
}

// scratch is memory that one index after the other is finished with.
type scratch struct{ refs, values, refs2, values2 []uint32 }

// minBatch is how many postings are sorted at a time at least: 16 MiB of scratch;
// fewer passes over small indexes.
const minBatch = 1 << 20

// finish writes postings and tables and makes the file durable.
func (x *indexWriter) finish(ctx context.Context, buffer int, s *scratch) (File, error) {
	for _, c := range x.counted {
		x.names[c.name] += c.n
	}
	names := make([]uint32, 0, len(x.names))
	for n, count := range x.names {
		if count > 0 {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	x.toc.LabelIndices = uint64(x.w.pos())
	if err := errors.Join(x.pad(4), x.w.flush()); err != nil {
		return File{}, err
	}
	x.toc.Postings = uint64(x.w.pos())
	p := &postingsPass{x: x, scratch: s, buffer: buffer}
	if err := p.run(ctx, names); err != nil {
		return File{}, err
	}
	x.toc.LabelIndicesTable = uint64(x.w.pos())
	x.toc.PostingsTable = x.toc.LabelIndicesTable
	if err := p.writeTable(ctx, names); err != nil {
		return File{}, err
	}
	var b []byte
	for _, at := range []uint64{x.toc.Symbols, x.toc.Series, x.toc.LabelIndices, x.toc.LabelIndicesTable, x.toc.Postings, x.toc.PostingsTable} {
		b = binary.BigEndian.AppendUint64(b, at)
	}
	if err := x.w.write(binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))); err != nil {
		return File{}, err
	}
	return x.w.finish()
}

// postingsPass writes the postings section and the table of postings.
type postingsPass struct {
	x *indexWriter
	*scratch
	buffer int
	total  uint32   // lists
	values [][]list // by name: its lists, in order of values
	end    int64    // of the list of all series
}

// list is one list of postings; where it begins follows from those before.
type list struct{ value, n uint32 }

func (p *postingsPass) run(ctx context.Context, names []uint32) error {
	x := p.x
	if err := p.all(ctx); err != nil {
		return err
	}
	p.values = make([][]list, len(names))
	for at := 0; at < len(names); {
		end, n := at, uint64(0)
		for end < len(names) {
			n += uint64(x.names[names[end]])
			if end > at && n > max(minBatch, x.series) {
				break
			}
			end++
		}
		if err := p.batch(ctx, names[at:end], p.values[at:end]); err != nil {
			return err
		}
		at = end
	}
	return nil
}

// scan reads the series back.
func (p *postingsPass) scan(ctx context.Context, f func(ref uint32, labels []uint32)) error {
	x := p.x
	w, err := openWindow(x.dir, IndexFile, p.buffer)
	if err != nil {
		return err
	}
	defer func() { _ = w.close() }()
	s := &indexScan{w: w, next: int64(x.toc.Series), end: int64(x.toc.LabelIndices)}
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		ok, err := s.nextSeries()
		if err != nil || !ok {
			return err
		}
		f(s.ref, s.labels)
	}
}

func (p *postingsPass) all(ctx context.Context) error {
	p.refs = grow(p.refs, uint32(p.x.series))
	n := 0
	if err := p.scan(ctx, func(ref uint32, _ []uint32) { p.refs[n] = ref; n++ }); err != nil {
		return err
	}
	if err := p.write(p.refs[:n]); err != nil {
		return err
	}
	p.end = p.x.w.pos()
	return nil
}

func grow(s []uint32, n uint32) []uint32 { return slices.Grow(s[:0], int(n))[:n] }

// batch gathers the postings of some names in one scan and writes their lists.
func (p *postingsPass) batch(ctx context.Context, names []uint32, out [][]list) error {
	next := make([]uint32, len(names)+1) // where each name's next posting goes
	for i, n := range names {
		next[i+1] = next[i] + p.x.names[n]
	}
	n := next[len(names)]
	p.refs, p.scratch.values = grow(p.refs, n), grow(p.scratch.values, n)
	err := p.scan(ctx, func(ref uint32, labels []uint32) {
		j := 0
		for i := 0; i < len(labels); i += 2 {
			for j < len(names) && names[j] < labels[i] {
				j++
			}
			if j == len(names) {
				return
			}
			if names[j] == labels[i] {
				p.refs[next[j]], p.scratch.values[next[j]] = ref, labels[i+1]
				next[j]++
			}
		}
	})
	if err != nil {
		return err
	}
	start := uint32(0)
	for j := range names {
		refs, values := p.sort(p.refs[start:next[j]], p.scratch.values[start:next[j]])
		out[j] = make([]list, 0, distinct(values))
		for from := 0; from < len(refs); {
			to := from + 1
			for to < len(refs) && values[to] == values[from] {
				to++
			}
			out[j] = append(out[j], list{values[from], uint32(to - from)})
			if err := p.write(refs[from:to]); err != nil {
				return err
			}
			from = to
		}
		start = next[j]
	}
	return nil
}

// distinct counts the values of a sorted list.
func distinct(values []uint32) (n int) {
	for i, v := range values {
		if i == 0 || v != values[i-1] {
			n++
		}
	}
	return n
}

// radixBits sorts in two passes what has up to four million symbols, with counters
// that fit the first-level cache.
const radixBits = 11

// sort orders by value; refs of one value stay in order. It may return other slices.
func (p *postingsPass) sort(refs, values []uint32) (_, _ []uint32) {
	if slices.IsSorted(values) {
		return refs, values
	}
	var differ uint32
	for _, v := range values {
		differ |= v ^ values[0]
	}
	p.refs2, p.values2 = grow(p.refs2, uint32(len(refs))), grow(p.values2, uint32(len(refs)))
	refs2, values2 := p.refs2, p.values2
	var at [1 << radixBits]uint32
	for shift := 0; shift < 32; shift += radixBits {
		if differ>>shift&(1<<radixBits-1) == 0 {
			continue
		}
		clear(at[:])
		for _, v := range values {
			at[v>>shift&(1<<radixBits-1)]++
		}
		sum := uint32(0)
		for i, n := range at {
			at[i] = sum
			sum += n
		}
		for i, v := range values {
			d := &at[v>>shift&(1<<radixBits-1)]
			refs2[*d], values2[*d] = refs[i], v
			*d++
		}
		refs, refs2, values, values2 = refs2, refs, values2, values
	}
	return refs, values
}

// write writes one list.
func (p *postingsPass) write(refs []uint32) error {
	x := p.x
	if err := x.pad(4); err != nil {
		return err
	}
	p.total++
	b := binary.BigEndian.AppendUint32(nil, uint32(4+4*len(refs)))
	if err := x.w.write(binary.BigEndian.AppendUint32(b, uint32(len(refs)))); err != nil {
		return err
	}
	crc := crc32.Checksum(x.w.buf[len(x.w.buf)-4:], castagnoli)
	for len(refs) > 0 {
		if err := x.w.room(4); err != nil {
			return err
		}
		n := min(len(refs), (cap(x.w.buf)-len(x.w.buf))/4)
		at := len(x.w.buf)
		for _, r := range refs[:n] {
			x.w.buf = binary.BigEndian.AppendUint32(x.w.buf, r)
		}
		crc = crc32.Update(crc, castagnoli, x.w.buf[at:])
		refs = refs[n:]
	}
	return x.w.write(binary.BigEndian.AppendUint32(nil, crc))
}

func (p *postingsPass) writeTable(ctx context.Context, names []uint32) error {
	x := p.x
	if err := x.w.flush(); err != nil { // to read symbols back
		return err
	}
	syms, err := openWindow(x.dir, IndexFile, p.buffer)
	if err != nil {
		return err
	}
	defer func() { _ = syms.close() }()
	start := x.w.pos()
	b := binary.BigEndian.AppendUint32(make([]byte, 4), p.total)
	x.crc = crc32.Checksum(b[4:], castagnoli)
	if err := x.w.write(b); err != nil {
		return err
	}
	if err := p.entry(nil, nil, int64(x.toc.Postings)); err != nil {
		return err
	}
	end := p.end
	for i, n := range names {
		sym, err := x.symbol(syms, n)
		if err != nil {
			return err
		}
		name := slices.Clone(sym)
		for k, l := range p.values[i] {
			if k%1024 == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			value, err := x.symbol(syms, l.value)
			if err != nil {
				return err
			}
			at := (end + 3) &^ 3
			if err := p.entry(name, value, at); err != nil {
				return err
			}
			end = at + 4 + 4 + 4*int64(l.n) + crc32.Size
		}
	}
	if want := start; end != want {
		return x.w.err(fmt.Errorf("the postings end at byte %d, want %d", want, end))
	}
	return x.endSection(start)
}

func (p *postingsPass) entry(name, value []byte, at int64) error {
	w := p.x.w
	if err := w.room(4*binary.MaxVarintLen64 + len(name) + len(value)); err != nil {
		return err
	}
	from := len(w.buf)
	w.buf = append(w.buf, 2)
	w.buf = append(binary.AppendUvarint(w.buf, uint64(len(name))), name...)
	w.buf = append(binary.AppendUvarint(w.buf, uint64(len(value))), value...)
	w.buf = binary.AppendUvarint(w.buf, uint64(at))
	p.x.crc = crc32.Update(p.x.crc, castagnoli, w.buf[from:])
	return nil
}

// symbol reads symbol n back; it is valid until the next call.
func (x *indexWriter) symbol(w *window, n uint32) ([]byte, error) {
	off := x.lookup[n/lookupEvery]
	for want := 512; ; want *= 2 {
		b, err := w.at(off, want)
		if err != nil {
			return nil, err
		}
		d := encoding.Decbuf{B: b}
		for range n % lookupEvery {
			d.UvarintBytes()
		}
		sym := d.UvarintBytes()
		if d.Err() == nil {
			return sym, nil
		}
		if len(b) < want {
			return nil, w.fault(off, "symbol %d cannot be read back", n)
		}
	}
}
