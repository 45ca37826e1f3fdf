package pebblestore

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"sync"

	"github.com/weir-dev/weir/tracing/span"
)

// recent knows the spans that were stored last, so that a request that is sent again
// stores nothing twice. It has two tables of 64-bit hashes: when the young one is
// half full it becomes the old one, which is forgotten. With random 64-bit hashes,
// one of 10^13 spans is taken for another (1M known).
type recent struct {
	seed maphash.Seed

	mu         sync.Mutex
	young, old []uint64 // open addressing, 0 is empty, 1 was taken out
	used       int
	flights    map[*flight]struct{}
}

// flight is a commit under way: spans it has claimed are known, but not yet durable.
type flight struct {
	done chan struct{}
	err  error // once done
}

func newRecent(spans int) *recent {
	size := 1 << bits.Len(uint(max(spans, 1024)-1)) // two halves of it are in use
	return &recent{
		seed: maphash.MakeSeed(), flights: map[*flight]struct{}{},
		young: make([]uint64, size), old: make([]uint64, size),
	}
}

// hash is of what makes a span the same as another: who it is, when it was, and how
// much it says.
func (r *recent) hash(in *span.Batch, s *span.Span) uint64 {
	var b [80]byte
	copy(b[0:], s.TraceID[:])
	copy(b[16:], s.ID[:])
	copy(b[24:], s.Parent[:])
	binary.LittleEndian.PutUint64(b[32:], s.Start)
	binary.LittleEndian.PutUint64(b[40:], s.End)
	b[48], b[49] = byte(s.Kind), byte(s.Status)
	binary.LittleEndian.PutUint32(b[52:], uint32(len(s.Attrs)))
	binary.LittleEndian.PutUint32(b[56:], uint32(len(s.Events)))
	binary.LittleEndian.PutUint32(b[60:], uint32(len(s.Links)))
	binary.LittleEndian.PutUint64(b[64:], maphash.String(r.seed, s.Name))
	if s.Resource < len(in.Resources) {
		binary.LittleEndian.PutUint64(b[72:], maphash.String(r.seed, in.Resources[s.Resource].Service))
	}
	return max(maphash.Bytes(r.seed, b[:]), 2)
}

// claim notes the hashes, tells which were not known, and returns the commit that is
// to store them and, if any was known, those that may be about to.
func (r *recent) claim(hashes []uint64, isNew []bool) (f *flight, others []*flight, known int) {
	f = &flight{done: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, h := range hashes {
		isNew[i] = r.add(h)
		if !isNew[i] {
			known++
		}
	}
	if known > 0 {
		for o := range r.flights {
			others = append(others, o)
		}
	}
	r.flights[f] = struct{}{}
	return f, others, known
}

// reset forgets all that is known.
func (r *recent) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.young)
	clear(r.old)
	r.used = 0
}

// land ends a flight. Where the commit may never return, its Append ends it before.
func (r *recent) land(f *flight, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, flying := r.flights[f]; !flying {
		return
	}
	delete(r.flights, f)
	f.err = err
	close(f.done)
}

// forget takes out what was claimed and never written.
func (r *recent) forget(hashes []uint64, isNew []bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, h := range hashes {
		if isNew[i] {
			forget(r.young, h)
			forget(r.old, h)
		}
	}
}

// note adds what a journal tells.
func (r *recent) note(b *span.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range b.Spans {
		r.add(r.hash(b, &b.Spans[i]))
	}
}

func (r *recent) add(h uint64) bool {
	if find(r.old, h) {
		return false
	}
	mask := uint64(len(r.young) - 1)
	i := h & mask
	for ; r.young[i] != 0; i = (i + 1) & mask {
		if r.young[i] == h {
			return false
		}
	}
	r.young[i] = h
	if r.used++; r.used >= len(r.young)/2 {
		r.young, r.old = r.old, r.young
		clear(r.young)
		r.used = 0
	}
	return true
}

func find(table []uint64, h uint64) bool {
	mask := uint64(len(table) - 1)
	for i := h & mask; table[i] != 0; i = (i + 1) & mask {
		if table[i] == h {
			return true
		}
	}
	return false
}

func forget(table []uint64, h uint64) {
	mask := uint64(len(table) - 1)
	for i := h & mask; table[i] != 0; i = (i + 1) & mask {
		if table[i] == h {
			table[i] = 1
			return
		}
	}
}
