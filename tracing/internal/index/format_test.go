package index

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/weir-dev/weir/tracing/internal/pack/packtest"
)

var update = flag.Bool("update", false, "write testdata/segment.txt")

// TestFormat holds the bytes on disk: what was written must stay readable. Where this
// fails for a reason, raise the version, and keep reading the old one.
func TestFormat(t *testing.T) {
	const file = "testdata/segment.txt"
	r := rand.New(rand.NewPCG(7, 7))
	cfg := DefaultConfig()
	cfg.Exclude, cfg.MaxTermsPerSpan = []string{"user"}, 5
	x := NewBuilder(cfg)
	for range 2 {
		new(taken).add(x, packtest.Any(r, 20))
	}
	p := sealed(t, x)
	var out strings.Builder
	for i := range p.keys {
		fmt.Fprintf(&out, "%x %x\n", p.keys[i], p.values[i])
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
		t.Errorf("the pages of a segment have changed; go test -update shows where")
	}
}
