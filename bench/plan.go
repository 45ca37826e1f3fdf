package main

import (
	"time"
)

// part is one pod in one request: samples [first, first+k) of each of its series.
type part struct {
	slot, gen int
	first     int64
	k         int
}

// request is the parts of one body, in the order they are sent.
type request []part

// plan is everything one run sends. Connection c sends warm[c], then window[c],
// in order, one request at a time. Same scenario, seed and end: same plan.
type plan struct {
	scenario scenario
	seed     uint64
	start    int64 // ms, time of sample 0 of a pod whose offset is 0
	warm     [][]request
	window   [][]request
}

// rotation moves the pod a round starts with, so that requests of different
// rounds do not hold the same series: the queues of a real Prometheus cut their
// stream at ever other places, and a server must not profit from equal bodies.
// Unmeasured: any number that is not a divisor of the pods a request serves.
const rotation = 7

// newPlan lays out sc so that its last sample is older than end by less than two
// scrape intervals.
func newPlan(sc scenario, seed uint64, end time.Time) *plan {
	span := time.Duration(sc.samplesPerSeries()+1) * scrapeInterval
	p := &plan{scenario: sc, seed: seed, start: end.Add(-span).UnixMilli()}
	for c := range sc.Conns {
		p.warm = append(p.warm, p.cut(p.lane(c, 0)))
		var stream []part
		for r := 1; r <= sc.Rounds; r++ {
			stream = append(stream, p.lane(c, r)...)
		}
		p.window = append(p.window, p.cut(stream))
	}
	return p
}

// lane is what connection c sends in round r; round 0 is the warm-up. Pod slots
// are dealt out to connections, so a series never changes its connection and is
// never out of order.
func (p *plan) lane(c, r int) []part {
	sc := p.scenario
	var slots []int
	for s := c; s < sc.pods(); s += sc.Conns {
		slots = append(slots, s)
	}
	first, k := int64(0), 1
	if r > 0 {
		first, k = int64(1+(r-1)*sc.K), sc.K
	}
	parts := make([]part, len(slots))
	for i := range slots {
		slot := slots[(i+r*rotation)%len(slots)]
		parts[i] = part{slot: slot, gen: p.gen(slot, r), first: first, k: k}
	}
	return parts
}

// cut divides a stream into requests of the scenario's batch, across rounds, as
// a queue does. Only the last one may be shorter.
func (p *plan) cut(stream []part) []request {
	pods := p.scenario.Batch / seriesPerPod
	var out []request
	for len(stream) > pods {
		out, stream = append(out, stream[:pods]), stream[pods:]
	}
	return append(out, stream)
}

// gen is how often slot's pod was replaced before round r. Replacements go round
// the slots: the j-th one hits slot j modulo the number of pods.
func (p *plan) gen(slot, r int) int {
	pods := p.scenario.pods()
	done := p.scenario.podsReplaced() * r
	return (done + pods - 1 - slot) / pods
}

// at is the time in ms of a pod's n-th sample.
func (p *plan) at(pd *pod, n int64) int64 {
	return p.start + n*scrapeInterval.Milliseconds() + pd.offset
}

// lastSample is the number of the newest sample of any series.
func (p *plan) lastSample() int64 { return int64(p.scenario.samplesPerSeries() - 1) }

// end is a time in ms at which every sample sent is in the past, and the newest
// of every live series less than a scrape interval old.
func (p *plan) end() int64 {
	return p.start + (p.lastSample()+1)*scrapeInterval.Milliseconds()
}
