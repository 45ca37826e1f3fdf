package ingest

import (
	"math"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// program makes remote_write requests of fuzz input: each choice is a byte, so
// that the fuzzer's mutations change one thing at a time. When the bytes end,
// every choice is the first.
type program struct {
	code  []byte
	input string // label of all series
}

func (p *program) pick(n int) int {
	if len(p.code) == 0 {
		return 0
	}
	c := p.code[0]
	p.code = p.code[1:]
	return int(c) % n
}

func (p *program) chance(in int) bool { return p.pick(in) == in-1 }

// wireRequest is one request as it is sent.
type wireRequest struct {
	proto protocol
	raw   []byte
}

func (w wireRequest) contentType() string {
	if w.proto == protoV2 {
		return typeV2
	}
	return typeV1
}

func (w wireRequest) compressed() []byte { return snappy.Encode(nil, w.raw) }

// next returns the next request, or false when the program has ended.
func (p *program) next(base int64) (wireRequest, bool) {
	if len(p.code) == 0 {
		return wireRequest{}, false
	}
	w := wireRequest{proto: protocol(p.pick(2))}
	var err error
	if w.proto == protoV1 {
		req := &prompb.WriteRequest{}
		for range p.pick(6) {
			req.Timeseries = append(req.Timeseries, p.seriesV1(base))
		}
		if p.chance(8) {
			req.Metadata = append(req.Metadata, prompb.MetricMetadata{MetricFamilyName: "m", Help: "h", Type: prompb.MetricMetadata_MetricType(p.pick(9))})
		}
		w.raw, err = req.Marshal()
	} else {
		st := writev2.NewSymbolTable()
		req := &writev2.Request{}
		for range p.pick(6) {
			req.Timeseries = append(req.Timeseries, p.seriesV2(base, &st))
		}
		req.Symbols = st.Symbols()
		w.raw, err = req.Marshal()
	}
	if err != nil {
		panic(err)
	}
	if p.chance(32) && len(w.raw) > 0 {
		w.raw[p.pick(len(w.raw))] ^= byte(p.pick(256))
	}
	return w, true
}

// names and values of labels; the first series are the most frequent, so that
// samples of one series meet.
var (
	programSeries = [][][2]string{
		{{"__name__", "up"}, {"job", "a"}},
		{{"__name__", "up"}, {"job", "b"}},
		{{"__name__", "h"}},
		{{"job", "a"}, {"__name__", "up"}},            // another order
		{{"__name__", "up"}, {"job", "a"}, {"x", ""}}, // an empty label is no label
		{{"__name__", "h"}, {"ünï.cödé", "a b\n"}},
		{{"__name__", "up"}, {"job", "a"}, {"job", "b"}},
		{{"__name__", "up"}, {"job", "a"}, {"job", "a"}},
		{{"job", "a"}},
		{{"__name__", ""}, {"job", "a"}},
		{{"__name__", "up"}, {"", "a"}},
		{{"__name__", "up"}, {"job", "\xff"}},
		{{"__name__", "up\xff"}},
		{{"__name__", "up"}, {"job\xff", "a"}},
		{{"__name__", "up"}, {"", ""}},
		{},
	}
	programFloats = []uint64{
		math.Float64bits(1), math.Float64bits(2), math.Float64bits(0), 1 << 63,
		value.StaleNaN, value.NormalNaN, 0x7ff8dead0000beef, math.Float64bits(math.Inf(-1)),
	}
	programHistograms = []func() (*histogram.Histogram, *histogram.FloatHistogram){
		func() (*histogram.Histogram, *histogram.FloatHistogram) { return smallHistogram(1), nil },
		func() (*histogram.Histogram, *histogram.FloatHistogram) { return smallHistogram(2), nil },
		func() (*histogram.Histogram, *histogram.FloatHistogram) { // a bucket more: chunks are recoded
			h := smallHistogram(3)
			h.PositiveSpans = []histogram.Span{{Offset: -1, Length: 3}}
			h.PositiveBuckets = []int64{1, 2, 1}
			h.Count = 1 + 3 + 4 + h.ZeroCount
			return h, nil
		},
		func() (*histogram.Histogram, *histogram.FloatHistogram) { return nil, smallHistogram(1).ToFloat(nil) },
		func() (*histogram.Histogram, *histogram.FloatHistogram) { return nil, smallHistogram(2).ToFloat(nil) },
		func() (*histogram.Histogram, *histogram.FloatHistogram) { // custom buckets
			return &histogram.Histogram{
				Schema: histogram.CustomBucketsSchema, Count: 3, Sum: 2, CustomValues: []float64{1, 2},
				PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1},
			}, nil
		},
		func() (*histogram.Histogram, *histogram.FloatHistogram) { // finer than the store's finest
			h := smallHistogram(1)
			h.Schema = 12
			return h, nil
		},
		func() (*histogram.Histogram, *histogram.FloatHistogram) { // gauge
			h := smallHistogram(1)
			h.CounterResetHint = histogram.GaugeType
			return h, nil
		},
		func() (*histogram.Histogram, *histogram.FloatHistogram) { // stale
			return &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}, nil
		},
		func() (*histogram.Histogram, *histogram.FloatHistogram) { return &histogram.Histogram{}, nil },
		func() (*histogram.Histogram, *histogram.FloatHistogram) { // count contradicts buckets
			h := smallHistogram(1)
			h.Count = 99
			return h, nil
		},
		func() (*histogram.Histogram, *histogram.FloatHistogram) { // a schema that does not exist
			h := smallHistogram(1)
			h.Schema = 99
			return h, nil
		},
		func() (*histogram.Histogram, *histogram.FloatHistogram) { // fewer buckets than spans say
			h := smallHistogram(1)
			h.PositiveBuckets = h.PositiveBuckets[:1]
			return h, nil
		},
		func() (*histogram.Histogram, *histogram.FloatHistogram) { // finer, with broken spans
			h := smallHistogram(1)
			h.Schema = 12
			h.PositiveSpans = []histogram.Span{{Offset: 0, Length: 9}}
			return h, nil
		},
	}
)

