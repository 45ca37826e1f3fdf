package tiers

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-dev/weir/internal/store/block"
)

// rung is one resolution with its blocks. [Tiers.mu] guards it.
type rung struct {
	Rung
	res, keep int64 // milliseconds
	ms        []*labels.Matcher
	dir       string

	blocks []*entry  // ours on disk, by time
	far    []*entry  // only in the bucket, by time
	lost   []span    // quarantined; for this rung's data nobody answers there but who came later
	segs   []segment // who answers when, from all of the above

	has   map[ulid.ULID]bool  // the sources of blocks
	takes [][]*labels.Matcher // the selectors that blocks were rolled with, r.ms too
}

// entry is a block of a rung, or a raw block of the bucket. It does not change.
type entry struct {
	span
	meta    *block.Meta
	open    *block.Block // nil when it is only in the bucket
	sources map[ulid.ULID]bool
	ms      []*labels.Matcher // of the series it was rolled from
}

func (e *entry) ULID() ulid.ULID { return e.meta.ULID }

func (e *entry) far() bool { return e.open == nil }

func (e *entry) replaces() bool { return e.meta.Weir().Replaces }

// dir is how faults name the block.
func (e *entry) dir() string {
	if e.far() {
		return e.ULID().String()
	}
	return e.open.Dir()
}

// size is that of the files on disk.
func (e *entry) size() int64 {
	if e.far() {
		return 0
	}
	return e.open.Size()
}

// segment is a stretch of time with the blocks that answer for it: one, or several
// whose points add up.
type segment struct {
	span
	by []*entry
}

// Open opens the blocks of all rungs. What a crash left half done is removed or
// finished, what is damaged is quarantined. It is called before the TSDB opens.
func (t *Tiers) Open() error {
	if err := os.MkdirAll(t.dir, 0o750); err != nil {
		return fmt.Errorf("open rollups: %w", err)
	}
	var err error
	if t.state, err = readState(t.dir); err != nil {
		why := fmt.Errorf("%w: begun anew; deletions that were under way must be asked for again", err)
		t.log.Error("state of the rollups cannot be read", "reason", why)
		if err := os.Rename(filepath.Join(t.dir, stateFile), filepath.Join(t.dir, stateFile+".damaged")); err != nil {
			return fmt.Errorf("open rollups: %w", err)
		}
	}
	for _, r := range t.rungs {
		if err := t.openRung(r); err != nil {
			return fmt.Errorf("open rollups of %s: %w", r.Name(), err)
		}
	}
	return t.tellUnknown()
}

func (t *Tiers) openRung(r *rung) error {
	if err := os.MkdirAll(r.dir, 0o750); err != nil {
		return err
	}
	gone, err := block.RemoveUnfinished(r.dir)
	if err != nil {
		return err
	}
	for _, dir := range gone {
		t.log.Info("half-written block removed", "tier", r.Name(), "dir", dir)
	}
	dirs, err := blockDirs(r.dir)
	if err != nil {
		return err
	}
	var open []*entry
	for _, dir := range dirs {
		e, err := t.openBlock(dir)
		if err == nil && e.meta.Resolution() != r.res {
			err = &block.Fault{Dir: dir, File: block.MetaFile, Offset: -1, Err: fmt.Errorf("resolution is %dms, want %s", e.meta.Resolution(), r.Name())}
			err = errors.Join(err, e.open.Close())
		}
		switch {
		case err == nil:
			open = append(open, e)
		case damage(err):
			if err := t.quarantine(r.Name(), dir, err); err != nil {
				return err
			}
		default:
			return err
		}
	}
	open, err = t.finishReplacing(open)
	if err != nil {
		return err
	}
	r.lost = lostSpans(filepath.Join(r.dir, QuarantineDir))
	r.set(open, nil)
	return nil
}

// finishReplacing removes blocks that others have been made of, which a crash kept
// from being removed at once.
func (t *Tiers) finishReplacing(open []*entry) ([]*entry, error) {
	parents := map[ulid.ULID]bool{}
	for _, e := range open {
		for _, p := range e.meta.Compaction.Parents {
			parents[p.ULID] = true
		}
	}
	var kept []*entry
	for _, e := range open {
		if !parents[e.ULID()] {
			kept = append(kept, e)
			continue
		}
		if err := errors.Join(e.open.Close(), block.Remove(e.open.Dir())); err != nil {
			return nil, err
		}
	}
	return kept, nil
}

// tellUnknown warns of folders that no rung owns any more.
func (t *Tiers) tellUnknown() error {
	entries, err := os.ReadDir(t.dir)
	if err != nil {
		return fmt.Errorf("open rollups: %w", err)
	}
	for _, e := range entries {
		owned := slices.ContainsFunc(t.rungs, func(r *rung) bool { return r.Name() == e.Name() })
		if e.IsDir() && !owned {
			t.log.Warn("rollups that store.rollups does not name are kept and not served", "dir", filepath.Join(t.dir, e.Name()))
		}
	}
	return nil
}

