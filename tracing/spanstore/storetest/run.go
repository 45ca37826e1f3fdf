package storetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Lack is something that a store need not do.
type Lack string

// What stores lack.
const (
	// DuplicateCount: Append does not learn that a store had a span. Each is read once
	// all the same.
	DuplicateCount Lack = "duplicate count"
	// Twins: of two spans with one id that start at once, the store keeps the last.
	Twins Lack = "twins"
	// Fidelity: spans come back as Jaeger's model keeps them. It has no types of
	// attributes within arrays and maps, no dropped counts, schemas, attributes of
	// links and scopes, no links' states, trace flags or empty values; it adds
	// attributes. What it does keep is compared: ids, names, kinds, times, statuses and
	// the texts of attributes, one a key.
	Fidelity Lack = "fidelity"
	// OperationKinds: Operations have no kind, and cannot be asked by one.
	OperationKinds Lack = "operation kinds"
	// Immediacy: what is written can be read a moment later, not at once.
	Immediacy Lack = "immediacy"
	// Links: dependencies are those that the store makes of the spans itself, at some
	// time of its own, and cannot be written.
	Links Lack = "links"
	// Choice: where more traces match than are asked for, the store chooses which come.
	Choice Lack = "choice"
	// Completeness: a search that the protocol has no words for looks at the newest
	// traces only, and says so in its notes. The suite's are among them.
	Completeness Lack = "completeness"
)

// Open returns a store. It is called once a test; closing is t.Cleanup's.
type Open func(t *testing.T) (spanstore.Reader, spanstore.Writer)

// Run runs the suite.
func Run(t *testing.T, open Open, lacks ...Lack) {
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"write then read", (*suite).writeThenRead},
		{"a whole trace from parts", (*suite).wholeTrace},
		{"duplicates are absorbed", (*suite).duplicates},
		{"late spans join their trace", (*suite).lateSpans},
		{"a trace that is not there", (*suite).notFound},
		{"a hint does not hide", (*suite).hint},
		{"find", (*suite).find},
		{"limit, newest first", (*suite).limit},
		{"find ends with the error of yield", (*suite).yieldError},
		{"services", (*suite).services},
		{"operations by kind", (*suite).operations},
		{"dependencies", (*suite).dependencies},
		{"odd traces", (*suite).odd},
		{"a large trace", (*suite).large},
		{"a context that has ended", (*suite).ended},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(newSuite(t, open, lacks)) })
	}
}

type suite struct {
	*testing.T
	ctx   context.Context
	r     spanstore.Reader
	w     spanstore.Writer
	lacks map[Lack]bool
	rnd   *rand.Rand
	tag   string    // of every name of this test
	at    time.Time // the test's spans start at or after
}

func newSuite(t *testing.T, open Open, lacks []Lack) *suite {
	s := &suite{T: t, ctx: t.Context(), lacks: make(map[Lack]bool)}
	s.r, s.w = open(t)
	for _, l := range lacks {
		s.lacks[l] = true
	}
	seed := rand.Uint64()
	s.rnd = rand.New(rand.NewPCG(seed, 1))
	s.tag = fmt.Sprintf("t%08x", uint32(seed))
	// Foreign stores look only at the last days, and all drop what is too old.
	s.at = time.Now().Add(-20 * time.Minute).Truncate(time.Second)
	return s
}

// name makes a name that only this test has.
func (s *suite) name(of string) string { return s.tag + "-" + of }

func (s *suite) traceID() (id span.TraceID) {
	binary.BigEndian.PutUint64(id[:], s.rnd.Uint64()|1)
	binary.BigEndian.PutUint64(id[8:], s.rnd.Uint64()|1)
	return id
}

func (s *suite) id() (id span.ID) {
	binary.BigEndian.PutUint64(id[:], s.rnd.Uint64()|1)
	return id
}

// nanos is a moment of the test, after its start.
func (s *suite) nanos(after time.Duration) uint64 { return uint64(s.at.Add(after).UnixNano()) }

// in makes a batch of one resource, which has the service, and one scope.
func (s *suite) in(service string, more ...span.Attr) *span.Batch {
	attrs := append([]span.Attr{{Key: "service.name", Value: span.StringValue(service)}}, more...)
	return &span.Batch{
		Resources: []span.Resource{{Attrs: attrs, Service: service}},
		Scopes:    []span.Scope{{Name: "storetest", Version: "1"}},
	}
}

// one makes a batch of one span, a root of its own trace, of 10 ms.
func (s *suite) one(service, name string, after time.Duration, change func(*span.Span)) *span.Batch {
	b := s.in(service)
	b.Spans = []span.Span{{
		TraceID: s.traceID(), ID: s.id(), Name: name, Kind: span.KindServer,
		Start: s.nanos(after), End: s.nanos(after + 10*time.Millisecond),
	}}
	if change != nil {
		change(&b.Spans[0])
	}
	return b
}

// put writes spans that the store has not, and returns when they can be read.
func (s *suite) put(b *span.Batch) spanstore.Appended {
	s.Helper()
	got, err := s.w.Append(s.ctx, b)
	if err != nil {
		s.Fatalf("append %d spans: %v", len(b.Spans), err)
	}
	if got.Stored+got.Duplicate != len(b.Spans) {
		s.Fatalf("append said %d stored and %d duplicates of %d spans", got.Stored, got.Duplicate, len(b.Spans))
	}
	return got
}

// wait tries until there is no complaint; a store with immediacy has one try.
func (s *suite) wait(try func() string) {
	s.Helper()
	end := time.Now().Add(15 * time.Second)
	for {
		complaint := try()
		if complaint == "" {
			return
		}
		if !s.lacks[Immediacy] || time.Now().After(end) {
			s.Fatal(complaint)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// reads waits until the trace is what is wanted.
func (s *suite) reads(want *span.Batch) {
	s.Helper()
	id := want.Spans[0].TraceID
	s.wait(func() string {
		got, err := s.r.Trace(s.ctx, id, spanstore.Window{})
		if err != nil {
			return fmt.Sprintf("trace %s: %v", id, err)
		}
		return s.differ(got, want)
	})
}

func str(key, value string) span.Attr { return span.Attr{Key: key, Value: span.StringValue(value)} }
