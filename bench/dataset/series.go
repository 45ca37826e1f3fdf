package dataset

import (
	"math"

	"github.com/prometheus/prometheus/model/labels"
)

// kind is how values follow from what the pod does.
type kind uint8

const (
	requests  kind = iota // counter of a share of the requests
	bucket                // counter of the requests that took no longer than the bound
	duration              // counter of seconds spent on requests, whole microseconds
	processor             // counter of CPU seconds, whole microseconds
	memory                // gauge of bytes, whole pages
	whole                 // gauge of a few dozen things
)

// scrapesPerHour is how long load, latency and the level of gauges stay the same.
const scrapesPerHour = 240

// Series is one series, read from its first sample to its last.
type Series struct {
	Labels labels.Labels

	pod     *pod
	t       *template
	start   int64 // ms
	offset  int64 // ms
	scrapes int64
	next    int64 // number of the next scrape
	count   int64 // of a counter: requests or microseconds
	hour    hour
}

// hour is what holds for the scrapes of one hour.
type hour struct {
	rate    float64 // requests a scrape
	share   float64 // of them that this series counts
	latency float64 // seconds
	level   float64 // of a gauge, 0 to 1
	restart int64   // number of the scrape that finds the counters at 0, -1: none
}

func newSeries(s Spec, p *pod, t *template, ls labels.Labels) *Series {
	x := &Series{Labels: ls, pod: p, t: t, start: s.Start(), offset: p.offsets[t.target], scrapes: s.scrapes()}
	x.turn()
	// The pod is not new: up to 3.5 days of requests lie behind it.
	before := math.Floor(p.rate * float64(mix(p.seed+9)%20_000))
	switch t.kind {
	case requests, bucket:
		x.count = int64(before * x.hour.share)
	case duration, processor:
		x.count = int64(before * x.hour.latency * 1e6)
	}
	return x
}

// turn sets what holds for the hour of the next scrape. All series of a pod see
// the same.
func (x *Series) turn() {
	p, n := x.pod, x.next/scrapesPerHour
	h := mix(p.seed ^ mix(uint64(n)+0x5eed))
	x.hour = hour{
		rate:    p.rate * (1 + 0.5*math.Sin(p.phase+2*math.Pi*float64(n%24)/24)),
		share:   x.t.share,
		latency: p.latency * (0.5 + unit(mix(h+1))),
		level:   unit(mix(h + 2)),
		restart: -1,
	}
	switch x.t.kind {
	case bucket:
		x.hour.share = 1 - math.Exp(-x.t.bound/x.hour.latency)
	case requests:
		if x.t.share < 0.1 { // of errors there are more in some hours
			x.hour.share *= 0.2 + 1.6*unit(mix(h+3))
		}
	}
	// A pod restarts once in 72 hours, on average.
	if r := mix(h + 4); r%72 == 0 && x.next > 0 {
		x.hour.restart = n*scrapesPerHour + int64(r>>32%scrapesPerHour)
	}
}

// Read fills ts (Unix milliseconds) and vs with the next samples older than
// until, and returns how many there were: fewer than len(ts) only when no more
// are left.
func (x *Series) Read(ts []int64, vs []float64, until int64) int {
	last := min(x.scrapes, (until-x.start)/Interval.Milliseconds())
	n := 0
	for n < len(ts) && x.next < last {
		if x.next%scrapesPerHour == 0 {
			x.turn()
		}
		m := int(min(int64(len(ts)-n), last-x.next, scrapesPerHour-x.next%scrapesPerHour))
		x.fill(ts[n:n+m], vs[n:n+m])
		n += m
	}
	return n
}

// fill makes samples within one hour.
func (x *Series) fill(ts []int64, vs []float64) {
	vs = vs[:len(ts)]
	for i := range ts {
		r := mix(x.pod.seed + uint64(x.next)*0x9e3779b97f4a7c15)
		ts[i] = x.start + x.next*Interval.Milliseconds() + x.offset + late(r)
		if x.next == x.hour.restart {
			x.count = 0
		}
		vs[i] = x.value(r)
		x.next++
	}
}

// late is how many milliseconds a scrape is late: Prometheus evens out what is
// below 2 ms, and one in 32 is later than that.
func late(r uint64) int64 {
	if r&31 != 0 {
		return 0
	}
	return 3 + int64(r>>5&15)
}

// value is that of the next sample, with r the hash of the scrape. Rounding uses
// the same dither in all series of a pod, so a bucket never counts less than a
// lower one.
func (x *Series) value(r uint64) float64 {
	const word = 1 << 16
	load := float64(r>>16&(word-1)) / word
	dither := float64(r>>32&(word-1)) / word
	done := math.Floor(x.hour.rate * (0.7 + 0.6*load))
	switch x.t.kind {
	case requests, bucket:
		x.count += int64(done*x.hour.share + dither)
		return float64(x.count)
	case duration:
		x.count += int64(done * x.hour.latency * 1e6 * (0.5 + dither))
		return float64(x.count) / 1e6
	case processor:
		x.count += int64(done * x.hour.latency * 2e5 * (0.9 + 0.2*dither))
		return float64(x.count) / 1e6
	case memory:
		return 4096 * math.Floor(20_000+x.pod.rate*50+30_000*x.hour.level+2_000*dither)
	default:
		return math.Floor(20 + 100*x.hour.level + 10*dither)
	}
}
