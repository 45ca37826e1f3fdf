package rollup

import (
	"errors"
	"fmt"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

// Sink takes a finished chunk of the rung with the given place in the ladder.
// mint and maxt are the first and last timestamp in it, Unix milliseconds. The
// chunk is borrowed until the call returns. Chunks of one rung come in time order.
type Sink func(rung int, mint, maxt int64, chunk AggrChunk) error

// Folder turns the raw chunks of one series after the other into aggregate chunks
// of all rungs of the ladder at once.
//
//	samples -> window of the finest rung -> window of the next -> ...
//	                   |                         |
//	                   point -> chunk -> Sink    point -> chunk -> Sink
//
// Holds: the windows of a rung lie within those of the next, so a window that ends
// is merged into the next rung's and no sample is looked at twice. A window ends
// when the next sample is seen: only then is it known whether the series went
// stale in it, was reset, or changed its type.
// Cost: memory is that of one chunk a rung; for floats there is no allocation.
//
// A Folder is used by one goroutine. After an error only Begin may be called.
type Folder struct {
	ladder  []*rung
	chain   []*rung // those of the ladder that the current series wants
	sink    Sink
	inSink  bool
	samples uint64

	mint, maxt int64
	chunk      int   // chunks of the series that were folded
	lastT      int64 // of the last sample, stale markers included
	kind       kind

	xor XOR
	ts  [foldBatch]int64
	vs  [foldBatch]float64

	// Histograms: the last sample, and the one that is read into. own says that
	// the next sample must begin a point of its own.
	prev, cur *histogram.FloatHistogram
	own       bool
	readers   histReaders
}

// foldBatch is how many samples are decoded before they are folded. Both slices
// together are 4 KiB and stay in the nearest cache; the TSDB's chunks of 120
// samples fit as a whole.
const foldBatch = 256

// kind is the kind of samples of the chunk in the making.
type kind uint8

const (
	kindNone kind = iota
	kindFloat
	kindHistogram
	kindGauge // histograms
)

// rung is one resolution: its open window and its chunk in the making.
type rung struct {
	place      int
	resolution int64
	open       bool
	end        int64 // of the window, or of the block where that ends earlier
	lastT      int64 // of the window's last sample
	floats     window
	hists      histWindow
	floatChunk floatChunk
	histChunk  histChunk
}

// NewFolder returns a Folder for a ladder of resolutions in milliseconds, the
// finest first, each dividing the next; at most 64 of them.
func NewFolder(resolutions []int64, sink Sink) (*Folder, error) {
	if len(resolutions) == 0 || len(resolutions) > 64 {
		return nil, fmt.Errorf("fold samples: got %d resolutions, want 1 to 64", len(resolutions))
	}
	f := &Folder{sink: sink, prev: &histogram.FloatHistogram{}, cur: &histogram.FloatHistogram{}}
	for i, r := range resolutions {
		if r <= 0 {
			return nil, fmt.Errorf("fold samples: resolution of %d ms, want more than 0", r)
		}
		if i > 0 && (r <= resolutions[i-1] || r%resolutions[i-1] != 0) {
			return nil, fmt.Errorf("fold samples: resolution of %d ms is no multiple of %d ms, the one before", r, resolutions[i-1])
		}
		f.ladder = append(f.ladder, &rung{place: i, resolution: r})
	}
	f.chain = make([]*rung, 0, len(resolutions))
	return f, nil
}

// Samples returns how many samples were folded since NewFolder: as many as the points
// count. Stale markers, deleted samples and those outside the block's range are none.
func (f *Folder) Samples() uint64 { return f.samples }

// Begin starts a series of a block with the half-open range [mint, maxt), in Unix
// milliseconds; samples outside are passed over. Bit i of rungs asks for rung i.
func (f *Folder) Begin(mint, maxt int64, rungs uint64) {
	f.mint, f.maxt = mint, maxt
	f.chunk, f.lastT, f.kind, f.own = 0, noTime, kindNone, false
	f.chain = f.chain[:0]
	for i, r := range f.ladder {
		if rungs&(1<<i) == 0 {
			continue
		}
		r.open = false
		r.floatChunk.reset()
		r.histChunk.reset(histogram.UnknownCounterReset)
		f.chain = append(f.chain, r)
	}
}

// Fold folds the series' next raw chunk, less the samples in deleted. The data is
// borrowed until the call returns. The error tells which chunk of the series it
// is and what is wrong with it, or is the Sink's.
func (f *Folder) Fold(enc chunkenc.Encoding, data []byte, deleted tombstones.Intervals) (err error) {
	f.chunk++
	if len(f.chain) == 0 {
		return nil
	}
	defer f.explain(&err, enc, len(data))
	switch enc {
	case chunkenc.EncXOR:
		return f.foldXOR(data, deleted)
	case chunkenc.EncXOR2:
		return f.foldXOR2(data, deleted)
	case chunkenc.EncHistogram, chunkenc.EncFloatHistogram, chunkenc.EncHistogramST, chunkenc.EncFloatHistogramST:
		return f.foldHistograms(enc, data, deleted)
	}
	return errors.New("encoding is not one of samples")
}

// End ends the series and hands out its last chunks.
func (f *Folder) End() (err error) {
	defer f.explain(&err, chunkenc.EncNone, 0)
	if err := f.endPoints(math.MaxInt64); err != nil {
		return err
	}
	return f.flushAll()
}

// explain says which chunk an error is about. A panic of chunkenc's readers and the
// histogram arithmetic, which trust their input, becomes an error; the Sink's own
// panics go on.
func (f *Folder) explain(err *error, enc chunkenc.Encoding, size int) {
	if !f.inSink {
		if p := recover(); p != nil {
			*err = fmt.Errorf("the data is corrupt: %v", p)
		}
	}
	switch {
	case *err == nil:
	case enc == chunkenc.EncNone:
		*err = fmt.Errorf("end a series of %d chunks: %w", f.chunk, *err)
	default:
		*err = fmt.Errorf("fold chunk %d of the series (encoding %d, %d bytes): %w", f.chunk, enc, size, *err)
	}
}

func (f *Folder) foldXOR(data []byte, deleted tombstones.Intervals) error {
	f.xor.Reset(data)
	for {
		n := f.xor.Read(f.ts[:], f.vs[:])
		if n == 0 {
			return f.xor.Err()
		}
		if err := f.foldBatch(f.ts[:n], f.vs[:n], deleted); err != nil {
			return err
		}
	}
}

// foldXOR2 reads through chunkenc: the encoding is not written by default.
func (f *Folder) foldXOR2(data []byte, deleted tombstones.Intervals) error {
	it, err := f.readers.openRaw(chunkenc.EncXOR2, data)
	if err != nil {
		return err
	}
	for more := true; more; {
		n := 0
		for ; n < foldBatch; n++ {
			if more = it.Next() != chunkenc.ValNone; !more {
				break
			}
			f.ts[n], f.vs[n] = it.At()
		}
		if err := f.foldBatch(f.ts[:n], f.vs[:n], deleted); err != nil {
			return err
		}
	}
	return it.Err()
}

// foldBatch folds samples that are known to be in the block's range and order, or
// makes them so.
func (f *Folder) foldBatch(ts []int64, vs []float64, deleted tombstones.Intervals) error {
	last := f.lastT
	for _, t := range ts {
		if t <= last && last != noTime {
			return fmt.Errorf("sample at %d after one at %d", t, last)
		}
		last = t
	}
	f.lastT = last
	for len(ts) > 0 && ts[0] < f.mint {
		ts, vs = ts[1:], vs[1:]
	}
	for len(ts) > 0 && ts[len(ts)-1] >= f.maxt {
		ts, vs = ts[:len(ts)-1], vs[:len(ts)-1]
	}
	if len(deleted) > 0 {
		n := undeleted(ts, vs, deleted)
		ts, vs = ts[:n], vs[:n]
	}
	return f.foldFloats(ts, vs)
}

// undeleted moves the samples that are in no interval to the front.
func undeleted(ts []int64, vs []float64, deleted tombstones.Intervals) (n int) {
	for i, t := range ts {
		for len(deleted) > 0 && deleted[0].Maxt < t {
			deleted = deleted[1:]
		}
		if len(deleted) > 0 && deleted[0].Mint <= t {
			continue
		}
		ts[n], vs[n] = t, vs[i]
		n++
	}
	return n
}

func (f *Folder) foldFloats(ts []int64, vs []float64) error {
	r := f.chain[0]
	for i := 0; i < len(ts); {
		t := ts[i]
		if value.IsStaleNaN(vs[i]) {
			if err := f.endPoints(noTime); err != nil {
				return err
			}
			i++
			continue
		}
		if f.kind != kindFloat {
			if err := f.turn(kindFloat, t); err != nil {
				return err
			}
		}
		if err := f.openAt(r, t); err != nil {
			return err
		}
		n := r.floats.add(ts[i:], vs[i:], r.end)
		i += n
		f.samples += uint64(n)
		r.lastT = ts[i-1]
	}
	return nil
}

// openAt sees to it that the finest rung's open window is the one of time t, and
// that no rung's lies before.
func (f *Folder) openAt(r *rung, t int64) error {
	if r.open && t > r.end {
		for k, r := range f.chain {
			if !r.open || t <= r.end {
				continue
			}
			if err := f.endPoint(k, r.end); err != nil {
				return err
			}
		}
	}
	if !r.open {
		r.begin(t, f.maxt)
	}
	return nil
}

// begin opens the window of time t in a block that ends before maxt.
func (r *rung) begin(t, maxt int64) {
	r.open = true
	r.end = min(windowEnd(t, r.resolution), maxt-1)
	r.floats = window{}
	r.hists.count = 0
}

// endPoints ends the points of all rungs because of something at time t that none
// of them may reach over: a reset, a sample of another type. A point whose window t
// lies in ends with its last sample, the others with their windows. After a stale
// marker all end with their last sample, in whatever window the marker is: t is then
// noTime.
func (f *Folder) endPoints(t int64) error {
	for k, r := range f.chain {
		if !r.open {
			continue
		}
		end := r.end
		if t <= end {
			end = r.lastT
		}
		if err := f.endPoint(k, end); err != nil {
			return err
		}
	}
	return nil
}

// endPoint writes the open window of chain[k] as a point and merges it into the
// next rung's window.
func (f *Folder) endPoint(k int, end int64) error {
	r := f.chain[k]
	r.open = false
	if err := f.write(r, end); err != nil {
		return err
	}
	if k+1 == len(f.chain) {
		return nil
	}
	next := f.chain[k+1]
	if !next.open {
		next.begin(r.lastT, f.maxt)
	}
	next.lastT = r.lastT
	if f.kind == kindFloat {
		next.floats.merge(&r.floats)
		return nil
	}
	return next.hists.add(r.hists.sum, r.hists.count)
}

func (f *Folder) write(r *rung, end int64) error {
	if f.kind == kindFloat {
		return f.writeFloat(r, end)
	}
	return f.writeHistogram(r, end)
}

// writeFloat appends a point to the rung's chunk, which it may hand out before.
func (f *Folder) writeFloat(r *rung, end int64) error {
	w, c := &r.floats, &r.floatChunk
	fell := w.number && c.number && w.first < c.last
	// A counter that falls from infinity has no sum to go on with: what follows is
	// counted from a new first value. So is the first number after NaN.
	if c.full() || fell && math.IsInf(c.last, 0) || w.number && !c.number {
		if err := f.flush(r); err != nil {
			return err
		}
		fell = false
	}
	first := c.points == 0
	c.add(end, [Counter]float64{float64(w.count), w.total(), w.min, w.max})
	if first {
		c.start(w.firstT, w.first)
	}
	if fell {
		c.base += c.last
	}
	if w.number {
		c.base += w.falls
		c.last = w.last
	}
	c.rise()
	if !finite(c.base) {
		return f.flush(r)
	}
	return nil
}

func finite(v float64) bool { return v-v == 0 }

// turn ends all chunks because a sample of another kind follows at time t.
func (f *Folder) turn(to kind, t int64) error {
	if err := f.endPoints(t); err != nil {
		return err
	}
	if err := f.flushAll(); err != nil {
		return err
	}
	f.kind = to
	return nil
}

func (f *Folder) flushAll() error {
	for _, r := range f.chain {
		if err := f.flush(r); err != nil {
			return err
		}
	}
	return nil
}

// flush hands out the rung's chunk, if there is one.
func (f *Folder) flush(r *rung) error {
	var (
		mint, maxt int64
		chunk      AggrChunk
	)
	switch {
	case r.floatChunk.points > 0:
		mint, maxt = r.floatChunk.mint, r.floatChunk.maxt
		chunk = r.floatChunk.finish()
	case r.histChunk.points > 0:
		mint, maxt = r.histChunk.mint, r.histChunk.maxt
		chunk = r.histChunk.finish()
	default:
		return nil
	}
	f.inSink = true
	err := f.sink(r.place, mint, maxt, chunk)
	f.inSink = false
	return err
}
