package span

import "encoding/hex"

// TraceID is 16 bytes as on the wire, big end first.
type TraceID [16]byte

// String is 32 hex digits.
func (id TraceID) String() string { return hex.EncodeToString(id[:]) }

// IsZero tells the id that OTLP calls invalid.
func (id TraceID) IsZero() bool { return id == TraceID{} }

// ID is that of a span.
type ID [8]byte

// String is 16 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// IsZero tells the id that OTLP calls invalid, and that a root span has for a parent.
func (id ID) IsZero() bool { return id == ID{} }

// Kind as OTLP numbers it.
type Kind uint8

// Kinds.
const (
	KindUnspecified Kind = iota
	KindInternal
	KindServer
	KindClient
	KindProducer
	KindConsumer
)

// Status as OTLP numbers it.
type Status uint8

// Statuses.
const (
	StatusUnset Status = iota
	StatusOK
	StatusError
)

// Type is what a [Value] holds.
type Type uint8

// Types.
const (
	TypeEmpty  Type = iota
	TypeString      // Str
	TypeBool        // Num: 0, 1
	TypeInt         // Num: int64(Num)
	TypeDouble      // Num: math.Float64frombits(Num)
	TypeArray       // Str: an encoded opentelemetry.proto.common.v1.ArrayValue
	TypeMap         // Str: an encoded opentelemetry.proto.common.v1.KeyValueList
	TypeBytes       // Str
)

// Value is an OTLP AnyValue.
type Value struct {
	Type Type
	Num  uint64
	Str  string
}

// Attr is an attribute.
type Attr struct {
	Key   string
	Value Value
}

// Resource is who sent spans.
type Resource struct {
	Attrs     []Attr
	Dropped   uint32 // attributes, by the sender
	SchemaURL string
	Service   string // service.name if it is a string; else empty
}

// Scope is the library that made spans.
type Scope struct {
	Name, Version string
	Attrs         []Attr
	Dropped       uint32
	SchemaURL     string
}

// Event is a log entry of a span.
type Event struct {
	Time    uint64 // Unix nanoseconds
	Name    string
	Attrs   []Attr
	Dropped uint32
}

// Link names another span.
type Link struct {
	TraceID TraceID
	ID      ID
	State   string
	Flags   uint32
	Attrs   []Attr
	Dropped uint32
}

// Span is one span.
type Span struct {
	Resource, Scope int // index in the batch

	TraceID    TraceID
	ID, Parent ID
	Flags      uint32
	State      string // W3C tracestate
	Name       string
	Kind       Kind
	Start, End uint64 // Unix nanoseconds
	Status     Status
	Message    string // of the status
	Attrs      []Attr
	Events     []Event
	Links      []Link

	DroppedAttrs, DroppedEvents, DroppedLinks uint32
}

// Duration is End - Start in nanoseconds, 0 where a span ends before it starts.
func (s *Span) Duration() uint64 {
	if s.End < s.Start {
		return 0
	}
	return s.End - s.Start
}

// Batch is the spans of one request, or of one trace. The zero value is empty and
// ready to use; Reset makes it so again and keeps its memory.
type Batch struct {
	Resources []Resource
	Scopes    []Scope
	Spans     []Span

	// MaxBytes bounds the memory, beside its strings, that Decode takes for a body, for
	// a span may be written in 2 bytes. 0: no bound.
	MaxBytes int
	used     int

	// Memory that Spans, Resources and Scopes point into. Attributes of events and
	// links are apart, so that those of a span lie together in whatever order its
	// fields come.
	attrs  []Attr
	nested []Attr
	events []Event
	links  []Link
}
