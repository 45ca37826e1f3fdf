//go:build chaos

package e2e_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The settings of TestChaosRollups: all that there is must come and go within the
// twenty hours of samples of a short run.
const (
	pastRaw    = 6 * time.Hour        // raw samples are kept
	pastFine   = 12 * time.Hour       // the finest rung is kept
	pastRung   = 5 * time.Minute      // resolution of the finest rung
	pastCoarse = 30 * time.Minute     // resolution of the other, which is kept for ever
	pastPace   = 3 * 60 / 2           // requests a second: three hours of samples
	pastBlock  = time.Hour            // shortest block
	pastBound  = 20 * time.Second     // to be ready by itself
	pastSettle = 3 * 60 * time.Second // to have done all work that is due
)

// TestChaosRollups kills a Weir that rolls up, merges, ships and deletes, at random
// moments and at such as work is seen to be under way, and looks in every window of
// every series for what was acknowledged.
func TestChaosRollups(t *testing.T) {
	c := newPastChaos(t, filepath.Join(t.TempDir(), "data"))
	for round := 1; round <= rounds(t, 5); round++ {
		aim := "at random"
		if round%2 == 0 {
			aim = aims[round/2%len(aims)].name
			c.aim(aims[round/2%len(aims)], 2*time.Second)
		} else {
			c.life(3 * time.Second)
		}
		c.weir.Kill()
		if round%3 == 0 { // while it mends what the last left
			c.startFor(time.Duration(rand.IntN(300)) * time.Millisecond)
		}
		c.start()
		c.check(round, aim)
	}
	c.finish()
}

// TestChaosRollupsDiskFull fills the disk under a Weir that rolls up.
func TestChaosRollupsDiskFull(t *testing.T) {
	disk := smallDisk(t)
	c := newPastChaos(t, filepath.Join(disk, "data"))
	for round := 1; round <= max(2, rounds(t, 5)/5); round++ {
		c.life(3 * time.Second)
		free := fillDisk(t, disk)
		c.life(2 * time.Second)
		time.Sleep(500 * time.Millisecond) // long enough to be full in every round
		if round%2 == 0 {
			c.weir.Kill()
			free()
			c.start()
		} else {
			free()
		}
		c.progress(c.acked.Load() + 10)
		c.check(round, "on a full disk")
	}
	c.finish()
}

// smallDisk mounts a file system that can be filled.
func smallDisk(t *testing.T) string {
	t.Helper()
	disk := t.TempDir()
	const size = 256 << 20 // blocks reserve 64 MiB a file while they are written
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("a small file system to fill cannot be mounted, which takes root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", disk, err)
		}
	})
	return disk
}

// pastChaos is a Weir with rollups and a bucket, and who writes to it.
type pastChaos struct {
	*victim
	bucket string

	limit  atomic.Int64 // requests to send at most
	acked  atomic.Int64 // requests acknowledged, in order
	resent atomic.Int64
	sent   atomic.Int64 // samples of the requests acknowledged
	over   chan struct{}

	truths  []*truth // by series
	hits    map[string]int
	torn    int  // answers that were wrong when first asked for
	settled bool // all work on blocks is done and nothing more is written
}

func newPastChaos(t *testing.T, data string) *pastChaos {
	bucket := filepath.Join(t.TempDir(), "bucket")
	c := &pastChaos{bucket: bucket, over: make(chan struct{}), hits: map[string]int{}}
	c.victim = newVictim(t, data, fmt.Sprintf(`
store:
  dir: "%s"
  min_free_disk: 0
  min_block_duration: %s
  out_of_order_window: 3h
  retention: {time: %s}
  rollups:
    - {resolution: %s, keep: %s}
    - {resolution: %s, keep: 0s}
  bucket:
    type: filesystem
    config: {directory: "%s"}
    external_labels: {cluster: chaos}
    delete_delay: 5s
    refresh: 1s
query: {rollups: {min_range: 0s}}
tracing: {enabled: false}
`, data, dur(pastBlock), dur(pastRaw), dur(pastRung), dur(pastFine), dur(pastCoarse), bucket))
	for i := range pastSeries {
		c.truths = append(c.truths, &truth{past: past{i}})
	}
	c.limit.Store(math.MaxInt64)
	ctx, stop := context.WithCancel(t.Context())
	go c.write(ctx)
	t.Cleanup(func() {
		stop()
		<-c.over
	})
	c.start()
	c.progress(10 * 60 * 60 / (pastSlots * int64(pastInterval/1000))) // ten hours: raw has left
	return c
}

// dur prints as a configuration has it.
func dur(d time.Duration) string { return fmt.Sprintf("%dm", int(d.Minutes())) }

// write sends one request after the other, each until it is acknowledged.
func (c *pastChaos) write(ctx context.Context) {
	defer close(c.over)
	client := &http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
	pace := time.NewTicker(time.Second / pastPace)
	defer pace.Stop()
	for request := 0; ctx.Err() == nil; {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		if int64(request) >= c.limit.Load() {
			continue
		}
		body, samples := pastBody(request)
		if c.deliver(ctx, client, request, body, samples) {
			c.sent.Add(int64(samples))
			request++
			c.acked.Store(int64(request))
		}
	}
}

