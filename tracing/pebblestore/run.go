package pebblestore

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/weir-dev/weir/internal/conf"
)

const (
	// maintainEvery bounds how late a partition is followed by the next, and how soon
	// a failed one is opened anew.
	maintainEvery = time.Second
	// tidyEvery bounds how late what expired is deleted.
	tidyEvery = 15 * time.Second
)

// Run keeps the partitions in order until ctx ends: it begins new ones, closes and
// compacts old ones, deletes what expired, and opens anew what failed.
func (s *Store) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.every(ctx, tidyEvery, func() { s.tidy(ctx) })
	}()
	told := ""
	s.every(ctx, maintainEvery, func() {
		s.maintain()
		err := s.refuses()
		switch {
		case err == nil && told != "":
			told = ""
			s.log.Info("spans accepted again", "free", conf.Bytes(s.guard.free.Load()))
		case err != nil && told == "":
			told = err.Error()
			s.log.Error("spans refused", "reason", err)
		}
	})
	<-done
	return nil
}

func (s *Store) every(ctx context.Context, d time.Duration, do func()) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		do()
		wake := s.wake
		if d != maintainEvery {
			wake = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-wake:
		}
	}
}

// maintain is what cannot wait: the partition that takes spans.
func (s *Store) maintain() {
	s.upkeep.Lock()
	defer s.upkeep.Unlock()
	p := s.current.Load()
	if p == nil {
		return
	}
	p.measure()
	if err := s.heal(p); err != nil {
		s.log.Error("span partition cannot be opened anew, it is tried again", "partition", p.name, "reason", err)
		return
	}
	if !s.due(p) || s.guard.check() != nil {
		return
	}
	p.mu.Lock()
	stalled := p.h != nil && p.h.fs.isStalled()
	p.mu.Unlock()
	if stalled { // a new one would wait for space too
		return
	}
	if _, err := s.begin(); err != nil {
		s.log.Error("next span partition cannot be made, the one before goes on", "partition", p.name, "reason", err)
	}
}

// heal opens a partition anew that failed, beneath its readers. What was acknowledged
// is in its log; what was not is forgotten, so that it may be sent again.
func (s *Store) heal(p *partition) error {
	p.mu.Lock()
	h := p.h
	p.mu.Unlock()
	if h == nil || h.w == nil || h.broken() == nil {
		return nil
	}
	s.recent.reset() // Appends end by themselves, having learnt of the failure
	next, err := s.openWriting(p, nil)
	if err != nil {
		return err
	}
	if q := s.before(p); q != nil { // the newest spans may be of the partition before
		if old, err := q.acquire(); err == nil {
			err = s.readJournal(old, nil, nil)
			old.release()
			if err != nil {
				s.log.Warn("journal cannot be read, spans sent again may be stored twice", "partition", q.name, "reason", err)
			}
		}
	}
	p.retire(next)
	s.metrics.reopened.Inc()
	s.log.Info("span partition is open again", "partition", p.name)
	return nil
}

func (s *Store) before(p *partition) *partition {
	parts := s.partitions()
	if i := slices.Index(parts, p); i > 0 {
		return parts[i-1]
	}
	return nil
}

// tidy is what may take long: closing partitions and deleting what expired.
func (s *Store) tidy(ctx context.Context) {
	current := s.current.Load()
	for _, p := range s.partitions() {
		if ctx.Err() != nil || s.guard.check() != nil && p.closed.Load() == 0 {
			break
		}
		if p == current || p.closed.Load() > 0 {
			continue
		}
		s.upkeep.Lock()
		err := s.heal(p)
		s.upkeep.Unlock()
		if err == nil {
			err = s.finish(p)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) && !errors.Is(err, errGone) {
			s.log.Error("span partition cannot be closed, it is tried again", "partition", p.name, "reason", err)
		}
	}
	s.relieve(ctx)
	s.retain(ctx)
	s.closeIdle()
}

// closeIdle closes the oldest partitions that nobody reads, beyond those that may be
// kept open.
func (s *Store) closeIdle() {
	parts := s.partitions()
	open := 0
	for i := len(parts) - 1; i >= 0; i-- {
		parts[i].mu.Lock()
		isOpen := parts[i].h != nil
		parts[i].mu.Unlock()
		if isOpen {
			open++
		}
		if isOpen && open > s.cfg.Memory.OpenPartitions && parts[i].idle() {
			open--
		}
	}
}
