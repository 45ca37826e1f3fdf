package block

import "math/bits"

// bitset is a set of numbers below a bound. Nil is the set without one.
type bitset []uint64

func newBitset(bound uint32) bitset { return make(bitset, (uint64(bound)+63)/64) }

// set is false when n is out of bounds.
func (b bitset) set(n uint32) bool {
	if uint64(n/64) >= uint64(len(b)) {
		return false
	}
	b[n/64] |= 1 << (n % 64)
	return true
}

func (b bitset) has(n uint32) bool {
	return uint64(n/64) < uint64(len(b)) && b[n/64]&(1<<(n%64)) != 0
}

// ranks is a set that knows how many of its numbers are below a given one: what a
// number of the old table is in the new.
type ranks struct {
	bitset
	below []uint32 // by word
	total uint32
}

func newRanks(b bitset) *ranks {
	r := &ranks{bitset: b, below: make([]uint32, len(b))}
	for i, w := range b {
		r.below[i] = r.total
		r.total += uint32(bits.OnesCount64(w))
	}
	return r
}

func (r *ranks) rank(n uint32) uint32 {
	return r.below[n/64] + uint32(bits.OnesCount64(r.bitset[n/64]&(1<<(n%64)-1)))
}

// translate appends the ranks of members to dst.
func (r *ranks) translate(dst, members []uint32) []uint32 {
	for _, n := range members {
		dst = append(dst, r.rank(n))
	}
	return dst
}
