//go:build chaos

package e2e_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestChaosKill kills a writing Weir with SIGKILL at random moments, during
// compactions and replays too, and looks for every sample it had acknowledged.
func TestChaosKill(t *testing.T) {
	c := newChaos(t, filepath.Join(t.TempDir(), "data"), "1MiB")
	for round := 1; round <= rounds(t, 5); round++ {
		c.life(2 * time.Second)
		c.weir.Kill()
		if round%3 == 0 { // while it reads its log
			c.startFor(time.Duration(rand.IntN(200)) * time.Millisecond)
		}
		c.start()
		c.check(round)
	}
	c.finish()
	blocks, err := filepath.Glob(filepath.Join(c.data, "01*"))
	if err != nil || len(blocks) == 0 {
		t.Errorf("nothing was compacted: %v", err)
	}
	t.Logf("%d blocks", len(blocks))
}

// TestChaosDiskFull fills the disk under a writing Weir, which must refuse what it
// cannot keep, and go on when there is space again, killed in between or not.
func TestChaosDiskFull(t *testing.T) {
	disk := smallDisk(t)
	// Without a guard: the disk itself refuses, in the middle of a record.
	c := newChaos(t, filepath.Join(disk, "data"), "0")
	for round := 1; round <= max(2, rounds(t, 5)/5); round++ {
		c.life(time.Second)
		free := fillDisk(t, disk)
		before := c.acked.Load()
		c.life(time.Second)
		time.Sleep(500 * time.Millisecond) // long enough to be full in every round
		if round%2 == 0 {
			c.weir.Kill()
			free()
			c.start()
		} else {
			free()
		}
		c.progress(c.acked.Load() + mix)
		t.Logf("the disk was full for requests %d to %d", before, c.acked.Load())
		c.check(round)
	}
	c.finish()
}

// fillDisk takes all space but a random remainder, until free is called.
func fillDisk(t *testing.T, disk string) (free func()) {
	t.Helper()
	path := filepath.Join(disk, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err = syscall.ENOSPC; errors.Is(err, syscall.ENOSPC); { // Weir takes space at the same time
		var fs syscall.Statfs_t
		if err := syscall.Statfs(disk, &fs); err != nil {
			t.Fatal(err)
		}
		err = syscall.Fallocate(int(f.Fd()), 0, 0, max(1, int64(fs.Bavail)*fs.Bsize-rand.Int64N(200<<10)))
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// chaos is a Weir and those who write to it.
type chaos struct {
	*victim
	*writers
	checked int // requests
}

func newChaos(t *testing.T, data, minFreeDisk string) *chaos {
	v := newVictim(t, data, fmt.Sprintf(`
store: {dir: "%s", min_block_duration: 1m, min_free_disk: %s, rollups: []}
tracing: {enabled: false}
`, data, minFreeDisk))
	c := &chaos{victim: v, writers: startWriters(t, v.weir.URL)}
	c.start()
	return c
}

// progress waits until so many requests are acknowledged.
func (c *chaos) progress(requests int64) {
	c.victim.t.Helper()
	for begun := time.Now(); c.acked.Load() < requests; time.Sleep(10 * time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			c.victim.t.Fatalf("stuck at request %d for 30s", c.acked.Load())
		}
	}
}

// check reads back what is new since the last check.
func (c *chaos) check(round int) {
	c.victim.t.Helper()
	to := int(c.acked.Load())
	n := c.writers.check(c.checked)
	c.victim.t.Logf("round %d, %.0fs: %d requests acknowledged, %d of them resent; since the last round: %s",
		round, time.Since(c.begun).Seconds(), to*len(feeds), c.resent.Load(), n)
	c.checked = to
}

// finish reads all back, and once more after a last kill.
func (c *chaos) finish() {
	c.victim.t.Helper()
	c.writers.stop()
	<-c.writers.over
	c.victim.t.Logf("all, running: %s", c.writers.check(0))
	c.weir.Kill()
	c.start()
	c.victim.t.Logf("all, after a last kill: %s", c.writers.check(0))
}

// rounds is WEIR_CHAOS_ROUNDS, else otherwise.
func rounds(t *testing.T, otherwise int) int {
	text := os.Getenv("WEIR_CHAOS_ROUNDS")
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("WEIR_CHAOS_ROUNDS is %q, want 1 or more", text)
	}
	return n
}
