package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weir-dev/weir/tracing/internal/pack"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// view is the partitions as one question sees them. Each is opened when it is first
// asked, and held to the end.
type view struct {
	s       *Store
	cursors []cursor // newest partition first
	damage  error    // the first thing that could not be read
}

// cursor is a partition held by a view.
type cursor struct {
	p   *partition
	h   *handle
	it  *pebble.Iterator // of fragments
	err error
}

func (s *Store) view() *view {
	parts := s.partitions()
	v := &view{s: s, cursors: make([]cursor, 0, len(parts))}
	for i := len(parts) - 1; i >= 0; i-- {
		v.cursors = append(v.cursors, cursor{p: parts[i]})
	}
	return v
}

func (v *view) close() {
	for i := range v.cursors {
		c := &v.cursors[i]
		if c.it != nil {
			if err := c.it.Close(); err != nil {
				v.s.log.Debug("iterator did not close well", "partition", c.p.name, "reason", err)
			}
		}
		if c.h != nil {
			c.h.release()
		}
	}
}

// open gives a partition, or nil if it is gone or cannot be read.
func (v *view) open(i int) *cursor {
	c := &v.cursors[i]
	if c.h == nil && c.err == nil {
		c.h, c.err = c.p.acquire()
		if c.err == nil {
			c.it, c.err = c.h.db.NewIter(&pebble.IterOptions{
				LowerBound: []byte{keyTrace}, UpperBound: []byte{keyTrace + 1}, UseL6Filters: true,
			})
		}
		if c.err != nil && !errors.Is(c.err, errGone) {
			v.note(fmt.Errorf("partition %s: %w", c.p.name, c.err))
		}
	}
	if c.err != nil {
		return nil
	}
	return c
}

func (v *view) note(err error) {
	if v.damage == nil {
		v.damage = err
	}
}

// trace appends a trace's spans to into, each once. What cannot be read is left out
// and noted.
func (v *view) trace(id span.TraceID, into *span.Batch) error {
	key := append([]byte{keyTrace}, id[:]...)
	dropped := uint64(0)
	fragments := 0
	for i := range v.cursors {
		c := v.open(i)
		if c == nil {
			continue
		}
		if c.p.drops.Load() > 0 {
			dropped = max(dropped, c.dropped(id))
		}
		var dec pack.Decoder
		begun := false
		for ok := c.it.SeekPrefixGE(key); ok; ok = c.it.Next() {
			_, seq, is := parseTraceKey(c.it.Key())
			if !is || seq <= dropped {
				continue
			}
			value, err := c.it.ValueAndErr()
			if err != nil {
				break
			}
			if !begun {
				dec.Begin(unpacking{c.h.dict}, into)
				begun = true
			}
			fragments++
			if err := dec.Decode(id, value); err != nil {
				c.p.damage(err)
				v.note(fmt.Errorf("partition %s, trace %s: %w", c.p.name, id, err))
			}
		}
		if err := c.it.Error(); err != nil {
			c.p.damage(err)
			v.note(fmt.Errorf("partition %s: %w", c.p.name, err))
		}
	}
	if len(into.Spans) == 0 {
		return spanstore.ErrNotFound
	}
	if fragments > 1 {
		v.s.recent.once(into)
	}
	return nil
}

// dropped is when the trace was dropped, 0 if it was not.
func (c *cursor) dropped(id span.TraceID) uint64 {
	value, closer, err := c.h.db.Get(droppedKey(id))
	if err != nil {
		return 0
	}
	defer closer.Close()
	if len(value) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(value)
}

// once leaves each span in the batch once, by what makes it the same to Append.
func (r *recent) once(b *span.Batch) {
	seen := make(map[uint64]struct{}, len(b.Spans))
	out := b.Spans[:0]
	for i := range b.Spans {
		h := r.hash(b, &b.Spans[i])
		if _, again := seen[h]; !again {
			seen[h] = struct{}{}
			out = append(out, b.Spans[i])
		}
	}
	b.Spans = out
}

// Trace implements [spanstore.Reader]. The hint is not needed: filters tell which
// partitions have the trace.
func (s *Store) Trace(ctx context.Context, id span.TraceID, _ spanstore.Window) (*span.Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if s.current.Load() == nil {
		return nil, ErrClosed
	}
	v := s.view()
	defer v.close()
	b := &span.Batch{}
	err := v.trace(id, b)
	if err != nil && v.damage != nil {
		return nil, v.damage
	}
	if err != nil {
		return nil, err
	}
	return b, nil
}
