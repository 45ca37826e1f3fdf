package ingest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/store"
)

// truth is a counter as it really was: its total over all resets, and what it
// showed, by milliseconds.
type truth struct {
	rate   int64 // per second
	resets []int64
}

func (c *truth) at(ms int64) (shown, total int64) {
	from := int64(0)
	for _, r := range c.resets {
		if r <= ms {
			from = r
		}
	}
	return (ms - from) * c.rate / 1000, ms * c.rate / 1000
}

// scrape is one sample as a replica made it.
type scrape struct {
	replica int
	when    int64 // true time of the value
	t       int64 // its timestamp, by the replica's clock
	arrives int64 // true time of the request that brings it
	v       int64
}

// pairCase is one generated HA pair: its counter and all that its replicas send.
type pairCase struct {
	truth    truth
	interval int64
	late     bool // some requests come late
	scrapes  []scrape
	runs     [][2]int64 // spans of timestamps that a replica scraped without a gap
}

const simLength = 6 * 60_000

// newPairCase generates a pair whose clocks, with the time of a scrape, differ by
// less than a scrape interval and failover_after: the stated condition.
func newPairCase(rng *rand.Rand, resets int) *pairCase {
	c := &pairCase{interval: []int64{5000, 10_000, 15_000, 30_000}[rng.IntN(4)], late: rng.IntN(3) == 0}
	c.truth.rate = 1 + rng.Int64N(50)
	for range rng.IntN(resets + 1) {
		c.truth.resets = append(c.truth.resets, rng.Int64N(simLength))
	}
	slices.Sort(c.truth.resets)
	bound := min(c.interval, testFailover) * 8 / 10
	skews := [2]int64{0, 0}
	if rng.IntN(2) == 0 {
		skews[rng.IntN(2)] = rng.Int64N(bound)
	}
	for r := range 2 {
		c.replica(rng, r, skews[r], min(c.interval, testFailover)/10)
	}
	slices.SortStableFunc(c.scrapes, func(a, b scrape) int { return int(a.arrives - b.arrives) })
	return c
}

func (c *pairCase) replica(rng *rand.Rand, r int, skew, slack int64) {
	var down [][2]int64 // not scraping: restarts and longer outages
	for range rng.IntN(4) {
		from := rng.Int64N(simLength)
		down = append(down, [2]int64{from, from + []int64{20_000, 60_000, 180_000}[rng.IntN(3)]})
	}
	var blocked [2]int64 // scraping, not sending
	if c.late {
		blocked[0] = rng.Int64N(simLength)
		blocked[1] = blocked[0] + rng.Int64N(180_000)
	}
	run := [2]int64{-1, -1}
	var last int64
	for when := rng.Int64N(c.interval); when < simLength; when += c.interval {
		if slices.ContainsFunc(down, func(d [2]int64) bool { return d[0] <= when && when < d[1] }) {
			if run[0] >= 0 {
				c.runs = append(c.runs, run)
			}
			run = [2]int64{-1, -1}
			continue
		}
		s := scrape{replica: r, t: when + skew + rng.Int64N(slack/4+1), when: when + rng.Int64N(slack/2+1)}
		s.v, _ = c.truth.at(s.when)
		s.arrives = max(s.when+rng.Int64N(2000), last)
		if blocked[0] <= s.arrives && s.arrives < blocked[1] {
			s.arrives = blocked[1]
		}
		last = s.arrives
		c.scrapes = append(c.scrapes, s)
		if run[0] < 0 {
			run[0] = s.t
		}
		run[1] = s.t
	}
	if run[0] >= 0 {
		c.runs = append(c.runs, run)
	}
}

