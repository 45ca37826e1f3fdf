package store

import (
	"context"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// Querier implements [storage.Queryable].
func (s *Store) Querier(mint, maxt int64) (storage.Querier, error) {
	if db := s.db.Load(); db != nil {
		return db.Querier(mint, maxt)
	}
	return nil, tsdb.ErrNotReady
}

// ChunkQuerier implements [storage.ChunkQueryable].
func (s *Store) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	if db := s.db.Load(); db != nil {
		return db.ChunkQuerier(mint, maxt)
	}
	return nil, tsdb.ErrNotReady
}

// ExemplarQuerier implements [storage.ExemplarQueryable].
func (s *Store) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	if db := s.db.Load(); db != nil {
		return db.ExemplarQuerier(ctx)
	}
	return nil, tsdb.ErrNotReady
}

// Delete marks the samples of the matching series between mint and maxt, both
// inclusive, as deleted. CleanTombstones frees their space.
func (s *Store) Delete(ctx context.Context, mint, maxt int64, ms ...*labels.Matcher) error {
	db := s.db.Load()
	if db == nil {
		return tsdb.ErrNotReady
	}
	if err := db.Delete(ctx, mint, maxt, ms...); err != nil {
		return fmt.Errorf("delete samples %d..%d: %w", mint, maxt, err)
	}
	return nil
}

// CleanTombstones rewrites the blocks without what was deleted.
func (s *Store) CleanTombstones() error {
	db := s.db.Load()
	if db == nil {
		return tsdb.ErrNotReady
	}
	if err := db.CleanTombstones(); err != nil {
		return fmt.Errorf("clean tombstones: %w", err)
	}
	return nil
}

// Snapshot copies the blocks to dir, by hard links where it can, and, withHead,
// writes a block of what is in memory.
func (s *Store) Snapshot(dir string, withHead bool) error {
	db := s.db.Load()
	if db == nil {
		return tsdb.ErrNotReady
	}
	if err := db.Snapshot(dir, withHead); err != nil {
		return fmt.Errorf("snapshot to %s: %w", dir, err)
	}
	return nil
}

// Stats returns the head's cardinality statistics, the limit largest of each kind,
// and those by the values of one label.
func (s *Store) Stats(statsByLabelName string, limit int) (*tsdb.Stats, error) {
	if db := s.db.Load(); db != nil {
		return db.Head().Stats(statsByLabelName, limit), nil
	}
	return nil, tsdb.ErrNotReady
}

// BlockMetas describes the blocks on disk.
func (s *Store) BlockMetas() ([]tsdb.BlockMeta, error) {
	if db := s.db.Load(); db != nil {
		return db.BlockMetas(), nil
	}
	return nil, tsdb.ErrNotReady
}

// WALReplayStatus counts WAL segments. It answers before the store is ready too.
func (s *Store) WALReplayStatus() (tsdb.WALReplayStatus, error) {
	return s.stats.Head.WALReplayStatus.GetWALReplayStatus(), nil
}
