package pebblestore

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Services implements [spanstore.Reader].
func (s *Store) Services(context.Context) ([]string, error) {
	if s.current.Load() == nil {
		return nil, ErrClosed
	}
	met := map[string]struct{}{}
	s.eachOperation(func(o operation) { met[o.service] = struct{}{} })
	out := make([]string, 0, len(met))
	for name := range met {
		out = append(out, name)
	}
	slices.Sort(out)
	return out, nil
}

// Operations implements [spanstore.Reader].
func (s *Store) Operations(_ context.Context, service string, kind span.Kind) ([]spanstore.Operation, error) {
	if s.current.Load() == nil {
		return nil, ErrClosed
	}
	met := map[spanstore.Operation]struct{}{}
	s.eachOperation(func(o operation) {
		if o.service == service && (kind == span.KindUnspecified || o.kind == kind) {
			met[spanstore.Operation{Name: o.name, Kind: o.kind}] = struct{}{}
		}
	})
	out := make([]spanstore.Operation, 0, len(met))
	for o := range met {
		out = append(out, o)
	}
	slices.SortFunc(out, func(a, b spanstore.Operation) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return out, nil
}

func (s *Store) eachOperation(fn func(operation)) {
	for _, p := range s.partitions() {
		p.opsMu.RLock()
		for o := range p.ops {
			fn(o)
		}
		p.opsMu.RUnlock()
	}
}

// AddLinks counts calls of one service by another that were made in the minute of at.
// They are as durable as the next Append, and are kept with the partition that takes
// spans now, whatever at says.
func (s *Store) AddLinks(ctx context.Context, at time.Time, links []spanstore.Dependency) error {
	if len(links) == 0 {
		return nil
	}
	if err := s.guard.check(); err != nil {
		return err
	}
	h, err := s.writer()
	if err != nil {
		return err
	}
	if err := s.await(ctx, h); err != nil {
		s.letGo(h)
		return err
	}
	batch, err := addCalls(h.db, at, links)
	if err != nil {
		<-h.w.order
		s.letGo(h)
		return fmt.Errorf("%w: %w", ErrBroken, err)
	}
	h.p.opsMu.Lock()
	h.p.calls.any = true
	h.p.opsMu.Unlock()
	return s.submit(ctx, h, batch, false, func(error) {})
}

// addCalls adds to the rows of the minute, by the one in the order of commits.
func addCalls(db *pebble.DB, at time.Time, links []spanstore.Dependency) (*pebble.Batch, error) {
	sums := map[spanstore.Dependency]uint64{}
	for _, l := range links {
		sums[spanstore.Dependency{Parent: l.Parent, Child: l.Child}] += l.Calls
	}
	minute := uint64(max(at.Unix(), 0)) / 60
	batch := db.NewBatch()
	for d, calls := range sums {
		key := callsKey(minute, d)
		was, err := get(db, key)
		if err == nil {
			n, _ := binary.Uvarint(was)
			calls += n
		} else if !errors.Is(err, pebble.ErrNotFound) {
			return nil, err
		}
		if err := batch.Set(key, binary.AppendUvarint(nil, calls), nil); err != nil {
			return nil, err
		}
	}
	return batch, nil
}

// Dependencies implements [spanstore.Reader].
func (s *Store) Dependencies(ctx context.Context, w spanstore.Window) ([]spanstore.Dependency, error) {
	if s.current.Load() == nil {
		return nil, ErrClosed
	}
	lo, hi := nanos(w.Start, 0)/6e10, nanos(w.End, 1<<63)/6e10
	sums := map[spanstore.Dependency]uint64{}
	for _, p := range s.partitions() {
		p.opsMu.RLock()
		known := p.calls.any
		p.opsMu.RUnlock()
		if !known {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := p.acquire()
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return nil, err
		}
		err = each(h.db, &pebble.IterOptions{LowerBound: numberedKey(keyCalls, lo), UpperBound: numberedKey(keyCalls, hi+1)},
			func(key, value []byte) error {
				_, d, err := parseCalls(key, value)
				sums[spanstore.Dependency{Parent: d.Parent, Child: d.Child}] += d.Calls
				return err
			})
		h.release()
		if err != nil {
			return nil, fmt.Errorf("partition %s: %w", p.name, err)
		}
	}
	out := make([]spanstore.Dependency, 0, len(sums))
	for d, calls := range sums {
		d.Calls = calls
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b spanstore.Dependency) int {
		return cmp.Or(cmp.Compare(a.Parent, b.Parent), cmp.Compare(a.Child, b.Child))
	})
	return out, nil
}

// Drop forgets traces: their spans that are stored are found no more, and leave the
// disk when their partition is rewritten or expires. Spans that come later are stored.
func (s *Store) Drop(ctx context.Context, ids []span.TraceID) error {
	if len(ids) == 0 {
		return nil
	}
	if err := s.guard.check(); err != nil {
		return err
	}
	h, err := s.writer()
	if err != nil {
		return err
	}
	at := numberedKey(0, s.next())[1:]
	batch := h.db.NewBatch()
	for _, id := range ids {
		if err := batch.Set(droppedKey(id), at, nil); err != nil {
			s.letGo(h)
			return err
		}
	}
	if err := s.await(ctx, h); err != nil {
		s.letGo(h)
		return err
	}
	h.p.drops.Add(int64(len(ids)))
	return s.submit(ctx, h, batch, s.cfg.Sync, func(error) {})
}
