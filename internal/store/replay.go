package store

import (
	"context"
	"fmt"
	"time"
)

// replayLogInterval is often enough to see that a start is alive, and rare enough
// for a log.
const replayLogInterval = 3 * time.Second

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

func (s *Store) replayText() string {
	st := s.stats.Head.WALReplayStatus.GetWALReplayStatus()
	return progress(st.Min, st.Max, st.Current)
}

// progress puts the TSDB's count into words: the first and the last segment to be
// read, and the last one read, or the first as long as none is. The checkpoint
// counts as the segment it ends with; the out-of-order log is counted anew.
func progress(first, last, read int) string {
	if first == 0 && last == 0 {
		return "opening the database"
	}
	total := last - first + 1
	done := min(max(read-first, 0), total)
	return fmt.Sprintf("replaying WAL: segment %d of %d (%d%%)", min(done+1, total), total, 100*done/total)
}
