package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/weir-dev/weir/internal/rollup"
)

// points are the decoded points of one chunk, or of several that overlapped, of one
// series: what is edited when some of them go, or are added to each other. Only
// chunks that need it are decoded; the others are copied or joined as they are.
type points struct {
	hist bool
	at   []point

	// Floats: the first raw sample, and the true last value of the counter.
	firstT      int64
	first, last float64
}

// point is one entry of all parts.
type point struct {
	end                  int64
	count, sum, min, max float64
	cum                  float64 // counter with resets undone
	histSum, histCounter *histogram.FloatHistogram
}

// samples counted by all points.
func (p *points) samples() (n float64) {
	for _, x := range p.at {
		n += x.count
	}
	return n
}

// decodePoints reads a chunk.
func decodePoints(c rollup.AggrChunk) (p *points, err error) {
	defer func() { // chunkenc trusts its input
		if r := recover(); r != nil {
			err = fmt.Errorf("a chunk cannot be decoded: %v", r)
		}
	}()
	ends, counts, err := decodeFloats(c, rollup.Count)
	if err != nil {
		return nil, err
	}
	if len(ends) == 0 {
		return nil, errors.New("a chunk has no points")
	}
	p = &points{at: make([]point, len(ends))}
	for i := range ends {
		p.at[i].end, p.at[i].count = ends[i], counts[i]
	}
	enc, _, err := c.Part(rollup.Sum)
	if err != nil {
		return nil, err
	}
	if p.hist = enc != chunkenc.EncXOR; p.hist {
		return p, p.decodeHistograms(c)
	}
	return p, p.decodeValues(c)
}

func decodeFloats(c rollup.AggrChunk, a rollup.Aggregate) ([]int64, []float64, error) {
	enc, data, err := c.Part(a)
	if err != nil {
		return nil, nil, err
	}
	if enc != chunkenc.EncXOR {
		return nil, nil, fmt.Errorf("part %s has encoding %d, want %d", a, enc, chunkenc.EncXOR)
	}
	var x rollup.XOR
	x.Reset(data)
	ts, vs := make([]int64, x.Len()), make([]float64, x.Len())
	if x.Read(ts, vs) < len(ts) {
		return nil, nil, fmt.Errorf("part %s: %w", a, x.Err())
	}
	return ts, vs, nil
}

func (p *points) decodeValues(c rollup.AggrChunk) error {
	for _, part := range []struct {
		a   rollup.Aggregate
		set func(*point, float64)
	}{
		{rollup.Sum, func(x *point, v float64) { x.sum = v }},
		{rollup.Min, func(x *point, v float64) { x.min = v }},
		{rollup.Max, func(x *point, v float64) { x.max = v }},
	} {
		ts, vs, err := decodeFloats(c, part.a)
		if err != nil {
			return err
		}
		if len(ts) != len(p.at) {
			return fmt.Errorf("part %s has %d points, part count %d", part.a, len(ts), len(p.at))
		}
		for i, v := range vs {
			part.set(&p.at[i], v)
		}
	}
	ts, vs, err := decodeFloats(c, rollup.Counter)
	if err != nil {
		return err
	}
	n := len(ts)
	if n != len(p.at)+2 {
		return fmt.Errorf("part counter has %d entries for %d points", n, len(p.at))
	}
	p.firstT, p.first, p.last = ts[0], vs[0], vs[n-1]
	for i := range p.at {
		p.at[i].cum = vs[i+1]
	}
	return nil
}

func (p *points) decodeHistograms(c rollup.AggrChunk) error {
	for _, a := range []rollup.Aggregate{rollup.Sum, rollup.Counter} {
		enc, data, err := c.Part(a)
		if err != nil {
			return fmt.Errorf("part %s: %w", a, err)
		}
		chunk, err := chunkenc.FromData(enc, data)
		if err != nil {
			return fmt.Errorf("part %s: %w", a, err)
		}
		it := chunk.Iterator(nil)
		for i := range p.at {
			if it.Next() != chunkenc.ValFloatHistogram {
				return errors.Join(fmt.Errorf("part %s ends before point %d", a, i), it.Err())
			}
			_, h := it.AtFloatHistogram(nil)
			if a == rollup.Sum {
				p.at[i].histSum = h
			} else {
				p.at[i].histCounter = h
			}
		}
	}
	return nil
}

