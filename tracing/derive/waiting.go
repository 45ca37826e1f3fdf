package derive

import (
	"sync"

	"github.com/weir-dev/weir/tracing/span"
)

// shard is what is known of the traces whose hash falls into it.
type shard struct {
	mu      sync.Mutex
	waiting waiting
	// seen remembers whose spans came; awaited, whose children did whose parents have
	// not. Both forget the oldest when they are full.
	seen, awaited recent
}

func (sh *shard) init(cfg *GraphConfig) {
	sh.waiting.limit = max(1, cfg.MaxWaiting/numShards)
	sh.waiting.heads = make([]uint32, 64)
	sh.waiting.slots = make([]half, 1)
	sh.seen = newRecent(cfg.Recent/numShards, cfg.Wait.Std().Milliseconds())
	// Most parents come in the same batch or the next.
	sh.awaited = newRecent(cfg.Recent/numShards/4, cfg.Wait.Std().Milliseconds())
}

// key is the span that two halves of a call have in common: the client's.
type key struct {
	hash  uint64
	trace span.TraceID
	id    span.ID
}

func keyOf(trace uint64, id span.TraceID, s span.ID) key {
	x := uint64(0)
	for _, b := range s {
		x = x<<8 | uint64(b)
	}
	x = (x ^ trace) * 0x9E3779B97F4A7C15
	x = (x ^ x>>32) * 0xD6E8FEB86659FD93
	return key{x ^ x>>32, id, s}
}

type side uint8

const (
	caller side = iota // a client or producer that waits for who answers
	callee             // a server or consumer that waits for who called
)

// half is one side of a call that waits for the other.
type half struct {
	key      key
	side     side
	failed   bool
	message  bool // a producer or consumer
	peerConn conn
	node     nodeID
	peer     nodeID // the other end if no other half comes; nobody: unknown
	trace    span.TraceID
	span     span.ID // its own
	seconds  float64
	weight   float64
	born     int64 // Unix milliseconds of arrival

	next         uint32 // in the bucket
	older, newer uint32
}

// waiting is a bounded hash table of halves that also knows their order of arrival.
// Index 0 of slots is nobody's.
type waiting struct {
	limit          int
	n              int
	slots          []half
	free           uint32
	heads          []uint32 // by hash; a power of two of them
	oldest, newest uint32
}

func (sh *shard) take(k key, s side) (half, bool) { return sh.waiting.take(k, s) }
func (sh *shard) peek(k key, s side) *half {
	if i := sh.waiting.find(k, s); i != 0 {
		return &sh.waiting.slots[i]
	}
	return nil
}

func (w *waiting) find(k key, s side) uint32 {
	for i := w.heads[k.hash&uint64(len(w.heads)-1)]; i != 0; i = w.slots[i].next {
		h := &w.slots[i]
		if h.key.hash == k.hash && h.side == s && h.key.id == k.id && h.key.trace == k.trace {
			return i
		}
	}
	return 0
}

// take removes and returns one half with the key.
func (w *waiting) take(k key, s side) (half, bool) {
	i := w.find(k, s)
	if i == 0 {
		return half{}, false
	}
	return w.remove(i), true
}

// alike counts the halves with the key, up to a limit.
func (w *waiting) alike(k key, s side, limit int) (n int) {
	for i := w.find(k, s); i != 0 && n < limit; i = w.slots[i].next {
		if h := &w.slots[i]; h.key == k && h.side == s {
			n++
		}
	}
	return n
}

// leave removes and returns the oldest half if it came before a time.
func (w *waiting) leave(before int64) (half, bool) {
	if w.oldest == 0 || w.slots[w.oldest].born >= before {
		return half{}, false
	}
	return w.remove(w.oldest), true
}

func (w *waiting) add(h *half) {
	i := w.free
	if i != 0 {
		w.free = w.slots[i].next
	} else {
		i = uint32(len(w.slots))
		w.slots = append(w.slots, half{})
	}
	if w.n++; 4*w.n > len(w.heads) { // most searches find nothing, and are quick in an empty bucket
		w.grow()
	}
	at := &w.heads[h.key.hash&uint64(len(w.heads)-1)]
	h.next, *at = *at, i
	h.older, h.newer = w.newest, 0
	if w.newest != 0 {
		w.slots[w.newest].newer = i
	} else {
		w.oldest = i
	}
	w.newest = i
	w.slots[i] = *h
}

func (w *waiting) remove(i uint32) half {
	h := w.slots[i]
	at := &w.heads[h.key.hash&uint64(len(w.heads)-1)]
	for *at != i {
		at = &w.slots[*at].next
	}
	*at = h.next
	if h.older != 0 {
		w.slots[h.older].newer = h.newer
	} else {
		w.oldest = h.newer
	}
	if h.newer != 0 {
		w.slots[h.newer].older = h.older
	} else {
		w.newest = h.older
	}
	w.slots[i] = half{next: w.free}
	w.free = i
	w.n--
	return h
}

func (w *waiting) grow() {
	w.heads = make([]uint32, 4*len(w.heads))
	for i := w.oldest; i != 0; i = w.slots[i].newer {
		h := &w.slots[i]
		at := &w.heads[h.key.hash&uint64(len(w.heads)-1)]
		h.next, *at = *at, i
	}
}

// memory is what is remembered of a span.
type memory struct {
	node     nodeID
	called   bool // it is a client or producer
	answered bool // by a database: who is below it did not get a call of its own
	message  bool
}

func (m memory) pack() uint32 {
	v := uint32(m.node) << 3
	for i, bit := range [3]bool{m.called, m.answered, m.message} {
		if bit {
			v |= 1 << i
		}
	}
	return v
}

func unpack(v uint32) memory {
	return memory{node: nodeID(v >> 3), called: v&1 != 0, answered: v&2 != 0, message: v&4 != 0}
}

// ways is how many places a hash has: two cache lines.
const ways = 8

// recent is a table of fixed size from hashes to numbers, which forgets: the oldest of
// a full set makes room, and nothing is told for longer than a time. A hash may have
// several numbers. Its error is that of 64-bit hashes.
type recent struct {
	sets [][ways]trail
	keep int64
}

type trail struct {
	hash  uint64
	value uint32
	at    uint32 // Unix seconds; 0: empty
}

func newRecent(n int, keepMillis int64) recent {
	sets := 1
	for sets*ways < n {
		sets *= 2
	}
	return recent{sets: make([][ways]trail, sets), keep: keepMillis / 1000}
}

func (r *recent) set(hash uint64) *[ways]trail {
	return &r.sets[hash>>8&uint64(len(r.sets)-1)]
}

func (r *recent) put(hash uint64, value uint32, now int64) {
	set := r.set(hash)
	oldest := 0
	for i := range set {
		if set[i].at < set[oldest].at {
			oldest = i
		}
	}
	set[oldest] = trail{hash, value, uint32(now / 1000)}
}

func (r *recent) find(hash uint64, now int64) (uint32, bool) {
	set := r.set(hash)
	for i := range set {
		if set[i].hash == hash && set[i].at != 0 && int64(set[i].at)+r.keep >= now/1000 {
			return set[i].value, true
		}
	}
	return 0, false
}

// take is find, and forgets what it found.
func (r *recent) take(hash uint64, now int64) (uint32, bool) {
	set := r.set(hash)
	for i := range set {
		if set[i].hash == hash && set[i].at != 0 {
			fresh := int64(set[i].at)+r.keep >= now/1000
			set[i].at = 0
			if fresh {
				return set[i].value, true
			}
		}
	}
	return 0, false
}
