package rollup

import (
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// AppendAggr appends the points of an aggregate chunk that have their End in
// (after, until], Unix milliseconds; resolution is the rung's, in milliseconds.
// Points before that are not appended but let the first Inc be counted from the
// last of them. The chunk is borrowed until the call returns. An error names the
// part that is corrupt; the columns then have points that are not whole and must
// be Reset.
func (c *Columns) AppendAggr(chunk AggrChunk, resolution, after, until int64) error {
	if resolution <= 0 {
		return fmt.Errorf("append aggregate chunk: resolution is %d ms, want more than 0", resolution)
	}
	overlap := c.newest() > after
	if overlap {
		after = c.newest()
	}
	enc, counter, err := chunk.Part(Counter)
	switch {
	case err == nil && enc == chunkenc.EncXOR:
		err = c.appendFloat(chunk, counter, resolution, after, until)
	case err == nil || errors.Is(err, ErrNoAggregate):
		err = c.appendUncounted(chunk, resolution, after, until)
	}
	if err != nil {
		return fmt.Errorf("append aggregate chunk: %w", err)
	}
	if overlap && c.lapped {
		c.Skipped++
	}
	c.settle()
	return nil
}

// appendUncounted appends a chunk whose counter part is not of floats: histograms,
// or floats that are all NaN.
func (c *Columns) appendUncounted(chunk AggrChunk, resolution, after, until int64) error {
	enc, _, err := chunk.Part(Sum)
	if err != nil {
		return err
	}
	if enc == chunkenc.EncXOR {
		return c.appendFloat(chunk, nil, resolution, after, until)
	}
	return c.appendHist(chunk, resolution, after, until)
}

// cut is the part of a chunk's points that is wanted: [lo, hi) of n.
type cut struct{ lo, hi, n int }

// find notes which of a chunk's points to append, given their ends.
func (c *Columns) find(ends []int64, after, until int64) cut {
	w := cut{n: len(ends)}
	for w.lo < w.n && ends[w.lo] <= after {
		w.lo++
	}
	w.hi = w.lo
	if w.n > 0 && ends[w.n-1] <= until {
		w.hi = w.n
	}
	for w.hi < w.n && ends[w.hi] <= until {
		w.hi++
	}
	c.lapped = w.lo > 0
	return w
}

// appendFloat appends points of floats. The counter part, which has the time of
// every point, is always read: it is also what the next chunk counts from.
func (c *Columns) appendFloat(chunk AggrChunk, counter []byte, resolution, after, until int64) error {
	if err := c.readCounter(chunk, counter); err != nil {
		return err
	}
	ts, cum := c.ts, c.scratch[Counter]
	w := c.find(ts[1:len(ts)-1], after, until)
	if w.lo == w.hi {
		c.pass(w, ts, cum)
		return nil
	}
	first := len(c.End)
	if c.need&(NeedCount|NeedSum|NeedMin|NeedMax|NeedLast) != 0 {
		if err := c.appendValues(chunk, w); err != nil {
			return err
		}
	}
	c.appendTimes(ts[1:w.n+1], w, resolution)
	if c.need&NeedLast != 0 {
		c.appendLast(w, cum)
	}
	if c.need&NeedInc != 0 {
		c.appendInc(w, ts, cum)
	}
	c.leave(chunk, w, ts, cum)
	c.fillHist(first, false)
	return nil
}

// readCounter reads the times and values of the counter part into c.ts and its
// scratch column: the first sample, the points, the last value. NaN is passed over
// in the part: the points before the first number have no entry in it and are
// given the first number, for they rise by nothing.
func (c *Columns) readCounter(chunk AggrChunk, counter []byte) error {
	n := chunk.NumSamples()
	c.ts = extend(c.ts[:0], n+2)
	c.scratch[Counter] = extend(c.scratch[Counter][:0], n+2)
	if counter == nil {
		return c.readUncounted(chunk, n, n)
	}
	c.xor.Reset(counter)
	m := c.xor.Len()
	if m < 3 || m > n+2 {
		return fmt.Errorf("part counter: has %d entries, want at most one a point, %d, between the first sample and the last value", m, n)
	}
	late := n + 2 - m
	ts, cum := c.ts[late:], c.scratch[Counter][late:]
	if c.xor.Read(ts, cum) != m {
		return fmt.Errorf("part counter: %w", c.xor.Err())
	}
	if ts[m-1] != ts[m-2] {
		return fmt.Errorf("part counter: ends at %d, want the last point's %d", ts[m-1], ts[m-2])
	}
	if late > 0 {
		return c.readUncounted(chunk, n, late)
	}
	return nil
}

// readUncounted fills in what the counter part does not have: the times, and the
// values of the first points, late of them.
func (c *Columns) readUncounted(chunk AggrChunk, n, late int) error {
	if n == 0 {
		return errors.New("part count: is empty")
	}
	ts, cum := c.ts, c.scratch[Counter]
	first := math.NaN()
	if late < n {
		first = cum[late]
	}
	if _, err := c.readPart(chunk, Count, n); err != nil {
		return err
	}
	copy(ts[1:], c.passed[:n])
	ts[0], ts[n+1] = ts[1], ts[n]
	for i := range late {
		cum[i] = first
	}
	if late == n {
		cum[n], cum[n+1] = first, first
	}
	return nil
}

// pass goes over a chunk that has no point to append.
func (c *Columns) pass(w cut, ts []int64, cum []float64) {
	if w.lo < w.n || len(c.End) > 0 && c.newest() >= ts[w.n] {
		return // it is later, or tells of what has been told
	}
	c.keep(cum[w.n+1])
	if len(c.End) == 0 {
		c.Before = ts[w.n]
	}
}

// keep remembers a counter's true last value. NaN is passed over.
func (c *Columns) keep(v float64) {
	if v == v {
		c.last, c.hasLast = v, true
	}
}

// appendValues appends what is wanted of the four plain parts.
func (c *Columns) appendValues(chunk AggrChunk, w cut) error {
	for _, p := range [...]struct {
		part Aggregate
		need Need
		col  *[]float64
	}{
		{Count, NeedCount, &c.Count}, {Sum, NeedSum, &c.Sum}, {Min, NeedMin, &c.Min}, {Max, NeedMax, &c.Max},
	} {
		if c.need&(p.need|NeedLast) == 0 {
			continue
		}
		vs, err := c.readPart(chunk, p.part, w.n)
		if err != nil {
			return err
		}
		if c.need&p.need != 0 {
			*p.col = append(*p.col, vs[w.lo:w.hi]...)
		}
	}
	return nil
}

// readPart reads the n values of one part into its scratch column.
func (c *Columns) readPart(chunk AggrChunk, part Aggregate, n int) ([]float64, error) {
	enc, data, err := chunk.Part(part)
	if err != nil {
		return nil, err
	}
	if enc != chunkenc.EncXOR {
		return nil, fmt.Errorf("part %s: has encoding %d, want %d", part, enc, chunkenc.EncXOR)
	}
	c.xor.Reset(data)
	if c.xor.Len() != n {
		return nil, fmt.Errorf("part %s: has %d entries, want %d", part, c.xor.Len(), n)
	}
	// The times are those of the counter part and read only to be passed over.
	if len(c.passed) < n {
		c.passed = make([]int64, max(n, 256))
	}
	vs := extend(c.scratch[part][:0], n)
	c.scratch[part] = vs
	if c.xor.Read(c.passed[:n], vs) != n {
		return nil, fmt.Errorf("part %s: %w", part, c.xor.Err())
	}
	return vs, nil
}

// appendTimes appends Start and End, and with NeedLast Ended and Gone. A division
// a point would cost more than decoding it, so windows are counted on from the
// point before where they follow each other.
//
// A point that was cut off by its block's end stands for the rest of its window too,
// unless what follows has a part of it: else a range that lies in the rest, or half in
// it, would get none of the window, or too little.
func (c *Columns) appendTimes(ends []int64, w cut, r int64) {
	k := w.hi - w.lo
	c.meet(ends[w.lo])
	prev := c.newest()
	if w.lo > 0 {
		prev = max(prev, ends[w.lo-1])
	}
	windowEnd := int64(NoTime) // of the window prev is in
	if prev != NoTime {
		windowEnd = windowOf(prev, r)
	}
	n := len(c.End)
	c.End = append(c.End, ends[w.lo:w.hi]...)
	c.Start = extend(c.Start, k)
	wantEnded := c.need&NeedLast != 0
	for i, end := range c.End[n:] {
		start := prev
		if end > windowEnd {
			start = windowEnd
			windowEnd += r
			if end > windowEnd || start == NoTime {
				windowEnd = windowOf(end, r)
				start = windowEnd - r
			}
		} else {
			if i > 0 {
				c.End[n+i-1] = prev
			}
			if wantEnded && n+i > 0 && c.End[n+i-1] == prev && c.Start[n+i-1] != prev {
				c.Ended[n+i-1] = false // it was not the series that ended
			}
		}
		c.Start[n+i] = max(start, prev)
		ended := false
		if end != windowEnd {
			if ended = end != windowEnd-1 && end != c.BlockEnd && !endsBlock(end); !ended {
				c.End[n+i], c.cut = windowEnd, cutOff{n + i, end, windowEnd}
				if end <= c.owed.by {
					c.owed.cut = n + i
				}
			}
		}
		if wantEnded {
			gone := windowEnd
			if ended {
				gone = max(gone, goneBy(c.Start[n+i], end, c.scratch[Count][w.lo+i]))
			}
			c.Ended, c.Gone = append(c.Ended, ended), append(c.Gone, gone)
		}
		prev = end
	}
}

// endsBlock tells that a stamp within a window is where one of the blocks ended that
// this one was merged of, of a rung wider than a block, and not where a series went
// stale. Blocks of ours begin and end with whole hours, or minutes; samples are a
// millisecond before one by accident only. A [Joiner] that knows where they ended
// leaves no such stamp.
func endsBlock(end int64) bool { return (end+1)%60_000 == 0 }

// goneBy is when a series that went stale after the point (start, end] has had its
// marker, going by the pace of its samples. Where that is after the point's window,
// the marker may not have come by the window's end, and the series must be seen there.
// Half a pace more than one is for the samples' jitter.
func goneBy(start, end int64, count float64) int64 {
	pace := end - start
	if count > 2 {
		pace = int64(float64(pace) / (count - 1))
	}
	return end + pace + pace/2
}

// windowOf returns the end of the window of r milliseconds that t is in.
func windowOf(t, r int64) int64 {
	k := (t - 1) / r
	if (t-1)%r < 0 {
		k--
	}
	return (k + 1) * r
}

// appendInc appends the counter's rises.
func (c *Columns) appendInc(w cut, ts []int64, cum []float64) {
	n := len(c.Inc)
	c.Inc = extend(c.Inc, w.hi-w.lo)
	// cum[0] is the chunk's first sample, cum[i+1] the counter at the end of point i.
	base := cum[w.lo]
	out := c.Inc[n:]
	for i, v := range cum[w.lo+1 : w.hi+1] {
		d := v - base
		if d != d { // all of it NaN, or infinite
			d = nanRise(base, v)
		}
		out[i] = d
		base = v
	}
	switch {
	case w.lo > 0:
		if n == 0 {
			c.Before = ts[w.lo]
		}
	case c.hasLast && cum[0] == cum[0]:
		out[0] += rise(c.last, cum[0])
	}
}

// nanRise is the rise between two entries when one is NaN, which the counter
// passes over, or both are infinite, where PromQL's difference is NaN too.
func nanRise(from, to float64) float64 {
	if math.IsNaN(from) || math.IsNaN(to) {
		return 0
	}
	return to - from
}

// leave remembers the counter's value where the wanted points end.
func (c *Columns) leave(chunk AggrChunk, w cut, ts []int64, cum []float64) {
	if w.hi == w.n {
		c.keep(cum[w.n+1])
		return
	}
	if c.need&NeedInc == 0 {
		return
	}
	// The chunk is left in its middle. The true value is not written there, but
	// any fall from here to the end takes back at least all of it: what it
	// would have to be to reach the end without a fall is then not above zero.
	at := cum[w.hi]
	if v := cum[w.n+1] - (cum[w.n] - at); v > slack*at {
		c.keep(v)
	} else if peaks, err := c.readPart(chunk, Max, w.n); err == nil {
		c.keep(min(at, peaks[w.hi-1]))
	}
	c.owed = debt{open: true, by: ts[w.hi+1], rise: cum[w.hi+1] - at, at: len(c.End), cut: -1}
}

// appendLast appends the last values. They are known at the end of a chunk, where
// all samples are equal, and from there
//   - backwards as long as the counter does not fall: what is left after taking a
//     rise away is then above zero, and at or below zero when it fell (see leave);
//   - forwards from the start of the chunk as long as nothing has fallen: the
//     counter part then equals the greatest value, and is above it ever after.
//
// Elsewhere the mean stands in.
func (c *Columns) appendLast(w cut, cum []float64) {
	counts, sums, mins, maxs := c.scratch[Count], c.scratch[Sum], c.scratch[Min], c.scratch[Max]
	n := len(c.Last)
	c.Last = extend(c.Last, w.hi-w.lo)
	out := c.Last[n:]
	v, known := cum[w.n+1], true
	for i := w.n - 1; i >= 0; i-- {
		lo, hi := mins[i], maxs[i]
		tolerance := slack * math.Abs(cum[i+1])
		switch {
		case lo == hi || hi != hi:
			v, known = hi, hi == hi
		case i == w.n-1:
		default:
			v -= cum[i+2] - cum[i+1]
			known = known && v > tolerance && mins[i+1] >= 0 && v >= lo-tolerance && v <= hi+tolerance
		}
		if i < w.lo || i >= w.hi {
			continue
		}
		switch {
		case hi != hi:
			out[i-w.lo] = hi
		case known && math.Abs(v-hi) <= tolerance:
			out[i-w.lo] = hi
		case known:
			out[i-w.lo] = min(max(v, lo), hi)
		default:
			out[i-w.lo] = mean(sums[i], counts[i], lo, hi)
		}
	}
	for i := range w.hi {
		tolerance := slack * math.Abs(maxs[i])
		if !(mins[i] > 2*tolerance && math.Abs(cum[i+1]-maxs[i]) <= tolerance) {
			break
		}
		if i >= w.lo {
			out[i-w.lo] = maxs[i]
		}
	}
}

// slack bounds the rounding of a counter that was added up over a chunk, relative
// to its value: 240 points of at most a few thousand samples, each an ulp (1e-16).
const slack = 1e-11

// mean is the mean of a point's samples, which rounding may take out of their
// range, and the middle of the range when NaN is among them.
func mean(sum, count, lo, hi float64) float64 {
	m := sum / count
	if m != m {
		return lo + (hi-lo)/2
	}
	return min(max(m, lo), hi)
}
