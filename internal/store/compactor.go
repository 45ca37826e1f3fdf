package store

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// compactor writes blocks as the TSDB's own does, but not on a disk without room
// for them. To try would fill the disk until the attempt has failed, and a commit
// meanwhile might have to write a head chunk.
type compactor struct {
	tsdb.Compactor
	room func() error
}

// newCompactor has the signature of [tsdb.NewCompactorFunc].
func (s *Store) newCompactor(ctx context.Context, reg prometheus.Registerer, log *slog.Logger, ranges []int64, pool chunkenc.Pool, o *tsdb.Options) (tsdb.Compactor, error) {
	c, err := tsdb.NewLeveledCompactorWithOptions(ctx, reg, log, ranges, pool, tsdb.LeveledCompactorOptions{
		MaxBlockChunkSegmentSize:    o.MaxBlockChunkSegmentSize,
		EnableOverlappingCompaction: o.EnableOverlappingCompaction,
		PD:                          o.PostingsDecoderFactory,
		UseUncachedIO:               o.UseUncachedIO,
		BlockExcludeFilter:          o.BlockCompactionExcludeFunc,
		FloatChunkEncoding:          func() chunkenc.Encoding { return o.FloatChunkEncoding }, // no reload changes it
	})
	if err != nil {
		return nil, err
	}
	return compactor{c, func() error { return s.guard.block(s.cfg.Load()) }}, nil
}

// Write implements [tsdb.Compactor].
func (c compactor) Write(dest string, b tsdb.BlockReader, mint, maxt int64, base *tsdb.BlockMeta) ([]ulid.ULID, error) {
	if err := c.room(); err != nil {
		return nil, fmt.Errorf("write block %d..%d: %w", mint, maxt, err)
	}
	return c.Compactor.Write(dest, b, mint, maxt, base)
}

// Compact implements [tsdb.Compactor].
func (c compactor) Compact(dest string, dirs []string, open []*tsdb.Block) ([]ulid.ULID, error) {
	if err := c.room(); err != nil {
		return nil, fmt.Errorf("compact %d blocks: %w", len(dirs), err)
	}
	return c.Compactor.Compact(dest, dirs, open)
}
