package rollup

import (
	"fmt"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

func (f *Folder) foldHistograms(enc chunkenc.Encoding, data []byte, deleted tombstones.Intervals) error {
	it, err := f.readers.openRaw(enc, data)
	if err != nil {
		return err
	}
	// Within a chunk the hint "no reset" holds from one sample to the next.
	trusted := false
	for it.Next() != chunkenc.ValNone {
		t, h := it.AtFloatHistogram(f.cur)
		if t <= f.lastT && f.lastT != noTime {
			return fmt.Errorf("sample at %d after one at %d", t, f.lastT)
		}
		f.lastT = t
		for len(deleted) > 0 && deleted[0].Maxt < t {
			deleted = deleted[1:]
		}
		if t < f.mint || t >= f.maxt || len(deleted) > 0 && deleted[0].Mint <= t {
			trusted = false
			continue
		}
		if value.IsStaleNaN(h.Sum) {
			if err := f.endPoints(noTime); err != nil {
				return err
			}
			continue
		}
		f.samples++
		if h.CounterResetHint == histogram.NotCounterReset && !trusted {
			h.CounterResetHint = histogram.UnknownCounterReset
		}
		trusted = true
		if err := f.foldHistogram(t, h); err != nil {
			return err
		}
	}
	return it.Err()
}

// foldHistogram folds h, which is f.cur.
func (f *Folder) foldHistogram(t int64, h *histogram.FloatHistogram) error {
	if err := f.border(t, h); err != nil {
		return err
	}
	h.CounterResetHint = histogram.UnknownCounterReset
	r := f.chain[0]
	if err := f.openAt(r, t); err != nil {
		return err
	}
	r.lastT = t
	if err := r.hists.add(h, 1); err != nil {
		return err
	}
	f.prev, f.cur = h, f.prev
	return nil
}

// border ends points and chunks where the sample h at time t may not share them
// with the samples before it.
func (f *Folder) border(t int64, h *histogram.FloatHistogram) error {
	is := kindHistogram
	if h.CounterResetHint == histogram.GaugeType {
		is = kindGauge
	}
	hint := histogram.NotCounterReset
	switch {
	case f.kind != is:
		if err := f.turn(is, t); err != nil {
			return err
		}
		hint = histogram.UnknownCounterReset
		// Alone in its point, the first value is known to readers exactly, and so is
		// what the counter rose since the block before.
		f.own = is == kindHistogram
	case is == kindGauge:
		if h.UsesCustomBuckets() == f.prev.UsesCustomBuckets() {
			return nil
		}
		if err := f.turn(is, t); err != nil {
			return err
		}
	case h.DetectReset(f.prev):
		if err := f.turn(is, t); err != nil {
			return err
		}
		hint, f.own = histogram.CounterReset, false
	case f.own:
		f.own = false
		return f.endPoints(t)
	default:
		return nil
	}
	if is == kindGauge {
		hint = histogram.GaugeType
	}
	for _, r := range f.chain {
		r.histChunk.hint = hint
	}
	return nil
}

func (f *Folder) writeHistogram(r *rung, end int64) error {
	c, last := &r.histChunk, f.prev // of the window
	if c.points > 0 && !c.fits(r.hists.sum, last) {
		if err := f.flush(r); err != nil {
			return err
		}
	}
	ok, err := c.add(end, r.hists.count, r.hists.sum, last)
	if ok || err != nil {
		return err
	}
	// chunkenc sees a reset where [histogram.FloatHistogram.DetectReset] sees none.
	if err := f.flush(r); err != nil {
		return err
	}
	c.interrupt()
	_, err = c.add(end, r.hists.count, r.hists.sum, last)
	return err
}

// histWindow gathers the histograms of one window.
type histWindow struct {
	count int
	sum   *histogram.FloatHistogram
}

// add adds a sum of n histograms, which it copies.
func (w *histWindow) add(sum *histogram.FloatHistogram, n int) error {
	if w.sum == nil {
		w.sum = &histogram.FloatHistogram{}
	}
	if w.count == 0 {
		sum.CopyTo(w.sum)
	} else if _, _, _, err := w.sum.Add(sum); err != nil {
		return fmt.Errorf("add histograms of one window: %w", err)
	}
	w.count += n
	return nil
}

// histChunk is an aggregate chunk of histograms in the making. Its counter part is
// the last sample of each point: within a chunk a counter never falls, and of gauges
// nothing is made of it but their last value.
type histChunk struct {
	counts     xorWriter
	sum        histPart
	counter    histPart
	points     int
	mint, maxt int64
	hint       histogram.CounterResetHint // of the chunk's first value; GaugeType for gauges
	out        []byte
}

func (c *histChunk) reset(hint histogram.CounterResetHint) {
	c.counts.reset()
	c.sum, c.counter = histPart{}, histPart{}
	c.points, c.hint = 0, hint
}

// interrupt takes back what is known of how the chunk's first value relates to the
// one before it. There is nothing to take back of gauges.
func (c *histChunk) interrupt() {
	if c.hint != histogram.GaugeType {
		c.hint = histogram.UnknownCounterReset
	}
}

// fits tells whether the next point can go into the chunk.
func (c *histChunk) fits(sum, last *histogram.FloatHistogram) bool {
	return c.points < maxPoints &&
		c.counts.size()+c.sum.size()+c.counter.size() <= maxChunkBytes &&
		c.sum.fits(sum) && c.counter.fits(last)
}

// add appends a point, given the sum and the last of its samples. It may change
// their hints and how they spell empty buckets. When it returns false nothing was
// appended.
func (c *histChunk) add(end int64, count int, sum, last *histogram.FloatHistogram) (bool, error) {
	if c.hint == histogram.GaugeType {
		last.CounterResetHint = histogram.GaugeType
	}
	ok, err := c.counter.append(end, last, c.hint)
	if !ok || err != nil {
		return false, err
	}
	sum.CounterResetHint = histogram.GaugeType
	ok, err = c.sum.append(end, sum, histogram.GaugeType)
	if err != nil {
		return false, err
	}
	if !ok {
		return false, fmt.Errorf("sum of histograms at %d does not fit its chunk", end)
	}
	if c.points == 0 {
		c.mint = end
	}
	c.maxt = end
	c.points++
	c.counts.append(end, float64(count))
	return true, nil
}

// finish returns the chunk, valid until the next finish, and begins another one,
// in which the counter goes on unless hint is set to say otherwise.
func (c *histChunk) finish() AggrChunk {
	c.out = appendPart(c.out[:0], chunkenc.EncXOR, c.counts.finish())
	c.out = appendPart(c.out, chunkenc.EncFloatHistogram, c.sum.bytes())
	c.out = appendPart(c.out, 0, nil)
	c.out = appendPart(c.out, 0, nil)
	c.out = appendPart(c.out, chunkenc.EncFloatHistogram, c.counter.bytes())
	next := histogram.NotCounterReset
	if c.hint == histogram.GaugeType {
		next = c.hint
	}
	c.reset(next)
	return c.out
}

// histPart is a chunk of float histograms of one layout.
type histPart struct {
	chunk         chunkenc.Chunk // nil while empty
	app           chunkenc.Appender
	schema        int32
	zeroThreshold float64
	bounds        []float64
}

func (p *histPart) size() int { return len(p.bytes()) }

func (p *histPart) bytes() []byte {
	if p.chunk == nil {
		return nil
	}
	return p.chunk.Bytes()
}

func (p *histPart) fits(h *histogram.FloatHistogram) bool {
	return h.Schema == p.schema && h.ZeroThreshold == p.zeroThreshold &&
		histogram.CustomBucketBoundsMatch(h.CustomValues, p.bounds)
}

// append appends h, or returns false when chunkenc would begin another chunk.
func (p *histPart) append(t int64, h *histogram.FloatHistogram, first histogram.CounterResetHint) (bool, error) {
	begin := p.chunk == nil
	if begin {
		c := chunkenc.NewFloatHistogramChunk()
		app, err := c.Appender()
		if err != nil {
			return false, err
		}
		*p = histPart{chunk: c, app: app, schema: h.Schema, zeroThreshold: h.ZeroThreshold, bounds: h.CustomValues}
	}
	c, recoded, app, err := p.app.AppendFloatHistogram(nil, 0, t, h, false)
	if err != nil {
		return false, err
	}
	if c != nil && !recoded {
		return false, nil
	}
	if c != nil {
		p.chunk = c
	}
	p.app = app
	if begin {
		setResetHint(p.chunk.Bytes(), first)
	}
	return true, nil
}

// histHeader is the head of histogram chunks: the number of samples, two bytes,
// and flags.
const histHeader = 3

// resetHeaders are how histogram chunks say what hint their first value has.
var resetHeaders = [...]struct {
	hint   histogram.CounterResetHint
	header chunkenc.CounterResetHeader
}{
	{histogram.UnknownCounterReset, chunkenc.UnknownCounterReset},
	{histogram.CounterReset, chunkenc.CounterReset},
	{histogram.NotCounterReset, chunkenc.NotCounterReset},
	{histogram.GaugeType, chunkenc.GaugeType},
}

// setResetHint writes the hint of the chunk's first value.
func setResetHint(chunk []byte, hint histogram.CounterResetHint) {
	for _, h := range resetHeaders {
		if h.hint == hint {
			chunk[histHeader-1] = chunk[histHeader-1]&^chunkenc.CounterResetHeaderMask | byte(h.header)
		}
	}
}

// resetHint returns the hint of the chunk's first value.
func resetHint(chunk []byte) histogram.CounterResetHint {
	for _, h := range resetHeaders {
		if chunk[histHeader-1]&chunkenc.CounterResetHeaderMask == byte(h.header) {
			return h.hint
		}
	}
	return histogram.UnknownCounterReset
}