// check returns what is wrong with the stored samples.
func (c *pairCase) check(base int64, got []point) error {
	sent := map[int64]map[int64]int64{} // time, value, when
	for _, s := range c.scrapes {
		if sent[s.t] == nil {
			sent[s.t] = map[int64]int64{}
		}
		sent[s.t][s.v] = s.when
	}
	var increase, first int64
	for i, x := range got {
		t, v := x.t-base, int64(x.v)
		when, ok := sent[t][v]
		if !ok {
			return fmt.Errorf("sample %d=%d was never sent", t, v)
		}
		if i == 0 {
			first = when
		} else {
			p := int64(got[i-1].v)
			if got[i-1].t >= x.t {
				return fmt.Errorf("time %d doubled or out of order", t)
			}
			if v < p {
				p = 0
			}
			increase += v - p
			_, a := c.truth.at(first)
			_, b := c.truth.at(when)
			if increase > b-a+1 {
				return fmt.Errorf("increase %d from %d to %d is more than the true %d: a reset that there was not, at %d", increase, first, when, b-a, t)
			}
		}
	}
	if c.late {
		return nil // what comes too late for its place is lost, as it must be
	}
	window := 2*c.interval + testFailover + c.interval/10
	for _, run := range c.runs {
		at := run[0]
		for _, x := range got {
			t := x.t - base
			if t < run[0] {
				continue
			}
			if t > run[1] {
				break
			}
			if t-at > window {
				return fmt.Errorf("nothing stored from %d to %d, though a replica has scraped", at, t)
			}
			at = t
		}
		if run[1]-at > window {
			return fmt.Errorf("nothing stored from %d to %d, though a replica has scraped", at, run[1])
		}
	}
	return nil
}

// TestHAPairs generates pairs of replicas with jitter, gaps, restarts, clock
// skew, resets and late requests, and sends all of them side by side, mixed into
// requests. WEIR_HA_PAIRS sets the number, WEIR_HA_SEED the seed.
func TestHAPairs(t *testing.T) {
	n, seed := 10_000, uint64(1)
	if testing.Short() {
		n = 1000
	}
	for name, set := range map[string]func(uint64){
		"WEIR_HA_PAIRS": func(v uint64) { n = int(v) }, "WEIR_HA_SEED": func(v uint64) { seed = v },
	} {
		if s := os.Getenv(name); s != "" {
			v, err := strconv.ParseUint(s, 10, 64)
			require.NoError(t, err)
			set(v)
		}
	}
	const most = 2500 // in one process, which remembers at most maxReplicas
	for at := 0; at < n; at += most {
		seed++
		t.Run(fmt.Sprintf("steady/seed=%d", seed), func(t *testing.T) { runPairs(t, min(most, n-at), seed, 0) })
	}
	t.Run("killed", func(t *testing.T) { runPairs(t, min(most, n/20), seed+1, 3) })
}

func runPairs(t *testing.T, n int, seed uint64, kills int) {
	rng := rand.New(rand.NewPCG(seed, 0))
	h := newHARig(t, func(c *Config, _ *store.Config) {
		if kills == 0 {
			c.HA.Dir = ""
		}
	})
	cases := make([]*pairCase, n)
	next := make([]int, n)
	for i := range cases {
		// Whether a counter was reset just before a kill is forgotten by it; see
		// recalled. So in that run none is.
		resets := 3
		if kills > 0 {
			resets = 0
		}
		cases[i] = newPairCase(rng, resets)
	}
	const step = 1000
	for now := int64(0); now < simLength+200_000; now += step {
		for r := range 2 {
			req := &prompb.WriteRequest{}
			for i, c := range cases {
				for k := next[i]; k < len(c.scrapes) && c.scrapes[k].arrives <= now; k++ {
					s := c.scrapes[k]
					if s.replica == r {
						req.Timeseries = append(req.Timeseries, h.series(fmt.Sprint(i), string(rune('a'+r)),
							smp{"m_total", float64(s.t) / 1000, float64(s.v)}))
					}
				}
			}
			if len(req.Timeseries) > 0 {
				h.send(t, req)
			}
		}
		for i, c := range cases {
			for next[i] < len(c.scrapes) && c.scrapes[next[i]].arrives <= now {
				next[i]++
			}
		}
		if h.pass(step * time.Millisecond); kills > 0 && now%(simLength/int64(kills+1)) == 0 && now > 0 {
			h = h.kill(t)
		}
	}
	h.pass(time.Minute)
	require.Zero(t, h.balanced(t).Held)
	got := map[string][]point{}
	each(t, h.store, func(ls labels.Labels, x point) { got[ls.Get("cluster")] = append(got[ls.Get("cluster")], x) })
	bad := 0
	for i, c := range cases {
		if err := c.check(h.base, got[fmt.Sprint(i)]); err != nil {
			bad++
			if bad <= 5 {
				t.Errorf("pair %d (interval %d, late %v): %v", i, c.interval, c.late, err)
			}
		}
	}
	stored := 0
	for _, xs := range got {
		stored += len(xs)
	}
	require.Zero(t, bad, "of %d pairs, %d stored samples", n, stored)
}
