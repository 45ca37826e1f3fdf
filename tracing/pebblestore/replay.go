package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weir-dev/weir/tracing/internal/pack"
	"github.com/weir-dev/weir/tracing/span"
)

// recentAge is how old a commit may be for its spans to be known after a restart.
// Senders give up after some minutes (the collector's default is five).
const recentAge = 10 * time.Minute

// replay opens every partition once, the oldest first: those that were not closed are
// opened for writing and their live index is rebuilt from the journal.
func (s *Store) replay(ctx context.Context) error {
	for _, p := range s.partitions() {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := s.revive(p)
		switch {
		case err == nil:
		case isFull(err):
			return err // nothing is wrong with the partition
		default:
			s.quarantine(p, err)
		}
	}
	return nil
}

// revive opens a partition and reads what is to be known of it.
func (s *Store) revive(p *partition) error {
	h, err := s.openHandle(p, true)
	if err != nil {
		return err
	}
	if err := p.load(h.db); err != nil {
		return errors.Join(err, h.close())
	}
	s.seen(p.closed.Load())
	if p.closed.Load() > 0 {
		err := s.readJournal(h, nil, s.deps.Replay)
		p.h = h
		p.removeLogs()
		p.measure()
		return err
	}
	if err := h.close(); err != nil {
		return err
	}
	h, err = s.openWriting(p, s.deps.Replay)
	p.h = h
	p.measure()
	return err
}

// seen raises the numbers that are given to come after n.
func (s *Store) seen(n uint64) {
	for {
		was := s.seq.Load()
		if n <= was || s.seq.CompareAndSwap(was, n) {
			return
		}
	}
}

// openWriting opens a partition that takes spans, new or after a crash.
func (s *Store) openWriting(p *partition, replay func(*span.Batch, time.Time)) (*handle, error) {
	h, err := s.openHandle(p, false)
	if err != nil {
		return nil, err
	}
	err = s.prepare(h)
	if err == nil {
		err = s.readJournal(h, h.w, replay)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open partition %s: %w", p.name, err), h.close())
	}
	return h, nil
}

func (s *Store) prepare(h *handle) error {
	p := h.p
	if err := p.load(h.db); err != nil {
		return err
	}
	d, err := loadDict(h.db)
	if err != nil {
		return err
	}
	w := &writing{dict: d, order: make(chan struct{}, 1), sealed: make(chan struct{})}
	h.dict, h.w = d, w
	p.segMu.Lock()
	for _, g := range p.segs {
		w.nextSegment = max(w.nextSegment, g.id+1)
		s.seen(g.last)
	}
	p.lives = []*live{s.newLive()}
	p.segMu.Unlock()
	if _, err := get(h.db, metaFormat); errors.Is(err, pebble.ErrNotFound) {
		if err := h.db.Set(metaFormat, []byte(formatVersion), pebble.Sync); err != nil {
			return err
		}
	}
	return nil
}

// readJournal reads the journal: spans that no sealed segment has are added to the live
// index, if w is given, the newest are known again, and what came after Deps.Since is
// given to replay, if any.
func (s *Store) readJournal(h *handle, w *writing, replay func(*span.Batch, time.Time)) error {
	p := h.p
	var sealed uint64
	for _, g := range p.segs {
		sealed = max(sealed, g.last)
	}
	young := uint64(s.now().Add(-recentAge).UnixNano())
	var b span.Batch
	return each(h.db, ofKind(keyJournal), func(key, value []byte) error {
		at := number(key)
		index, know, tell := w != nil && at > sealed, at > young, replay != nil && at > s.deps.Since
		s.seen(at)
		if !index && !know && !tell {
			return nil
		}
		row, err := parseCommitRow(value)
		if err != nil {
			return err
		}
		s.seen(row.seq)
		groups, err := h.commit(row, &b)
		if err != nil {
			return err
		}
		if index {
			if err := s.reindex(h, &b, groups, at); err != nil {
				return err
			}
		}
		if know {
			s.recent.note(&b)
		}
		if tell {
			replay(&b, time.Unix(0, int64(at)))
		}
		return nil
	})
}

// commit reads the spans of a journal row into b.
func (h *handle) commit(row commitRow, b *span.Batch) ([]group, error) {
	*b = span.Batch{}
	var groups []group
	var key []byte
	for i := range row.len() {
		id := row.trace(i)
		key = appendTraceKey(key[:0], id, row.seq)
		value, err := get(h.db, key)
		if err != nil {
			return nil, fmt.Errorf("fragment of trace %s: %w", id, err)
		}
		g := group{id: id}
		from := len(b.Spans)
		if err := pack.Decode(unpacking{h.dict}, id, value, b); err != nil {
			return nil, fmt.Errorf("fragment of trace %s: %w", id, err)
		}
		for k := from; k < len(b.Spans); k++ {
			g.spans = append(g.spans, k)
		}
		groups = append(groups, g)
	}
	return groups, nil
}

// reindex adds a commit to the live index as Append did.
func (s *Store) reindex(h *handle, b *span.Batch, groups []group, at uint64) error {
	l := h.p.filling()
	for _, g := range groups {
		l.add(g.id, b, g.spans)
	}
	l.commit(at)
	if l.b.Len() < s.cfg.Index.SegmentSpans {
		return nil
	}
	h.p.segMu.Lock()
	l.sealing = true
	h.p.lives = append(h.p.lives, s.newLive())
	h.p.segMu.Unlock()
	return s.seal(h, l)
}
