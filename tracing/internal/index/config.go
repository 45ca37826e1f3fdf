package index

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weir-dev/weir/tracing/span"
)

// Config says what is indexed. A change holds for segments begun after it.
type Config struct {
	// Attributes are the keys that are indexed; "*" stands for all.
	Attributes []string
	// Exclude are keys that are not, whatever Attributes has.
	Exclude []string
	// MaxValueBytes is the longest text of a value that is indexed.
	MaxValueBytes int
	// MaxTermsPerSpan bounds what one span adds. Spans with more are candidates of
	// every question of attributes.
	MaxTermsPerSpan int
}

// DefaultConfig indexes all attributes.
func DefaultConfig() Config {
	return Config{Attributes: []string{"*"}, MaxValueBytes: 256, MaxTermsPerSpan: 64}
}

func (c *Config) all() bool {
	return len(c.Exclude) == 0 && slices.Contains(c.Attributes, "*")
}

func (c *Config) has(key string) bool {
	return !slices.Contains(c.Exclude, key) &&
		(slices.Contains(c.Attributes, "*") || slices.Contains(c.Attributes, key))
}

// Hit is a trace with a span that matches.
type Hit struct {
	Trace span.TraceID
	Start uint64 // of its newest such span, Unix nanoseconds
}

// Exactness says what is left to the asker.
type Exactness struct {
	// Verify is true where a hit may have no span that matches: terms are hashes, and
	// of some spans not all terms are kept. No trace that matches is ever left out but
	// for the limit.
	Verify bool
	// Unserved are the conditions that were left aside: hits match all but them.
	Unserved []string
}

// Getter reads the pages of one segment. What it returns is read before the next call.
type Getter interface {
	// SeekLE gives the last page at or before a key; a nil key where there is none.
	SeekLE(key []byte) (k, v []byte, err error)
	// Get gives the page of a key; nil where there is none.
	Get(key []byte) ([]byte, error)
}

// ErrCorrupt is within the errors of [Search] that blame a page.
var ErrCorrupt = errors.New("damaged index page")

func errorf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
}
