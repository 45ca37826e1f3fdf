package block

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/weir-dev/weir/internal/rollup"
)

// aggrChecker decodes chunks and looks for what cannot be.
type aggrChecker struct {
	xor        rollup.XOR
	ts, ends   []int64
	vs, counts []float64
	low        []float64
}

// check returns the number of entries of a chunk, and of raw samples. The meta is
// nil if it could not be read.
func (a *aggrChecker) check(enc chunkenc.Encoding, data []byte, mint, maxt int64, m *Meta) (points, samples uint64, err error) {
	if enc != rollup.EncAggr {
		if m != nil && m.Resolution() != 0 {
			return 0, 0, fmt.Errorf("a chunk of samples (encoding %d) in a block of points", enc)
		}
		n := samplesOf(data)
		if !chunkenc.IsValidEncoding(enc) || n == 0 {
			return 0, 0, fmt.Errorf("a chunk of encoding %d and %d samples", enc, n)
		}
		return uint64(n), uint64(n), nil
	}
	if m != nil && m.Resolution() == 0 {
		return 0, 0, errors.New("a chunk of points in a block of samples")
	}
	return a.checkAggr(data, mint, maxt, m == nil || m.Thanos.Extensions.Weir != nil)
}

func (a *aggrChecker) checkAggr(c rollup.AggrChunk, mint, maxt int64, ours bool) (points, samples uint64, err error) {
	n, err := a.read(c, rollup.Count)
	if err != nil {
		return 0, 0, err
	}
	a.ends, a.counts = append(a.ends[:0], a.ts[:n]...), append(a.counts[:0], a.vs[:n]...)
	for i, x := range a.counts {
		if !(x >= 1 && x <= 1<<53 && x == math.Trunc(x)) && ours {
			return uint64(n), samples, fmt.Errorf("point %d counts %v samples", i, x)
		}
		samples += uint64(x)
		if i > 0 && a.ends[i] <= a.ends[i-1] {
			return uint64(n), samples, fmt.Errorf("point %d, at %d, is not after the one before, at %d", i, a.ends[i], a.ends[i-1])
		}
	}
	if n == 0 || a.ends[0] < mint || a.ends[n-1] != maxt && ours || a.ends[n-1] > maxt {
		return uint64(n), samples, fmt.Errorf("a chunk of %d points, said to be from %d to %d", n, mint, maxt)
	}
	enc, _, err := c.Part(rollup.Sum)
	if err != nil {
		return uint64(n), samples, err
	}
	if enc == chunkenc.EncXOR {
		err = a.checkFloats(c, ours)
	} else {
		err = a.checkHistograms(c)
	}
	return uint64(n), samples, err
}

// read decodes a part that is floats to a.ts and a.vs.
func (a *aggrChecker) read(c rollup.AggrChunk, part rollup.Aggregate) (int, error) {
	enc, data, err := c.Part(part)
	if err != nil {
		return 0, err
	}
	if enc != chunkenc.EncXOR {
		return 0, fmt.Errorf("part %s has encoding %d, want %d", part, enc, chunkenc.EncXOR)
	}
	a.xor.Reset(data)
	n := a.xor.Len()
	if cap(a.ts) < n {
		a.ts, a.vs = make([]int64, n), make([]float64, n)
	}
	if got := a.xor.Read(a.ts[:n], a.vs[:n]); got < n {
		return 0, fmt.Errorf("part %s: %d of %d entries can be decoded: %w", part, got, n, a.xor.Err())
	}
	return n, nil
}

func (a *aggrChecker) checkFloats(c rollup.AggrChunk, ours bool) error {
	for _, part := range []rollup.Aggregate{rollup.Sum, rollup.Min, rollup.Max} {
		n, err := a.read(c, part)
		if err != nil {
			return err
		}
		if !slices.Equal(a.ts[:n], a.ends) {
			return fmt.Errorf("part %s has other times than part count", part)
		}
		if part == rollup.Min {
			a.low = append(a.low[:0], a.vs[:n]...)
		}
	}
	for i, low := range a.low {
		if low > a.vs[i] {
			return fmt.Errorf("point %d has minimum %v and maximum %v", i, low, a.vs[i])
		}
	}
	n, err := a.read(c, rollup.Counter)
	if err != nil || n == 0 && ours {
		return err
	}
	ts := a.ts[:n]
	if n < 3 || n-2 > len(a.ends) || ts[n-1] != ts[n-2] || !slices.Equal(ts[1:n-1], a.ends[len(a.ends)-(n-2):]) {
		if ours {
			return fmt.Errorf("part counter has %d entries for %d points, or other times", n, len(a.ends))
		}
	}
	return nil
}

// checkHistograms decodes with chunkenc, which trusts its input.
func (a *aggrChecker) checkHistograms(c rollup.AggrChunk) (err error) {
	part := rollup.Sum
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("part %s cannot be decoded: %v", part, p)
		}
	}()
	for _, part = range []rollup.Aggregate{rollup.Sum, rollup.Counter} {
		enc, data, err := c.Part(part)
		if err != nil { // a part that is left out, too: no reader does without
			return fmt.Errorf("part %s of histograms: %w", part, err)
		}
		chunk, err := chunkenc.FromData(enc, data)
		if err != nil {
			return fmt.Errorf("part %s: %w", part, err)
		}
		it, n := chunk.Iterator(nil), 0
		for it.Next() != chunkenc.ValNone {
			if part == rollup.Sum && (n >= len(a.ends) || it.AtT() != a.ends[n]) {
				return fmt.Errorf("part %s has other times than part count", part)
			}
			n++
		}
		if err := it.Err(); err != nil {
			return fmt.Errorf("part %s: %w", part, err)
		}
		if n < len(a.ends) {
			return fmt.Errorf("part %s has %d entries for %d points", part, n, len(a.ends))
		}
	}
	return nil
}
