package bucket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/weir-dev/weir/internal/store/block"
)

// check compares, once a process, the sizes of those blocks in the bucket that are
// also on disk, which may be deleted there when the bucket has them, and of those
// that supersede others.
func (b *Bucket) check(ctx context.Context) {
	local := make(map[ulid.ULID]bool)
	for _, d := range b.deps.Durable() {
		local[d.Meta.ULID] = true
	}
	b.mu.Lock()
	var due []*entry
	for id, e := range b.blocks {
		if !e.checked && e.Complete() && (local[id] || len(e.Meta.Compaction.Sources) > 1 || len(e.Meta.Compaction.Parents) > 0) {
			due = append(due, e)
		}
	}
	b.mu.Unlock()
	for _, e := range due {
		err := b.objects.Check(ctx, e.Meta, false)
		b.mu.Lock()
		switch {
		case err == nil:
			e.checked = true
		case errors.Is(err, errHalf) || IsKind(err, NotFound):
			e.Bad, e.badAt = err, b.deps.Now()
			b.deps.Log.Error("block in the bucket quarantined", "block", e.ID.String(), "err", err)
			b.tell()
		}
		b.count()
		b.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
	}
}

// ship uploads what is to be uploaded, oldest first. One block's failure does not
// keep back the others.
func (b *Bucket) ship(ctx context.Context) error {
	due := b.toShip()
	defer func() { b.lag(b.toShip()) }()
	b.lag(due)
	failed := 0
	var first error
	for _, d := range due {
		err := b.shipOne(ctx, d)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			failed++
			first = errors.Join(first, b.news(d.Meta.ULID, err))
		}
	}
	if first != nil {
		return fmt.Errorf("%d of %d blocks not shipped: %w", failed, len(due), first)
	}
	return nil
}

// news returns err if it is not what the block's last upload failed with, so that a
// bucket that is down for a day is not a log of a day.
func (b *Bucket) news(id ulid.ULID, err error) error {
	b.metrics.shipErrors.Inc()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failing[id] == err.Error() {
		return nil
	}
	b.failing[id] = err.Error()
	return err
}

// toShip lists the blocks to upload, and sets the gauge of those that cannot be.
func (b *Bucket) toShip() []Durable {
	local := b.deps.Durable()
	now := b.deps.Now()
	held := 0
	b.mu.Lock()
	defer b.mu.Unlock()
	var due []Durable
	for _, d := range local {
		e := b.blocks[d.Meta.ULID]
		switch {
		case d.Meta.Stats.NumSeries == 0: // says that there is nothing, which Thanos need not know
		case e != nil && e.Complete() && e.checked, b.due(d.Meta).After(now), b.expired(d.Meta):
		case b.successor(d.Meta) != nil:
		case slices.ContainsFunc(local, func(o Durable) bool { return supersedes(o.Meta, d.Meta) }):
		case HasTombstones(d.Dir):
			held++
		default:
			due = append(due, d)
		}
	}
	b.metrics.held.Set(float64(held))
	maps.DeleteFunc(b.failing, func(id ulid.ULID, _ string) bool {
		return !slices.ContainsFunc(due, func(d Durable) bool { return d.Meta.ULID == id })
	})
	slices.SortFunc(due, func(x, y Durable) int {
		return cmp.Or(cmp.Compare(x.Meta.MaxTime, y.Meta.MaxTime), x.Meta.ULID.Compare(y.Meta.ULID))
	})
	return due
}

func (b *Bucket) lag(due []Durable) {
	b.metrics.waiting.Set(float64(len(due)))
	var lag time.Duration
	for _, d := range due {
		lag = max(lag, b.deps.Now().Sub(time.UnixMilli(d.Meta.MaxTime)))
	}
	b.metrics.lag.Set(lag.Seconds())
}

func (b *Bucket) shipOne(ctx context.Context, d Durable) error {
	id := d.Meta.ULID
	if err := b.state.begin(id); err != nil {
		return err
	}
	began := time.Now()
	r, err := b.objects.Upload(ctx, d.Dir, b.cfg.ExternalLabels, b.deps.Now())
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errLocal) {
		if _, serr := os.Stat(d.Dir); errors.Is(serr, fs.ErrNotExist) {
			return nil // compacted away meanwhile; sweep removes what was sent
		}
	}
	if err != nil {
		return err
	}
	b.metrics.shipped.Inc()
	b.deps.Log.Info("block shipped", "block", id.String(), "resolution", d.Meta.Resolution(), "bytes", r.Meta.Size(),
		"took", time.Since(began).Round(time.Millisecond))
	b.mu.Lock()
	delete(b.failing, id)
	b.blocks[id] = &entry{Remote: r, checked: true}
	b.count()
	b.tell()
	b.mu.Unlock()
	return b.state.end(id)
}

