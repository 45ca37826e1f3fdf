package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// Querier implements [storage.Queryable]. Time that has no raw data any more is
// answered from the rollups, a point being a sample at its end with its last value.
func (s *Store) Querier(mint, maxt int64) (storage.Querier, error) {
	db := s.db.Load()
	if db == nil {
		return nil, tsdb.ErrNotReady
	}
	q, err := db.Querier(mint, maxt) // first: the blocks it has seen stay, whatever is deleted now
	if err != nil {
		return nil, err
	}
	old := s.tiers.Querier(mint, maxt)
	if old == nil {
		return q, nil
	}
	return storage.NewMergeQuerier([]storage.Querier{q, old}, nil, storage.ChainedSeriesMerge), nil
}

// ChunkQuerier implements [storage.ChunkQueryable], as Querier does.
func (s *Store) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	db := s.db.Load()
	if db == nil {
		return nil, tsdb.ErrNotReady
	}
	q, err := db.ChunkQuerier(mint, maxt)
	if err != nil {
		return nil, err
	}
	old := s.tiers.ChunkQuerier(mint, maxt)
	if old == nil {
		return q, nil
	}
	merge := storage.NewCompactingChunkSeriesMerger(storage.ChainedSeriesMerge)
	return storage.NewMergeChunkQuerier([]storage.ChunkQuerier{q, old}, nil, merge), nil
}

// ExemplarQuerier implements [storage.ExemplarQueryable].
func (s *Store) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	if db := s.db.Load(); db != nil {
		return db.ExemplarQuerier(ctx)
	}
	return nil, tsdb.ErrNotReady
}

// Delete deletes the samples of the matching series between mint and maxt, both
// inclusive, from all tiers. They are gone for readers when it returns; the blocks
// are rewritten soon after. See [tiers.Tiers.Delete].
func (s *Store) Delete(ctx context.Context, mint, maxt int64, ms ...*labels.Matcher) error {
	if err := s.tiers.Delete(ctx, mint, maxt, ms...); err != nil {
		if errors.Is(err, tsdb.ErrNotReady) {
			return err
		}
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
