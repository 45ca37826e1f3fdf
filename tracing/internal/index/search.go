package index

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Search is [Builder.Search] of a sealed segment.
func Search(g Getter, q spanstore.Query, limit int) ([]Hit, Exactness, error) {
	page, err := g.Get([]byte{keyHead})
	if err != nil {
		return nil, Exactness{}, err
	}
	h, err := readHead(page)
	if err != nil {
		return nil, Exactness{}, fmt.Errorf("head: %w", err)
	}
	s := searcher{g: g, head: h, question: ask(&h.cfg, &q)}
	s.Verify = s.Verify || h.over && len(q.Where) > len(s.Unserved)
	if h.rows == 0 || s.question.end < h.base || s.question.start > h.last {
		return nil, s.Exactness, nil
	}
	if err := s.narrow(); err != nil {
		return nil, s.Exactness, err
	}
	hits, err := s.newest(limit)
	return hits, s.Exactness, err
}

// head is the first page of a segment.
type head struct {
	rows, traces int
	base, last   uint64 // of the starts
	over         bool
	cfg          Config
	pages        []pageBounds
}

// pageBounds are of the starts on a page of rows.
type pageBounds struct{ first, last uint64 }

// maxRows bounds what a damaged head can make a search allocate, and is more than a
// segment of the store may grow to.
const maxRows = 1 << 24

func readHead(page []byte) (h head, err error) {
	r := reader{buf: page}
	if v := r.byte(); v != version {
		return h, errorf("version %d, want %d", v, version)
	}
	rows, traces := r.uvarint(), r.uvarint()
	if rows > maxRows || traces > rows {
		return h, errorf("%d spans of %d traces", rows, traces)
	}
	h.rows, h.traces = int(rows), int(traces)
	h.base = r.uvarint()
	h.last = h.base + r.uvarint()
	h.over = r.byte() != 0
	h.cfg.MaxValueBytes = int(min(r.uvarint(), math.MaxInt32))
	h.cfg.Attributes, h.cfg.Exclude = r.strings(), r.strings()
	for range (h.rows + pageRows - 1) / pageRows {
		if r.bad {
			break
		}
		first := h.base + r.uvarint()
		h.pages = append(h.pages, pageBounds{first, first + r.uvarint()})
	}
	return h, r.end()
}

// searcher is one search of one segment.
type searcher struct {
	g Getter
	head
	question
	set rowSet // rows that may match; nil: all
}

// narrow finds the rows that meet all clauses. What is asked for and nowhere in the
// segment is the usual case of a long search: it costs one page.
func (s *searcher) narrow() error {
	over := newRowSet(0)
	if s.head.over {
		over = newRowSet(s.rows)
		if err := s.rowsOf(termOver, termOver, over); err != nil {
			return err
		}
	}
	for _, c := range s.clauses {
		met := newRowSet(s.rows)
		for _, term := range c.terms {
			if err := s.rowsOf(term, term, met); err != nil {
				return err
			}
		}
		if c.attribute {
			met.or(over)
		}
		if !s.keep(met) {
			return nil
		}
	}
	if s.short > 0 || s.long < math.MaxUint64 {
		met := newRowSet(s.rows)
		if err := s.rowsOf(termDuration+durationClass(s.short), termDuration+durationClass(s.long), met); err != nil {
			return err
		}
		s.keep(met)
	}
	if s.set == nil {
		s.set = newRowSet(s.rows)
		s.set.add(0, uint64(s.rows))
	}
	if s.noError {
		failed := newRowSet(s.rows)
		if err := s.rowsOf(statusTerm(span.StatusError), statusTerm(span.StatusError), failed); err != nil {
			return err
		}
		s.set.andNot(failed)
	}
	return nil
}

// keep leaves only these rows, and tells whether there are any.
func (s *searcher) keep(met rowSet) bool {
	if s.set == nil {
		s.set = met
	}
	return s.set.and(met)
}

// rowsOf adds the rows that have a term between two. It goes backward through the
// pages, since the rows of one term may begin on a page before.
func (s *searcher) rowsOf(low, high uint32, into rowSet) error {
	var buf [9]byte
	key := append(buf[:0], keyTerms)
	key = binary.BigEndian.AppendUint32(key, high)
	key = binary.BigEndian.AppendUint32(key, math.MaxUint32)
	for {
		k, page, err := s.g.SeekLE(key)
		if err != nil {
			return err
		}
		if len(k) == 0 || k[0] != keyTerms {
			return nil
		}
		if len(k) != len(key) || slices.Compare(k, key) > 0 {
			return errorf("key %x where a page of terms at or before %x belongs", k, key)
		}
		copy(key, k)
		first := binary.BigEndian.Uint32(key[1:])
		if err := readTerms(page, first, low, high, into); err != nil {
			return fmt.Errorf("terms from %08x: %w", first, err)
		}
		if first < low || !decrement(key[1:]) {
			return nil
		}
	}
}

