package pebblestore

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// sealSoon begins to write a full segment, unless another is being written: then the
// segment grows on. The caller is in the order of commits.
func (s *Store) sealSoon(h *handle, l *live) {
	p := h.p
	p.segMu.Lock()
	defer p.segMu.Unlock()
	for _, o := range p.lives {
		if o.sealing {
			return
		}
	}
	l.sealing = true
	p.lives = append(p.lives, s.newLive())
	h.w.seals.Add(1)
	go func() {
		defer h.w.seals.Done()
		if err := s.seal(h, l); err != nil {
			s.log.Error("segment of spans was not sealed, it stays in memory", "partition", p.name, "reason", err)
		}
	}()
}

// seal writes a segment's index, and deletes the journal that it stood for as far as
// nobody else needs it. No commit is added to it any more.
func (s *Store) seal(h *handle, l *live) error {
	w := h.w
	w.sealGate.Lock()
	defer w.sealGate.Unlock()
	select { // the last commits have their place in the log before this one
	case w.order <- struct{}{}:
		<-w.order
	case <-h.failed:
		return h.failure
	}
	began := time.Now()
	g := segment{
		id: w.nextSegment, spans: l.spans.Load(), fragments: l.fragments,
		min: l.min.Load(), max: l.max.Load(), first: l.first, last: l.last,
	}
	batch := h.db.NewBatch()
	prefix := pagePrefix(g.id)
	var key []byte
	err := l.b.Seal(func(k, v []byte) error {
		key = append(append(key[:0], prefix...), k...)
		return batch.Set(key, v, nil)
	})
	if err == nil {
		err = batch.Set(numberedKey(keySegment, g.id), g.value(), nil)
	}
	if bound := s.journalBound(h.p, g); err == nil && bound > 0 {
		err = batch.DeleteRange(numberedKey(keyJournal, 0), numberedKey(keyJournal, bound), nil)
	}
	if err == nil {
		err = h.apply(batch, false, nil)
	}
	h.p.segMu.Lock()
	defer h.p.segMu.Unlock()
	l.sealing = false
	if err != nil {
		return fmt.Errorf("seal segment %d: %w", g.id, err)
	}
	w.nextSegment++
	h.p.segs = append(h.p.segs, g)
	for i, o := range h.p.lives {
		if o == l {
			h.p.lives = append(append([]*live{}, h.p.lives[:i]...), h.p.lives[i+1:]...)
			break
		}
	}
	close(w.sealed)
	w.sealed = make(chan struct{})
	s.metrics.sealSeconds.Observe(time.Since(began).Seconds())
	return nil
}

// journalBound is the number before which journal rows are deleted: those of sealed
// spans, settled, and not among the newest, which tell what is sent again.
func (s *Store) journalBound(p *partition, newest segment) uint64 {
	bound, spans := newest.first, newest.spans
	p.segMu.RLock()
	defer p.segMu.RUnlock()
	for i := len(p.segs) - 1; i >= 0 && spans < uint64(s.cfg.Memory.RecentSpans); i-- {
		bound = p.segs[i].first
		spans += p.segs[i].spans
	}
	if s.deps.Replay != nil {
		bound = min(bound, s.settled.Load()+1)
	}
	return bound
}

// finish ends a partition that takes spans no more: its last segment is sealed, its
// tables are compacted into one level, and from then on it is only read.
func (s *Store) finish(p *partition) error {
	h, err := p.acquire()
	if err != nil {
		return err
	}
	defer h.release()
	if h.w == nil {
		return nil
	}
	if !h.stopWrites() {
		return h.failure
	}
	for l := p.unsealed(); l != nil; l = p.unsealed() {
		if err := s.seal(h, l); err != nil {
			return err
		}
	}
	last := s.next()
	p.segMu.RLock()
	if n := len(p.segs); n > 0 {
		last = p.segs[n-1].last
	}
	p.segMu.RUnlock()
	if err := s.compact(h); err != nil {
		return err
	}
	batch := h.db.NewBatch()
	if err := batch.Set(metaClosed, numberedKey(0, last)[1:], nil); err != nil {
		return err
	}
	if err := h.apply(batch, true, nil); err != nil {
		return err
	}
	if err := h.db.Flush(); err != nil {
		return err
	}
	p.closed.Store(last)
	p.retire(nil)
	return nil
}

// unsealed is the oldest segment in memory that has spans.
func (p *partition) unsealed() *live {
	p.segMu.Lock()
	defer p.segMu.Unlock()
	for _, l := range p.lives {
		if l.spans.Load() > 0 {
			l.sealing = true
			return l
		}
	}
	return nil
}

// compact brings everything into the last level.
func (s *Store) compact(h *handle) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("compact partition %s: %v", h.p.name, r)
		}
	}()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Errorf("%v", r)
			}
		}()
		if err := h.db.Flush(); err != nil {
			done <- err
			return
		}
		err := h.db.Compact(s.life, []byte{0}, []byte{0xff}, false)
		if errors.Is(err, pebble.ErrClosed) {
			err = ErrClosed
		}
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("compact partition %s: %w", h.p.name, err)
		}
		return nil
	case <-h.failed:
		return h.failure
	}
}