// mark marks blocks that another one in the bucket supersedes, and those that are
// older than their tier is kept.
func (b *Bucket) mark(ctx context.Context) error {
	type order struct {
		e   *entry
		why string
	}
	var due []order
	b.mu.Lock()
	for _, e := range b.blocks {
		if e.State() != "complete" {
			continue
		}
		if s := b.successor(e.Meta); s != nil && s.checked {
			due = append(due, order{e, "superseded by " + s.ID.String()})
		} else if b.expired(e.Meta) {
			due = append(due, order{e, fmt.Sprintf("older than the %s that its tier is kept", b.deps.Keep(e.Meta.Resolution()))})
		}
	}
	b.mu.Unlock()
	var errs []error
	for _, o := range due {
		r := o.e.clone()
		err := b.objects.MarkForDeletion(ctx, r, o.why, b.deps.Now())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		b.deps.Log.Info("block in the bucket marked for deletion", "block", r.ID.String(), "why", o.why)
		b.mu.Lock()
		o.e.Remote, o.e.fresh = r, true
		b.count()
		b.tell()
		b.mu.Unlock()
	}
	return errors.Join(errs...)
}

// sweep deletes blocks that were marked long enough ago, and what is left of uploads
// and of deletions that this server began, once the block has left the disk.
func (b *Bucket) sweep(ctx context.Context) error {
	local := make(map[ulid.ULID]bool)
	for _, d := range b.deps.Durable() {
		local[d.Meta.ULID] = true
	}
	limit := b.deps.Now().Add(-b.cfg.DeleteDelay.Std()).Unix()
	b.mu.Lock()
	var due []*Remote
	for id, e := range b.blocks {
		aborted := e.Meta == nil && e.Bad == nil && b.state.begun(id) && !local[id]
		if e.Mark != nil && e.Mark.Time <= limit && e.Meta != nil && !e.fresh || aborted {
			due = append(due, e.clone())
		}
	}
	lost := slices.DeleteFunc(b.begun, func(id ulid.ULID) bool { return local[id] || b.blocks[id] != nil })
	b.begun = nil
	b.mu.Unlock()
	var errs []error
	for _, id := range lost {
		// Of such an upload no object is listed; a directory may hold half a file.
		errs = append(errs, b.objects.c.delete(ctx, id.String()), b.state.end(id))
	}
	for _, r := range due {
		// Once meta.json is gone nothing else says, after a crash, that the rest is ours.
		if err := b.state.begin(r.ID); err != nil {
			errs = append(errs, err)
			continue
		}
		if err := b.objects.Delete(ctx, r); err != nil {
			errs = append(errs, err)
			continue
		}
		b.metrics.deleted.Inc()
		b.deps.Log.Info("block deleted from the bucket", "block", r.ID.String())
		b.drop(r.ID)
		if err := b.state.end(r.ID); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// drop forgets a block that has left the bucket.
func (b *Bucket) drop(id ulid.ULID) {
	b.mu.Lock()
	delete(b.blocks, id)
	if gone, was := b.open.remove(id); was {
		b.retire(gone, false)
	}
	b.count()
	b.tell()
	b.mu.Unlock()
	b.pages.forget(id)
	b.metas.remove(id)
}

// Status is what there is to say about shipping.
type Status struct {
	Bucket  string            `json:"bucket"`
	Listed  time.Time         `json:"listed"` // zero: not yet
	Blocks  map[string]int    `json:"blocks"` // by state
	Waiting []string          `json:"waiting"`
	Failing map[string]string `json:"failing"`     // block to its last error
	Bad     map[string]string `json:"quarantined"` // block to the reason
}

// Status returns the state of things now.
func (b *Bucket) Status() Status {
	s := Status{Bucket: b.objects.String(), Blocks: map[string]int{}, Failing: map[string]string{}, Bad: map[string]string{}}
	for _, d := range b.toShip() {
		s.Waiting = append(s.Waiting, d.Meta.ULID.String())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Listed = b.listed
	for id, e := range b.blocks {
		s.Blocks[e.State()]++
		if e.Bad != nil {
			s.Bad[id.String()] = e.Bad.Error()
		}
	}
	for id, text := range b.failing {
		s.Failing[id.String()] = text
	}
	return s
}

var _ metaCache = metaDir("")

// metaDir keeps the meta.json of remote blocks on disk; they never change.
type metaDir string

func (d metaDir) file(id ulid.ULID) string { return string(d) + "/" + id.String() + ".json" }

func (d metaDir) load(id ulid.ULID) *block.Meta {
	data, err := os.ReadFile(d.file(id))
	if err != nil {
		return nil
	}
	m, err := block.DecodeMeta(data)
	if err != nil || m.ULID != id {
		return nil
	}
	return m
}

// store may fail: the meta is fetched again then.
func (d metaDir) store(id ulid.ULID, text []byte) {
	tmp := d.file(id) + ".tmp"
	if os.MkdirAll(string(d), 0o750) != nil {
		return
	}
	if os.WriteFile(tmp, text, 0o640) != nil || os.Rename(tmp, d.file(id)) != nil {
		_ = os.Remove(tmp) // of a full disk
	}
}

func (d metaDir) remove(id ulid.ULID) { _ = os.Remove(d.file(id)) }
