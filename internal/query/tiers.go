package query

import (
	"context"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/weir-dev/weir/internal/rollup"
)

// Tiers is a storage that holds rollups beside samples. Its methods may be called
// at once by many.
type Tiers interface {
	// Holdings tells what each tier holds of the series that ms select around the
	// time from mint to maxt (Unix milliseconds, both inclusive): raw first, then
	// from the finest to the coarsest. What is held is not cut to that time, for at
	// a cut a tier would seem to end.
	Holdings(ctx context.Context, mint, maxt int64, ms ...*labels.Matcher) ([]rollup.Holding, error)
	// Columns selects series and their points. The set must be closed.
	Columns(ctx context.Context, s rollup.Selection) (rollup.SeriesSet, error)
}

// readyTiers fails with tsdb.ErrNotReady while the storage is not open, as
// [readyStorage] does.
type readyTiers struct {
	Tiers
	ready func() (bool, string)
}

func (t readyTiers) Holdings(ctx context.Context, mint, maxt int64, ms ...*labels.Matcher) ([]rollup.Holding, error) {
	if ok, _ := t.ready(); !ok {
		return nil, tsdb.ErrNotReady
	}
	return t.Tiers.Holdings(ctx, mint, maxt, ms...)
}

func (t readyTiers) Columns(ctx context.Context, s rollup.Selection) (rollup.SeriesSet, error) {
	if ok, _ := t.ready(); !ok {
		return nil, tsdb.ErrNotReady
	}
	return t.Tiers.Columns(ctx, s)
}
