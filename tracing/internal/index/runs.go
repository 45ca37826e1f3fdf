package index

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// runner makes the runs of rows that have a term: the term in the upper half of a
// word, first row and length less 1 in the lower. Most terms of a span are those of
// the span before, in the same place, so that there are far fewer runs than terms.
type runner struct {
	runs    []uint64
	lenBits uint // of the length
	open    []openRun

	list []rowRun
	enc  []byte
	out  termPage
}

// openRun is the last run in a place.
type openRun struct {
	term uint32
	end  uint32 // row after it
	at   int    // in runs, plus 1; 0: none
}

// rowRun is some rows, without end.
type rowRun struct{ from, end uint32 }

// place tells where a term stands: the shape's own, its senders', the span's.
func (r *runner) place(i int) *openRun {
	for len(r.open) <= i {
		r.open = append(r.open, openRun{})
	}
	return &r.open[i]
}

func (r *runner) add(o *openRun, term, row, n uint32) {
	longest := uint32(1) << r.lenBits
	for n > 0 {
		if o.at > 0 && o.term == term && o.end == row {
			have := uint32(r.runs[o.at-1])&(longest-1) + 1
			if more := min(n, longest-have); more > 0 {
				r.runs[o.at-1] += uint64(more)
				o.end, row, n = o.end+more, row+more, n-more
				continue
			}
		}
		r.runs = append(r.runs, uint64(term)<<32|uint64(row)<<r.lenBits)
		*o = openRun{term: term, end: row + 1, at: len(r.runs)}
		row, n = row+1, n-1
	}
}

// maxLenBits bounds the length of a run; longer ones are joined when they are written.
const maxLenBits = 16

// collect makes the runs of all terms.
func (s *sealer) collect() {
	n := len(s.row)
	s.lenBits = min(uint(32-bits.Len(uint(max(n, 1)-1))), maxLenBits)
	s.runs = make([]uint64, 0, len(s.terms)/2+n/2+64)
	s.shapeRuns()
	s.open = s.open[:0]
	s.spanRuns()
	s.runs = sortByTerm(s.runs)
}

func (s *sealer) shapeRuns() {
	var own [4]uint32
	at := 0
	for _, sh := range s.order {
		from := at
		for at < len(s.row) && s.shape[s.row[at]] == sh {
			at++
		}
		row, n := uint32(from), uint32(at-from)
		shape := &s.shapes[sh]
		for i, term := range shape.appendTerms(own[:0]) {
			s.add(s.place(i), term, row, n)
		}
		group := &s.groups[shape.group]
		if group.over {
			s.add(s.place(len(own)), termOver, row, n)
		}
		for i, term := range group.terms {
			s.add(s.place(len(own)+1+i), term, row, n)
		}
	}
}

func (s *sealer) spanRuns() {
	over := make(map[uint32]bool, len(s.over))
	for _, i := range s.over {
		over[i] = true
	}
	for at, i := range s.row {
		row := uint32(at)
		s.add(s.place(0), termDuration+durationClass(s.length[i]), row, 1)
		if len(over) > 0 && over[i] {
			s.add(s.place(1), termOver, row, 1)
		}
		from := uint32(0)
		if i > 0 {
			from = s.ends[i-1]
		}
		terms := s.terms[from:s.ends[i]]
		s.place(len(terms) + 1)
		for k, term := range terms {
			s.add(&s.open[k+2], term, row, 1)
		}
	}
}

// sortByTerm is a radix sort by the upper half, that keeps the order of equals.
func sortByTerm(runs []uint64) []uint64 {
	const digits, radix = 3, 1 << 11
	var counts [digits][radix]uint32
	for _, v := range runs {
		counts[0][v>>32%radix]++
		counts[1][v>>43%radix]++
		counts[2][v>>54]++
	}
	spare := make([]uint64, len(runs))
	for d := range digits {
		at := uint32(0)
		for i, n := range counts[d] {
			counts[d][i] = at
			at += n
		}
		shift := 32 + 11*d
		count := &counts[d]
		for _, v := range runs {
			k := v >> shift % radix
			spare[count[k]] = v
			count[k]++
		}
		runs, spare = spare, runs
	}
	return runs
}

