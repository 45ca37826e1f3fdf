package pebblestore_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// TestFormat compares every key and value of a small partition with the golden file.
// Where it differs, partitions of yesterday are to be read today all the same: raise
// the version of what changed and say so in ../FORMAT.md.
func TestFormat(t *testing.T) {
	c := &clock{noon}
	cfg := config(t.TempDir())
	cfg.Index.SegmentSpans = 5
	s := open(t, cfg, pebblestore.Deps{Now: c.now})
	for i := range byte(4) {
		at := uint64(noon.UnixNano()) + uint64(i)*1e9
		put(t, s, &span.Batch{
			Resources: []span.Resource{{Service: "shop", Attrs: []span.Attr{{Key: "service.name", Value: span.StringValue("shop")}}}},
			Scopes:    []span.Scope{{Name: "lib", Version: "1"}},
			Spans: []span.Span{
				{TraceID: span.TraceID{15: i + 1}, ID: span.ID{7: 1}, Name: "GET /", Kind: span.KindServer, Start: at, End: at + 2e6,
					Attrs: []span.Attr{{Key: "http.route", Value: span.StringValue("/")}, {Key: "user", Value: span.IntValue(int64(i) * 1000)}}},
				{TraceID: span.TraceID{15: i + 1}, ID: span.ID{7: 2}, Parent: span.ID{7: 1}, Name: "SELECT", Kind: span.KindClient, Start: at + 5e5, End: at + 1e6,
					Status: span.StatusError, Message: "timeout", Events: []span.Event{{Time: at + 6e5, Name: "retry"}}},
			},
		})
		c.at = c.at.Add(time.Second)
	}
	if err := s.Drop(ctx, []span.TraceID{{15: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := s.AddLinks(ctx, noon, []spanstore.Dependency{{Parent: "shop", Child: "db", Calls: 300}}); err != nil {
		t.Fatal(err)
	}
	c.at = c.at.Add(time.Hour)
	s.Maintain()
	if err := s.FinishFirst(); err != nil {
		t.Fatal(err)
	}
	got, err := s.Rows()
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/format.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
