//go:build !race

package rollup

import (
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

// A series of floats costs no allocation once the buffers have grown.
func TestFoldAndJoinAllocs(t *testing.T) {
	const mint = 19_000 * day
	for i, s := range shapes {
		t.Run(s.name, func(t *testing.T) {
			all := blockSeries(t, i, 4, mint)
			var kept []AggrChunk
			keep := true
			f, err := NewFolder(ladder, func(rung int, _, _ int64, c AggrChunk) error {
				if keep && rung == 0 {
					kept = append(kept, append(AggrChunk(nil), c...))
				}
				return nil
			})
			require.NoError(t, err)
			run := func() {
				for _, series := range all {
					f.Begin(mint, mint+day, ^uint64(0))
					for _, data := range series {
						if err := f.Fold(chunkenc.EncXOR, data, nil); err != nil {
							t.Fatal(err)
						}
					}
					if err := f.End(); err != nil {
						t.Fatal(err)
					}
				}
			}
			run()
			keep = false
			require.Zero(t, testing.AllocsPerRun(10, run))

			j := NewJoiner(ladder[0], func(int64, int64, AggrChunk) error { return nil })
			again := func() {
				j.Begin(mint, mint+day)
				for _, c := range kept[:len(kept)/len(all)] {
					if err := j.Join(c); err != nil {
						t.Fatal(err)
					}
				}
				if err := j.End(); err != nil {
					t.Fatal(err)
				}
			}
			again()
			require.Zero(t, testing.AllocsPerRun(10, again))
		})
	}
}