func (c *pastChaos) deliver(ctx context.Context, client *http.Client, request int, body []byte, samples int) bool {
	for try := 0; ctx.Err() == nil; try++ {
		if try == 1 {
			c.resent.Add(1)
		}
		status, header, text, err := post(ctx, client, c.weir.URL+"/api/v1/write", false, body)
		switch {
		case err != nil || status/100 == 5:
			time.Sleep(30 * time.Millisecond)
			continue
		case status/100 != 2:
			c.t.Errorf("request %d: got status %d: %s", request, status, text)
		}
		if n := written(header); n != samples {
			c.t.Errorf("request %d, try %d: %d samples written by the answer's headers, want %d: %s", request, try, n, samples, text)
		}
		return true
	}
	return false
}

// progress waits until so many requests are acknowledged.
func (c *pastChaos) progress(requests int64) {
	c.t.Helper()
	begun := time.Now()
	for was := c.acked.Load(); c.acked.Load() < requests; time.Sleep(10 * time.Millisecond) {
		if now := c.acked.Load(); now > was {
			was, begun = now, time.Now()
		}
		if time.Since(begun) > 30*time.Second {
			c.t.Fatalf("stuck at request %d for 30s", c.acked.Load())
		}
	}
}

// aims are the works to kill Weir at, and the files by which they are seen.
var aims = []aim{
	{"cutting or compacting", "data", "*.tmp-for-creation"},
	{"rolling up or merging", "data", "rollup/*/*.tmp-for-creation"},
	{"deleting", "data", "*.tmp-for-deletion"},
	{"deleting rollups", "data", "rollup/*/*.tmp-for-deletion"},
	{"shipping", "bucket", "*"},
}

type aim struct{ name, where, pattern string }

// aim waits until work of a kind is under way, at most for d, and then no longer
// than that work takes, more or less.
func (c *pastChaos) aim(a aim, d time.Duration) {
	where := map[string]string{"data": c.data, "bucket": c.bucket}[a.where]
	at := filepath.Join(where, a.pattern)
	before, _ := filepath.Glob(at) // the patterns are right
	for begun := time.Now(); time.Since(begun) < d; time.Sleep(200 * time.Microsecond) {
		if now, _ := filepath.Glob(at); len(now) > 0 && strings.Join(now, "") != strings.Join(before, "") {
			c.hits[a.name]++
			time.Sleep(rand.N(20 * time.Millisecond))
			return
		}
	}
}

// check looks at what is due to be right at any time: the acknowledged samples, all
// of them counted, and the newest also in other ways.
func (c *pastChaos) check(round int, how string) {
	c.t.Helper()
	if c.slowest > pastBound {
		c.t.Errorf("round %d: took %s to be ready, want at most %s", round, c.slowest, pastBound)
	}
	acked := int(c.acked.Load())
	q := c.question(acked, pastCoarse, "")
	n := c.ask(q, countAsk)
	q.begin = max(q.begin, q.end-(24*time.Hour).Milliseconds())
	for _, a := range asks[1:] {
		n += c.ask(q, a)
		if a.rise {
			n += c.askRise(q, a)
		}
	}
	c.t.Logf("round %d, %.0fs, killed %s: %d requests acknowledged (%s of samples), %d resent; %d windows right",
		round, time.Since(c.begun).Seconds(), how, acked,
		time.Duration(acked*pastSlots)*time.Duration(pastInterval)*time.Millisecond, c.resent.Load(), n)
}

// finish waits for all work to be done and asks everything in every way; then once
// more after a last kill.
func (c *pastChaos) finish() {
	c.t.Helper()
	c.limit.Store(c.acked.Load())
	time.Sleep(time.Second / pastPace * 2)
	c.settle()
	c.settled = true
	c.t.Logf("all, running: %d windows right", c.askAll())
	c.weir.Kill()
	c.start()
	c.settle()
	c.t.Logf("all, after a last kill: %d windows right; slowest start %s; work seen when killed: %v", c.askAll(), c.slowest, c.hits)
}

func (c *pastChaos) askAll() (n int) {
	c.t.Helper()
	acked := int(c.acked.Load())
	for _, source := range []string{"", "0s", dur(pastRung)} {
		for _, a := range asks {
			q := c.question(acked, pastCoarse, source)
			right := c.ask(q, a)
			if a.rise {
				right += c.askRise(q, a)
			}
			if right == 0 {
				c.t.Errorf("%s with max_source_resolution=%q: nothing was compared", a.expr, source)
			}
			n += right
		}
	}
	fine := c.question(acked, pastRung, "")
	fine.begin = fine.end - (pastFine - 2*time.Hour).Milliseconds()
	for _, a := range asks {
		n += c.ask(fine, a)
	}
	return n
}

// settle waits until the files on the disk are as they should be, and sends a few
// requests now and then: the TSDB looks for what is due when it gets samples.
func (c *pastChaos) settle() {
	c.t.Helper()
	for begun := time.Now(); ; {
		faults := c.looks()
		if len(faults) == 0 {
			c.t.Logf("all work done after %s", time.Since(begun).Round(time.Millisecond))
			return
		}
		if time.Since(begun) > pastSettle {
			c.t.Fatalf("not in order %s after the last kill:\n%s", pastSettle, strings.Join(faults, "\n"))
		}
		for range 50 {
			time.Sleep(200 * time.Millisecond)
			if len(c.looks()) == 0 {
				break
			}
		}
		c.limit.Store(c.acked.Load() + 10)
		c.progress(c.limit.Load())
	}
}
