package ingest

import (
	"sync"
	"sync/atomic"
)

// target is what a key leads to: the series, and the replica of an HA pair
// whose labels these are (0 when the series belongs to no pair).
type target struct {
	id      seriesID
	replica replicaID
}

// keyTable maps keys to targets: open addressing, linear probing, no pointers,
// 24 bytes a slot. Lookups take no lock; see ADR 2 for why it is not a cache
// library.
//
// A slot is published by storing its first half last, and is never changed
// afterwards. Growth and sweeping replace the whole array: a lookup that still
// reads the old one misses at worst, and the miss path looks again under the
// lock.
type keyTable struct {
	slots atomic.Pointer[[]keySlot]

	mu   sync.Mutex // inserts
	used int
}

type keySlot struct {
	a  atomic.Uint64 // 0 is an empty slot
	b  uint64
	to target
}

// minKeySlots is the size of an empty table: 24 KiB.
const minKeySlots = 1 << 10

func newKeyTable() *keyTable {
	t := &keyTable{}
	t.forget()
	return t
}

// forget drops all keys.
func (t *keyTable) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.start()
}

func (t *keyTable) start() {
	slots := make([]keySlot, minKeySlots)
	t.slots.Store(&slots)
	t.used = 0
}

// get looks k up.
func (t *keyTable) get(k key) (target, bool) { return find(*t.slots.Load(), k) }

// find looks k up in slots, a snapshot of the table's array.
func find(slots []keySlot, k key) (target, bool) {
	mask := uint64(len(slots) - 1)
	for i := k.b & mask; ; i = (i + 1) & mask {
		s := &slots[i]
		switch a := s.a.Load(); {
		case a == 0:
			return target{}, false
		case a == k.a && s.b == k.b:
			return s.to, true
		}
	}
}

// insert puts k in unless it is there, and returns what it leads to. When the
// table holds most keys already (0: no bound), it starts over empty and says so.
func (t *keyTable) insert(k key, to target, most int) (_ target, flushed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slots := *t.slots.Load()
	if got, ok := find(slots, k); ok {
		return got, false
	}
	switch {
	case most > 0 && t.used >= most:
		t.start()
		slots, flushed = *t.slots.Load(), true
	case 3*(t.used+1) > 2*len(slots):
		// Two thirds full: 2 probes for a hit on average, 36 to 72 bytes a key.
		slots = t.rebuild(2*len(slots), nil)
	}
	put(slots, k, to)
	t.used++
	return to, flushed
}

func put(slots []keySlot, k key, to target) {
	mask := uint64(len(slots) - 1)
	i := k.b & mask
	for slots[i].a.Load() != 0 {
		i = (i + 1) & mask
	}
	slots[i].b, slots[i].to = k.b, to
	slots[i].a.Store(k.a)
}

// rebuild copies the keys that keep admits (nil: all) into an array of n slots
// and publishes it. The caller holds mu.
func (t *keyTable) rebuild(n int, keep func(target) bool) []keySlot {
	next := make([]keySlot, n)
	t.used = 0
	old := *t.slots.Load()
	for i := range old {
		s := &old[i]
		a := s.a.Load()
		if a == 0 || keep != nil && !keep(s.to) {
			continue
		}
		put(next, key{a, s.b}, s.to)
		t.used++
	}
	t.slots.Store(&next)
	return next
}

// sweep drops the keys that keep does not admit and shrinks the array to fit.
func (t *keyTable) sweep(keep func(target) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	live := 0
	old := *t.slots.Load()
	for i := range old {
		if old[i].a.Load() != 0 && keep(old[i].to) {
			live++
		}
	}
	n := minKeySlots
	for 3*(live+1) > 2*n {
		n *= 2
	}
	t.rebuild(n, keep)
}

func (t *keyTable) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.used
}
