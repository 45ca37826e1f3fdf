//go:build e2e

package e2e_test

import (
	"fmt"
	"math"
	"regexp"
	"slices"
)

// reign is the time in which a replica was elected and alive, in Unix
// milliseconds: until it was killed, or until the last moment that is compared.
type reign struct {
	replica  string
	from, to int64
}

// comparison holds what Weir has beside what the pair has scraped.
type comparison struct {
	weir  book
	pair  map[string]book // by replica
	reign []reign         // in the order of time, each begins where the other ends

	scrape   int64 // milliseconds between scrapes
	failover int64 // ingest.ha.failover_after in milliseconds
	unsent   int64 // how long before its death a replica's samples may not have been sent

	faults []string
}

func (c *comparison) fault(series, format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...)+" in "+series)
}

// run finds everything that is not as it should be.
func (c *comparison) run() []string {
	for series, samples := range c.weir {
		c.checkTrue(series, samples)
		c.checkOnce(series, samples)
		if counts.MatchString(series) {
			c.checkFalls(series, samples)
		}
	}
	for i, r := range c.reign {
		lo, hi := r.from, r.to
		if i > 0 {
			lo += c.failover + 2*c.scrape
		}
		if i < len(c.reign)-1 {
			hi -= c.unsent
		}
		for series, samples := range c.pair[r.replica] {
			c.checkThere(series, between(samples, lo, hi))
			c.checkOneVoice(series, r.replica, lo, hi)
		}
		if i > 0 {
			c.checkHandover(c.reign[i-1].replica, r)
		}
	}
	slices.Sort(c.faults)
	return c.faults
}

// checkTrue: whatever Weir has, one of the pair has scraped, bit by bit.
func (c *comparison) checkTrue(series string, samples []sample) {
	for _, s := range samples {
		ok := false
		for _, b := range c.pair {
			if found, there := at(b[series], s.t); there && found.same(s) {
				ok = true
			}
		}
		if !ok {
			c.fault(series, "invented or altered: %s", s)
		}
	}
}

// checkOnce: no time comes twice.
func (c *comparison) checkOnce(series string, samples []sample) {
	for i := 1; i < len(samples); i++ {
		if samples[i].t <= samples[i-1].t {
			c.fault(series, "doubled or disordered: %s after %s", samples[i], samples[i-1])
		}
	}
}

// checkThere: what the elected replica has scraped, Weir has.
func (c *comparison) checkThere(series string, scraped []sample) {
	for _, s := range scraped {
		found, there := at(c.weir[series], s.t)
		switch {
		case !there:
			c.fault(series, "lost: %s", s)
		case !found.same(s):
			c.fault(series, "altered: %s, scraped was %s", found, s)
		}
	}
}

// checkOneVoice: while a replica is elected, another's samples are stored only
// where it has none itself.
func (c *comparison) checkOneVoice(series, replica string, lo, hi int64) {
	own := c.pair[replica][series]
	for _, s := range between(c.weir[series], lo, hi) {
		if _, there := at(own, s.t); there {
			continue
		}
		if len(between(own, s.t-c.scrape*3/2, s.t)) > 0 && len(between(own, s.t, s.t+c.scrape*3/2)) > 0 {
			c.fault(series, "from the replica not elected: %s", s)
		}
	}
}

// checkHandover: from the first time that the dead replica's samples do not
// cover, all of the other's are there. Only counters may be passed over, until it
// is sure that they show no false reset, at most failover_after.
func (c *comparison) checkHandover(dead string, r reign) {
	for series, samples := range c.pair[r.replica] {
		last := r.from - c.unsent
		for _, s := range between(c.weir[series], last, r.from+c.scrape) {
			if _, there := at(c.pair[dead][series], s.t); there {
				last = s.t
			}
		}
		for _, s := range between(samples, last+1, r.from+c.failover+2*c.scrape) {
			_, there := at(c.weir[series], s.t)
			if !there && (!counts.MatchString(series) || s.t-last > c.failover+2*c.scrape) {
				c.fault(series, "not taken over: %s, %s had %d last", s, dead, last)
			}
		}
	}
}

// counts matches series that only rise.
var counts = regexp.MustCompile(`__name__="[^"]*_(total|count|bucket)"`)

// checkFalls: a counter falls only where one of the pair has seen it fall.
func (c *comparison) checkFalls(series string, samples []sample) {
	near := c.failover + 2*c.scrape
	for i := 1; i < len(samples); i++ {
		if !falls(samples[i-1], samples[i]) {
			continue
		}
		scraped := false
		for _, b := range c.pair {
			seen := between(b[series], samples[i-1].t-near, samples[i].t+near)
			for j := 1; j < len(seen); j++ {
				scraped = scraped || falls(seen[j-1], seen[j])
			}
		}
		if !scraped {
			c.fault(series, "false reset: %s after %s", samples[i], samples[i-1])
		}
	}
}

// magnitude is what only rises in a counter, and falls when it is reset.
func (s sample) magnitude() float64 {
	switch {
	case s.h != nil:
		return float64(s.h.Count)
	case s.fh != nil:
		return s.fh.Count
	}
	return s.v
}

func falls(a, b sample) bool {
	return b.magnitude() < a.magnitude() && !math.IsNaN(a.magnitude())
}

// at finds the sample of a time.
func at(samples []sample, t int64) (sample, bool) {
	i, ok := slices.BinarySearchFunc(samples, t, func(s sample, t int64) int { return int(s.t - t) })
	if !ok {
		return sample{}, false
	}
	return samples[i], true
}

// between returns the samples of [lo, hi].
func between(samples []sample, lo, hi int64) []sample {
	find := func(t int64) int {
		i, _ := slices.BinarySearchFunc(samples, t, func(s sample, t int64) int { return int(s.t - t) })
		return i
	}
	if from, to := find(lo), find(hi+1); from < to {
		return samples[from:to]
	}
	return nil
}
