package store

import "github.com/prometheus/prometheus/tsdb"

// DB lets tests force what the TSDB does in its own time.
func (s *Store) DB() *tsdb.DB { return s.db.Load() }

// SetStripes is for tests that open many stores, which takes 50 ms with the stripes
// of a large one. It is called before Run.
func (s *Store) SetStripes(n int) { s.stripes = n }

// SetHeadRoom is for tests of what happens when the disk itself refuses, which
// without it does not. It is called before Run.
func (s *Store) SetHeadRoom(n int64) { s.guard.room = n }

// BlankMarkers is what [Store] does to a segment of the out-of-order log at start.
var BlankMarkers = blankMarkers