func blockDirs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err == nil && e.IsDir() {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, nil
}

// lostSpans returns the time of the quarantined blocks as far as they can tell it.
func lostSpans(dir string) (lost []span) {
	dirs, err := blockDirs(dir)
	if err != nil {
		return nil
	}
	for _, d := range dirs {
		if m, err := block.ReadMeta(d); err == nil {
			lost = append(lost, span{m.MinTime, m.MaxTime})
		}
	}
	return lost
}

func newEntry(m *block.Meta, open *block.Block) *entry {
	e := &entry{span: span{m.MinTime, m.MaxTime}, meta: m, open: open, sources: map[ulid.ULID]bool{}}
	for _, s := range m.Compaction.Sources {
		e.sources[s] = true
	}
	if text := m.Weir().Selector; text != "" {
		if ms, err := parseSelector(text); err == nil { // nobody but Weir writes it
			e.ms = ms
		}
	}
	return e
}

// openBlock opens a block of a rung. One that was rolled from a raw block with a new
// source is first given the sources that stands for: they tell what it shadows.
func (t *Tiers) openBlock(dir string) (*entry, error) {
	m, err := block.ReadMeta(dir)
	if err != nil {
		return nil, err
	}
	t.mu.RLock()
	all := t.expand(m.Compaction.Sources)
	t.mu.RUnlock()
	slices.SortFunc(all, ulid.ULID.Compare)
	if all = slices.Compact(all); len(all) > len(m.Compaction.Sources) {
		m.Compaction.Sources = all
		if err := m.Write(dir); err != nil {
			return nil, err
		}
	}
	b, err := block.Open(dir)
	if err != nil {
		return nil, err
	}
	return newEntry(b.FullMeta(), b), nil
}

// set replaces the blocks of a rung; far nil leaves those of the bucket.
func (r *rung) set(blocks, far []*entry) {
	slices.SortFunc(blocks, byTime)
	r.blocks = blocks
	if far != nil {
		r.far = slices.SortedFunc(slices.Values(far), byTime)
	}
	all := slices.Concat(r.blocks, r.far)
	r.segs = segments(all)
	r.has = map[ulid.ULID]bool{}
	for _, e := range r.blocks {
		for s := range e.sources {
			r.has[s] = true
		}
	}
	r.takes = [][]*labels.Matcher{r.ms}
	known := map[string]bool{block.Matchers(r.ms).String(): true}
	for _, e := range all {
		if text := e.meta.Weir().Selector; !known[text] {
			known[text] = true
			r.takes = append(r.takes, e.ms)
		}
	}
}

func byTime(a, b *entry) int {
	return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), a.ULID().Compare(b.ULID()))
}

// swap puts in blocks and takes out others.
func (t *Tiers) swap(r *rung, in []*entry, out ...*entry) {
	t.mu.Lock()
	kept := slices.DeleteFunc(slices.Clone(r.blocks), func(e *entry) bool { return slices.Contains(out, e) })
	r.set(append(kept, in...), nil)
	t.mu.Unlock()
	t.tellChange()
}

// drop takes blocks out of service and off the disk.
func (t *Tiers) drop(r *rung, out ...*entry) error {
	t.swap(r, nil, out...)
	return t.remove(out...)
}

func (t *Tiers) remove(out ...*entry) error {
	var errs []error
	for _, e := range out {
		errs = append(errs, block.Remove(e.open.Dir())) // what readers have mapped stays readable
		t.closeBlock(e)
	}
	return errors.Join(errs...)
}

func (t *Tiers) closeBlock(e *entry) {
	t.closers.Go(func() {
		if err := e.open.Close(); err != nil {
			t.log.Warn("block not closed", "block", e.ULID(), "reason", err)
		}
	})
}

// suspect quarantines a block that turned out damaged while it was read.
func (t *Tiers) suspect(r *rung, e *entry, why error) {
	if !damage(why) {
		return
	}
	if e.far() {
		t.deps.Remote().Quarantine(e.ULID(), why)
		return
	}
	t.mu.Lock()
	there := slices.Contains(r.blocks, e)
	if there {
		r.lost = append(r.lost, e.span)
		r.set(slices.DeleteFunc(slices.Clone(r.blocks), func(x *entry) bool { return x == e }), nil)
	}
	t.mu.Unlock()
	if !there {
		return
	}
	if err := t.quarantine(r.Name(), e.open.Dir(), why); err != nil {
		t.log.Error("damaged block not moved", "reason", err)
	}
	t.closeBlock(e)
	t.tellChange()
	t.Wake()
}
