package rollup

import (
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Joiner packs the aggregate chunks of one series and one resolution, from blocks
// that follow each other, into fewer and fuller ones. What a reader learns from the
// result is what it would learn from all chunks in turn.
//
// Two points that share a window because a block ended in it become one. Chunks of
// floats are put together whole or not at all: within one, no sample's value is
// known but the last.
//
// A Joiner is used by one goroutine. After an error only Begin may be called.
type Joiner struct {
	resolution int64
	sink       func(mint, maxt int64, chunk AggrChunk) error
	inSink     bool
	mint, maxt int64

	// BlockEnd is the last millisecond of the block that the chunks joined next are
	// of, which the caller sets. A point stamped with it is stamped with its window's
	// end, where the series has nothing else in that window. [NoTime], as Begin leaves
	// it, keeps all stamps.
	BlockEnd int64

	chunk  int   // chunks of the series that were joined
	kind   kind  // of the chunk in the making
	open   bool  // there is a last point, not yet in the chunk in the making
	points int   // in the chunk in the making, with the open one
	end    int64 // of the last point
	cutOff bool  // it ends with its block

	// Floats: the open point, and the counter after it.
	values     [Counter]float64
	cum        float64 // the counter had it never fallen
	last       float64 // the counter
	firstT     int64
	first      float64
	floatChunk floatChunk
	xor        XOR
	ends       []int64 // of the chunk that is joined
	ts         []int64
	columns    [numAggregates][]float64

	// Histograms: the open point's count, sum and counter.
	count     int
	alone     bool // it is the series' first sample and stays a point of its own
	sum       *histogram.FloatHistogram
	counter   *histogram.FloatHistogram
	spare     *histogram.FloatHistogram
	histChunk histChunk
	sums      histReaders
	counters  histReaders
}

// NewJoiner returns a Joiner for a resolution in milliseconds. The sink borrows
// the chunk until it returns; mint and maxt are the first and last timestamp in it.
func NewJoiner(resolution int64, sink func(mint, maxt int64, chunk AggrChunk) error) *Joiner {
	return &Joiner{
		resolution: resolution, sink: sink,
		sum: &histogram.FloatHistogram{}, counter: &histogram.FloatHistogram{}, spare: &histogram.FloatHistogram{},
	}
}

// Begin starts a series of a block with the half-open range [mint, maxt), in Unix
// milliseconds. A point outside is an error.
func (j *Joiner) Begin(mint, maxt int64) {
	j.mint, j.maxt = mint, maxt
	j.chunk, j.kind, j.open, j.points, j.end = 0, kindNone, false, 0, noTime
	j.BlockEnd, j.cutOff = NoTime, false
	j.floatChunk.reset()
	j.histChunk.reset(histogram.UnknownCounterReset)
}

// Join takes the series' next chunk, borrowed until the call returns. The error
// tells which chunk of the series it is and what is wrong with it, or is the sink's.
func (j *Joiner) Join(chunk AggrChunk) (err error) {
	j.chunk++
	defer j.explain(&err, len(chunk))
	enc, _, err := chunk.Part(Sum)
	if err != nil {
		return err
	}
	switch enc {
	case chunkenc.EncXOR:
		return j.joinFloats(chunk)
	case chunkenc.EncFloatHistogram:
		return j.joinHistograms(chunk)
	}
	return fmt.Errorf("part sum has encoding %d", enc)
}

// End ends the series and hands out its last chunk.
func (j *Joiner) End() (err error) {
	defer j.explain(&err, 0)
	j.meet(math.MaxInt64)
	return j.flush()
}

// meet stamps the open point, if it was cut off by its block's end, with its window's,
// unless what comes at t lies there too. A millisecond before it will do: it is taken
// for it, and is what Weir's own blocks have.
func (j *Joiner) meet(t int64) {
	if !j.open || !j.cutOff {
		return
	}
	j.cutOff = false
	if end := windowEnd(j.end, j.resolution); t > end && j.end < end-1 {
		j.end = min(end, j.maxt-1)
	}
}

// explain says which chunk an error is about. A panic of chunkenc's readers, which
// trust their input, becomes an error; the sink's own go on.
func (j *Joiner) explain(err *error, size int) {
	if !j.inSink {
		if p := recover(); p != nil {
			*err = fmt.Errorf("the data is corrupt: %v", p)
		}
	}
	switch {
	case *err == nil:
	case size == 0:
		*err = fmt.Errorf("end a series of %d aggregate chunks: %w", j.chunk, *err)
	default:
		*err = fmt.Errorf("join aggregate chunk %d of the series (%d bytes): %w", j.chunk, size, *err)
	}
}

// check sees that the next point is in order and in the block's range.
func (j *Joiner) check(end int64) error {
	if end <= j.end && j.end != noTime {
		return fmt.Errorf("point at %d after one at %d", end, j.end)
	}
	if end < j.mint || end >= j.maxt {
		return fmt.Errorf("point at %d is outside the block's range [%d, %d)", end, j.mint, j.maxt)
	}
	return nil
}

// shares tells whether the open point and one that ends at end share a window.
func (j *Joiner) shares(end int64) bool {
	return j.open && windowEnd(j.end, j.resolution) == windowEnd(end, j.resolution)
}

// flush hands out the chunk in the making.
func (j *Joiner) flush() error {
	if err := j.write(); err != nil {
		return err
	}
	if j.points == 0 {
		return nil
	}
	j.points = 0
	var (
		mint, maxt int64
		chunk      AggrChunk
	)
	if j.kind == kindFloat {
		mint, maxt = j.floatChunk.mint, j.floatChunk.maxt
		chunk = j.floatChunk.finish()
	} else {
		mint, maxt = j.histChunk.mint, j.histChunk.maxt
		chunk = j.histChunk.finish()
	}
	j.inSink = true
	err := j.sink(mint, maxt, chunk)
	j.inSink = false
	return err
}

// write appends the open point to the chunk in the making.
func (j *Joiner) write() error {
	if !j.open {
		return nil
	}
	j.open = false
	if j.kind != kindFloat {
		return j.writeHistogram()
	}
	c := &j.floatChunk
	c.add(j.end, j.values)
	if c.points == 1 {
		c.start(j.firstT, j.first)
	}
	c.base, c.last = 0, j.cum
	c.rise()
	c.last = j.last
	return nil
}

func (j *Joiner) joinFloats(chunk AggrChunk) error {
	if err := j.readFloats(chunk); err != nil {
		return err
	}
	n := len(j.ends)
	if n == 0 {
		return nil
	}
	j.meet(j.ends[0])
	counter := j.columns[Counter]
	first, last := counter[0], counter[n+1]
	offset := 0.0
	still := false // the counter is where it was, for the samples are NaN
	if j.kind == kindFloat && j.points > 0 && j.mayJoin(first, n, len(chunk)) {
		still = math.IsNaN(first)
		// Nothing is added while the counter never fell, so its values stay exact.
		if offset = j.cum; first >= j.last {
			offset = j.cum - j.last
		}
	} else {
		if err := j.flush(); err != nil {
			return err
		}
		j.kind, j.firstT, j.first = kindFloat, j.ts[0], first
	}
	for i, end := range j.ends {
		if err := j.check(end); err != nil {
			return err
		}
		if i == 0 && j.shares(end) {
			j.merge()
		} else {
			if err := j.write(); err != nil {
				return err
			}
			j.open = true
			j.points++
			for a := range j.values {
				j.values[a] = j.columns[a][i]
			}
		}
		j.cutOff = end == j.BlockEnd
		if j.end = end; !still {
			j.cum = offset + counter[i+1]
		}
	}
	if !still {
		j.last = last
	}
	return nil
}

// mayJoin tells whether a chunk of n points, the first sample given, can be added
// to the one in the making: it must not get too large, and the counter must be able
// to go on, which it is not from infinity, nor from NaN to a number.
func (j *Joiner) mayJoin(first float64, n, size int) bool {
	return j.points+n <= maxPoints && j.floatChunk.size()+size <= maxChunkBytes &&
		(finite(j.cum) && finite(j.last) || math.IsNaN(first))
}

// merge adds the first point of the chunk that is joined to the open point.
func (j *Joiner) merge() {
	j.values[Count] += j.columns[Count][0]
	j.values[Sum] = plainNaN(j.values[Sum] + j.columns[Sum][0])
	if v := j.columns[Min][0]; v < j.values[Min] || math.IsNaN(j.values[Min]) {
		j.values[Min] = v
	}
	if v := j.columns[Max][0]; v > j.values[Max] || math.IsNaN(j.values[Max]) {
		j.values[Max] = v
	}
}

// readFloats decodes a chunk's five parts into j.ends, j.columns and, for the
// counter, j.ts.
func (j *Joiner) readFloats(chunk AggrChunk) error {
	for a := Count; a < numAggregates; a++ {
		ts, err := j.readPart(chunk, a)
		if err != nil {
			return fmt.Errorf("part %s: %w", a, err)
		}
		if a == Count {
			j.ends = append(j.ends[:0], ts...)
			continue
		}
		if a == Counter {
			if len(j.ends) == 0 {
				continue
			}
			if len(ts) != len(j.ends)+2 || ts[len(ts)-1] != ts[len(ts)-2] || ts[0] > ts[1] {
				return fmt.Errorf("part counter has not the first sample, %d points and the last value", len(j.ends))
			}
			ts = ts[1 : len(ts)-1]
		}
		if len(ts) != len(j.ends) {
			return fmt.Errorf("part %s has %d points, part count %d", a, len(ts), len(j.ends))
		}
		for i, t := range ts {
			if t != j.ends[i] {
				return fmt.Errorf("part %s has a point at %d, part count at %d", a, t, j.ends[i])
			}
		}
	}
	return nil
}

// readPart decodes one part into its column and j.ts, which it returns.
func (j *Joiner) readPart(chunk AggrChunk, a Aggregate) ([]int64, error) {
	enc, data, err := chunk.Part(a)
	if err != nil {
		return nil, err
	}
	if enc != chunkenc.EncXOR {
		return nil, fmt.Errorf("encoding %d among floats", enc)
	}
	j.xor.Reset(data)
	n := j.xor.Len()
	if len(j.ts) < n {
		j.ts = make([]int64, n)
	}
	if len(j.columns[a]) < n {
		j.columns[a] = make([]float64, max(n, maxPoints+2))
	}
	if j.xor.Read(j.ts[:n], j.columns[a][:n]) != n {
		return nil, j.xor.Err()
	}
	return j.ts[:n], nil
}

func (j *Joiner) writeHistogram() error {
	c := &j.histChunk
	if c.points > 0 && !c.fits(j.sum, j.counter) {
		if err := j.handOut(); err != nil {
			return err
		}
	}
	ok, err := c.add(j.end, j.count, j.sum, j.counter)
	if ok || err != nil {
		return err
	}
	if err := j.handOut(); err != nil {
		return err
	}
	c.interrupt()
	_, err = c.add(j.end, j.count, j.sum, j.counter)
	return err
}

// handOut hands out the chunk before a point that does not fit it.
func (j *Joiner) handOut() error {
	j.points = j.histChunk.points
	err := j.flush()
	j.points = 1
	return err
}

func (j *Joiner) joinHistograms(chunk AggrChunk) error {
	_, counters, err := chunk.Part(Counter)
	if err != nil {
		return fmt.Errorf("part counter: %w", err)
	}
	ts, err := j.readPart(chunk, Count)
	if err != nil {
		return fmt.Errorf("part count: %w", err)
	}
	_, sums, err := chunk.Part(Sum)
	if err != nil {
		return err
	}
	sumIt, err := j.sums.open(chunkenc.EncFloatHistogram, sums)
	if err != nil {
		return fmt.Errorf("part sum: %w", err)
	}
	counterIt, err := j.counters.open(chunkenc.EncFloatHistogram, counters)
	if err != nil {
		return fmt.Errorf("part counter: %w", err)
	}
	is := kindHistogram
	if resetHint(counters) == histogram.GaugeType {
		is = kindGauge
	}
	// The first sample of a series in a block is a point of its own, for readers to
	// count from. With a chunk before it they can do without: up to that point, those
	// that share a window become one.
	border, mergeable := false, 0
	if len(ts) > 0 {
		j.meet(ts[0])
	}
	for i, end := range ts {
		if err := j.check(end); err != nil {
			return err
		}
		sum, counter, err := j.readHistograms(sumIt, counterIt, i, end)
		if err != nil {
			return err
		}
		if i == 0 {
			if border, err = j.border(is, counter); err != nil {
				return err
			}
			if !border {
				mergeable = 1
			}
		}
		if i <= mergeable && !j.alone && j.shares(end) {
			if err := j.mergeHistogram(i, sum); err != nil {
				return err
			}
		} else {
			if err := j.write(); err != nil {
				return err
			}
			j.open = true
			j.alone = i == 0 && border && j.histChunk.hint == histogram.UnknownCounterReset
			j.points++
			j.count = int(j.columns[Count][i])
			sum.CopyTo(j.sum)
		}
		j.end, j.cutOff = end, end == j.BlockEnd
		j.counter, j.spare = counter, j.counter
	}
	return nil
}

// readHistograms reads point i's sum and counter; the counter is j.spare. The sum is
// valid until the next one is read.
func (j *Joiner) readHistograms(sums, counters chunkenc.Iterator, i int, end int64) (sum, counter *histogram.FloatHistogram, err error) {
	if sums.Next() == chunkenc.ValNone {
		return nil, nil, fmt.Errorf("part sum ends before point %d at %d: %w", i, end, sums.Err())
	}
	t, sum := sums.AtFloatHistogram(nil)
	if t != end {
		return nil, nil, fmt.Errorf("part sum has a point at %d, part count at %d", t, end)
	}
	if counters.Next() == chunkenc.ValNone {
		return nil, nil, fmt.Errorf("part counter ends before point %d at %d: %w", i, end, counters.Err())
	}
	t, counter = counters.AtFloatHistogram(j.spare)
	if t != end {
		return nil, nil, fmt.Errorf("part counter has a point at %d, part count at %d", t, end)
	}
	return sum, counter, nil
}

// border ends the chunk in the making if the next point, the first of the chunk that
// is joined, may not share it, and tells whether it did.
func (j *Joiner) border(is kind, counter *histogram.FloatHistogram) (bool, error) {
	var hint histogram.CounterResetHint
	switch {
	case j.kind != is || j.points == 0:
		hint = counter.CounterResetHint
	case is == kindGauge:
		if counter.UsesCustomBuckets() == j.counter.UsesCustomBuckets() {
			return false, nil
		}
		hint = histogram.GaugeType
	default:
		if counter.CounterResetHint == histogram.NotCounterReset {
			counter.CounterResetHint = histogram.UnknownCounterReset
		}
		if !counter.DetectReset(j.counter) {
			counter.CounterResetHint = histogram.UnknownCounterReset
			return false, nil
		}
		hint = histogram.CounterReset
	}
	if err := j.flush(); err != nil {
		return false, err
	}
	j.kind, j.histChunk.hint = is, hint
	counter.CounterResetHint = histogram.UnknownCounterReset
	return true, nil
}

func (j *Joiner) mergeHistogram(i int, sum *histogram.FloatHistogram) error {
	j.count += int(j.columns[Count][i])
	if _, _, _, err := j.sum.Add(sum); err != nil {
		return fmt.Errorf("add histograms of one window: %w", err)
	}
	return nil
}
