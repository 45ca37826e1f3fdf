package pebblestore

import (
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// dictStrings and dictBytes bound a partition's dictionary in memory: at 48 bytes
	// an entry beside the text, 14 MiB at most. The usual load has a few thousand.
	dictStrings = 128 << 10
	dictBytes   = 8 << 20
	// dictLongest bounds one string; a longer one is rarely said twice.
	dictLongest = 512
	// dictSightings is in how many requests a string is met before it is taken up.
	// An id of a user or of an order is in every span of its trace, but in one or two
	// requests. Unmeasured: 3 keeps those out of the generated load's dictionary.
	dictSightings = 3
	// sightings is how many strings are watched at a time, in 8 bytes each.
	sightings = 1 << 16
	// readStrings and readResources bound what is remembered of a partition that is
	// only read, about 2 MiB together.
	readStrings   = 16 << 10
	readResources = 1 << 10
	// knownResources bounds the resources and scopes of which the writer knows that
	// they are stored; one that it forgot is stored again under another number.
	knownResources = 16 << 10
)

// dict is the dictionary of the partition that is written to. What it takes up is
// pending until the next commit, which takes it along: every commit that uses a
// number comes with it or after it.
type dict struct {
	mu      sync.RWMutex
	ids     map[string]uint32
	strings []string
	bytes   int
	seed    maphash.Seed
	seen    []atomic.Uint64 // hash 32, request 24, count 8 bits

	resMu    sync.Mutex
	res      map[string]uint64
	resBytes map[uint64][]byte
	nextRes  uint64

	pendMu  sync.Mutex
	pending []row

	db *pebble.DB
}

type row struct{ key, value []byte }

