package storetest

import (
	"strings"
	"time"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// odd traces are stored and found as they came: putting them right is for who shows them.
func (s *suite) odd() {
	service := s.name("größe/ /日本 service.v2")
	for i, change := range []func(*span.Batch){
		func(b *span.Batch) { b.Spans[0].Parent = s.id() },                                      // whose parent never came
		func(b *span.Batch) { b.Spans[0].Parent = b.Spans[0].ID },                               // its own parent
		func(b *span.Batch) { b.Spans[0].End = b.Spans[0].Start },                               // no duration
		func(b *span.Batch) { b.Spans[0].Name = "" },                                            // no name
		func(b *span.Batch) { b.Spans[0].Name = "名前 – \u0001 \"'<&>" + "\U0001f9ed" },           // any name
		func(b *span.Batch) { b.Spans[0].TraceID = span.TraceID{8: 1, 15: byte(len(b.Spans))} }, // a 64-bit id
		func(b *span.Batch) { b.Spans[0].Kind = span.KindUnspecified },
		func(b *span.Batch) {
			b.Spans[0].Attrs = []span.Attr{str("empty", ""), str("長い", strings.Repeat("ü", 10_000))}
		},
		func(b *span.Batch) {
			b.Spans[0].Attrs = []span.Attr{str("same", "1"), str("same", "2")}
			if s.lacks[Fidelity] {
				b.Spans[0].Attrs = b.Spans[0].Attrs[:1]
			}
		},
		func(b *span.Batch) { // two spans, each the other's parent
			x := b.Spans[0]
			x.ID, x.Parent = s.id(), x.ID
			b.Spans[0].Parent = x.ID
			b.Spans = append(b.Spans, x)
		},
	} {
		b := s.one(service, s.name("odd"), time.Duration(i)*time.Second, nil)
		change(b)
		if b.Spans[0].TraceID[0] == 0 { // of this run alone, though it is short
			copy(b.Spans[0].TraceID[8:], s.name("12345678"))
		}
		s.put(b)
		s.reads(b)
		s.wait(func() string {
			found, _, err := s.ask(spanstore.Query{
				Service: service, Limit: 10,
				Start: time.Unix(0, int64(b.Spans[0].Start)), End: time.Unix(0, int64(b.Spans[0].Start)),
			})
			if err != nil || len(found) != 1 {
				return complain("find", "an odd trace", len(found), err)
			}
			return s.differ(found[0], b)
		})
	}
	s.wait(func() string {
		return s.hasServices(service)
	})
}
