package ingest

import (
	"hash/maphash"
	"math/rand/v2"

	"github.com/weir-dev/weir/ingest/internal/wire"
)

// key is the identity of a series as one protocol writes it: 128 bits of keyed
// hash over its labels. Two series share a key with probability 2^-128 times
// the pairs seen, and nobody who does not know the process' random seeds can
// search for a pair. The zero key means "no identity": look at the labels.
type key struct{ a, b uint64 }

// hasher makes keys. Each protocol has seeds of its own, so that equal bytes of
// different meaning do not meet.
type hasher struct {
	v1, canonical, symbol [2]maphash.Seed
	position              [256]key
}

func newHasher() *hasher {
	h := &hasher{}
	for _, s := range []*[2]maphash.Seed{&h.v1, &h.canonical, &h.symbol} {
		s[0], s[1] = maphash.MakeSeed(), maphash.MakeSeed()
	}
	for i := range h.position {
		h.position[i] = key{rand.Uint64() | 1, rand.Uint64() | 1}
	}
	return h
}

func hash128(seeds *[2]maphash.Seed, b []byte) key {
	k := key{maphash.Bytes(seeds[0], b), maphash.Bytes(seeds[1], b)}
	if k == (key{}) {
		k.a = 1
	}
	return k
}

// keysV1 gives every series of a 1.0 request its key: the hash of its encoded
// labels. A sender that orders them differently gets another key for the same
// series, which costs memory and nothing else.
func (h *hasher) keysV1(r *wire.Request, keys []key) []key {
	for i := range r.Series {
		keys = append(keys, hash128(&h.v1, r.RawLabels(&r.Series[i])))
	}
	return keys
}

// keysV2 gives every series of a 2.0 request its key. Each symbol is hashed
// once a request; a series' key is the sum of its symbols' hashes, each times
// an odd random factor of its position (multilinear hashing, Carter and Wegman
// 1979), so the work a label is two multiplications and no lookup by content.
// Metadata is part of the key: when it changes, the labels are read again.
// A series with a reference outside of the symbol table, or an odd number of
// them, has no key.
func (h *hasher) keysV2(r *wire.Request, keys, symbols []key) (_, _ []key) {
	symbols = symbols[:0]
	for i := range r.Symbols {
		symbols = append(symbols, hash128(&h.symbol, r.Symbol(uint32(i))))
	}
	for i := range r.Series {
		keys = append(keys, h.keyV2(r, &r.Series[i], symbols))
	}
	return keys, symbols
}

func (h *hasher) keyV2(r *wire.Request, s *wire.Series, symbols []key) key {
	refs := r.Refs[s.Refs.Lo:s.Refs.Hi]
	n := uint32(len(symbols))
	if len(refs)%2 != 0 || s.Help >= n || s.Unit >= n {
		return key{}
	}
	help, unit := symbols[s.Help], symbols[s.Unit]
	var k key
	// Three positions are taken by the metadata, hence the offset.
	k.a = help.a*h.position[0].a + unit.a*h.position[1].a + uint64(uint32(s.Type))*h.position[2].a
	k.b = help.b*h.position[0].b + unit.b*h.position[1].b + uint64(uint32(s.Type))*h.position[2].b
	if len(refs) > len(h.position)-3 {
		return key{} // more labels than any limit admits: always looked at
	}
	position := h.position[3 : 3+len(refs)]
	for j, ref := range refs {
		if ref >= n {
			return key{}
		}
		sym := &symbols[ref]
		k.a += sym.a * position[j].a
		k.b += sym.b * position[j].b
	}
	if k == (key{}) {
		k.a = 1
	}
	return k
}
