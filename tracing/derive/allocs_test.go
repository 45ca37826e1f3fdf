//go:build !race

// The race detector has sync.Pool drop things at random, so allocations say nothing.

package derive

import (
	"testing"
	"time"
)

func TestTakeAllocs(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Dimensions = []string{"http.route", "server.port"}; c.Size = true; c.Weigh = true })
	batches := busy(200)
	for i := range 4000 { // until each duration has met each bucket
		r.d.Take(renew(batches[i%200], -i), nil, epoch)
	}
	r.mu.Lock()
	r.now = r.now.Add(time.Hour)
	r.mu.Unlock()
	r.flush(0) // what waited makes room
	i := 0
	if n := testing.AllocsPerRun(1000, func() { r.d.Take(renew(batches[i%200], i), nil, epoch); i++ }); n != 0 {
		t.Errorf("%v allocations in Take of ten known spans, want 0", n)
	}
}
