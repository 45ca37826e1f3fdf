package rollup

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// fillHist makes the columns of histograms as long as the others for the points
// from index first on, and the columns of floats for points of histograms.
func (c *Columns) fillHist(first int, ofHist bool) {
	if !ofHist && len(c.OfHist) == 0 || first == len(c.End) {
		return
	}
	n := len(c.End)
	for len(c.OfHist) < first {
		c.OfHist = append(c.OfHist, false)
	}
	for len(c.OfHist) < n {
		c.OfHist = append(c.OfHist, ofHist)
	}
	for _, p := range [...]struct {
		need Need
		col  *[]*histogram.FloatHistogram
	}{{NeedSum, &c.Hist}, {NeedInc, &c.HistInc}, {NeedLast, &c.HistLast}} {
		for c.need&p.need != 0 && len(*p.col) < n {
			*p.col = append(*p.col, nil)
		}
	}
	for _, p := range [...]struct {
		need Need
		col  *[]float64
		v    float64
	}{
		{NeedSum, &c.Sum, 0}, {NeedMin, &c.Min, math.NaN()}, {NeedMax, &c.Max, math.NaN()},
		{NeedInc, &c.Inc, 0}, {NeedLast, &c.Last, 0},
	} {
		for c.need&p.need != 0 && len(*p.col) < n {
			*p.col = append(*p.col, p.v)
		}
	}
}

// appendHist appends points of histograms.
func (c *Columns) appendHist(chunk AggrChunk, resolution, after, until int64) (err error) {
	// The readers and the histogram arithmetic trust their input.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("part sum or counter: the data is corrupt: %v", p)
		}
	}()
	n := chunk.NumSamples()
	counts, err := c.readPart(chunk, Count, n)
	if err != nil {
		return err
	}
	ends := append(c.ts[:0], c.passed[:n]...)
	c.ts = ends
	w := c.find(ends, after, until)
	passing := w.lo == w.n && (len(c.End) == 0 || w.n > 0 && c.newest() < ends[w.n-1])
	if w.lo == w.hi && !passing {
		return nil
	}
	// From the point before the first wanted one on.
	from := max(w.lo-1, 0)
	sums, lasts, err := c.readHists(chunk, from, w.hi, n)
	if err != nil {
		return err
	}
	if w.lo == w.hi {
		c.histPre = lasts[len(lasts)-1]
		if len(c.End) == 0 {
			c.Before = ends[w.n-1]
		}
		return nil
	}
	first := len(c.End)
	c.appendTimes(ends, w, resolution)
	if c.need&NeedCount != 0 {
		c.Count = append(c.Count, counts[w.lo:w.hi]...)
	}
	if w.lo > 0 {
		c.histPre = lasts[0]
		if first == 0 {
			c.Before = ends[w.lo-1]
		}
	}
	c.fillHist(first, true)
	for i := range w.hi - w.lo {
		k := w.lo + i - from
		if c.need&NeedSum != 0 {
			c.Hist[first+i] = sums[k]
		}
		c.setLastAndInc(first+i, lasts[k], w.lo+i > 0)
	}
	return nil
}

// setLastAndInc sets the columns of one point that follow from its last value.
// within says that the counter is known not to have fallen since the point before.
func (c *Columns) setLastAndInc(i int, last *histogram.FloatHistogram, within bool) {
	if last == nil {
		return
	}
	if c.need&NeedLast != 0 {
		c.HistLast[i] = last
	}
	if c.need&NeedInc != 0 {
		c.HistInc[i] = histRise(c.histPre, last, within)
	}
	c.histPre = last
}

// histRise is what a histogram gained from one value to the next. A gauge is taken
// for a counter, as the engine does, but one that may fall anywhere.
func histRise(from, to *histogram.FloatHistogram, within bool) *histogram.FloatHistogram {
	d := to.Copy()
	within = within && to.CounterResetHint != histogram.GaugeType
	switch {
	case to.CounterResetHint == histogram.CounterReset && !within:
	case from == nil:
		d.Mul(0)
	default:
		// That it is no reset was said of the sample before, which may be deleted.
		unsaid := *to
		unsaid.CounterResetHint = histogram.UnknownCounterReset
		if within || !unsaid.DetectReset(from) {
			// What cannot be subtracted, custom buckets from exponential ones, is
			// another histogram and counts from zero.
			if _, _, _, err := d.Sub(from); err != nil {
				d = to.Copy()
			}
		}
	}
	d.CounterResetHint = histogram.GaugeType
	return d.Compact(0)
}

// readHists reads the points [from, to) of n of the counter part, and of the sum
// part if it is needed.
func (c *Columns) readHists(chunk AggrChunk, from, to, n int) (sums, lasts []*histogram.FloatHistogram, err error) {
	if c.need&NeedSum != 0 {
		if sums, err = c.readHistPart(chunk, Sum, from, to, n); err != nil {
			return nil, nil, err
		}
	}
	lasts, err = c.readHistPart(chunk, Counter, from, to, n)
	return sums, lasts, err
}

func (c *Columns) readHistPart(chunk AggrChunk, part Aggregate, from, to, n int) ([]*histogram.FloatHistogram, error) {
	enc, data, err := chunk.Part(part)
	if err != nil {
		return nil, fmt.Errorf("part %s: %w", part, err)
	}
	if enc != chunkenc.EncFloatHistogram {
		return nil, fmt.Errorf("part %s: has encoding %d, want %d", part, enc, chunkenc.EncFloatHistogram)
	}
	it, err := c.readers.open(enc, data)
	if err != nil {
		return nil, fmt.Errorf("part %s: %w", part, err)
	}
	out := make([]*histogram.FloatHistogram, 0, to-from)
	for i := range to {
		if it.Next() != chunkenc.ValFloatHistogram {
			return nil, fmt.Errorf("part %s: ends after %d of %d entries: %w", part, i, n, errOr(it.Err(), errXORShort))
		}
		if i >= from {
			_, h := it.AtFloatHistogram(nil)
			out = append(out, h)
		}
	}
	return out, nil
}

func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// appendHistSample appends the histogram the iterator is at, if it is newer than
// after.
func (c *Columns) appendHistSample(it chunkenc.Iterator, after int64) {
	if it.AtT() <= c.newest() {
		return
	}
	t, h := it.AtFloatHistogram(nil)
	switch {
	case value.IsStaleNaN(h.Sum):
		c.stale(t)
		return
	case t <= after:
		c.histPre = h
		if len(c.End) == 0 {
			c.Before = t
		}
		return
	}
	c.meet(t)
	first := len(c.End)
	c.Start, c.End = append(c.Start, t), append(c.End, t)
	if c.need&NeedCount != 0 {
		c.Count = append(c.Count, 1)
	}
	if c.need&NeedLast != 0 {
		c.Ended, c.Gone = append(c.Ended, false), append(c.Gone, 0)
	}
	c.fillHist(first, true)
	if c.need&NeedSum != 0 {
		c.Hist[first] = h
	}
	c.setLastAndInc(first, h, false)
}
