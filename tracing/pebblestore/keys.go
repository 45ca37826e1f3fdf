package pebblestore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// The first byte of a key says what it is; ../FORMAT.md has every byte.
const (
	keyString    = 'd' // a string of the dictionary
	keyCalls     = 'g' // calls of a service by another in a minute
	keyPage      = 'i' // a page of a sealed segment's index
	keyJournal   = 'j' // a commit whose spans no sealed segment has, or hardly
	keyMeta      = 'm' // of the partition
	keyOperation = 'o' // a service, a kind and an operation
	keyResource  = 'r' // an encoded resource or scope
	keySegment   = 's' // a sealed segment
	keyTrace     = 't' // a fragment: spans of one trace that came in one request
	keyDropped   = 'x' // a trace that was dropped
)

var (
	metaFormat = []byte("mformat") // formatVersion as text
	metaClosed = []byte("mclosed") // 8 bytes: the last journal number; absent: it takes spans
	metaKept   = []byte("mkept")   // 8 bytes: the age in seconds that the last rewriting applied
)

// formatVersion is raised when an older Weir could not read what is written.
const formatVersion = "1"

const tracePrefix = 1 + 16 // what the Bloom filters hold of a fragment's key

// comparer orders keys by their bytes. The keys of a trace's fragments share a prefix
// for the Bloom filters; any other key is its own.
func comparer() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = "weir.traces.1"
	c.Split = split
	c.Compare = bytes.Compare
	c.ComparePointSuffixes = bytes.Compare
	c.CompareRangeSuffixes = bytes.Compare
	return &c
}

func split(key []byte) int {
	if len(key) > tracePrefix && key[0] == keyTrace {
		return tracePrefix
	}
	return len(key)
}

func appendTraceKey(dst []byte, id span.TraceID, seq uint64) []byte {
	dst = append(dst, keyTrace)
	dst = append(dst, id[:]...)
	return binary.BigEndian.AppendUint64(dst, seq)
}

// parseTraceKey returns false for a key that is not a fragment's.
func parseTraceKey(key []byte) (id span.TraceID, seq uint64, ok bool) {
	if len(key) != tracePrefix+8 || key[0] != keyTrace {
		return id, 0, false
	}
	copy(id[:], key[1:])
	return id, binary.BigEndian.Uint64(key[tracePrefix:]), true
}

func droppedKey(id span.TraceID) []byte { return append([]byte{keyDropped}, id[:]...) }

func numberedKey(kind byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{kind}, n)
}

func number(key []byte) uint64 {
	if len(key) < 9 {
		return 0
	}
	return binary.BigEndian.Uint64(key[1:9])
}

func stringKey(id uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{keyString}, id)
}

// ofKind are the bounds of all keys of a kind.
func ofKind(kind byte) *pebble.IterOptions {
	return &pebble.IterOptions{LowerBound: []byte{kind}, UpperBound: []byte{kind + 1}}
}

var errShort = errors.New("it ends too early")

// operation is a key of an 'o' row.
type operation struct {
	service, name string
	kind          span.Kind
}

func (o operation) key() []byte {
	key := binary.AppendUvarint([]byte{keyOperation}, uint64(len(o.service)))
	key = append(key, o.service...)
	return append(append(key, byte(o.kind)), o.name...)
}

func parseOperation(key []byte) (operation, error) {
	service, rest, err := cutString(key[1:])
	if err != nil || len(rest) == 0 {
		return operation{}, fmt.Errorf("operation key %x: %w", key, errShort)
	}
	return operation{service: string(service), kind: span.Kind(rest[0]), name: string(rest[1:])}, nil
}

func callsKey(minute uint64, d spanstore.Dependency) []byte {
	key := numberedKey(keyCalls, minute)
	key = binary.AppendUvarint(key, uint64(len(d.Parent)))
	key = append(key, d.Parent...)
	return append(key, d.Child...)
}

func parseCalls(key, value []byte) (minute uint64, d spanstore.Dependency, err error) {
	if len(key) < 9 {
		return 0, d, fmt.Errorf("calls key %x: %w", key, errShort)
	}
	parent, child, err := cutString(key[9:])
	calls, n := binary.Uvarint(value)
	if err != nil || n <= 0 {
		return 0, d, fmt.Errorf("calls key %x: %w", key, errShort)
	}
	return number(key), spanstore.Dependency{Parent: string(parent), Child: string(child), Calls: calls}, nil
}

func cutString(b []byte) (s, rest []byte, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, nil, errShort
	}
	return b[k : k+int(n)], b[k+int(n):], nil
}

// commitRow is the value of a 'j' row: the fragments that a commit wrote.
type commitRow struct {
	seq    uint64 // in the fragments' keys
	traces []byte // 16 bytes each
}

func parseCommitRow(value []byte) (commitRow, error) {
	if len(value) < 8 || (len(value)-8)%16 != 0 {
		return commitRow{}, fmt.Errorf("a journal row of %d bytes, want 8 and 16 a trace", len(value))
	}
	return commitRow{seq: binary.BigEndian.Uint64(value), traces: value[8:]}, nil
}

func (r commitRow) len() int { return len(r.traces) / 16 }

func (r commitRow) trace(i int) (id span.TraceID) {
	copy(id[:], r.traces[16*i:])
	return id
}

// segment is what an 's' row says of a sealed segment.
type segment struct {
	id          uint64
	spans       uint64
	fragments   uint64
	min, max    uint64 // of the spans' starts, Unix nanoseconds
	first, last uint64 // journal numbers of its commits
}

func (g *segment) value() []byte {
	var b []byte
	for _, v := range []uint64{g.spans, g.fragments, g.min, g.max, g.first, g.last} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func parseSegment(key, value []byte) (segment, error) {
	g := segment{id: number(key)}
	for _, v := range []*uint64{&g.spans, &g.fragments, &g.min, &g.max, &g.first, &g.last} {
		n, k := binary.Uvarint(value)
		if k <= 0 {
			return g, fmt.Errorf("segment %d: %w", g.id, errShort)
		}
		*v, value = n, value[k:]
	}
	return g, nil
}

// pagePrefix is before every key of the segment's index.
func pagePrefix(segment uint64) []byte { return numberedKey(keyPage, segment) }
