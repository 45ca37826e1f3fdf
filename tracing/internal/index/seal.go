package index

import (
	"encoding/binary"
	"slices"
	"strings"
)

const (
	version = 1

	// First byte of a page's key, in the order of the pages.
	keyHead   = 'h'
	keyTraces = 'i' // and the first trace, 4 bytes
	keyRows   = 'r' // and the first row, 4 bytes
	keyTerms  = 't' // and the first term and its first row, 4 bytes each

	// pageTraces and pageRows make pages of 8 KiB or so: a search for something rare
	// reads a page of each kind, and pages of one kind that follow each other are
	// compressed together anyway.
	pageTraces = 512
	pageRows   = 1024
	// pageTerms is when a page of terms is full, in bytes; unmeasured: looking a term
	// up goes through half a page, some 3 us.
	pageTerms = 8 << 10
	// listBytes is when a list of rows is cut, so that no page is above 32 KiB.
	listBytes = 4 << 10

	// How a list of rows is written, in the low bits of the number before it.
	listMany = 1 // else a single row, which the number is
	listRuns = 2 // gap and length of runs, else gaps
)

// Seal puts the pages of the segment in the order of their keys. Key and value are
// the Builder's again when put returns.
func (b *Builder) Seal(put func(key, value []byte) error) error {
	r := b.snapshot()
	s := sealer{rows: &r, cfg: &b.cfg, put: put}
	s.sort()
	if err := s.head(); err != nil {
		return err
	}
	if err := s.traceIDs(); err != nil {
		return err
	}
	if err := s.columns(); err != nil {
		return err
	}
	s.collect()
	return s.putTerms()
}

// sealer numbers the rows anew, by service, operation, kind, status and duration, so
// that whatever spans of one sort have in common becomes a few runs of rows.
type sealer struct {
	*rows
	cfg *Config
	put func(key, value []byte) error

	order []uint32 // shapes, sorted
	row   []uint32 // old number by new
	buf   []byte
	col   []byte
	key   [9]byte

	runner
}

func (s *sealer) sort() {
	s.order = make([]uint32, len(s.shapes))
	for i := range s.order {
		s.order[i] = uint32(i)
	}
	slices.SortFunc(s.order, func(a, b uint32) int { return s.compare(&s.shapes[a], &s.shapes[b]) })
	rank := make([]uint32, len(s.order))
	for i, sh := range s.order {
		rank[sh] = uint32(i)
	}
	n := len(s.start)
	arrived, byLength := make([]uint32, n), make([]uint32, n)
	for i := range arrived {
		arrived[i] = uint32(i)
	}
	distribute(byLength, arrived, termKind, func(i uint32) uint32 { return durationClass(s.length[i]) })
	distribute(arrived, byLength, len(s.order), func(i uint32) uint32 { return rank[s.shape[i]] })
	s.row = arrived
}

func (s *sealer) compare(a, b *shape) int {
	if a.group != b.group {
		if c := strings.Compare(s.groups[a.group].service, s.groups[b.group].service); c != 0 {
			return c
		}
	}
	if c := strings.Compare(a.name, b.name); c != 0 {
		return c
	}
	if c := int(a.kind) - int(b.kind); c != 0 {
		return c
	}
	if c := int(a.status) - int(b.status); c != 0 {
		return c
	}
	if a.root != b.root {
		if a.root {
			return -1
		}
		return 1
	}
	return int(a.group) - int(b.group)
}

// distribute sorts by a small number and keeps the order of equals.
func distribute(dst, src []uint32, numbers int, of func(uint32) uint32) {
	at := make([]uint32, numbers+1)
	for _, v := range src {
		at[of(v)+1]++
	}
	for i := 1; i < len(at); i++ {
		at[i] += at[i-1]
	}
	for _, v := range src {
		k := of(v)
		dst[at[k]] = v
		at[k]++
	}
}

// head tells what there is, and the bounds of the starts on each page of rows.
func (s *sealer) head() error {
	var base, last uint64
	for i, v := range s.start {
		if i == 0 || v < base {
			base = v
		}
		last = max(last, v)
	}
	b := append(s.buf[:0], version)
	b = binary.AppendUvarint(b, uint64(len(s.start)))
	b = binary.AppendUvarint(b, uint64(len(s.traces)))
	b = binary.AppendUvarint(b, base)
	b = binary.AppendUvarint(b, last-base)
	over := byte(0)
	if s.anyOver() {
		over = 1
	}
	b = append(b, over)
	b = binary.AppendUvarint(b, uint64(s.cfg.MaxValueBytes))
	b = appendStrings(b, s.cfg.Attributes)
	b = appendStrings(b, s.cfg.Exclude)
	for page := range slices.Chunk(s.row, pageRows) {
		first, last := s.start[page[0]], s.start[page[0]]
		for _, i := range page {
			first, last = min(first, s.start[i]), max(last, s.start[i])
		}
		b = binary.AppendUvarint(b, first-base)
		b = binary.AppendUvarint(b, last-first)
	}
	s.buf = b
	return s.put([]byte{keyHead}, b)
}

func appendStrings(b []byte, l []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(l)))
	for _, s := range l {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return b
}

func (s *sealer) page(kind byte, first uint32) []byte {
	return binary.BigEndian.AppendUint32(append(s.key[:0], kind), first)
}

func (s *sealer) traceIDs() error {
	first := uint32(0)
	for page := range slices.Chunk(s.traces, pageTraces) {
		b := s.buf[:0]
		for i := range page {
			b = append(b, page[i][:]...)
		}
		s.buf = b
		if err := s.put(s.page(keyTraces, first), b); err != nil {
			return err
		}
		first += uint32(len(page))
	}
	return nil
}

// columns puts what is compared exactly: starts, durations, traces.
func (s *sealer) columns() error {
	first := uint32(0)
	for page := range slices.Chunk(s.row, pageRows) {
		col, b := s.col[:0], s.buf[:0]
		last := uint64(0)
		for _, i := range page {
			col = binary.AppendUvarint(col, zigzag(s.start[i]-last))
			last = s.start[i]
		}
		b = append(binary.AppendUvarint(b, uint64(len(col))), col...)
		col = col[:0]
		for _, i := range page {
			col = binary.AppendUvarint(col, s.length[i])
		}
		b = append(binary.AppendUvarint(b, uint64(len(col))), col...)
		last = 0
		for _, i := range page {
			b = binary.AppendUvarint(b, zigzag(uint64(s.trace[i])-last))
			last = uint64(s.trace[i])
		}
		s.col, s.buf = col, b
		if err := s.put(s.page(keyRows, first), b); err != nil {
			return err
		}
		first += uint32(len(page))
	}
	return nil
}

func zigzag(v uint64) uint64 { return v<<1 ^ uint64(int64(v)>>63) }

func unzigzag(v uint64) uint64 { return v>>1 ^ -(v & 1) }
