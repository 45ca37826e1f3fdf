package tiers

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/weir-dev/weir/internal/rollup"
)

// appendSum appends the points of several blocks whose samples add up: late ones,
// which came when the raw data they belong to was gone. Counts and sums are added,
// minima and maxima compared. A counter is that of the block with more samples, as
// two halves of one cannot be told apart.
func (s *seriesSet) appendSum(c *rollup.Columns, p part, from []*source) error {
	slices.SortStableFunc(from, func(a, b *source) int {
		return cmp.Compare(b.entry.meta.Weir().Samples, a.entry.meta.Weir().Samples)
	})
	first := len(c.End)
	if err := s.appendTier(c, p, from[0]); err != nil {
		return err
	}
	endBy(c.End[first:], p.until)
	for _, src := range from[1:] {
		s.added.Reset(s.need)
		if err := s.appendTier(&s.added, p, src); err != nil {
			return err
		}
		endBy(s.added.End, p.until)
		for i := range s.added.End {
			if err := addPoint(c, first, &s.added, i, p.res); err != nil {
				return fmt.Errorf("add up blocks of series %s: %w", src.labels, err)
			}
		}
	}
	return nil
}

// endBy takes back the rest of a window that a block's end cut off: which of several
// blocks has it, merging finds out.
func endBy(ends []int64, until int64) {
	if n := len(ends); n > 0 {
		ends[n-1] = min(ends[n-1], until)
	}
}

// addPoint adds point i of from to that of the same window in c, at first or after,
// or puts it in where it belongs.
func addPoint(c *rollup.Columns, first int, from *rollup.Columns, i int, res int64) error {
	k := first
	for k < len(c.End) && windowEnd(c.End[k], res) < windowEnd(from.End[i], res) {
		k++
	}
	if k == len(c.End) || windowEnd(c.End[k], res) != windowEnd(from.End[i], res) || ofHist(c, k) != ofHist(from, i) {
		insertPoint(c, k, from, i)
		return nil
	}
	if len(c.Ended) > k && from.End[i] > c.End[k] { // it is the later one that tells what follows
		c.Ended[k], c.Gone[k] = from.Ended[i], from.Gone[i]
	}
	c.Start[k], c.End[k] = min(c.Start[k], from.Start[i]), max(c.End[k], from.End[i])
	for _, x := range []struct {
		to, from []float64
		join     func(a, b float64) float64
	}{
		{c.Count, from.Count, func(a, b float64) float64 { return a + b }},
		{c.Sum, from.Sum, func(a, b float64) float64 { return a + b }},
		{c.Min, from.Min, lesser},
		{c.Max, from.Max, greater},
	} {
		if len(x.to) > 0 {
			x.to[k] = x.join(x.to[k], x.from[i])
		}
	}
	if len(c.Hist) > k && len(from.Hist) > i && c.Hist[k] != nil && from.Hist[i] != nil {
		sum, _, _, err := c.Hist[k].Add(from.Hist[i])
		if err != nil {
			return err
		}
		c.Hist[k] = sum
	}
	return nil
}

// lesser and greater pass over NaN unless both are.
func lesser(a, b float64) float64 {
	if b < a || a != a {
		return b
	}
	return a
}

func greater(a, b float64) float64 {
	if b > a || a != a {
		return b
	}
	return a
}

func ofHist(c *rollup.Columns, i int) bool { return len(c.OfHist) > i && c.OfHist[i] }

func insertPoint(c *rollup.Columns, k int, from *rollup.Columns, i int) {
	c.Start, c.End = slices.Insert(c.Start, k, from.Start[i]), slices.Insert(c.End, k, from.End[i])
	for _, x := range []struct{ to, from *[]float64 }{
		{&c.Count, &from.Count}, {&c.Sum, &from.Sum}, {&c.Min, &from.Min},
		{&c.Max, &from.Max}, {&c.Inc, &from.Inc}, {&c.Last, &from.Last},
	} {
		if len(*x.from) > 0 {
			*x.to = slices.Insert(*x.to, k, (*x.from)[i])
		}
	}
	if len(from.Ended) > 0 {
		c.Ended, c.Gone = slices.Insert(c.Ended, k, from.Ended[i]), slices.Insert(c.Gone, k, from.Gone[i])
	}
	n := len(c.End) - 1
	for _, x := range []struct{ to, from *[]*histogram.FloatHistogram }{
		{&c.Hist, &from.Hist}, {&c.HistInc, &from.HistInc}, {&c.HistLast, &from.HistLast},
	} {
		if len(*x.to) == 0 && len(*x.from) == 0 {
			continue
		}
		if len(*x.to) == 0 {
			*x.to = make([]*histogram.FloatHistogram, n)
		}
		var h *histogram.FloatHistogram
		if len(*x.from) > i {
			h = (*x.from)[i]
		}
		*x.to = slices.Insert(*x.to, k, h)
	}
	if len(c.OfHist) > 0 || len(from.OfHist) > 0 {
		if len(c.OfHist) == 0 {
			c.OfHist = make([]bool, n)
		}
		c.OfHist = slices.Insert(c.OfHist, k, ofHist(from, i))
	}
}