// keep drops the points that f does not want, and says whether there were any. The
// counter of what is left rises as before; where its first or last value goes with a
// point, the value at the nearest point left stands in, which the point's maximum
// gives, too, unless the counter was reset within that point.
func (p *points) keep(f func(start, end int64) bool, resolution, before int64) bool {
	lo := -1
	kept := p.at[:0:0]
	for i, x := range p.at {
		start := windowStart(x.end, resolution)
		if i > 0 {
			before = p.at[i-1].end
		}
		if f(max(start, before), x.end) {
			if lo < 0 {
				lo = i
			}
			kept = append(kept, x)
		}
	}
	if len(kept) == len(p.at) {
		return false
	}
	wasLast := p.at[len(p.at)-1].end
	p.at = kept
	if len(kept) == 0 || p.hist {
		return true
	}
	if x := &kept[len(kept)-1]; x.end != wasLast {
		p.last = trueValue(x)
	}
	if lo > 0 {
		p.firstT, p.first = kept[0].end, trueValue(&kept[0])
		off := kept[0].cum - p.first
		for i := range kept {
			kept[i].cum -= off
		}
	}
	return true
}

func trueValue(x *point) float64 {
	if x.cum > x.max {
		return x.max
	}
	return x.cum
}

// windowStart is where the left-open window of width r that ends at or after end
// begins.
func windowStart(end, r int64) int64 {
	m := (end - 1) % r
	if m < 0 {
		m += r
	}
	return end - 1 - m
}

// addPoints adds up what several blocks know of the same time: their points are in
// order, those with one end become one. The counter is that of the block with most
// samples, for two cannot be told apart. If there are floats and histograms among
// them, the kind with most samples stays.
func addPoints(all []*points) (*points, error) {
	most := slices.MaxFunc(all, func(a, b *points) int { return int(a.samples() - b.samples()) })
	sum := &points{hist: most.hist, firstT: most.firstT, first: most.first, last: most.last}
	next := make([]int, len(all))
	cum, counter := most.first, (*histogram.FloatHistogram)(nil)
	if most.hist && len(most.at) > 0 {
		counter = most.at[0].histCounter
	}
	for {
		end, found := int64(math.MaxInt64), false
		for i, p := range all {
			if p.hist == sum.hist && next[i] < len(p.at) {
				end, found = min(end, p.at[next[i]].end), true
			}
		}
		if !found {
			break
		}
		x := point{end: end, min: math.NaN(), max: math.NaN()}
		for i, p := range all {
			if p.hist != sum.hist || next[i] == len(p.at) || p.at[next[i]].end != end {
				continue
			}
			y := &p.at[next[i]]
			next[i]++
			if err := x.add(y); err != nil {
				return nil, err
			}
			if p == most {
				cum, counter = y.cum, y.histCounter
			}
		}
		x.cum, x.histCounter = cum, counter
		sum.at = append(sum.at, x)
	}
	if len(sum.at) > 0 {
		sum.firstT = min(sum.firstT, sum.at[0].end)
	}
	return sum, nil
}

func (x *point) add(y *point) error {
	x.count += y.count
	x.sum += y.sum
	if y.min < x.min || math.IsNaN(x.min) {
		x.min = y.min
	}
	if y.max > x.max || math.IsNaN(x.max) {
		x.max = y.max
	}
	switch {
	case y.histSum == nil:
	case x.histSum == nil:
		x.histSum = y.histSum.Copy()
	default:
		if _, _, _, err := x.histSum.Add(y.histSum); err != nil {
			return fmt.Errorf("add histograms of the point at %d: %w", x.end, err)
		}
	}
	return nil
}

