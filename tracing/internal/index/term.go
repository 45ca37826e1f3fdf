package index

import (
	"math/bits"
	"strconv"

	"github.com/cespare/xxhash/v2"

	"github.com/weir-dev/weir/tracing/span"
)

// Terms are 32-bit hashes, so a question may meet a span of another term: once in some
// ten thousand segments. The first few are not hashes, and lie together on the first
// page of terms.
const (
	termDuration = 0 // plus durationClass, 0 to 32
	termKind     = 40
	termStatus   = 48
	termRoot     = 52
	termOver     = 53 // spans with more terms than are kept
	firstHash    = 64

	kindOther   = 6 // kinds that OTLP does not have
	statusOther = 3

	// What stands for the hash of a key in terms that are of no attribute.
	seedService   = 0x9AE16A3B2F90404F
	seedOperation = 0xC949D7C7509E6557
)

// durationClass is by powers of four: fine enough for spans of one class to be near
// each other's duration, and coarse enough for an operation to have two or three.
func durationClass(ns uint64) uint32 { return uint32(bits.Len64(ns) / 2) }

func kindTerm(k span.Kind) uint32 { return termKind + uint32(min(k, kindOther)) }

func statusTerm(s span.Status) uint32 { return termStatus + uint32(min(s, statusOther)) }

func fold(key, value uint64) uint64 {
	hi, lo := bits.Mul64(key^0xA0761D6478BD642F, value^0xE7037ED1A0B428DB)
	return hi ^ lo
}

func termOf(h uint64) uint32 {
	t := uint32(h >> 32)
	if t < firstHash {
		t += firstHash
	}
	return t
}

// hashKey treats the two names of one attribute as one, as spanstore.Aliases has it.
func hashKey(key string) uint64 {
	if key == "http.response.status_code" {
		key = "http.status_code"
	}
	return xxhash.Sum64String(key)
}

func hashText(key uint64, text string) uint64 { return fold(key, xxhash.Sum64String(text)) }

// What became of a value.
type fate uint8

const (
	indexed fate = iota
	// tooLong values are not indexed, and questions as long not answered.
	tooLong
	// unread values may be short as text, but are too long to find out.
	unread
)

// unreadFactor is how much longer than its text an array or map may be as encoded:
// 13 bytes for a double of one digit and its comma.
const unreadFactor = 8

// hashValue is the hash of a value's text (span.Value.Text, spelled out where that
// saves an allocation) under the hash of its key.
func (c *Config) hashValue(key uint64, v *span.Value) (uint64, fate) {
	switch v.Type {
	case span.TypeString:
		if len(v.Str) > c.MaxValueBytes {
			return 0, tooLong
		}
		return hashText(key, v.Str), indexed
	case span.TypeBool:
		if v.Num != 0 {
			return hashText(key, "true"), indexed
		}
		return hashText(key, "false"), indexed
	case span.TypeInt:
		var buf [20]byte
		return fold(key, xxhash.Sum64(strconv.AppendInt(buf[:0], int64(v.Num), 10))), indexed
	}
	if len(v.Str) > unreadFactor*c.MaxValueBytes {
		return 0, unread
	}
	text := v.Text()
	if len(text) > c.MaxValueBytes {
		return 0, tooLong
	}
	return hashText(key, text), indexed
}
