//go:build chaos

package e2e_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

const (
	// base is the time of the first sample: its own clock, so that hours of samples,
	// and with them compactions, fit into a minute.
	base = int64(1_700_000_000_000)
	// interval is between two requests of a feed, in milliseconds.
	interval = int64(2000)
	// seriesPerFeed is enough for requests of several kinds and chunks, few enough
	// to read all back.
	seriesPerFeed = 40
	// mix is within how many requests a shuffled feed changes their order.
	mix = 16
)

// feed is what one connection sends, request by request: a function of its name
// and the request's number alone, so that a test knows what must be stored
// without keeping it.
type feed struct {
	name     string
	v2       bool
	shuffled bool // requests come out of the order of their samples
	spoilt   bool // each request has a series that must be refused
	samples  int  // of each series in a request, 1 to 4
}

var feeds = []feed{
	{name: "v1", samples: 1},
	{name: "v2", v2: true, samples: 1},
	{name: "v1-several", samples: 3},
	{name: "v2-several", v2: true, samples: 4},
	{name: "v1-shuffled", shuffled: true, samples: 1},
	{name: "v2-shuffled", v2: true, shuffled: true, samples: 2},
	{name: "v1-spoilt", spoilt: true, samples: 1},
	{name: "v2-spoilt", v2: true, spoilt: true, samples: 2},
}

// slot is where the samples of a request stand in time.
func (f feed) slot(request int) int {
	if !f.shuffled {
		return request
	}
	order := rand.New(rand.NewPCG(uint64(request/mix), 7)).Perm(mix)
	return request - request%mix + order[request%mix]
}

func (f feed) labels(series int) labels.Labels {
	return labels.FromStrings("__name__", "chaos", "feed", f.name, "kind", kindOf(series), "series", fmt.Sprint(series))
}

func kindOf(series int) string {
	return [...]string{"float", "float", "histogram", "float_histogram"}[series%4]
}

func timeOf(slot, j int) int64 { return base + int64(slot)*interval + int64(j)*interval/4 }

// at is the j-th sample of a series in a slot.
func (f feed) at(series, slot, j int) sample {
	n := uint64(4*slot + j)
	s := sample{t: timeOf(slot, j)}
	random := rand.New(rand.NewPCG(uint64(slices.Index(feeds, f)*seriesPerFeed+series), n))
	switch kindOf(series) {
	case "histogram":
		s.h = histogramOf(n, random)
	case "float_histogram":
		s.fh = histogramOf(n, random).ToFloat(nil)
	default:
		s.v = float64(n) // compresses as a counter does
		switch random.IntN(20) {
		case 0:
			s.v = math.Float64frombits(random.Uint64()) // any bits, other NaNs included
		case 1:
			s.v = math.Float64frombits(value.StaleNaN)
		}
	}
	return s
}

// histogramOf counts up; now and then it has other buckets than before, or is a
// stale marker.
func histogramOf(n uint64, random *rand.Rand) *histogram.Histogram {
	if random.IntN(30) == 0 {
		return &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
	}
	buckets := 2 + int(n/20%3)
	h := &histogram.Histogram{
		Schema: 2, ZeroThreshold: 0.001, ZeroCount: n, Count: n, Sum: random.NormFloat64(),
		PositiveSpans: []histogram.Span{{Offset: 1, Length: uint32(buckets)}},
	}
	last := int64(0)
	for i := range buckets {
		count := int64(n) * int64(i+1)
		h.PositiveBuckets = append(h.PositiveBuckets, count-last)
		h.Count += uint64(count)
		last = count
	}
	return h
}

// body encodes a request.
func (f feed) body(request int) []byte {
	if f.v2 {
		return snappy.Encode(nil, f.bodyV2(f.slot(request)))
	}
	return snappy.Encode(nil, f.bodyV1(f.slot(request)))
}

func (s sample) addTo(ts *prompb.TimeSeries) {
	switch {
	case s.h != nil:
		ts.Histograms = append(ts.Histograms, prompb.FromIntHistogram(s.t, s.h))
	case s.fh != nil:
		ts.Histograms = append(ts.Histograms, prompb.FromFloatHistogram(s.t, s.fh))
	default:
		ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: s.t, Value: s.v})
	}
}

func (f feed) bodyV1(slot int) []byte {
	var req prompb.WriteRequest
	for i := range seriesPerFeed {
		ts := prompb.TimeSeries{Labels: prompb.FromLabels(f.labels(i), nil)}
		for j := range f.samples {
			f.at(i, slot, j).addTo(&ts)
		}
		if f.exemplar(i, slot) {
			ts.Exemplars = []prompb.Exemplar{{
				Labels: []prompb.Label{{Name: "trace_id", Value: fmt.Sprint(slot)}}, Value: 1, Timestamp: timeOf(slot, 0),
			}}
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	if f.spoilt {
		req.Timeseries = append(req.Timeseries, prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "feed", Value: "has no metric name"}},
			Samples: []prompb.Sample{{Timestamp: base, Value: 1}},
		})
	}
	return marshal(req.Marshal())
}

func (f feed) bodyV2(slot int) []byte {
	var req writev2.Request
	symbols := writev2.NewSymbolTable()
	for i := range seriesPerFeed {
		ts := writev2.TimeSeries{LabelsRefs: symbols.SymbolizeLabels(f.labels(i), nil)}
		for j := range f.samples {
			switch s := f.at(i, slot, j); {
			case s.h != nil:
				ts.Histograms = append(ts.Histograms, writev2.FromIntHistogram(0, s.t, s.h))
			case s.fh != nil:
				ts.Histograms = append(ts.Histograms, writev2.FromFloatHistogram(0, s.t, s.fh))
			default:
				ts.Samples = append(ts.Samples, writev2.Sample{Timestamp: s.t, Value: s.v})
			}
		}
		if f.exemplar(i, slot) {
			ts.Exemplars = []writev2.Exemplar{{
				LabelsRefs: symbols.SymbolizeLabels(labels.FromStrings("trace_id", fmt.Sprint(slot)), nil),
				Value:      1, Timestamp: timeOf(slot, 0),
			}}
		}
		req.Timeseries = append(req.Timeseries, ts)
	}
	if f.spoilt {
		req.Timeseries = append(req.Timeseries, writev2.TimeSeries{
			LabelsRefs: symbols.SymbolizeLabels(labels.FromStrings("feed", "has no metric name"), nil),
			Samples:    []writev2.Sample{{Timestamp: base, Value: 1}},
		})
	}
	req.Symbols = symbols.Symbols()
	return marshal(req.Marshal())
}

// exemplar says whether a request has an exemplar of a series: only in order, and
// not with a stale marker, which no exemplar can belong to.
func (f feed) exemplar(series, slot int) bool {
	s := f.at(series, slot, f.samples-1)
	if s.h != nil {
		s.v = s.h.Sum
	} else if s.fh != nil {
		s.v = s.fh.Sum
	}
	return !f.shuffled && !value.IsStaleNaN(s.v)
}

func marshal(b []byte, err error) []byte {
	if err != nil {
		panic(err) // these messages always marshal
	}
	return b
}
