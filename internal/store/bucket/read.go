package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/weir-dev/weir/internal/store/block"
)

// Remote lists the blocks that can be read from the bucket, oldest first: complete,
// with our labels, not to be deleted, not superseded by another one there, not
// quarantined. Some may be on disk as well, under the same ULID.
func (b *Bucket) Remote() []*block.Meta {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []*block.Meta
	for _, e := range b.blocks {
		if e.State() == "complete" && b.successor(e.Meta) == nil {
			list = append(list, e.Meta)
		}
	}
	slices.SortFunc(list, func(x, y *block.Meta) int { return x.ULID.Compare(y.ULID) })
	slices.SortStableFunc(list, func(x, y *block.Meta) int { return int(min(max(x.MinTime-y.MinTime, -1), 1)) })
	return list
}

// OpenRemote opens a block of [Bucket.Remote] for reading from the bucket, or returns
// it again. It is acquired: the caller must Release it, and may Close it never. What
// acquires it once more, as a querier does, must do so within a minute. The
// first time takes a few requests, for the header of the index, unless that is in
// the cache. A block whose index is damaged is quarantined.
func (b *Bucket) OpenRemote(ctx context.Context, id ulid.ULID) (*block.Block, error) {
	for {
		b.mu.Lock()
		if o, _, ok := b.open.get(id); ok && o.Acquire() {
			b.mu.Unlock()
			return o.Block, nil
		}
		e, wait := b.blocks[id], b.opening[id]
		if wait == nil {
			wait = make(chan struct{})
			b.opening[id] = wait
			b.mu.Unlock()
			return b.openNew(ctx, id, e)
		}
		b.mu.Unlock()
		select {
		case <-wait: // another goroutine has opened it
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// openNew opens a block that nobody else is opening.
func (b *Bucket) openNew(ctx context.Context, id ulid.ULID, e *entry) (_ *block.Block, err error) {
	var o *openBlock
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		close(b.opening[id])
		delete(b.opening, id)
		if err != nil {
			return
		}
		o.Acquire()
		if _, gone, evicted := b.open.put(id, o); evicted {
			b.retire(gone, true)
		}
		b.trim()
	}()
	if e == nil || !e.Complete() {
		why := "it is not there"
		if e != nil {
			why = e.Why()
		}
		return nil, fmt.Errorf("open block %s in %s: %s", id, b.objects, why)
	}
	if o, err = b.openParts(ctx, e.Remote); err != nil {
		var fault *block.Fault
		if errors.As(err, &fault) {
			b.Quarantine(id, err)
		}
		return nil, fmt.Errorf("open block %s in %s: %w", id, b.objects, err)
	}
	return o.Block, nil
}

// openParts opens the block's index and chunks. Their sizes are those of meta.json,
// or else what the bucket says.
func (b *Bucket) openParts(ctx context.Context, r *Remote) (_ *openBlock, err error) {
	sizes := make(map[string]int64)
	for _, f := range r.Meta.Thanos.Files {
		sizes[f.RelPath] = f.SizeBytes
	}
	size := func(name string) (int64, error) {
		if n := sizes[name]; n > 0 {
			return n, nil
		}
		return b.objects.c.size(ctx, path.Join(r.ID.String(), name))
	}
	var segments []io.ReaderAt
	for r.Objects[block.SegmentName(len(segments))] {
		name := block.SegmentName(len(segments))
		n, err := size(name)
		if err != nil {
			return nil, err
		}
		segments = append(segments, &object{
			pages: b.pages, block: r.ID, file: uint32(len(segments) + 1), name: path.Join(r.ID.String(), name), size: n,
		})
	}
	n, err := size(block.IndexFile)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	idx := b.indexes[r.ID]
	if idx != nil {
		idx.refs++ // of a block that was evicted, and has readers yet
	}
	b.mu.Unlock()
	if idx == nil {
		if idx, err = openIndex(ctx, filepath.Join(b.cache, "index"), r.ID, path.Join(r.ID.String(), block.IndexFile), n, b.pages); err != nil {
			return nil, err
		}
		idx.refs = 1
	}
	blk, err := block.OpenAt(r.Meta, idx, segments, r.Meta.Size())
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		if idx.refs--; idx.refs == 0 {
			delete(b.indexes, r.ID)
			err = errors.Join(err, idx.close(false))
		}
		return nil, err
	}
	b.indexes[r.ID] = idx
	return &openBlock{blk, idx}, nil
}
