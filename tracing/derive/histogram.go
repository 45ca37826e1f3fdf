package derive

import (
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/weir-dev/weir/tracing/span"
)

// hist is a histogram of seconds in both forms, with an exemplar for each classic
// bucket. Its counts are floats because spans of sampled senders have weights; they
// stay whole, and exact up to 2^53, where all weights are.
type hist struct {
	sum, count float64
	classic    []float64 // not cumulative, one more than bounds
	native     sparse
	picks      []pick // as classic; nil: none wanted
}

// pick is the newest span of a bucket.
type pick struct {
	trace span.TraceID
	id    span.ID
	value float64
	at    int64 // Unix milliseconds of arrival; 0: none
}

func newHist(bounds []float64, picks bool) hist {
	h := hist{classic: make([]float64, len(bounds)+1), native: sparse{schema: firstSchema}}
	if picks {
		h.picks = make([]pick, len(bounds)+1)
	}
	return h
}

// observe adds a value of the given weight.
func (h *hist) observe(bounds []float64, v, weight float64, trace span.TraceID, id span.ID, at int64) {
	h.sum += v * weight
	h.count += weight
	i := bucket(bounds, v)
	h.classic[i] += weight
	h.native.add(v, weight)
	if h.picks != nil {
		h.picks[i] = pick{trace: trace, id: id, value: v, at: at}
	}
}

// copyFrom makes h what o is, and takes its picks away from it.
func (h *hist) copyFrom(o *hist) {
	h.sum, h.count = o.sum, o.count
	h.classic = append(h.classic[:0], o.classic...)
	counts := append(h.native.counts[:0], o.native.counts...)
	h.native = o.native
	h.native.counts = counts
	h.picks = append(h.picks[:0], o.picks...)
	clear(o.picks)
}

// bucket returns the first bound that is not below v.
func bucket(bounds []float64, v float64) int {
	for i, b := range bounds { // 14 of them: quicker than halving
		if v <= b {
			return i
		}
	}
	return len(bounds)
}

const (
	// Eight buckets for each doubling: 9% between two bounds, as client libraries
	// have by default.
	firstSchema = 3
	lastSchema  = -4 // the coarsest of Prometheus
	// What a client library allows; with schema 3 it spans 20 doublings, 1 us to 1 s.
	maxNative = 160
	// Prometheus' own, below a nanosecond: only 0 is in the zero bucket.
	zeroThreshold = 2.938735877055719e-39
)

// sparse is the exponential buckets of a native histogram: counts[i] is of the bucket
// with index first+i.
type sparse struct {
	schema int32
	first  int32
	zero   float64
	counts []float64
}

func (s *sparse) add(v, weight float64) {
	if v <= zeroThreshold {
		s.zero += weight
		return
	}
	i := index(v, s.schema)
	for !s.reach(i) {
		s.coarsen()
		i = index(v, s.schema)
	}
	s.counts[i-s.first] += weight
}

// reach makes room for bucket i, unless there would be too many.
func (s *sparse) reach(i int32) bool {
	switch n := int32(len(s.counts)); {
	case n == 0:
		s.first = i
		s.counts = append(s.counts, 0)
	case i < s.first:
		if n+s.first-i > maxNative && s.schema > lastSchema {
			return false
		}
		s.counts = slices.Insert(s.counts, 0, make([]float64, s.first-i)...)
		s.first = i
	case i >= s.first+n:
		if i-s.first >= maxNative && s.schema > lastSchema {
			return false
		}
		s.counts = append(s.counts, make([]float64, i-s.first-n+1)...)
	}
	return true
}

// coarsen joins buckets in twos. A bucket includes its upper bound, so that 2i-1 and
// 2i become i.
func (s *sparse) coarsen() {
	s.schema--
	first := (s.first + 1) >> 1
	counts := make([]float64, (s.first+int32(len(s.counts)))>>1-first+1)
	for i, c := range s.counts {
		counts[(s.first+int32(i)+1)>>1-first] += c
	}
	s.first, s.counts = first, counts
}

// fractions[i] is 2^(i/8)/2: the bounds that Frexp's fraction is held against at
// schema 3. Those of lower schemas are among them.
var fractions = [8]float64{
	0.5, 0.5452538663326288, 0.5946035575013605, 0.6484197773255048,
	0.7071067811865476, 0.7711054127039704, 0.8408964152537145, 0.9170040432046712,
}

// index is the bucket of a positive v: that with (2^2^-schema)^(index-1) < v <= ...^index.
func index(v float64, schema int32) int32 {
	frac, exp := math.Frexp(v)
	if schema <= 0 {
		i := int32(exp)
		if frac == 0.5 {
			i-- // a power of two is the upper bound of the bucket below
		}
		return (i + 1<<-schema - 1) >> -schema
	}
	step := 8 >> schema
	n := int32(0)
	for k := 0; k < 8 && fractions[k] < frac; k += step {
		n++
	}
	return n + int32(exp-1)<<schema
}

// whole says whether all counts are whole numbers.
func (h *hist) whole() bool {
	if h.count != math.Trunc(h.count) || h.native.zero != math.Trunc(h.native.zero) {
		return false
	}
	for _, c := range h.native.counts {
		if c != math.Trunc(c) {
			return false
		}
	}
	return true
}

// spans lists the stretches of buckets with counts, and their counts. Gaps of up to
// two buckets are filled, which is shorter than a span of its own.
func (s *sparse) spans() (spans []histogram.Span, counts []float64) {
	end := int32(0) // index behind the last span
	for i, c := range s.counts {
		if c == 0 {
			continue
		}
		at := s.first + int32(i)
		if gap := at - end; len(spans) == 0 || gap > 2 {
			spans = append(spans, histogram.Span{Offset: gap})
		} else {
			for range gap {
				counts = append(counts, 0)
			}
			spans[len(spans)-1].Length += uint32(gap)
		}
		spans[len(spans)-1].Length++
		counts = append(counts, c)
		end = at + 1
	}
	return spans, counts
}

// integer returns the native histogram if it is whole; else float does.
func (h *hist) integer() *histogram.Histogram {
	spans, counts := h.native.spans()
	deltas := make([]int64, len(counts))
	last := int64(0)
	for i, c := range counts {
		deltas[i] = int64(c) - last
		last = int64(c)
	}
	return &histogram.Histogram{
		Schema: h.native.schema, ZeroThreshold: zeroThreshold, ZeroCount: uint64(h.native.zero),
		Count: uint64(h.count), Sum: h.sum, PositiveSpans: spans, PositiveBuckets: deltas,
	}
}

func (h *hist) float() *histogram.FloatHistogram {
	spans, counts := h.native.spans()
	count := h.native.zero // summed anew: the store refuses a count below its buckets'
	for _, c := range counts {
		count += c
	}
	return &histogram.FloatHistogram{
		Schema: h.native.schema, ZeroThreshold: zeroThreshold, ZeroCount: h.native.zero,
		Count: count, Sum: h.sum, PositiveSpans: spans, PositiveBuckets: counts,
	}
}
