package rollup

import (
	"fmt"

	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// rawBatch is how many samples are gathered before they are appended: it spreads
// the cost of growing eight slices. Unmeasured: any number above about 30 will do.
const rawBatch = 128

// AppendRaw appends the samples with a time in (after, until], Unix milliseconds;
// it stands before the first. Samples before that are not appended but let the
// first Inc be counted from the last of them; samples not newer than what has been
// appended are passed over, but for the value of the last of them. A stale marker makes the point before it Ended.
func (c *Columns) AppendRaw(it chunkenc.Iterator, after, until int64) error {
	if c.batchT == nil {
		c.batchT, c.batchV = make([]int64, rawBatch), make([]float64, rawBatch)
	}
	ts, vs := c.batchT, c.batchV
	n := 0
	for {
		kind := it.Next()
		if n == rawBatch || n > 0 && kind != chunkenc.ValFloat {
			c.appendSamples(ts[:n], vs[:n], after)
			n = 0
		}
		switch kind {
		case chunkenc.ValFloat:
			ts[n], vs[n] = it.At()
			if ts[n] <= until {
				n++
				continue
			}
			c.appendSamples(ts[:n], vs[:n], after)
		case chunkenc.ValHistogram, chunkenc.ValFloatHistogram:
			if it.AtT() <= until {
				c.appendHistSample(it, after)
				continue
			}
		case chunkenc.ValNone:
			if err := it.Err(); err != nil {
				return fmt.Errorf("append samples after %d: %w", c.newest(), err)
			}
		}
		c.settle()
		return nil
	}
}

// appendSamples appends the floats of one batch that are newer than after.
func (c *Columns) appendSamples(ts []int64, vs []float64, after int64) {
	first := len(c.End)
	for i, t := range ts {
		v := vs[i]
		switch {
		case t <= c.newest():
			// The last sample that the point before has too: its value need not be
			// guessed from the rest of a chunk that was left in its middle.
			if len(c.Start) > 0 && c.Start[len(c.Start)-1] < t && v == v {
				c.keep(v)
				c.owed.open = false
			}
		case value.IsStaleNaN(v):
			c.stale(t)
		case t <= after:
			c.keep(v)
			if len(c.End) == 0 {
				c.Before = t
			}
		default:
			c.appendSample(t, v)
		}
	}
	c.fillHist(first, false)
	c.settle()
}

func (c *Columns) appendSample(t int64, v float64) {
	c.meet(t)
	c.Start, c.End = append(c.Start, t), append(c.End, t)
	if c.need&NeedCount != 0 {
		c.Count = append(c.Count, 1)
	}
	if c.need&NeedSum != 0 {
		c.Sum = append(c.Sum, v)
	}
	if c.need&NeedMin != 0 {
		c.Min = append(c.Min, v)
	}
	if c.need&NeedMax != 0 {
		c.Max = append(c.Max, v)
	}
	if c.need&NeedLast != 0 {
		c.Last = append(c.Last, v)
		c.Ended, c.Gone = append(c.Ended, false), append(c.Gone, 0)
	}
	if c.need&NeedInc != 0 {
		var d float64
		if c.hasLast && v == v {
			d = rise(c.last, v)
		}
		c.Inc = append(c.Inc, d)
	}
	c.keep(v)
}
