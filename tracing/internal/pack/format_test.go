package pack

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/weir-dev/weir/tracing/internal/pack/packtest"
	"github.com/weir-dev/weir/tracing/span"
)

var update = flag.Bool("update", false, "write testdata/fragments.txt")

// TestFormat holds the bytes on disk: what was written must stay readable. Where this
// fails for a reason, raise the version, and keep reading the old one.
func TestFormat(t *testing.T) {
	const file = "testdata/fragments.txt"
	d, r := newDict(), rand.New(rand.NewPCG(7, 7))
	var out strings.Builder
	for range 4 {
		b := packtest.Any(r, 6)
		b.Spans[0].Attrs = append(b.Spans[0].Attrs, span.Attr{Key: "of no type", Value: span.Value{Type: 9, Num: 7, Str: "x"}})
		_, groups := packtest.ByTrace(b)
		for _, at := range groups {
			fmt.Fprintf(&out, "fragment %x\n", Append(nil, d, b, at))
		}
	}
	for id, s := range d.strings {
		fmt.Fprintf(&out, "string %d %x\n", id, s)
	}
	for id, enc := range d.byRes {
		fmt.Fprintf(&out, "resource %d %x\n", id, enc)
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("the bytes of fragments have changed; go test -update shows where")
	}
}
