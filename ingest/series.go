package ingest

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/storage"
)

// seriesID numbers the series that ingest knows. Small numbers are verdicts.
type seriesID uint32

const (
	idUnknown seriesID = iota // key not in the table
	idFaulty                  // labels refused; said and counted already
	idDropped                 // relabelling drops it
	idHeld                    // its samples in this request are held
	firstSeriesID
)

// series is what ingest remembers of one series of the store: one cache line,
// no pointers. All fields but owner and pins belong to the batch that has claimed it.
type series struct {
	owner    atomic.Uint32 // token of the claiming batch; 0 is free
	flags    seriesFlags
	wasFlags seriesFlags
	ref      storage.SeriesRef // 0: the store does not know it (any more)
	lastT    int64             // newest sample's time; see hasLast
	lastV    uint64            // its bits, if it is a float
	writer   replicaID         // replica that sent it
	cluster  clusterID

	// pins counts what waits for the series and must find it under its number.
	// Anybody may change it; sweeping spares a pinned series.
	pins atomic.Int32

	// With wasFlags, the state before the claiming batch, to return to when it
	// cannot commit.
	wasWriter replicaID
	wasT      int64
	wasV      uint64
}

type seriesFlags uint16

const (
	hasLast       seriesFlags = 1 << iota // lastT and lastV are known
	lastHistogram                         // the newest sample is a histogram
	appended                              // the claiming batch has appended
	rising                                // its floats only rise, as far as is known
	fell                                  // the newest sample was lower than the one before
	switched                              // several replicas have written it, or may have
)

// claim makes s the batch's own until release. It fails when another batch has
// it: two batches in flight must not append to one series, since the store
// re-checks order at commit and would drop the loser in silence.
func (s *series) claim(token uint32) (ok, fresh bool) {
	if s.owner.Load() == token {
		return true, false
	}
	if !s.owner.CompareAndSwap(0, token) {
		return false, false
	}
	s.wasT, s.wasV = s.lastT, s.lastV
	s.wasWriter, s.wasFlags = s.writer, s.flags
	return true, true
}

// release gives s back; undo returns it to the state at the claim.
func (s *series) release(undo bool) {
	if undo {
		s.lastT, s.lastV = s.wasT, s.wasV
		s.writer, s.flags = s.wasWriter, s.wasFlags
	}
	s.flags &^= appended
	s.owner.Store(0)
}

// newest notes an appended sample: v is what rises in it, by who sent it.
func (s *series) newest(t int64, v float64, histogram bool, by replicaID) {
	was := s.flags
	s.flags &^= fell
	if was&hasLast != 0 && histogram == (was&lastHistogram != 0) && v < math.Float64frombits(s.lastV) {
		s.flags |= fell
	}
	if by != s.writer && s.writer != 0 {
		s.flags |= switched
	}
	s.lastT, s.lastV, s.writer = t, math.Float64bits(v), by
	s.flags |= hasLast | appended
	if histogram {
		s.flags |= lastHistogram
	} else {
		s.flags &^= lastHistogram
	}
}

// seriesPage is the unit in which the slab grows: 256 KiB.
const seriesPage = 1 << 12

// slab holds all series by number. Pages never move, so a *series stays valid;
// numbers are reused only by [slab.free], which the caller runs while no batch
// is in flight.
type slab struct {
	pages atomic.Pointer[[]*[seriesPage]series]

	mu   sync.Mutex
	next seriesID
	idle []seriesID
}

func newSlab() *slab {
	s := &slab{next: firstSeriesID}
	s.pages.Store(&[]*[seriesPage]series{new([seriesPage]series)})
	return s
}

func (s *slab) at(id seriesID) *series {
	return &(*s.pages.Load())[id/seriesPage][id%seriesPage]
}

// alloc returns the number of a zeroed series.
func (s *slab) alloc() seriesID {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.idle); n > 0 {
		id := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return id
	}
	id := s.next
	s.next++
	pages := *s.pages.Load()
	if int(s.next/seriesPage) >= len(pages) {
		grown := append(append([]*[seriesPage]series{}, pages...), new([seriesPage]series))
		s.pages.Store(&grown)
	}
	return id
}

// unalloc takes back a number that alloc gave and nobody else has seen.
func (s *slab) unalloc(id seriesID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, id)
}

// free makes reusable every series that gone admits. No batch may be in flight.
func (s *slab) free(gone func(seriesID, *series) bool) map[seriesID]struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	idle := make(map[seriesID]struct{}, len(s.idle))
	for _, id := range s.idle {
		idle[id] = struct{}{}
	}
	freed := map[seriesID]struct{}{}
	for id := firstSeriesID; id < s.next; id++ {
		if _, ok := idle[id]; ok {
			continue
		}
		if sr := s.at(id); gone(id, sr) {
			*sr = series{}
			freed[id] = struct{}{}
			s.idle = append(s.idle, id)
		}
	}
	return freed
}

// len returns the number of series known.
func (s *slab) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.next-firstSeriesID) - len(s.idle)
}
