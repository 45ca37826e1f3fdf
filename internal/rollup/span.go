package rollup

import (
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/util/annotations"
)

// Raw is the resolution of samples as they came.
const Raw int64 = 0

// Interval is a stretch of time, both ends inclusive, in Unix milliseconds.
type Interval struct{ MinT, MaxT int64 }

// Holding is what one tier can answer for one selector.
type Holding struct {
	Resolution int64 // milliseconds, [Raw] for samples
	// Held is sorted and disjoint. In it, the tier is up to date: no late sample
	// waits to be rolled up, none is deleted but not yet rolled up anew.
	Held []Interval
	// Partial says that some series of the selector may be missing: the rung's own
	// selector does not take all of them.
	Partial bool
}

// Span is a stretch of time to be answered from one tier: its points with End in
// (After, Until], or its samples with such timestamps. Unix milliseconds.
type Span struct {
	After, Until int64
	Resolution   int64 // milliseconds, [Raw] for samples
}

// Selection asks for series, columns and the spans to read them from, which are
// in time order and do not overlap.
type Selection struct {
	Spans    []Span
	Need     Need
	Matchers []*labels.Matcher
}

// SeriesSet yields the series of a [Selection] in label order. It is used by one
// goroutine and must be closed, also after an error.
type SeriesSet interface {
	Next() bool
	// Labels of the current series.
	Labels() labels.Labels
	// Columns fills c, which it resets first, with the current series' points of
	// all spans in time order.
	Columns(c *Columns) error
	// Read counts what has been decoded so far.
	Read() ReadStats
	Err() error
	Warnings() annotations.Annotations
	Close() error
}

// ReadStats counts what a selection decoded.
type ReadStats struct {
	Series  int
	Samples int // raw samples
	Points  int // points of rollups
	Bytes   int // of chunks, headers included
}

// Need is a set of columns.
type Need uint8

// The columns. Start and End are always there.
const (
	NeedCount Need = 1 << iota
	NeedSum
	NeedMin
	NeedMax
	NeedInc
	NeedLast
)
