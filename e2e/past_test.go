//go:build chaos

package e2e_test

import (
	"fmt"
	"math"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/prompb"
)

const (
	// pastBase is the time of the first samples: a full hour, so that some lie on
	// the edges of windows.
	pastBase = int64(1_699_999_200_000)
	// pastInterval is between two samples of a series, in milliseconds.
	pastInterval = int64(15_000)
	// pastSeries is enough for every kind in several ways.
	pastSeries = 200
	// pastSlots of samples are in a request: two minutes.
	pastSlots = 8
	// pastDelay is by how many requests a late sample comes late: two hours, when the
	// block it belongs to has been cut and rolled up.
	pastDelay = 60
	// pastWindow is the finest window of which truth is kept, in milliseconds.
	pastWindow = int64(300_000)
)

// past is what is sent to a Weir whose rollups are tested: like [feed] a function of
// series and slot alone. All values are whole numbers, so that sums are exact in any
// order.
type past struct{ series int }

// kind is gauge, counter, histogram or float_histogram.
func (p past) kind() string {
	switch p.series % 10 {
	case 0, 1, 2:
		return "gauge"
	case 3, 4, 5, 6:
		return "counter"
	case 7:
		return "histogram"
	case 8:
		return "float_histogram"
	}
	return []string{"gauge", "counter"}[p.series/10%2]
}

// late says whether some samples of the series come out of order.
func (p past) late() bool { return p.series%10 == 9 }

func (p past) labels() labels.Labels {
	return labels.FromStrings("__name__", "past", "kind", p.kind(), "late", fmt.Sprint(p.late()), "series", fmt.Sprint(p.series))
}

// time is that of a slot's sample. Half of the series have theirs on round times.
func (p past) time(slot int) int64 {
	return pastBase + int64(slot)*pastInterval + int64(p.series%2)*int64(p.series)*31
}

// delayed says whether the sample of a slot comes late: one in ten, in every other
// stretch of eight hours.
func (p past) delayed(slot int) bool { return p.late() && slot/1920%2 == 1 && slot%10 == 7 }

// absent says whether the series has no sample in a slot, or a stale marker: a third
// of the series are gone for some hours of each day.
func (p past) absent(slot int) (gone, stale bool) {
	if p.series%3 != 0 || p.late() || slot < 900 || (slot/900+p.series)%6 != 0 {
		return false, false
	}
	return slot%900 != 0, slot%900 == 0
}