// putTerms writes the rows of each term.
func (s *sealer) putTerms() error {
	s.out = termPage{put: s.put}
	for i := 0; i < len(s.runs); {
		term := uint32(s.runs[i] >> 32)
		end := i + 1
		for end < len(s.runs) && uint32(s.runs[end]>>32) == term {
			end++
		}
		if err := s.putList(term, s.runs[i:end]); err != nil {
			return err
		}
		i = end
	}
	return s.out.flush()
}

func (s *sealer) putList(term uint32, runs []uint64) error {
	if !slices.IsSorted(runs) { // the same term in several places
		slices.Sort(runs)
	}
	list, rows := s.list[:0], uint32(0)
	for _, v := range runs {
		from := uint32(v) >> s.lenBits
		end := from + uint32(v)&(1<<s.lenBits-1) + 1
		if k := len(list) - 1; k >= 0 && from <= list[k].end {
			list[k].end = max(list[k].end, end)
		} else {
			list = append(list, rowRun{from, end})
		}
	}
	s.list = list
	for _, l := range list {
		rows += l.end - l.from
	}
	if rows == 1 {
		return s.out.add(term, list[0].from, uint64(list[0].from)<<1, nil)
	}
	// A run costs its gaps a bit, and saves a byte a row.
	if int(rows) > len(list)+len(list)/4 {
		return s.putRuns(term, list)
	}
	return s.putGaps(term, list)
}

func (s *sealer) putRuns(term uint32, list []rowRun) error {
	for len(list) > 0 {
		enc, at, from := s.enc[:0], uint32(0), list[0].from
		for len(list) > 0 && len(enc) < listBytes {
			l := list[0]
			gap := uint64(l.from-at) << 1
			if n := l.end - l.from; n > 1 {
				enc = binary.AppendUvarint(enc, gap|1)
				enc = binary.AppendUvarint(enc, uint64(n-2))
			} else {
				enc = binary.AppendUvarint(enc, gap)
			}
			at = l.end
			list = list[1:]
		}
		s.enc = enc
		if err := s.out.add(term, from, uint64(len(enc))<<2|listRuns|listMany, enc); err != nil {
			return err
		}
	}
	return nil
}

func (s *sealer) putGaps(term uint32, list []rowRun) error {
	for len(list) > 0 {
		enc, at, from := s.enc[:0], uint32(0), list[0].from
		for len(list) > 0 && len(enc) < listBytes {
			for row := list[0].from; row < list[0].end; row++ {
				enc = binary.AppendUvarint(enc, uint64(row-at))
				at = row + 1
			}
			list = list[1:]
		}
		s.enc = enc
		if err := s.out.add(term, from, uint64(len(enc))<<2|listMany, enc); err != nil {
			return err
		}
	}
	return nil
}

// termPage is the page of terms that is being filled.
type termPage struct {
	put  func(key, value []byte) error
	key  [9]byte
	buf  []byte
	last uint32 // term
}

func (p *termPage) add(term, row uint32, how uint64, list []byte) error {
	if len(p.buf) > 0 && len(p.buf)+len(list) > pageTerms {
		if err := p.flush(); err != nil {
			return err
		}
	}
	if len(p.buf) == 0 {
		p.key[0] = keyTerms
		binary.BigEndian.PutUint32(p.key[1:], term)
		binary.BigEndian.PutUint32(p.key[5:], row)
		p.last = term
	}
	p.buf = binary.AppendUvarint(p.buf, uint64(term-p.last))
	p.last = term
	p.buf = binary.AppendUvarint(p.buf, how)
	p.buf = append(p.buf, list...)
	return nil
}

func (p *termPage) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	err := p.put(p.key[:], p.buf)
	p.buf = p.buf[:0]
	return err
}
