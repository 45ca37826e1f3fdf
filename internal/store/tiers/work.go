package tiers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/weir-dev/weir/internal/store/block"
)

// Run rolls, merges, deletes and retains until ctx ends. It holds one block's work
// at a time; what it leaves half done is seen at the next Open.
func (t *Tiers) Run(ctx context.Context) error {
	tick := time.NewTicker(t.cfg.Check)
	defer tick.Stop()
	for ctx.Err() == nil {
		if t.Pass(ctx) {
			continue // something was done, so there may be more
		}
		select {
		case <-ctx.Done():
		case <-t.wake:
		case <-tick.C:
		}
	}
	return nil
}

// step does the first thing of its kind that there is to do, if any.
type step func(ctx context.Context, raw rawView) (did bool, err error)

// Pass does one piece of work of each kind and says whether there was any. What
// comes first is what others wait for: what people asked to delete, then rollups,
// without which no raw block may go, then less space and fewer blocks.
func (t *Tiers) Pass(ctx context.Context) (did bool) {
	if t.deps.DB() == nil {
		return false
	}
	raw := t.view()
	for _, s := range []struct {
		name string
		do   step
	}{
		{"delete", t.deleteNext}, {"roll", t.rollNext}, {"merge", t.mergeNext},
		{"retain", t.retainNext}, {"select", t.selectNext},
	} {
		if ctx.Err() != nil {
			return false
		}
		if s.name != "retain" && t.paused() { // retention frees space
			continue
		}
		if !t.retry.ready(s.name, t.now()) {
			continue
		}
		one, err := s.do(ctx, raw)
		if err != nil {
			t.fail(ctx, s.name, s.name, err)
			continue
		}
		t.retry.done(s.name)
		did = did || one
	}
	t.forget()
	return did
}

// paused says whether the disk is too short to write rollups to.
func (t *Tiers) paused() bool {
	err := t.deps.Short()
	t.metrics.paused.Set(0)
	if err != nil {
		t.metrics.paused.Set(1)
	}
	if was := t.progress.pause(err); was != (err != nil) {
		if err != nil {
			t.log.Warn("rolling up waits for disk space", "reason", err)
		} else {
			t.log.Info("rolling up goes on")
		}
	}
	return err != nil
}

// fail counts and tells a failure, and lets its subject wait.
func (t *Tiers) fail(ctx context.Context, kind, subject string, err error) {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return // was told to stop
	}
	wait := t.retry.failed(subject, t.now(), err)
	t.metrics.failures.WithLabelValues(kind).Inc()
	t.log.Error("work on rollups failed", "step", kind, "on", subject, "again_in", wait, "reason", err)
}

// rollNext rolls the oldest raw block that a rung lacks.
func (t *Tiers) rollNext(ctx context.Context, raw rawView) (bool, error) {
	for _, b := range raw {
		t.mu.RLock()
		var lacking []*rung
		if !t.waits(b, raw) {
			lacking = t.lacking(b, t.newest(raw))
		}
		t.mu.RUnlock()
		if len(lacking) == 0 || !t.retry.ready(b.ULID.String(), t.now()) {
			continue
		}
		err := t.roll(ctx, b, lacking)
		if err != nil {
			if _, serr := os.Stat(b.dir); errors.Is(serr, os.ErrNotExist) {
				return true, nil // the TSDB has compacted it meanwhile; what it made comes next
			}
			if !damage(err) {
				return false, err // the disk's, so that the next block would fare no better
			}
			t.fail(ctx, "roll", b.ULID.String(), err)
			continue
		}
		t.retry.done(b.ULID.String())
		return true, nil
	}
	return false, nil
}

func (t *Tiers) roll(ctx context.Context, b rawBlock, lacking []*rung) error {
	var to []block.Rung
	for _, r := range lacking {
		to = append(to, block.Rung{Resolution: r.res, Selectors: r.ms, Dir: r.dir})
	}
	t.progress.begin(b)
	defer t.progress.end()
	began, o := time.Now(), t.options()
	o.Progress = t.progress.done
	metas, err := block.Roll(ctx, b.dir, to, o)
	if err != nil {
		return fmt.Errorf("roll up block %s: %w", b.ULID, err)
	}
	for i, r := range lacking {
		if err := t.adopt(r, metas[i]); err != nil {
			return fmt.Errorf("roll up block %s: %w", b.ULID, err)
		}
	}
	took := time.Since(began)
	t.metrics.rolled.Inc()
	t.metrics.samples.Add(float64(b.Stats.NumSamples))
	t.metrics.seconds.Add(took.Seconds())
	t.progress.rolled(b.Stats.NumSamples, took)
	t.log.Info("block rolled up", "block", b.ULID, "rungs", len(lacking), "series", b.Stats.NumSeries, "samples", b.Stats.NumSamples, "took", took.Round(time.Millisecond))
	return nil
}

// options for making a block: its ULID is to be above all that there are, as the
// newer block goes before the older and clocks jump back.
func (t *Tiers) options() block.Options {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var after ulid.ULID
	for _, r := range t.rungs {
		for _, e := range r.blocks {
			if e.ULID().Compare(after) > 0 {
				after = e.ULID()
			}
		}
	}
	return block.Options{Labels: t.cfg.External, Hashes: true, Memory: int64(t.cfg.Memory), Now: t.now, After: after, Log: t.log}
}

// adopt serves a block that was just made in place of those it was made of.
func (t *Tiers) adopt(r *rung, m *block.Meta, parents ...*entry) error {
	e, err := t.openBlock(blockDir(r, m.ULID))
	if err != nil {
		return err
	}
	t.swap(r, []*entry{e}, parents...)
	return t.remove(parents...)
}

// dropShadowed removes blocks that no longer answer for any time.
func (t *Tiers) dropShadowed(r *rung) (bool, error) {
	t.mu.RLock()
	var useless []*entry
	for _, e := range r.blocks {
		if !slices.ContainsFunc(r.segs, func(s segment) bool { return slices.Contains(s.by, e) }) {
			useless = append(useless, e)
		}
	}
	t.mu.RUnlock()
	if len(useless) == 0 {
		return false, nil
	}
	return true, t.drop(r, useless...)
}
