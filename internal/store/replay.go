package store

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"time"
)

const (
	// replayLogInterval is often enough to see that a start is alive, and rare
	// enough for a log.
	replayLogInterval = 3 * time.Second
	// replayGC is the heap growth, in percent, between collections while the WAL
	// is replayed. See the figures in the package's replay test.
	replayGC = 50
)

// calmGC has memory collected more often during replay, whose garbage would
// otherwise set the process's peak. The returned function restores the setting and
// gives what is free back to the system.
func calmGC() (restore func()) {
	before := debug.SetGCPercent(replayGC)
	if before >= 0 && before < replayGC { // the operator asked for less
		debug.SetGCPercent(before)
	}
	return func() {
		debug.SetGCPercent(before)
		debug.FreeOSMemory()
	}
}

// watchReplay logs the progress of replay until the returned function is called.
func (s *Store) watchReplay(ctx context.Context) (done func()) {
	ctx, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(replayLogInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				s.log.Info("store not ready", "progress", s.replayText())
			}
		}
	}()
	return func() { cancel(); <-stopped }
}

// replayText names the segment being read. The TSDB counts the segments it has
// read, the checkpoint as the first of them.
func (s *Store) replayText() string {
	st := s.stats.Head.WALReplayStatus.GetWALReplayStatus()
	total := st.Max - st.Min + 1
	if st.Max == 0 && st.Min == 0 && st.Current == 0 && !s.hasWAL() {
		return "opening the database"
	}
	read := st.Current - st.Min
	return fmt.Sprintf("replaying WAL: segment %d of %d (%d%%)", min(read+1, total), total, 100*read/total)
}

// hasWAL tells a new database from one whose only segment is number 0.
func (s *Store) hasWAL() bool {
	files, err := os.ReadDir(s.cfg.Load().Dir + "/wal")
	if err != nil {
		return false
	}
	for _, f := range files {
		if _, err := strconv.Atoi(f.Name()); err == nil {
			return true
		}
	}
	return false
}
