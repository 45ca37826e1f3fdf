package ingest

import (
	"slices"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/weir-dev/weir/ingest/internal/wire"
)

// zeroThreshold is that of every exponential histogram: OTLP has a field for
// it, which Prometheus does not read.
const zeroThreshold = 1e-128

// maxGap is the longest run of empty buckets that is written out rather than
// jumped over by a new span: a span costs as much as two buckets.
const maxGap = 2

// exponential converts an exponential histogram. Scales finer than the store's
// finest schema are merged down to it.
func (q *otlpRequest) exponential(h *wire.OTLPHistogram) *histogram.Histogram {
	down := max(0, h.Scale-histogram.ExponentialSchemaMax)
	out := &histogram.Histogram{
		Schema:        h.Scale - down,
		ZeroThreshold: zeroThreshold,
		ZeroCount:     h.ZeroCount,
		Count:         h.Count,
		Sum:           h.Sum,
	}
	out.PositiveSpans, out.PositiveBuckets = q.exponentialBuckets(h.Positive, down)
	out.NegativeSpans, out.NegativeBuckets = q.exponentialBuckets(h.Negative, down)
	return out
}

func (q *otlpRequest) exponentialBuckets(b wire.OTLPBuckets, down int32) ([]histogram.Span, []int64) {
	// OTLP's bucket 0 lies above 1, Prometheus' below: hence the 1.
	return sparse(q.Counts[b.Counts.Lo:b.Counts.Hi], func(i int) int32 { return (int32(i)+b.Offset)>>down + 1 })
}

// customBuckets converts a histogram with explicit bounds.
func customBuckets(h *wire.OTLPHistogram, counts []uint64, bounds []float64) *histogram.Histogram {
	lead := 0
	for lead < len(counts) && counts[lead] == 0 {
		lead++
	}
	out := &histogram.Histogram{
		Schema:       histogram.CustomBucketsSchema,
		CustomValues: slices.Clone(bounds),
		Count:        h.Count,
		Sum:          h.Sum,
	}
	out.PositiveSpans, out.PositiveBuckets = sparse(counts[lead:], func(i int) int32 { return int32(lead + i) })
	return out
}

// sparse turns dense counts into spans and deltas. bucket gives the index of
// each; neighbours with one index are merged, right even where the merged
// bucket begins empty, which the translator of Prometheus v0.315 moves down by
// one.
func sparse(counts []uint64, bucket func(int) int32) ([]histogram.Span, []int64) {
	if len(counts) == 0 {
		return nil, nil
	}
	s := spanner{spans: []histogram.Span{{Offset: bucket(0)}}, next: bucket(0)}
	for i := 0; i < len(counts); {
		idx, sum := bucket(i), uint64(0)
		for ; i < len(counts) && bucket(i) == idx; i++ {
			sum += counts[i]
		}
		if sum != 0 || i == len(counts) {
			s.put(idx, int64(sum))
		}
	}
	return s.spans, s.deltas
}

// spanner writes buckets in ascending order.
type spanner struct {
	spans  []histogram.Span
	deltas []int64
	next   int32 // index after the last one written
	prev   int64 // its count
}

func (s *spanner) put(idx int32, count int64) {
	if gap := idx - s.next; gap > maxGap {
		s.spans = append(s.spans, histogram.Span{Offset: gap})
	} else {
		for range gap {
			s.one(0)
		}
	}
	s.one(count)
	s.next = idx + 1
}

func (s *spanner) one(count int64) {
	s.spans[len(s.spans)-1].Length++
	s.deltas = append(s.deltas, count-s.prev)
	s.prev = count
}
