package wire

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
)

// marshaler is a generated message.
type marshaler interface{ Marshal() ([]byte, error) }

func encode(tb testing.TB, m marshaler) []byte {
	tb.Helper()
	b, err := m.Marshal()
	require.NoError(tb, err)
	return b
}

// The helpers below write messages field by field, also such as no generated
// encoder would.

// tag is the encoding of a field's number and wire type.
func tag(num, wt int) []byte { return binary.AppendUvarint(nil, uint64(num)<<3|uint64(wt)) }

// longTag is tag in two bytes more than needed.
func longTag(num, wt int) []byte {
	b := tag(num, wt)
	b[len(b)-1] |= 0x80
	return append(b, 0x80, 0x00)
}

func num(n int, v uint64) []byte { return binary.AppendUvarint(tag(n, wireVarint), v) }

func double(n int, v float64) []byte {
	return binary.LittleEndian.AppendUint64(tag(n, wireFixed64), math.Float64bits(v))
}

// msg is a length-delimited field that holds parts one after another.
func msg(n int, parts ...[]byte) []byte {
	body := cat(parts...)
	return append(binary.AppendUvarint(tag(n, wireLen), uint64(len(body))), body...)
}

func cat(parts ...[]byte) (b []byte) {
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func str(n int, s string) []byte { return msg(n, []byte(s)) }

// group is an unknown field of the deprecated kind.
func group(n int, parts ...[]byte) []byte {
	return cat(tag(n, wireGroup), cat(parts...), tag(n, wireEnd))
}

// packed is a packed repeated field of varints.
func packed(n int, vs ...uint64) []byte {
	var b []byte
	for _, v := range vs {
		b = binary.AppendUvarint(b, v)
	}
	return msg(n, b)
}

// unpacked is the same as a field an element.
func unpacked(n int, vs ...uint64) (b []byte) {
	for _, v := range vs {
		b = append(b, num(n, v)...)
	}
	return b
}

// overrun is a packed field whose announced length ends inside its last varint.
func overrun(n int, vs ...uint64) []byte {
	b := packed(n, append(vs, 300)...)
	at := len(tag(n, wireLen))
	b[at]--
	return b
}

var overlong = []byte{0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}

var (
	intHistogram = &histogram.Histogram{
		CounterResetHint: histogram.NotCounterReset, Schema: 3, Count: 19, Sum: 2.7,
		ZeroThreshold: 1e-128, ZeroCount: 1,
		PositiveSpans:   []histogram.Span{{Offset: -2, Length: 2}, {Offset: 5, Length: 1}},
		PositiveBuckets: []int64{3, 2, -1},
		NegativeSpans:   []histogram.Span{{Offset: 0, Length: 1}},
		NegativeBuckets: []int64{6},
	}
	customHistogram = &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: 3, Sum: 12.5,
		PositiveSpans:   []histogram.Span{{Length: 2}},
		PositiveBuckets: []int64{1, 1},
		CustomValues:    []float64{0.5, 2},
	}
	floatHistogram = &histogram.FloatHistogram{
		CounterResetHint: histogram.GaugeType, Schema: -1, Count: 5.5, Sum: math.NaN(), ZeroCount: 0.5,
		PositiveSpans:   []histogram.Span{{Offset: 1, Length: 2}},
		PositiveBuckets: []float64{2, 3},
	}
)

func fullV1() *prompb.WriteRequest {
	return &prompb.WriteRequest{
		Timeseries: []prompb.TimeSeries{
			{
				Labels: prompb.FromLabels(labels.FromStrings("__name__", "up", "job", "a", "ünï.cödé", "x\x00y"), nil),
				Samples: []prompb.Sample{
					{Timestamp: 1, Value: 1.5}, {Timestamp: -1, Value: math.Float64frombits(value.StaleNaN)},
					{Timestamp: math.MinInt64, Value: math.Float64frombits(0x7ff8dead0000beef)}, {},
				},
				Exemplars: []prompb.Exemplar{
					{Labels: []prompb.Label{{Name: "trace_id", Value: "abc"}}, Value: 2, Timestamp: 3}, {},
				},
			},
			{
				Labels: []prompb.Label{{Name: "__name__", Value: "h"}},
				Histograms: []prompb.Histogram{
					prompb.FromIntHistogram(10, intHistogram), prompb.FromIntHistogram(20, customHistogram),
					prompb.FromFloatHistogram(30, floatHistogram), {},
				},
			},
			{},
		},
		Metadata: []prompb.MetricMetadata{
			{Type: prompb.MetricMetadata_STATESET, MetricFamilyName: "up", Help: "Is it?", Unit: "bools"}, {},
		},
	}
}

