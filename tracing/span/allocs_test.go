//go:build !race

// The race detector has sync.Pool drop things at random, so allocations say nothing.

package span

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDecodeAllocs(t *testing.T) {
	body := encode(t, full())
	b := &Batch{}
	dst := make([]byte, 0, 1<<20)
	require.Zero(t, testing.AllocsPerRun(50, func() {
		if err := b.Decode(body); err != nil {
			t.Fatal(err)
		}
		dst = b.Encode(dst[:0])
	}))
}