// decrement makes a key the one before it; false: there is none.
func decrement(key []byte) bool {
	for i := len(key) - 1; i >= 0; i-- {
		key[i]--
		if key[i] != 0xff {
			return true
		}
	}
	return false
}

// readTerms adds the rows of the terms between two that are on a page.
func readTerms(page []byte, first, low, high uint32, into rowSet) error {
	r := reader{buf: page}
	term := uint64(first)
	for r.at < len(r.buf) {
		term += r.uvarint()
		how := r.uvarint()
		if r.bad || term > uint64(high) {
			break
		}
		wanted := term >= uint64(low)
		if how&listMany == 0 {
			if wanted && !into.add(how>>1, 1) {
				return errorf("row %d of %d", how>>1, into.rows())
			}
			continue
		}
		list := reader{buf: r.take(how >> 2)}
		if wanted {
			if err := list.rows(how&listRuns != 0, into); err != nil {
				return err
			}
		}
	}
	return r.fault()
}

// rows adds a list of rows.
func (r *reader) rows(runs bool, into rowSet) error {
	at := uint64(0)
	for r.at < len(r.buf) {
		gap, n := r.uvarint(), uint64(1)
		if runs {
			if gap&1 != 0 {
				n = r.uvarint() + 2
			}
			gap >>= 1
		}
		if r.bad || gap > maxRows || n > maxRows || !into.add(at+gap, n) {
			return errorf("rows from %d of %d", at+gap, into.rows())
		}
		at += gap + n
	}
	return nil
}

// newest reads the rows that may match, page by page, those with the newest first.
func (s *searcher) newest(limit int) ([]Hit, error) {
	var order []int
	spans := 0
	for i := range s.pages {
		if s.pages[i].last < s.start || s.pages[i].first > s.end {
			continue
		}
		if n := s.set.count(i*pageRows, pageRows); n > 0 {
			order = append(order, i)
			spans += n
		}
	}
	if len(order) == 0 {
		return nil, nil
	}
	slices.SortFunc(order, func(a, b int) int {
		if s.pages[a].last != s.pages[b].last && s.pages[a].last > s.pages[b].last {
			return -1
		}
		return 1
	})
	found := newNewest(limit, spans, s.traces)
	for _, i := range order {
		if found.full(s.pages[i].last) {
			break
		}
		if err := s.page(i, found); err != nil {
			return nil, fmt.Errorf("rows from %d: %w", i*pageRows, err)
		}
	}
	found.prune()
	return s.hits(found)
}

// page offers the rows of a page.
func (s *searcher) page(i int, found *newest) error {
	first := i * pageRows
	page, err := s.g.Get(binary.BigEndian.AppendUint32([]byte{keyRows}, uint32(first)))
	if err != nil {
		return err
	}
	r := reader{buf: page}
	starts := reader{buf: r.take(r.uvarint())}
	lengths := reader{buf: r.take(r.uvarint())}
	var start, trace uint64
	for row := first; row < min(first+pageRows, s.rows); row++ {
		start += unzigzag(starts.uvarint())
		length := lengths.uvarint()
		trace += unzigzag(r.uvarint())
		if !s.set.has(row) || start < s.start || start > s.end || length < s.short || length > s.long {
			continue
		}
		if trace >= uint64(s.traces) {
			return errorf("trace %d of %d", trace, s.traces)
		}
		found.offer(uint32(trace), start)
	}
	if starts.bad || lengths.bad {
		return errorf("its columns are too short for the %d rows of the segment", s.rows)
	}
	return r.end()
}

// hits looks the trace ids up, page by page.
func (s *searcher) hits(n *newest) ([]Hit, error) {
	hits := make([]Hit, len(n.found))
	byTrace := make([]int, len(n.found))
	for i := range byTrace {
		byTrace[i] = i
	}
	slices.SortFunc(byTrace, func(a, b int) int { return int(n.found[a].trace) - int(n.found[b].trace) })
	var page []byte
	have := -1
	for _, i := range byTrace {
		trace := int(n.found[i].trace)
		if first := trace / pageTraces * pageTraces; first != have {
			var err error
			page, err = s.g.Get(binary.BigEndian.AppendUint32([]byte{keyTraces}, uint32(first)))
			if err != nil {
				return nil, err
			}
			have = first
		}
		at := (trace - have) * len(span.TraceID{})
		if at+len(span.TraceID{}) > len(page) {
			return nil, errorf("traces from %d: trace %d is not on it", have, trace)
		}
		hits[i].Start = n.found[i].start
		copy(hits[i].Trace[:], page[at:])
	}
	return hits, nil
}
