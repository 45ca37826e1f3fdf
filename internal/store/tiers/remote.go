package tiers

import (
	"context"
	"fmt"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/weir-dev/weir/internal/store/block"
)

// Remote is the bucket, as far as the tiers care. Its methods may ask Durable.
type Remote interface {
	// OpenRemote opens a block that is there, for the caller to release.
	OpenRemote(ctx context.Context, id ulid.ULID) (*block.Block, error)
	// Shipped says whether the data of a block on disk is there.
	Shipped(id ulid.ULID) bool
	// Quarantine takes a block that was found damaged out of service.
	Quarantine(id ulid.ULID, why error)
}

func (d *Deps) remote() Remote {
	if d.Remote == nil {
		return nil
	}
	return d.Remote()
}

// SetRemote says which blocks are in the bucket. Those that are on disk too, and
// those of rungs that are not configured, are passed over.
func (t *Tiers) SetRemote(metas []*block.Meta) {
	var all []*entry
	for _, m := range metas {
		all = append(all, newEntry(m, nil))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	of := func(res int64) []*entry {
		return slices.DeleteFunc(slices.Clone(all), func(e *entry) bool { return e.meta.Resolution() != res })
	}
	t.far, t.farKnown = of(0), true
	slices.SortFunc(t.far, byTime)
	for _, r := range t.rungs {
		r.set(r.blocks, append([]*entry{}, of(r.res)...))
	}
}

// farQuerier reads a raw block of the bucket. It holds the block open until closed.
func (t *Tiers) farQuerier(ctx context.Context, e *entry, mint, maxt int64) (storage.Querier, error) {
	b, err := t.deps.remote().OpenRemote(ctx, e.ULID())
	if err != nil {
		return nil, err
	}
	defer b.Release() // the querier holds it on its own
	t.mu.RLock()
	hidden := slices.DeleteFunc(slices.Clone(t.state.Deletions), func(d deletion) bool { return !d.hidesIn(e) })
	t.mu.RUnlock()
	q, err := tsdb.NewBlockQuerier(hiding{b, ctx, hidden}, max(mint, e.from), min(maxt, e.to-1))
	if err != nil {
		return nil, fmt.Errorf("read block %s of the bucket: %w", e.ULID(), err)
	}
	return q, nil
}

// hiding is a block whose samples are read without what was deleted after it was
// shipped.
type hiding struct {
	*block.Block
	ctx     context.Context // of the one query it is for
	deleted []deletion
}

// Tombstones implements [tsdb.BlockReader].
func (h hiding) Tombstones() (tombstones.Reader, error) {
	if len(h.deleted) == 0 {
		return h.Block.Tombstones()
	}
	index, err := h.Index()
	if err != nil {
		return nil, err
	}
	defer index.Close()
	stones := tombstones.NewMemTombstones()
	for _, d := range h.deleted {
		p, err := tsdb.PostingsForMatchers(h.ctx, index, d.Matchers...)
		if err != nil {
			return nil, err
		}
		for p.Next() {
			stones.AddInterval(p.At(), tombstones.Interval{Mint: d.MinT, Maxt: d.MaxT})
		}
		if err := p.Err(); err != nil {
			return nil, err
		}
	}
	return stones, nil
}

// Durable is a block on disk that is complete, synced and in its place.
type Durable struct {
	Meta *block.Meta
	Dir  string
}

// Durable lists the blocks that belong into a bucket: raw ones unless series have
// been taken out of them, which are there whole, and those of the rungs that have
// series.
func (t *Tiers) Durable() []Durable {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var out []Durable
	for _, b := range t.seen {
		if !t.state.settled(b.ULID) {
			out = append(out, Durable{&block.Meta{BlockMeta: b.BlockMeta}, b.dir})
		}
	}
	for _, r := range t.rungs {
		for _, e := range r.blocks {
			if e.meta.Stats.NumSeries > 0 {
				out = append(out, Durable{e.meta, e.open.Dir()})
			}
		}
	}
	return out
}
