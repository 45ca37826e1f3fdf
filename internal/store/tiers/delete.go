package tiers

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/weir-dev/weir/internal/store/block"
)

// mostDeletions bounds those under way at a time, each of which is looked at for each
// series that is read.
const mostDeletions = 1000

// ErrBusy answers a deletion when too many are under way.
var ErrBusy error = busy("too many deletions are under way, ask again later")

type busy string

func (b busy) Error() string { return string(b) }

// Retryable tells the doors that a later try may do.
func (busy) Retryable() bool { return true }

// Delete deletes the samples of the matching series between mint and maxt, both
// inclusive, from all tiers: at once for whoever reads, from the disk when the
// worker has rewritten the blocks. A point goes when any of its window is deleted;
// where raw data is left, the windows at the edges are then rolled anew from it.
func (t *Tiers) Delete(ctx context.Context, mint, maxt int64, ms ...*labels.Matcher) error {
	db := t.deps.DB()
	if db == nil {
		return tsdb.ErrNotReady
	}
	d := deletion{ID: ulid.Make().String(), Asked: t.now().UTC(), MinT: mint, MaxT: maxt, Matchers: ms}
	if err := t.audit(auditLine{What: "deletion asked", ID: d.ID, Matchers: d.Matchers.String(), MinT: mint, MaxT: maxt}); err != nil {
		return err
	}
	t.mu.Lock()
	if len(t.state.Deletions) >= mostDeletions {
		t.mu.Unlock()
		return ErrBusy
	}
	t.state.Deletions = append(t.state.Deletions, d)
	err := t.state.write(t.dir)
	if err != nil {
		t.state.Deletions = t.state.Deletions[:len(t.state.Deletions)-1]
	}
	t.mu.Unlock()
	if err != nil {
		return fmt.Errorf("note deletion %s: %w", d.ID, err)
	}
	defer t.Wake()
	if err := d.deleteRaw(ctx, db); err != nil {
		return fmt.Errorf("delete samples (the worker tries again): %w", err)
	}
	t.advance(d.ID, func(d *deletion) { d.RawDone = true })
	return nil
}

// deleteRaw sets tombstones. Out-of-order samples in memory heed none, so they are
// written as blocks before.
func (d deletion) deleteRaw(ctx context.Context, db *tsdb.DB) error {
	if head := db.Head(); head.MinOOOTime() <= d.MaxT && d.MinT <= head.MaxOOOTime() {
		if err := db.CompactOOOHead(ctx); err != nil {
			return err
		}
	}
	return db.Delete(ctx, d.MinT, d.MaxT, d.Matchers...)
}

// deleteNext carries the oldest deletion one step on.
func (t *Tiers) deleteNext(ctx context.Context, _ rawView) (bool, error) {
	t.mu.RLock()
	all := slices.DeleteFunc(slices.Clone(t.state.Deletions), func(d deletion) bool { return !d.Done.IsZero() })
	t.mu.RUnlock()
	if len(all) == 0 {
		return false, nil
	}
	db := t.deps.DB()
	if db == nil {
		return false, nil
	}
	for _, d := range all {
		if !d.RawDone {
			if err := d.deleteRaw(ctx, db); err != nil {
				return false, fmt.Errorf("delete samples of %s: %w", d.Matchers, err)
			}
			t.advance(d.ID, func(d *deletion) { d.RawDone = true })
		}
		if !d.TierDone {
			if err := t.deleteFromTiers(ctx, d); err != nil {
				return false, err
			}
			t.advance(d.ID, func(d *deletion) { d.TierDone = true })
		}
	}
	// The blocks get new sources by this, and are rolled anew.
	if err := db.CleanTombstones(); err != nil {
		return false, fmt.Errorf("clean tombstones: %w", err)
	}
	for _, d := range all {
		t.advance(d.ID, func(d *deletion) { d.Done = t.now().UTC() })
	}
	return true, nil
}

// forgetDeletions drops those that are done, unless the bucket has blocks from
// before that. [Tiers.mu] is held.
func (t *Tiers) forgetDeletions() (changed bool) {
	if t.deps.remote() != nil && !t.farKnown {
		return false
	}
	far := slices.Clone(t.far)
	for _, r := range t.rungs {
		far = append(far, r.far...)
	}
	n := len(t.state.Deletions)
	t.state.Deletions = slices.DeleteFunc(t.state.Deletions, func(d deletion) bool {
		return !d.Done.IsZero() && !slices.ContainsFunc(far, d.hidesIn)
	})
	return n != len(t.state.Deletions)
}

// hidesIn says whether a block may have what d deletes: all have, until it is done on
// disk, and then those of the bucket that were made before.
func (d deletion) hidesIn(e *entry) bool {
	if !d.reaches(e.span) {
		return false
	}
	return d.Done.IsZero() || e.far() && !ulid.Time(e.ULID().Time()).After(d.Done)
}

func (t *Tiers) advance(id string, how func(*deletion)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.state.Deletions {
		if t.state.Deletions[i].ID == id {
			how(&t.state.Deletions[i])
		}
	}
	_ = t.save("carry a deletion on") // told by save; a step done twice does no harm
}

// deleteFromTiers rewrites the blocks that d touches.
func (t *Tiers) deleteFromTiers(ctx context.Context, d deletion) error {
	line := auditLine{What: "deletion done", ID: d.ID, Matchers: d.Matchers.String(), MinT: d.MinT, MaxT: d.MaxT}
	for _, r := range t.rungs {
		t.mu.RLock()
		blocks := slices.Clone(r.blocks)
		t.mu.RUnlock()
		del := []block.Deletion{{Matchers: d.Matchers, Intervals: tombstones.Intervals{{Mint: d.MinT, Maxt: d.MaxT}}, RequestID: d.ID}}
		for _, e := range blocks {
			if !d.reaches(e.span) {
				continue
			}
			did, err := t.rewrite(ctx, r, e, del)
			if err != nil {
				return fmt.Errorf("take deletion %s out of block %s of %s: %w", d.ID, e.ULID(), r.Name(), err)
			}
			if did {
				line.Blocks = append(line.Blocks, e.ULID())
			}
		}
	}
	return t.audit(line)
}

// reaches says whether samples of a block may be deleted by d.
func (d deletion) reaches(s span) bool { return d.MinT < s.to && s.from <= d.MaxT }

// hole is the time in which points of resolution r know of what d deletes: to the
// end of the window of its last sample.
func (d deletion) hole(r int64) span {
	return span{d.MinT, plus(windowEnd(d.MaxT, r), 1)}
}

func faultIn(e *entry, err error) *block.Fault {
	var f *block.Fault
	if errors.As(err, &f) && f.Dir == e.dir() {
		return f
	}
	return nil
}
