package block

import (
	"math"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/weir-dev/weir/internal/rollup"
)

// FuzzPoints gives arbitrary bytes to all that decodes chunks after their CRC.
func FuzzPoints(f *testing.F) {
	fold, err := rollup.NewFolder([]int64{1000}, func(_ int, mint, maxt int64, c rollup.AggrChunk) error {
		f.Add([]byte(c), mint, maxt)
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
	x := chunkenc.NewXORChunk()
	app, err := x.Appender()
	if err != nil {
		f.Fatal(err)
	}
	for i := range int64(100) {
		app.Append(0, i*300, float64(i%17))
	}
	fold.Begin(0, 1<<20, 1)
	if err := fold.Fold(x.Encoding(), x.Bytes(), nil); err != nil {
		f.Fatal(err)
	}
	if err := fold.End(); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{2, 1, 0, 1}, int64(0), int64(0))
	f.Fuzz(func(t *testing.T, data []byte, mint, maxt int64) {
		var a aggrChecker
		_, _, fault := a.check(rollup.EncAggr, data, mint, maxt, nil)
		p, err := decodePoints(data)
		if err != nil {
			return
		}
		n := len(p.at)
		p.keep(func(_, end int64) bool { return end != p.at[0].end }, 1000, math.MinInt64)
		if len(p.at) > n {
			t.Fatalf("%d points of %d are left", len(p.at), n)
		}
		if fault != nil {
			return
		}
		points := 0
		err = p.encode(func(c rollup.AggrChunk) error {
			q, err := decodePoints(c)
			if err == nil {
				points += len(q.at)
			}
			return err
		})
		if err != nil || points != len(p.at) {
			t.Fatalf("%d points were encoded, %d are read back: %v", len(p.at), points, err)
		}
	})
}

// FuzzSeries gives arbitrary bytes to the parsers of series entries and of framed
// chunks.
func FuzzSeries(f *testing.F) {
	f.Add([]byte{1, 0, 1, 1, 2, 3, 8})
	f.Add([]byte{2, 1, 0xff, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, data []byte) {
		var s indexScan
		if err := s.parse(data); err == nil && len(s.labels)%2 != 0 {
			t.Fatal("half a label")
		}
		if _, c, size, err := parseChunk(data); err == nil && (len(c) >= size || size > len(data)) {
			t.Fatalf("a chunk of %d bytes in %d, with %d before", size, len(data), len(c))
		}
	})
}