// extend appends points of a later chunk of the same block, when they are of the same
// kind and the counter can go on.
func (p *points) extend(q *points) bool {
	if p.hist != q.hist || p.at[len(p.at)-1].end >= q.at[0].end {
		return false
	}
	if !p.hist {
		off := p.at[len(p.at)-1].cum
		switch {
		case math.IsNaN(off) || math.IsNaN(q.first):
			return false
		case q.first >= p.last:
			off -= p.last
		}
		for i := range q.at {
			q.at[i].cum += off
		}
		p.last = q.last
	}
	p.at = append(p.at, q.at...)
	return true
}

// editPoints is how many points an edited chunk gets at most: what a Joiner takes
// whole.
const editPoints = 120

// encode hands the points out as chunks, for a [rollup.Joiner] to pack.
func (p *points) encode(f func(rollup.AggrChunk) error) error {
	for at := 0; at < len(p.at); {
		n := min(len(p.at)-at, editPoints)
		if p.hist {
			n = 1 // whatever the schemas, and whether there is a reset before it
		}
		var (
			c   rollup.AggrChunk
			err error
		)
		if p.hist {
			c, err = p.encodeHistogram(&p.at[at])
		} else {
			c, err = p.encodeFloats(at, at+n)
		}
		if err == nil {
			err = f(c)
		}
		if err != nil {
			return err
		}
		at += n
	}
	return nil
}

func (p *points) encodeFloats(from, to int) (rollup.AggrChunk, error) {
	var c rollup.AggrChunk
	for _, get := range []func(*point) float64{
		func(x *point) float64 { return x.count },
		func(x *point) float64 { return x.sum },
		func(x *point) float64 { return x.min },
		func(x *point) float64 { return x.max },
	} {
		part := chunkenc.NewXORChunk()
		app, err := part.Appender()
		if err != nil {
			return nil, err
		}
		for i := range p.at[from:to] {
			app.Append(0, p.at[from+i].end, get(&p.at[from+i]))
		}
		c = appendPart(c, part)
	}
	part := chunkenc.NewXORChunk()
	app, err := part.Appender()
	if err != nil {
		return nil, err
	}
	firstT, first, last := p.firstT, p.first, p.last
	if from > 0 {
		firstT, first = p.at[from-1].end, p.at[from-1].cum
	}
	if to < len(p.at) {
		last = p.at[to-1].cum
	}
	app.Append(0, firstT, first)
	for _, x := range p.at[from:to] {
		app.Append(0, x.end, x.cum)
	}
	app.Append(0, p.at[to-1].end, last)
	return appendPart(c, part), nil
}

func (p *points) encodeHistogram(x *point) (rollup.AggrChunk, error) {
	count := chunkenc.NewXORChunk()
	app, err := count.Appender()
	if err != nil {
		return nil, err
	}
	app.Append(0, x.end, x.count)
	sum, err := oneHistogram(x.end, x.histSum)
	if err != nil {
		return nil, err
	}
	c := appendPart(nil, count)
	c = appendPart(c, sum)
	c = append(c, 0, 0) // no minimum, no maximum
	counter, err := oneHistogram(x.end, x.histCounter)
	if err != nil {
		return nil, err
	}
	return appendPart(c, counter), nil
}

func oneHistogram(t int64, h *histogram.FloatHistogram) (chunkenc.Chunk, error) {
	c := chunkenc.NewFloatHistogramChunk()
	app, err := c.Appender()
	if err != nil {
		return nil, err
	}
	_, _, _, err = app.AppendFloatHistogram(nil, 0, t, h, false)
	return c, err
}

func appendPart(dst []byte, c chunkenc.Chunk) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(c.Bytes())))
	dst = append(dst, byte(c.Encoding()))
	return append(dst, c.Bytes()...)
}
