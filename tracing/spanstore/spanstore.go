package spanstore

import (
	"context"
	"errors"
	"time"

	"github.com/weir-dev/weir/tracing/span"
)

// ErrNotFound is what a store says of a trace that it does not have.
var ErrNotFound = errors.New("trace not found")

// Window is a stretch of time; a zero end is open.
type Window struct{ Start, End time.Time }

// Op compares an attribute.
type Op string

// Operators. Equal is Jaeger's: the value as text, whatever its type, so that "true"
// finds the bool and "200" the int; the others are for search beyond Jaeger.
const (
	Equal    Op = "="
	NotEqual Op = "!="
	Less     Op = "<"
	LessEq   Op = "<="
	Greater  Op = ">"
	GreatEq  Op = ">="
	Match    Op = "=~" // RE2, anchored
	NotMatch Op = "!~"
	Exists   Op = "exists"
)

// Condition on one attribute. It is looked for where Jaeger looks for tags: in the
// attributes of the span, of its resource and of its events; besides, "error",
// "span.kind", "otel.status_code", "otel.status_description", "otel.scope.name",
// "otel.scope.version" and "w3c.tracestate" are found as Jaeger's translation of a
// span has them.
type Condition struct {
	Key   string
	Op    Op
	Value string
}

// Query selects traces that have a span for which everything is true at once.
type Query struct {
	Service   string // empty: any
	Operation string // empty: any
	Kind      span.Kind
	Where     []Condition // all of them
	Start     time.Time   // the span starts at or after; zero: open
	End       time.Time   // and at or before; zero: open
	// Bounds of the span's duration, both inclusive; 0: none.
	MinDuration, MaxDuration time.Duration
	Error                    *bool // its status is, is not an error; nil: either
	Root                     bool  // it has no parent
	Limit                    int   // traces, newest first; at least 1
}

// Notes say how a question was answered.
type Notes struct {
	// Scanned is true where spans were read one by one for want of an index.
	Scanned bool
	// Partial says why traces may be missing; empty: none are.
	Partial string
}

// Operation is a span name of a service.
type Operation struct {
	Name string
	Kind span.Kind
}

// Dependency counts the calls of one service by another.
type Dependency struct {
	Parent, Child string
	Calls         uint64
}

// Reader answers questions. Its methods may be called by many at once. A trace comes
// with all of its spans that the store has, each span once, in no order.
type Reader interface {
	// Trace looks a trace up. The window, if any, is a hint where to look first; the
	// error may be [ErrNotFound].
	Trace(ctx context.Context, id span.TraceID, hint Window) (*span.Batch, error)
	// Find calls yield with each trace that q selects, that with the newest matching
	// span first, and ends with yield's error.
	Find(ctx context.Context, q Query, yield func(*span.Batch) error) (Notes, error)
	// FindIDs is Find of the ids alone.
	FindIDs(ctx context.Context, q Query) ([]span.TraceID, Notes, error)
	// Services are sorted.
	Services(ctx context.Context) ([]string, error)
	// Operations of a service, of one kind unless that is KindUnspecified, are sorted
	// by name and kind.
	Operations(ctx context.Context, service string, kind span.Kind) ([]Operation, error)
	// Dependencies in a window are sorted by parent and child.
	Dependencies(ctx context.Context, w Window) ([]Dependency, error)
}

// Appended says what became of the spans of a batch: they add up to its length.
type Appended struct {
	Stored    int
	Duplicate int // the store had the very same span
	// New tells which spans were stored, by their index; nil: all.
	New []bool
}

// Writer stores spans.
type Writer interface {
	// Append returns when the spans are durable. The batch is borrowed until then. An
	// error means that none is stored; one with a method Retryable() bool that says
	// true may pass (a full disk).
	Append(ctx context.Context, b *span.Batch) (Appended, error)
}