func smallHistogram(n uint64) *histogram.Histogram {
	return &histogram.Histogram{
		Schema: 3, ZeroThreshold: 1e-10, ZeroCount: n, Count: 3*n + 2*n, Sum: float64(n),
		PositiveSpans:   []histogram.Span{{Offset: 0, Length: 2}},
		PositiveBuckets: []int64{int64(n), int64(n) * 2},
		NegativeSpans:   nil,
		NegativeBuckets: nil,
	}
}

// labels returns a series' labels; rare ones need a byte that says so.
func (p *program) labels() [][2]string {
	n := 3
	if p.chance(4) {
		n = len(programSeries)
	}
	ls := programSeries[p.pick(n)]
	if len(ls) == 0 {
		return nil
	}
	return append(ls[:len(ls):len(ls)], [2]string{"input", p.input})
}

// time returns a timestamp near base mostly: within seven minutes, so that a
// verdict that hangs on the newest sample of all series does not hang on the
// order in which a request's samples are taken.
func (p *program) time(base int64) int64 {
	switch p.pick(12) {
	case 9:
		return base - (45 * time.Minute).Milliseconds()
	case 10:
		return base - (3 * time.Hour).Milliseconds()
	case 11:
		return []int64{0, math.MaxInt64, math.MinInt64, base + (time.Hour).Milliseconds()}[p.pick(4)]
	}
	return base + int64(p.pick(28))*15_000
}

func (p *program) seriesV1(base int64) (ts prompb.TimeSeries) {
	for _, l := range p.labels() {
		ts.Labels = append(ts.Labels, prompb.Label{Name: l[0], Value: l[1]})
	}
	floats, hists, exemplars := p.counts()
	for range floats {
		ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: p.time(base), Value: math.Float64frombits(programFloats[p.pick(len(programFloats))])})
	}
	for range hists {
		t := p.time(base)
		if h, fh := programHistograms[p.pick(len(programHistograms))](); h != nil {
			ts.Histograms = append(ts.Histograms, prompb.FromIntHistogram(t, h))
		} else {
			ts.Histograms = append(ts.Histograms, prompb.FromFloatHistogram(t, fh))
		}
	}
	for range exemplars {
		e := prompb.Exemplar{Timestamp: p.time(base), Value: float64(p.pick(3))}
		for _, l := range p.exemplarLabels() {
			e.Labels = append(e.Labels, prompb.Label{Name: l[0], Value: l[1]})
		}
		ts.Exemplars = append(ts.Exemplars, e)
	}
	return ts
}

func (p *program) seriesV2(base int64, st *writev2.SymbolsTable) (ts writev2.TimeSeries) {
	for _, l := range p.labels() {
		ts.LabelsRefs = append(ts.LabelsRefs, st.Symbolize(l[0]), st.Symbolize(l[1]))
	}
	ts.LabelsRefs = p.damage(ts.LabelsRefs)
	floats, hists, exemplars := p.counts()
	for range floats {
		ts.Samples = append(ts.Samples, writev2.Sample{Timestamp: p.time(base), Value: math.Float64frombits(programFloats[p.pick(len(programFloats))])})
	}
	for range hists {
		t := p.time(base)
		if h, fh := programHistograms[p.pick(len(programHistograms))](); h != nil {
			ts.Histograms = append(ts.Histograms, writev2.FromIntHistogram(0, t, h))
		} else {
			ts.Histograms = append(ts.Histograms, writev2.FromFloatHistogram(0, t, fh))
		}
	}
	for range exemplars {
		e := writev2.Exemplar{Timestamp: p.time(base), Value: float64(p.pick(3))}
		for _, l := range p.exemplarLabels() {
			e.LabelsRefs = append(e.LabelsRefs, st.Symbolize(l[0]), st.Symbolize(l[1]))
		}
		e.LabelsRefs = p.damage(e.LabelsRefs)
		ts.Exemplars = append(ts.Exemplars, e)
	}
	if p.chance(6) {
		ts.Metadata = writev2.Metadata{Type: writev2.Metadata_MetricType(p.pick(9)), HelpRef: st.Symbolize("help"), UnitRef: uint32(p.pick(40))}
	}
	return ts
}

// counts says how many samples, histograms and exemplars a series has.
func (p *program) counts() (floats, hists, exemplars int) {
	switch p.pick(8) {
	default:
		floats = 1 + p.pick(3)
	case 4, 5:
		hists = 1 + p.pick(3)
	case 6:
		floats, hists = p.pick(3), p.pick(3)
	}
	if p.chance(5) {
		exemplars = 1 + p.pick(2)
	}
	return floats, hists, exemplars
}

func (p *program) exemplarLabels() [][2]string {
	return [][][2]string{
		{{"trace_id", "1"}}, {{"trace_id", "2"}}, {}, {{"span", "1"}, {"a", "2"}},
		{{"long", string(make([]byte, 200))}}, {{"a", "1"}, {"a", "2"}}, {{"", "x"}}, {{"e", ""}},
	}[p.pick(8)]
}

// damage makes references odd in number or points one outside of the table.
func (p *program) damage(refs []uint32) []uint32 {
	if !p.chance(24) || len(refs) == 0 {
		return refs
	}
	if p.chance(2) {
		return refs[:len(refs)-1]
	}
	refs[p.pick(len(refs))] = []uint32{60, math.MaxUint32}[p.pick(2)]
	return refs
}