func fullV2() *writev2.Request {
	st := writev2.NewSymbolTable()
	req := &writev2.Request{
		Timeseries: []writev2.TimeSeries{
			{
				LabelsRefs: st.SymbolizeLabels(labels.FromStrings("__name__", "up", "job", "a"), nil),
				Samples: []writev2.Sample{
					{Timestamp: 1, Value: 1.5, StartTimestamp: -7}, {Value: math.Float64frombits(value.StaleNaN)}, {},
				},
				Exemplars: []writev2.Exemplar{
					{LabelsRefs: st.SymbolizeLabels(labels.FromStrings("trace_id", "abc"), nil), Value: 2, Timestamp: 3}, {},
				},
				Metadata: writev2.Metadata{Type: writev2.Metadata_METRIC_TYPE_GAUGE, HelpRef: st.Symbolize("Is it?"), UnitRef: st.Symbolize("bools")},
			},
			{
				LabelsRefs: []uint32{10, 1, math.MaxUint32},
				Histograms: []writev2.Histogram{
					writev2.FromIntHistogram(5, 10, intHistogram), writev2.FromIntHistogram(0, 20, customHistogram),
					writev2.FromFloatHistogram(0, 30, floatHistogram), {},
				},
			},
			{Metadata: writev2.Metadata{UnitRef: 200}},
			{},
		},
	}
	req.Symbols = append(st.Symbols(), "", "not\xffutf8")
	return req
}

// seedsV1 are bodies that a decoder of 1.0 may read wrong.
func seedsV1(tb testing.TB) [][]byte {
	up := msg(1, str(1, "__name__"), str(2, "up"))
	job := msg(1, str(1, "job"), str(2, "a"))
	sample := msg(2, double(1, 4.25), num(2, 1000))
	span := msg(11, num(1, 3), num(2, 2))
	seeds := [][]byte{
		nil, encode(tb, fullV1()),
		// Labels behind, between and around other fields.
		msg(1, sample, up, job), msg(1, up, sample, job), msg(1, up, sample, job, sample, up),
		msg(1, up, sample, job, msg(3, up, double(2, 1), job), up),
		msg(1, up, msg(3, up, double(2, 1), job, num(3, 9), up), job),
		// Fields of a label in another order, repeated, missing, unknown.
		msg(1, msg(1, str(2, "v"), str(1, "n")), msg(1, str(1, "x"), str(1, "y")), msg(1), msg(1, num(3, 7), str(1, "z"))),
		msg(1, msg(1, num(1, 7))), msg(1, msg(1, []byte{0x0a, 5, 'x'})), msg(1, cat(tag(1, wireLen), []byte{9})),
		// Long and overlong varints and tags.
		msg(1, cat(longTag(1, wireLen), []byte{2, 0x0a, 0}), sample), msg(1, msg(2, cat(tag(2, wireVarint), overlong))),
		msg(1, msg(2, cat(tag(2, wireVarint), overlong[:9], []byte{0x80, 0}))), cat(tag(1, wireLen), overlong), {0x80}, {0x00}, {0x04},
		// Unknown fields of each kind, groups inside groups, ends without a start.
		cat(num(2, 1), double(9, 1), str(10, "x"), cat(tag(11, wireFixed32), []byte{1, 2, 3, 4}), group(12, group(13, num(1, 1)), str(1, "y")), msg(1, up)),
		msg(1, group(5, up), up, sample), group(7), tag(7, wireEnd), tag(7, wireGroup), tag(1<<28, wireVarint), {0x0f}, cat(tag(9, 6)), cat(tag(9, wireLen), []byte{3, 0}),
		// Wire types that do not belong to the field.
		num(1, 1), num(3, 1), msg(1, num(1, 1)), msg(1, msg(2, num(1, 1))), msg(1, msg(2, double(2, 1))), msg(1, msg(3, num(1, 1))), msg(1, msg(4, num(8, 1))),
		// Histograms: both counts, packed and not, runs past the announced end.
		msg(1, msg(4, num(1, 5), double(2, 1.5), double(7, 1), num(6, 3))), msg(1, msg(4, double(2, 1.5), num(1, 5), num(6, 3), double(7, 1))),
		msg(1, msg(4, double(2, 1.5), num(6, 3))), msg(1, msg(4, span, unpacked(12, 1, 2), packed(12, 3, 4), double(13, 1), msg(13, make([]byte, 16)), double(16, 2))),
		msg(1, msg(4, overrun(12, 1), num(15, 9))), msg(1, msg(4, msg(13, make([]byte, 7)), num(15, 9))), msg(1, msg(4, packed(9, 1<<63, math.MaxUint64))),
		msg(1, msg(4, num(4, math.MaxUint64), num(14, 1<<40|2), msg(8, num(1, 1<<33|3), num(2, 1<<33|3)), num(17, 5))),
		// Sample field 3 and histogram field 17 do not exist in 1.0.
		msg(1, msg(2, num(3, 7)), msg(4, str(17, "x"))),
		msg(3, num(1, 99), str(2, "m"), str(3, "?"), str(4, "help"), str(5, "unit"), str(4, "again")),
	}
	return withPrefixes(seeds)
}

