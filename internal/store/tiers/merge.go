package tiers

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/weir-dev/weir/internal/store/block"
)

// mergeSteps are the lengths of merged blocks whose raw data is gone, in shortest
// blocks of the TSDB: with the default 2h, 12h, 3d, 15d and 90d. Each step rewrites every point once more; a
// factor of five to six is four rewrites for a year of 1h. Unmeasured.
var mergeSteps = [...]int64{6, 36, 180, 1080}

// keepParts bounds a merged block to this part of its rung's keep, so that
// retention frees the disk in steps of at most a tenth.
const keepParts = 10

func blockDir(r *rung, id ulid.ULID) string { return filepath.Join(r.dir, id.String()) }

// mergeNext makes one longer block, of the first rung that has some to merge.
func (t *Tiers) mergeNext(ctx context.Context, raw rawView) (bool, error) {
	for _, r := range t.rungs {
		if did, err := t.dropShadowed(r); did || err != nil {
			return did, err
		}
		subject := "merge " + r.Name()
		if !t.retry.ready(subject, t.now()) {
			continue
		}
		t.mu.RLock()
		parts := t.mergeable(r, raw)
		t.mu.RUnlock()
		if len(parts) == 0 {
			continue
		}
		if err := t.merge(ctx, r, parts); err != nil {
			for _, e := range parts {
				t.suspectFault(r, e, err)
			}
			t.fail(ctx, "merge", subject, err)
			continue
		}
		t.retry.done(subject)
		return true, nil
	}
	return false, nil
}

func (t *Tiers) merge(ctx context.Context, r *rung, parts []*entry) error {
	blocks := make([]*block.Block, len(parts))
	for i, e := range parts {
		blocks[i] = e.open
	}
	m, err := block.Merge(ctx, blocks, r.dir, t.options())
	if err != nil {
		return fmt.Errorf("merge %d blocks of %s from %s on: %w", len(parts), r.Name(), parts[0].ULID(), err)
	}
	if err := t.adopt(r, m, parts...); err != nil {
		return fmt.Errorf("merge %d blocks of %s: %w", len(parts), r.Name(), err)
	}
	t.metrics.merged.WithLabelValues(r.Name()).Inc()
	t.log.Debug("rollups merged", "tier", r.Name(), "blocks", len(parts), "into", m.ULID)
	return nil
}

// mergeable returns blocks to merge: such as overlap; such as lie within one raw
// block; or, where raw data is gone, such as fill a window of the next length. A
// merged block has one point where two met within a window, so it must not reach
// over the edge of a raw block, which may be rolled anew, up to just there, when late
// samples come or some are deleted. [Tiers.mu] is held.
func (t *Tiers) mergeable(r *rung, raw rawView) []*entry {
	newest := t.newest(raw)
	for _, p := range overlapping(r.blocks) {
		if t.calm(r, extent(p), raw, newest) && alike(p) {
			return p
		}
	}
	longest := int64(math.MaxInt64)
	if r.keep > 0 {
		longest = r.keep / keepParts
	}
	mergeIn := func(s span) []*entry {
		if p := r.within(s); s.to-s.from <= longest && len(p) > 1 && t.calm(r, s, raw, newest) && alone(p, r.blocks) && alike(p) {
			return p
		}
		return nil
	}
	for _, b := range raw {
		if p := mergeIn(b.span); p != nil {
			return p
		}
	}
	for _, n := range mergeSteps {
		length := n * t.cfg.MinBlock.Milliseconds()
		for i := 0; i < len(r.blocks); {
			from := floor(r.blocks[i].from, length)
			window := span{from, from + length}
			for ; i < len(r.blocks) && r.blocks[i].from < window.to; i++ {
			}
			if window.to > newest || hasRaw(raw, nil, window) {
				continue
			}
			if p := mergeIn(window); p != nil {
				return p
			}
		}
	}
	return nil
}

// within returns the blocks that lie in s.
func (r *rung) within(s span) (in []*entry) {
	for _, e := range r.blocks {
		if e.within(s) {
			in = append(in, e)
		}
	}
	return in
}

// calm says that no raw block in s is still to be rolled, or may be rolled again
// because another lies over it.
func (t *Tiers) calm(r *rung, s span, raw rawView, newest int64) bool {
	for i, b := range raw {
		if !b.overlaps(s) {
			continue
		}
		if r.wants(b.span, newest) && !t.covered(r, b.Compaction.Sources) {
			return false
		}
		if slices.ContainsFunc(raw[i+1:], func(o rawBlock) bool { return o.overlaps(b.span) }) {
			return false
		}
	}
	return true
}

// overlapping returns the runs of blocks each of which overlaps one before.
func overlapping(blocks []*entry) (runs [][]*entry) {
	for i := 0; i < len(blocks); {
		j, end := i+1, blocks[i].to
		for ; j < len(blocks) && blocks[j].from < end; j++ {
			end = max(end, blocks[j].to)
		}
		if j > i+1 {
			runs = append(runs, blocks[i:j:j])
		}
		i = j
	}
	return runs
}

// alone says that no other block overlaps those of p.
func alone(p, blocks []*entry) bool {
	s := extent(p)
	return !slices.ContainsFunc(blocks, func(e *entry) bool { return e.overlaps(s) && !slices.Contains(p, e) })
}

// alike says that all blocks were rolled with the same selector.
func alike(p []*entry) bool {
	return !slices.ContainsFunc(p, func(e *entry) bool { return e.meta.Weir().Selector != p[0].meta.Weir().Selector })
}

func extent(blocks []*entry) span {
	s := blocks[0].span
	for _, e := range blocks {
		s = span{min(s.from, e.from), max(s.to, e.to)}
	}
	return s
}