// loadDict reads the dictionary of a partition.
func loadDict(db *pebble.DB) (*dict, error) {
	d := &dict{
		ids: map[string]uint32{}, seed: maphash.MakeSeed(), seen: make([]atomic.Uint64, sightings),
		res: map[string]uint64{}, resBytes: map[uint64][]byte{}, db: db,
	}
	err := each(db, ofKind(keyString), func(key, value []byte) error {
		if len(key) != 5 {
			return fmt.Errorf("dictionary key %x: %w", key, errShort)
		}
		id := int(uint32(key[1])<<24 | uint32(key[2])<<16 | uint32(key[3])<<8 | uint32(key[4]))
		if id >= dictStrings {
			return fmt.Errorf("dictionary has number %d, at most %d are given", id, dictStrings)
		}
		for len(d.strings) <= id { // a gap is a string that no commit took along
			d.strings = append(d.strings, "")
		}
		d.strings[id] = string(value)
		d.ids[d.strings[id]] = uint32(id)
		d.bytes += len(value)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d, each(db, ofKind(keyResource), func(key, value []byte) error {
		id := number(key)
		d.nextRes = max(d.nextRes, id+1)
		d.know(string(value), id)
		return nil
	})
}

// each calls fn with every key in bounds; they are its own until it returns.
func each(db pebble.Reader, bounds *pebble.IterOptions, fn func(key, value []byte) error) (err error) {
	it, err := db.NewIter(bounds)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := fn(it.Key(), value); err != nil {
			return err
		}
	}
	return nil // what ended it, closing tells
}

func (d *dict) know(enc string, id uint64) {
	if len(d.res) >= knownResources {
		clear(d.res)
		clear(d.resBytes)
	}
	d.res[enc] = id
	d.resBytes[id] = []byte(enc)
}

// take moves what is pending into a commit.
func (d *dict) take(b *pebble.Batch) error {
	d.pendMu.Lock()
	rows := d.pending
	d.pending = nil
	d.pendMu.Unlock()
	for _, r := range rows {
		if err := b.Set(r.key, r.value, nil); err != nil {
			return err
		}
	}
	return nil
}

func (d *dict) pend(key, value []byte) {
	d.pendMu.Lock()
	d.pending = append(d.pending, row{key, value})
	d.pendMu.Unlock()
}

// packing is the dictionary as one request sees it, by one goroutine: it holds the
// strings still between begin and end.
type packing struct {
	d       *dict
	request uint32
	wants   []string // met often enough to be taken up
}

func (p *packing) begin(d *dict, request uint64) {
	p.d, p.request, p.wants = d, uint32(request)&0xffffff, p.wants[:0]
	d.mu.RLock()
}

// end takes up what was met often enough, for the requests to come.
func (p *packing) end() {
	d := p.d
	p.d = nil
	d.mu.RUnlock()
	if len(p.wants) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range p.wants {
		if _, have := d.ids[s]; have || len(d.strings) >= dictStrings || d.bytes+len(s) > dictBytes {
			continue
		}
		s = strings.Clone(s)
		id := uint32(len(d.strings))
		d.strings = append(d.strings, s)
		d.ids[s] = id
		d.bytes += len(s)
		d.pend(stringKey(id), []byte(s))
	}
	clear(p.wants)
}

// ID implements pack.Dict.
func (p *packing) ID(s string) (uint32, bool) {
	d := p.d
	if id, ok := d.ids[s]; ok {
		return id, true
	}
	if len(s) < 2 || len(s) > dictLongest || len(d.strings) >= dictStrings {
		return 0, false
	}
	h := maphash.String(d.seed, s)
	slot := &d.seen[h%sightings]
	was := slot.Load()
	if was>>32 != h>>32 {
		slot.Store(h>>32<<32 | uint64(p.request)<<8 | 1)
		return 0, false
	}
	if uint32(was>>8)&0xffffff == p.request {
		return 0, false
	}
	count := was&0xff + 1
	if count >= dictSightings {
		p.wants = append(p.wants, s)
		count = 0
	}
	slot.Store(h>>32<<32 | uint64(p.request)<<8 | count)
	return 0, false
}

// Resource implements pack.Dict.
func (p *packing) Resource(enc []byte) uint64 {
	d := p.d
	d.resMu.Lock()
	defer d.resMu.Unlock()
	if id, ok := d.res[string(enc)]; ok {
		return id
	}
	id := d.nextRes
	d.nextRes++
	d.know(string(enc), id)
	d.pend(numberedKey(keyResource, id), d.resBytes[id])
	return id
}

// String implements pack.Dict.
func (p *packing) String(id uint32) (string, error) { return p.d.str(id) }

// ResourceBytes implements pack.Dict.
func (p *packing) ResourceBytes(id uint64) ([]byte, error) { return p.d.ResourceBytes(id) }

// reading is a dictionary of which only the way from numbers to strings is used.
type reading interface {
	String(id uint32) (string, error)
	ResourceBytes(id uint64) ([]byte, error)
}

// unpacking is a reading as pack.Dict.
type unpacking struct{ reading }

func (unpacking) ID(string) (uint32, bool) { return 0, false }
func (unpacking) Resource([]byte) uint64   { return 0 }

func (d *dict) String(id uint32) (string, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.str(id)
}

func (d *dict) str(id uint32) (string, error) {
	if int(id) >= len(d.strings) {
		return "", fmt.Errorf("dictionary has no string %d", id)
	}
	return d.strings[id], nil
}

func (d *dict) ResourceBytes(id uint64) ([]byte, error) {
	d.resMu.Lock()
	enc := d.resBytes[id]
	d.resMu.Unlock()
	if enc != nil {
		return enc, nil
	}
	return get(d.db, numberedKey(keyResource, id))
}

// readDict looks numbers up as they come, for a partition that is only read.
type readDict struct {
	db      *pebble.DB
	mu      sync.Mutex
	strings map[uint32]string
	res     map[uint64][]byte
}

func newReadDict(db *pebble.DB) *readDict {
	return &readDict{db: db, strings: map[uint32]string{}, res: map[uint64][]byte{}}
}

func (d *readDict) String(id uint32) (string, error) {
	d.mu.Lock()
	s, ok := d.strings[id]
	d.mu.Unlock()
	if ok {
		return s, nil
	}
	v, err := get(d.db, stringKey(id))
	if err != nil {
		return "", err
	}
	s = string(v)
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.strings) >= readStrings {
		clear(d.strings)
	}
	d.strings[id] = s
	return s, nil
}

func (d *readDict) ResourceBytes(id uint64) ([]byte, error) {
	d.mu.Lock()
	enc := d.res[id]
	d.mu.Unlock()
	if enc != nil {
		return enc, nil
	}
	enc, err := get(d.db, numberedKey(keyResource, id))
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.res) >= readResources {
		clear(d.res)
	}
	d.res[id] = enc
	return enc, nil
}

// get returns a copy.
func get(db pebble.Reader, key []byte) ([]byte, error) {
	v, closer, err := db.Get(key)
	if err != nil {
		return nil, fmt.Errorf("key %x: %w", key, err)
	}
	defer closer.Close()
	return append([]byte{}, v...), nil
}
