package store

import "github.com/prometheus/prometheus/tsdb"

// DB lets tests force what the TSDB does in its own time.
func (s *Store) DB() *tsdb.DB { return s.db.Load() }

var CloseTears = closeTears
