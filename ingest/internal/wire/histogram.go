package wire

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
)

// rawHistogram gathers the fields of a Histogram message, which 1.0 and 2.0
// number alike, before it is known whether it is an integer or a float one.
type rawHistogram struct {
	t, st         int64
	isFloat       bool
	count, zero   uint64 // integer, or the bits of a float
	zeroFloat     bool
	sum           float64
	schema        int32
	threshold     float64
	hint          int32
	negSpans      []histogram.Span
	posSpans      []histogram.Span
	negDeltas     []int64
	posDeltas     []int64
	negCounts     []float64
	posCounts     []float64
	customBuckets []float64
}

// histogram reads
//
//	Histogram { oneof count { uint64 count_int = 1; double count_float = 2; }
//	  double sum = 3; sint32 schema = 4; double zero_threshold = 5;
//	  oneof zero_count { uint64 zero_count_int = 6; double zero_count_float = 7; }
//	  repeated BucketSpan negative_spans = 8; repeated sint64 negative_deltas = 9;
//	  repeated double negative_counts = 10; repeated BucketSpan positive_spans = 11;
//	  repeated sint64 positive_deltas = 12; repeated double positive_counts = 13;
//	  ResetHint reset_hint = 14; int64 timestamp = 15;
//	  repeated double custom_values = 16; int64 start_timestamp = 17; }
//
// the last field in 2.0 only. It allocates: the storage engine keeps the result.
func (r *Request) histogram(b []byte, last int32) error {
	var h rawHistogram
	for i := 0; i < len(b); {
		num, wt, next, err := field(b, i)
		if err != nil {
			return err
		}
		if num > last {
			if i, err = skip(b, next, wt); err != nil {
				return err
			}
			continue
		}
		if i, err = h.read(b, num, wt, next); err != nil {
			return err
		}
	}
	r.Histograms = append(r.Histograms, h.build())
	return nil
}

func (h *rawHistogram) read(b []byte, num int32, wt, next int) (int, error) {
	switch num {
	case 1, 6, 14, 15, 17, 4:
		if wt != wireVarint {
			return 0, errWireType("Histogram", "an integer field", wt)
		}
		v, next, err := varint(b, next)
		if err != nil {
			return 0, err
		}
		h.integer(num, v)
		return next, nil
	case 2, 3, 5, 7:
		if wt != wireFixed64 {
			return 0, errWireType("Histogram", "a double field", wt)
		}
		v, next, err := fixed64(b, next)
		if err != nil {
			return 0, err
		}
		h.double(num, v)
		return next, nil
	case 8, 11:
		if wt != wireLen {
			return 0, errWireType("Histogram", "spans", wt)
		}
		lo, hi, err := span(b, next)
		if err != nil {
			return 0, err
		}
		s, err := bucketSpan(b[lo:hi])
		if err != nil {
			return 0, err
		}
		if num == 8 {
			h.negSpans = append(h.negSpans, s)
		} else {
			h.posSpans = append(h.posSpans, s)
		}
		return hi, nil
	case 9:
		return deltas(&h.negDeltas, b, wt, next)
	case 12:
		return deltas(&h.posDeltas, b, wt, next)
	case 10:
		return doubles(&h.negCounts, b, wt, next)
	case 13:
		return doubles(&h.posCounts, b, wt, next)
	default: // 16
		return doubles(&h.customBuckets, b, wt, next)
	}
}

func (h *rawHistogram) integer(num int32, v uint64) {
	switch num {
	case 1:
		h.count, h.isFloat = v, false
	case 4:
		h.schema = zigzag32(v)
	case 6:
		h.zero, h.zeroFloat = v, false
	case 14:
		h.hint = int32(v)
	case 15:
		h.t = int64(v)
	case 17:
		h.st = int64(v)
	}
}

func (h *rawHistogram) double(num int32, bits uint64) {
	switch num {
	case 2:
		h.count, h.isFloat = bits, true
	case 3:
		h.sum = math.Float64frombits(bits)
	case 5:
		h.threshold = math.Float64frombits(bits)
	case 7:
		h.zero, h.zeroFloat = bits, true
	}
}

