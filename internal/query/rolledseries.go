package query

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/weir-dev/weir/internal/rollup/rangefn"
)

// rolledSeries is one series of an answer: a value for each time at which the
// engine will ask, from the first to the last that has one. Where there is none
// between them it has a stale marker, so that the engine's lookback finds nothing.
type rolledSeries struct {
	labels labels.Labels
	start  int64 // time of values[0], Unix milliseconds
	step   int64 // milliseconds
	values []float64
	// hists is empty if all values are floats; an entry is nil where the value is.
	hists   []*histogram.FloatHistogram
	samples int // counted as the engine counts
	floats  bool
}

// append adds values later than those there. Their times are those of the data,
// which is shift older than the times at which the engine asks.
func (s *rolledSeries) append(r *rangefn.Result, shift int64) {
	gap := math.Float64frombits(value.StaleNaN)
	s.values = slices.Grow(s.values, len(r.T))
	for i, t := range r.T {
		if t += shift; len(s.values) == 0 {
			s.start = t
		}
		at := len(s.values) // nearly always: the division takes as long as the evaluation
		if t != s.start+int64(at)*s.step {
			at = int((t - s.start) / s.step)
		}
		for len(s.values) <= at {
			s.values = append(s.values, gap)
		}
		if i >= len(r.H) || r.H[i] == nil {
			s.values[at], s.floats = r.V[i], true
			s.samples++
			continue
		}
		for len(s.hists) <= at {
			s.hists = append(s.hists, nil)
		}
		s.hists[at] = r.H[i]
		s.samples += (r.H[i].Size() + 8) / 16 // a sample has 16 bytes, the time included
	}
}

func (s *rolledSeries) Labels() labels.Labels { return s.labels }

func (s *rolledSeries) Iterator(reuse chunkenc.Iterator) chunkenc.Iterator {
	it, ok := reuse.(*rolledIterator)
	if !ok {
		it = &rolledIterator{}
	}
	it.s, it.i = s, -1
	return it
}

// rolledIterator is at values[i] of s.
type rolledIterator struct {
	s *rolledSeries
	i int
}

func (it *rolledIterator) Next() chunkenc.ValueType {
	if it.i < len(it.s.values) {
		it.i++
	}
	return it.kind()
}

func (it *rolledIterator) kind() chunkenc.ValueType {
	switch {
	case it.i >= len(it.s.values):
		return chunkenc.ValNone
	case it.i < len(it.s.hists) && it.s.hists[it.i] != nil:
		return chunkenc.ValFloatHistogram
	default:
		return chunkenc.ValFloat
	}
}

// millis is Unix milliseconds. It keeps go vet from taking Seek for io.Seeker's.
type millis = int64

func (it *rolledIterator) Seek(t millis) chunkenc.ValueType {
	if next := it.AtT() + it.s.step; t <= next { // nearly always, and no division
		if it.i < 0 || t > next-it.s.step {
			it.i = min(it.i+1, len(it.s.values))
		}
		return it.kind()
	}
	at := 0
	if t > it.s.start {
		at = int(min((t-it.s.start+it.s.step-1)/it.s.step, int64(len(it.s.values))))
	}
	it.i = max(it.i, at)
	return it.kind()
}

func (it *rolledIterator) AtT() int64 { return it.s.start + int64(it.i)*it.s.step }

func (it *rolledIterator) At() (int64, float64) { return it.AtT(), it.s.values[it.i] }

func (it *rolledIterator) AtFloatHistogram(into *histogram.FloatHistogram) (int64, *histogram.FloatHistogram) {
	h := it.s.hists[it.i]
	if into == nil {
		return it.AtT(), h.Copy()
	}
	h.CopyTo(into)
	return it.AtT(), into
}

// AtHistogram is never asked for: all histograms are of floats.
func (it *rolledIterator) AtHistogram(*histogram.Histogram) (int64, *histogram.Histogram) {
	panic("rollups have no integer histograms")
}

func (it *rolledIterator) AtST() int64 { return 0 }
func (it *rolledIterator) Err() error  { return nil }
