package ingest

import (
	"log/slog"
	"time"
)

// sweepInterval is how often it is looked whether the store has deleted series.
// It does so when it cuts a block, every two hours; a minute more of holding 150
// bytes a dead series does no harm.
const sweepInterval = time.Minute

// sweep forgets the series that the store has deleted and those that it never
// got, with all keys that lead to them. It stops ingestion while it works:
// series numbers become free for others, so no batch may hold one.
func (w *writer) sweep(log *slog.Logger) {
	gone := w.limits.takeGone()
	if len(gone) == 0 {
		return
	}
	start := w.now()
	w.gate.Lock()
	defer w.gate.Unlock()
	freed := w.series.free(func(_ seriesID, s *series) bool {
		_, deleted := gone[s.ref]
		if s.pins.Load() != 0 {
			if deleted {
				w.limits.putBack(s.ref)
			}
			return false
		}
		return deleted || s.ref == 0
	})
	keep := func(to target) bool {
		_, dead := freed[to.id]
		return !dead && to.id >= firstSeriesID
	}
	w.keys.sweep(keep)
	w.known.sweep(keep)
	w.ha.forget(freed)
	log.Info("series forgotten", "series", len(freed), "took", w.now().Sub(start))
}
