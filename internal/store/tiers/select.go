package tiers

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/weir-dev/weir/internal/store/block"
)

// dueBySelector lists the blocks out of which series are to be taken because
// store.retention.selectors keeps them for a shorter time. [Tiers.mu] is held.
func (t *Tiers) dueBySelector(raw rawView, shipped shippedSet) []Removal {
	newest := t.newest(raw)
	var out []Removal
	for _, k := range t.retention.Load().keeps {
		old := plus(newest, -k.keep)
		why := fmt.Sprintf("wholly older than store.retention.selectors keeps %s (%s)", k.text, ms(k.keep))
		if k.covers(Raw) {
			for _, b := range raw {
				if b.to <= old && !t.overlapped(b, raw) {
					x := t.removeRaw(raw, b, newest, shipped, why)
					x.Selector = k.text
					out = append(out, x)
				}
			}
		}
		for _, r := range t.rungs {
			if !k.covers(r.Name()) {
				continue
			}
			for _, e := range r.blocks {
				if e.to <= old {
					x := removeTier(r, e, why)
					x.Selector = k.text
					out = append(out, x)
				}
			}
		}
	}
	return out
}

// overlapped says whether another raw block shares b's time: tombstones are set by
// time, and would reach it too.
func (t *Tiers) overlapped(b rawBlock, raw rawView) bool {
	return slices.ContainsFunc(raw, func(o rawBlock) bool { return o.ULID != b.ULID && o.overlaps(b.span) })
}

// selectNext rewrites one block without the series that a selector keeps for a
// shorter time. Blocks without such series are looked at once.
func (t *Tiers) selectNext(ctx context.Context, raw rawView) (bool, error) {
	shipped := t.shipped(raw)
	t.mu.RLock()
	due := t.dueBySelector(raw, shipped)
	t.mu.RUnlock()
	for _, x := range due {
		seen := x.ULID.String() + x.Selector
		if x.Waits != "" || t.checked[seen] {
			continue
		}
		did, err := t.takeSeries(ctx, x, raw)
		if err != nil {
			return false, fmt.Errorf("take %s out of block %s of %s: %w", x.Selector, x.ULID, x.Tier, err)
		}
		if len(t.checked) > mostRetries { // as many blocks as no store has
			clear(t.checked)
		}
		t.checked[seen] = true
		if did {
			return true, t.audit(auditLine{What: "retention", Matchers: x.Selector, MinT: x.MinTime, MaxT: x.MaxTime - 1, Tier: x.Tier, Blocks: []ulid.ULID{x.ULID}})
		}
	}
	return false, nil
}

func (t *Tiers) takeSeries(ctx context.Context, x Removal, raw rawView) (bool, error) {
	ms, err := parseSelector(x.Selector)
	if err != nil {
		return false, err
	}
	if x.entry != nil {
		return t.rewrite(ctx, x.rung, x.entry, []block.Deletion{{Matchers: ms}})
	}
	db := t.deps.DB()
	b, ok := raw.byID(x.ULID)
	if db == nil || !ok || !t.hasSeries(ctx, db, x.ULID, ms) {
		return false, nil
	}
	// Noted before it is done: from here on the block may lack series, and what
	// comes of it does too.
	t.mu.Lock()
	t.state.settle(x.ULID)
	err = t.save("note that a block is rewritten")
	t.mu.Unlock()
	if err != nil {
		return false, err
	}
	if err := db.Delete(ctx, b.from, b.to-1, ms...); err != nil {
		return false, err
	}
	// Were it compacted just before it was noted, the new block lacks them now.
	t.mu.Lock()
	for _, o := range t.seen {
		if o.overlaps(b.span) {
			t.state.settle(o.ULID)
		}
	}
	err = t.save("note that a block is rewritten")
	t.mu.Unlock()
	if err != nil {
		return false, err
	}
	if err := db.CleanTombstones(); err != nil {
		return false, err
	}
	t.tellChange()
	return true, nil
}

func (t *Tiers) hasSeries(ctx context.Context, db *tsdb.DB, id ulid.ULID, ms block.Matchers) bool {
	for _, b := range db.Blocks() {
		if filepath.Base(b.Dir()) != id.String() { // its meta may be changing
			continue
		}
		ir, err := b.Index()
		if err != nil {
			return false
		}
		defer ir.Close()
		p, err := tsdb.PostingsForMatchers(ctx, ir, ms...)
		return err == nil && p.Next()
	}
	return false
}

// rewrite puts in e's place a block without what del takes out, and says whether
// there was any.
func (t *Tiers) rewrite(ctx context.Context, r *rung, e *entry, del []block.Deletion) (bool, error) {
	m, err := block.Rewrite(ctx, e.open.Dir(), r.dir, del, t.options())
	if err != nil {
		t.suspectFault(r, e, err)
		return false, err
	}
	if m == nil {
		return false, nil
	}
	if err := t.adopt(r, m, e); err != nil {
		return false, err
	}
	t.metrics.rewritten.WithLabelValues(r.Name()).Inc()
	return true, nil
}

// suspectFault quarantines e when err is about its bytes.
func (t *Tiers) suspectFault(r *rung, e *entry, err error) {
	if f := faultIn(e, err); f != nil {
		t.suspect(r, e, f)
	}
}