// noise is a random number of a slot.
func (p past) noise(slot int) uint64 {
	x := uint64(p.series)<<40 + uint64(slot) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// float is the value of gauges and counters, and how much a histogram has counted.
func (p past) float(slot int) float64 {
	noise := p.noise(slot)
	if p.kind() == "gauge" {
		if p.series%4 == 0 && noise%997 == 0 {
			return math.NaN()
		}
		return float64(int64(noise%2001) - 1000)
	}
	since := slot % (37 + p.series*11) // the last reset
	if p.series%10 == 6 {
		since = slot % (5000 + p.series)
	}
	return float64(since*9 + int(noise%9))
}

// at is the sample of a slot; ok is false where there is none.
func (p past) at(slot int) (s sample, ok bool) {
	gone, stale := p.absent(slot)
	if gone {
		return sample{}, false
	}
	s = sample{t: p.time(slot), v: p.float(slot)}
	if stale {
		s.v = math.Float64frombits(value.StaleNaN)
	}
	switch p.kind() {
	case "histogram":
		s.h = pastHistogram(s.v)
	case "float_histogram":
		s.fh = pastHistogram(s.v).ToFloat(nil)
	}
	return s, true
}

// pastHistogram has counted four times n, and ten times n for a sum.
func pastHistogram(n float64) *histogram.Histogram {
	if value.IsStaleNaN(n) {
		return &histogram.Histogram{Sum: n}
	}
	return &histogram.Histogram{
		Schema: 1, ZeroThreshold: 0.001, Count: 4 * uint64(n), Sum: 10 * n,
		PositiveSpans:   []histogram.Span{{Offset: 1, Length: 2}, {Offset: 3, Length: 1}},
		PositiveBuckets: []int64{int64(n), 0, int64(n)},
	}
}

// slotsOf are the slots of a series in a request.
func (p past) slotsOf(request int) (slots []int) {
	if p.late() {
		for slot := (request - pastDelay) * pastSlots; slot < (request-pastDelay+1)*pastSlots; slot++ {
			if slot >= 0 && p.delayed(slot) {
				slots = append(slots, slot)
			}
		}
	}
	for slot := request * pastSlots; slot < (request+1)*pastSlots; slot++ {
		if !p.delayed(slot) {
			slots = append(slots, slot)
		}
	}
	return slots
}

// pastBody encodes a request and says how many samples it has.
func pastBody(request int) (body []byte, samples int) {
	var req prompb.WriteRequest
	for i := range pastSeries {
		p := past{i}
		ts := prompb.TimeSeries{Labels: prompb.FromLabels(p.labels(), nil)}
		for _, slot := range p.slotsOf(request) {
			if s, ok := p.at(slot); ok {
				s.addTo(&ts)
				samples++
			}
		}
		if len(ts.Samples)+len(ts.Histograms) > 0 {
			req.Timeseries = append(req.Timeseries, ts)
		}
	}
	return snappy.Encode(nil, marshal(req.Marshal())), samples
}

// known is up to which time all samples of the series have come when so many
// requests are acknowledged.
func (p past) known(requests int) int64 {
	if p.late() {
		requests = max(0, requests-pastDelay)
	}
	return pastBase + int64(requests*pastSlots)*pastInterval - 1
}

// truth is what is true of a series: of each window (begin, end] that has samples.
type truth struct {
	past
	slot    int // the next to look at
	prev    float64
	begun   bool
	windows []fact // the i-th ends at pastBase + i windows
}

// fact is what is true of the samples of one window.
type fact struct {
	count         int
	sum, min, max float64
	rise          float64 // of a counter, from the last sample before the window
	first         bool    // the series' first sample is in it
}

// learn looks at the samples up to a time.
func (tr *truth) learn(until int64) {
	for ; tr.time(tr.slot) <= until; tr.slot++ {
		s, ok := tr.at(tr.slot)
		if _, stale := tr.absent(tr.slot); !ok || stale {
			continue
		}
		i := int((s.t - pastBase + pastWindow - 1) / pastWindow)
		for len(tr.windows) <= i {
			tr.windows = append(tr.windows, fact{min: math.NaN(), max: math.NaN()})
		}
		v := tr.float(tr.slot)
		w := fact{count: 1, sum: v, min: v, max: v, first: !tr.begun}
		if tr.begun {
			if w.rise = v - tr.prev; v < tr.prev {
				w.rise = v
			}
		}
		tr.windows[i].add(w)
		tr.prev, tr.begun = v, true
	}
}

// add adds what is true of other samples in the same window.
func (f *fact) add(o fact) {
	f.count += o.count
	f.sum += o.sum
	f.rise += o.rise
	f.first = f.first || o.first
	if !(f.min <= o.min) && !math.IsNaN(o.min) {
		f.min = o.min
	}
	if !(f.max >= o.max) && !math.IsNaN(o.max) {
		f.max = o.max
	}
}

// over is what is true of (end-width, end], where width and end-pastBase are whole
// windows.
func (tr *truth) over(end, width int64) fact {
	sum := fact{min: math.NaN(), max: math.NaN()}
	last := int((end - pastBase) / pastWindow)
	for i := last - int(width/pastWindow) + 1; i <= last; i++ {
		if i >= 0 && i < len(tr.windows) {
			sum.add(tr.windows[i])
		}
	}
	return sum
}