func seedsV2(tb testing.TB) [][]byte {
	symbols := cat(str(4, ""), str(4, "__name__"), str(4, "up"), str(4, "job"), str(4, "a\xff"))
	refs := packed(1, 1, 2, 3, 4)
	sample := msg(2, double(1, 4.25), num(2, 1000), num(3, 500))
	exemplar := msg(4, packed(1, 3, 4), double(2, 1), num(3, 8))
	seeds := [][]byte{
		nil, encode(tb, fullV2()),
		cat(symbols, msg(5, refs, sample)), cat(msg(5, refs, sample), symbols),
		cat(symbols, msg(5, unpacked(1, 1, 2), packed(1, 3), num(1, 4), sample)),
		cat(symbols, msg(5, sample, refs, exemplar, refs, exemplar, sample)),
		cat(symbols, msg(5, exemplar, refs, msg(4, unpacked(1, 3, 4), packed(1, 3)))),
		// A packed field that runs past its announced end, alone and before exemplars.
		msg(5, overrun(1, 1), sample), msg(5, overrun(1, 1), exemplar, sample), msg(5, msg(4, overrun(1, 1), num(3, 9))),
		msg(5, overrun(1, 1), []byte{0x22}), msg(5, packed(1), msg(1, overlong), msg(1, []byte{0x80})),
		// Created timestamps of release candidate 3, and field 6 as something else.
		msg(5, refs, sample, num(6, 77)), msg(5, refs, msg(2, num(2, 5)), msg(3, num(15, 5)), num(6, 77), num(6, 78)), msg(5, str(6, "x"), refs), msg(5, double(6, 1)), msg(5, group(6)),
		// Metadata, repeated and odd.
		msg(5, msg(5, num(1, 3), num(3, 1), num(4, 2), num(2, 9)), msg(5, num(1, 4))), msg(5, msg(5, num(1, 1<<35|2))), msg(5, msg(5, str(1, "x"))), msg(5, msg(5, str(2, "x"))),
		// Unknown and misplaced.
		cat(num(1, 1), str(1, "v1"), str(3, "v1"), group(6, num(1, 2)), msg(5)), num(4, 1), num(5, 1), msg(5, num(2, 1)), msg(5, double(1, 1)), msg(5, msg(4, double(1, 1))), msg(5, msg(4, num(2, 1))),
		msg(5, msg(2, num(3, 7), str(9, "x")), msg(3, num(17, 5), num(15, 6), num(18, 1))), msg(5, msg(2, double(3, 7))),
		msg(5, cat(longTag(1, wireVarint), overlong), cat(tag(1, wireVarint), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})),
	}
	return withPrefixes(seeds)
}

// withPrefixes adds some truncations of the longer seeds.
func withPrefixes(seeds [][]byte) [][]byte {
	for _, s := range seeds[:len(seeds):len(seeds)] {
		for _, cut := range []int{len(s) / 3, len(s) / 2, len(s) - 1} {
			if cut > 0 {
				seeds = append(seeds, s[:cut])
			}
		}
	}
	return seeds
}
