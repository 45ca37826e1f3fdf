package bucket

// clock is a map of at most size entries that forgets what was not used lately:
// each use gives an entry a second chance, a hand goes round and takes those away.
// It is its user's to lock.
type clock[K comparable, V any] struct {
	size int
	ring []clockEntry[K, V]
	at   map[K]int // place in ring
	hand int
}

type clockEntry[K comparable, V any] struct {
	key        K
	value      V
	used, held bool
}

func newClock[K comparable, V any](size int) *clock[K, V] {
	return &clock[K, V]{size: size, at: make(map[K]int)}
}

// get returns the value of k and its place, which stays the same until k goes.
func (c *clock[K, V]) get(k K) (v V, place int, ok bool) {
	if place, ok = c.at[k]; !ok {
		return v, 0, false
	}
	c.ring[place].used = true
	return c.ring[place].value, place, true
}

// put adds or replaces k and returns its place, and what had to go for it.
func (c *clock[K, V]) put(k K, v V) (place int, gone V, evicted bool) {
	if place, ok := c.at[k]; ok {
		c.ring[place].value = v
		return place, gone, false
	}
	if len(c.ring) < c.size {
		c.ring = append(c.ring, clockEntry[K, V]{})
		place = len(c.ring) - 1
	} else {
		place = c.free()
	}
	if e := c.ring[place]; e.held {
		delete(c.at, e.key)
		gone, evicted = e.value, true
	}
	c.ring[place] = clockEntry[K, V]{key: k, value: v, held: true}
	c.at[k] = place
	return place, gone, evicted
}

// free returns a place whose entry was not used since the hand was there last.
func (c *clock[K, V]) free() int {
	for {
		place := c.hand
		c.hand = (c.hand + 1) % len(c.ring)
		if e := &c.ring[place]; !e.held || !e.used {
			return place
		}
		c.ring[place].used = false
	}
}

// remove forgets k.
func (c *clock[K, V]) remove(k K) (gone V, ok bool) {
	place, ok := c.at[k]
	if !ok {
		return gone, false
	}
	gone = c.ring[place].value
	delete(c.at, k)
	c.ring[place] = clockEntry[K, V]{}
	return gone, true
}

// restore puts k at a given place, which must be empty; places before it that are
// not there yet are made.
func (c *clock[K, V]) restore(place int, k K, v V) {
	for len(c.ring) <= place {
		c.ring = append(c.ring, clockEntry[K, V]{})
	}
	c.ring[place] = clockEntry[K, V]{key: k, value: v, held: true}
	c.at[k] = place
}