// bucketSpan reads BucketSpan { sint32 offset = 1; uint32 length = 2; }.
func bucketSpan(b []byte) (histogram.Span, error) {
	var s histogram.Span
	for i := 0; i < len(b); {
		num, wt, next, err := field(b, i)
		if err != nil {
			return s, err
		}
		if num > 2 {
			if i, err = skip(b, next, wt); err != nil {
				return s, err
			}
			continue
		}
		if wt != wireVarint {
			return s, errWireType("BucketSpan", "offset or length", wt)
		}
		v, next, err := varint(b, next)
		if err != nil {
			return s, err
		}
		if num == 1 {
			s.Offset = zigzag32(v)
		} else {
			s.Length = uint32(v)
		}
		i = next
	}
	return s, nil
}

// deltas appends a repeated sint64 field, packed or not.
func deltas(dst *[]int64, b []byte, wt, next int) (int, error) {
	switch wt {
	case wireVarint:
		v, next, err := varint(b, next)
		if err != nil {
			return 0, err
		}
		*dst = append(*dst, zigzag(v))
		return next, nil
	case wireLen:
		lo, hi, err := span(b, next)
		if err != nil {
			return 0, err
		}
		if *dst == nil {
			*dst = make([]int64, 0, packedVarints(b[lo:hi]))
		}
		for lo < hi {
			v, after := uvarint(b, lo)
			if after < 0 {
				return 0, varintErr(after)
			}
			*dst = append(*dst, zigzag(v))
			lo = after
		}
		return lo, nil
	}
	return 0, errWireType("Histogram", "deltas", wt)
}

// packedVarints counts the varints in b.
func packedVarints(b []byte) (n int) {
	for _, c := range b {
		if c < 0x80 {
			n++
		}
	}
	return n
}

// doubles appends a repeated double field, packed or not.
func doubles(dst *[]float64, b []byte, wt, next int) (int, error) {
	switch wt {
	case wireFixed64:
		v, next, err := float(b, next)
		if err != nil {
			return 0, err
		}
		*dst = append(*dst, v)
		return next, nil
	case wireLen:
		lo, hi, err := span(b, next)
		if err != nil {
			return 0, err
		}
		if *dst == nil {
			*dst = make([]float64, 0, (hi-lo)/8)
		}
		for lo < hi {
			v, after, err := float(b, lo)
			if err != nil {
				return 0, err
			}
			*dst = append(*dst, v)
			lo = after
		}
		return lo, nil
	}
	return 0, errWireType("Histogram", "counts or custom_values", wt)
}

// build makes the model histogram. A count of the wrong kind beside the oneof
// reads as zero, as the generated getters have it.
func (h *rawHistogram) build() Histogram {
	out := Histogram{T: h.t, ST: h.st}
	hint := histogram.CounterResetHint(h.hint)
	if h.isFloat {
		zero := 0.0
		if h.zeroFloat {
			zero = math.Float64frombits(h.zero)
		}
		out.FH = &histogram.FloatHistogram{
			CounterResetHint: hint, Schema: h.schema, ZeroThreshold: h.threshold,
			ZeroCount: zero, Count: math.Float64frombits(h.count), Sum: h.sum,
			PositiveSpans: h.posSpans, PositiveBuckets: h.posCounts,
			NegativeSpans: h.negSpans, NegativeBuckets: h.negCounts,
			CustomValues: h.customBuckets,
		}
		return out
	}
	zero := h.zero
	if h.zeroFloat {
		zero = 0
	}
	out.H = &histogram.Histogram{
		CounterResetHint: hint, Schema: h.schema, ZeroThreshold: h.threshold,
		ZeroCount: zero, Count: h.count, Sum: h.sum,
		PositiveSpans: h.posSpans, PositiveBuckets: h.posDeltas,
		NegativeSpans: h.negSpans, NegativeBuckets: h.negDeltas,
		CustomValues: h.customBuckets,
	}
	return out
}
