package e2e

import (
	"math"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// History is what a water mill has measured for months, and goes on to measure. Every
// sample is a function of its time, so that what is true of any stretch of time is
// known without keeping it.
//
//	mill_water_level_metres{gauge}     rises and falls with day and month
//	mill_turns_total{wheel}            counts more by day than by night; begins anew now and then
//	mill_grind_seconds_bucket{le} ...  a classic histogram, slower when the wheels are busy
//	mill_grind_native_seconds          the same as a native histogram
type History struct {
	// Begin is the first time; from Cut on, samples are sent, before they are
	// backfilled. Unix milliseconds, multiples of two hours.
	Begin, Cut int64
}

// HistoryStore are settings of a store by which a [History] of more than two weeks
// lies in all tiers: a day of samples, two weeks of five minutes, years of hours. What
// is sent late at first is taken, and brought in order when the next block is cut.
const HistoryStore = `retention: {time: 1d}, out_of_order_window: 4h, rollups: [{resolution: 5m, keep: 14d}, {resolution: 1h, keep: 3y}]`

// HistoryInterval is between two samples of a series of a [History], in milliseconds.
const HistoryInterval = int64(30_000)

// historyLag is by how much the samples lie behind round times: as scrapes do.
const historyLag = int64(7_300)

const historyBlock = int64(2 * time.Hour / time.Millisecond)

// NewHistory returns the history of so many days until now, of which the last hour
// to three hours are not backfilled.
func NewHistory(now time.Time, days int) *History {
	cut := (now.UnixMilli() - historyBlock/2) / historyBlock * historyBlock
	return &History{Begin: cut - int64(days)*24*int64(time.Hour/time.Millisecond), Cut: cut}
}

// HistorySeries is one series of a [History]. Exactly one of Float and Histogram is
// set.
type HistorySeries struct {
	Labels    labels.Labels
	Float     func(t int64) float64
	Histogram func(t int64) *histogram.Histogram
}

// Times returns the times of the samples in (after, until].
func Times(after, until int64) (times []int64) {
	for t := LastTime(after) + HistoryInterval; t <= until; t += HistoryInterval {
		times = append(times, t)
	}
	return times
}

// LastTime is the time of the last sample that is not after t.
func LastTime(t int64) int64 {
	return (t-historyLag)/HistoryInterval*HistoryInterval + historyLag
}

// grindBounds are the upper bounds of the classic histogram's buckets, those of a
// native histogram of schema 0 too; no grinding takes longer than the last.
var grindBounds = []string{"0.25", "0.5", "1", "2", "4", "+Inf"}

// Series returns all series.
func (h *History) Series() (all []HistorySeries) {
	for i, gauge := range []string{"upper", "lower"} {
		all = append(all, HistorySeries{
			Labels: labels.FromStrings("__name__", "mill_water_level_metres", "job", "mill", "gauge", gauge),
			Float:  func(t int64) float64 { return h.level(i, t) },
		})
	}
	for i, wheel := range []string{"1", "2", "3"} {
		all = append(all, HistorySeries{
			Labels: labels.FromStrings("__name__", "mill_turns_total", "job", "mill", "wheel", wheel),
			Float:  func(t int64) float64 { return h.counted(t, 20+15*float64(i), 1, 0, 0.4, 5+i) },
		})
	}
	for i, le := range grindBounds {
		all = append(all, HistorySeries{
			Labels: labels.FromStrings("__name__", "mill_grind_seconds_bucket", "job", "mill", "le", le),
			Float:  func(t int64) float64 { return h.ground(i, t) },
		})
	}
	return append(all,
		HistorySeries{
			Labels: labels.FromStrings("__name__", "mill_grind_seconds_count", "job", "mill"),
			Float:  func(t int64) float64 { return h.ground(len(grindBounds)-1, t) },
		},
		HistorySeries{
			Labels: labels.FromStrings("__name__", "mill_grind_seconds_sum", "job", "mill"),
			Float:  h.groundSeconds,
		},
		HistorySeries{
			Labels:    labels.FromStrings("__name__", "mill_grind_native_seconds", "job", "mill"),
			Histogram: h.native,
		})
}

const (
	dayMillis = int64(24 * time.Hour / time.Millisecond)
	// daily is the angular speed of a day, in radians a second.
	daily = 2 * math.Pi / 86400
	// busier is by how much of the mean the noon is busier, and midnight is not.
	busier = 0.5
	// gusts come every 47 minutes.
	gusts = 2 * math.Pi / (47 * 60)
)

// level is a gauge: waves of a day and of a month, and a ripple in every sample.
func (h *History) level(series int, t int64) float64 {
	s := float64(t-h.Begin) / 1000
	return 3 + float64(series) + 0.5*math.Sin(daily*s) + 0.8*math.Sin(daily*s/30) + 0.15*ripple(series, t)
}

// ripple is between -1 and 1, and different in every sample.
func ripple(series int, t int64) float64 {
	x := uint64(t)*0x9e3779b97f4a7c15 + uint64(series)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11)/(1<<52) - 1
}

// counted is a counter that begins anew every so many days. It counts perSecond on
// average, as much more by day as busier says, and of that the share mean, less
// slower when it is busy, and more in gusts: whole numbers near the integral of
// perSecond * ((1 + busier*sin) * (mean - slower*sin) + gusting*mean*sin').
func (h *History) counted(t int64, perSecond, mean, slower, gusting float64, days int) float64 {
	since := h.Begin + (t-h.Begin)/(int64(days)*dayMillis)*int64(days)*dayMillis
	integral := func(t int64) float64 {
		s := float64(t-h.Begin) / 1000
		return perSecond * (mean*s - (mean*busier-slower)*math.Cos(daily*s)/daily -
			busier*slower*(s/2-math.Sin(2*daily*s)/(4*daily)) - gusting*mean*math.Cos(gusts*s)/gusts)
	}
	return math.Floor(integral(t) - integral(since))
}

// grindShares are, bucket by bucket, the share of grindings that take no longer, on
// average, and by how much it is less at noon. No bucket ever counts down.
var grindShares = [][2]float64{{0.15, 0.05}, {0.45, 0.1}, {0.75, 0.1}, {0.93, 0.02}, {1, 0}, {1, 0}}

// ground counts grindings that took no longer than a bucket's bound.
func (h *History) ground(bucket int, t int64) float64 {
	return h.counted(t, 10, grindShares[bucket][0], grindShares[bucket][1], 0.25, 9)
}

// groundSeconds takes each grinding for three quarters of its bucket's bound.
func (h *History) groundSeconds(t int64) (sum float64) {
	bound, below := 0.25, 0.0
	for i := range grindBounds[:len(grindBounds)-1] {
		n := h.ground(i, t)
		sum += (n - below) * bound * 0.75
		bound, below = bound*2, n
	}
	return sum
}

func (h *History) native(t int64) *histogram.Histogram {
	n := len(grindBounds) - 1
	fh := &histogram.Histogram{
		Count: uint64(h.ground(n, t)), Sum: h.groundSeconds(t), ZeroThreshold: 1e-9,
		PositiveSpans: []histogram.Span{{Offset: -2, Length: uint32(n)}},
	}
	below, last := 0.0, int64(0)
	for i := range n {
		total := h.ground(i, t)
		count := int64(total - below)
		fh.PositiveBuckets = append(fh.PositiveBuckets, count-last)
		below, last = total, count
	}
	return fh
}
