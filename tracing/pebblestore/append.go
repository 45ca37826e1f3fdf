package pebblestore

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weir-dev/weir/tracing/internal/pack"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// writing is what a partition has besides while it takes spans.
type writing struct {
	dict *dict
	// order has room for one: who is in it gives the next journal number, and leaves
	// when Pebble's log has the commit. A channel, because a full disk may keep one
	// in it for long.
	order chan struct{}
	// inUse is held for reading by each Append and its commit; ended, under it, says
	// that the partition takes no more.
	inUse sync.RWMutex
	ended bool
	// nextSegment numbers segments; by the one sealing.
	nextSegment uint64
	sealGate    sync.Mutex
	seals       sync.WaitGroup
	sealed      chan struct{} // closed and replaced after each sealing, under segMu
}

// group is the new spans of one trace in a request.
type group struct {
	id    span.TraceID
	spans []int
}

// request is the memory of one Append, used again.
type request struct {
	hashes  []uint64
	isNew   []bool
	byID    map[span.TraceID]int
	groups  []group
	packing packing
	packer  pack.Appender
	key     []byte
	value   []byte
	met     map[operation]struct{}
}

var requests = sync.Pool{New: func() any {
	return &request{byID: map[span.TraceID]int{}, met: map[operation]struct{}{}}
}}

// Append implements [spanstore.Writer]. Its errors are retryable but for that of the
// context, whose spans may be stored all the same.
func (s *Store) Append(ctx context.Context, b *span.Batch) (spanstore.Appended, error) {
	n := len(b.Spans)
	if n == 0 {
		return spanstore.Appended{}, nil
	}
	out, err := s.append(ctx, b)
	if err != nil {
		s.metrics.refused.Add(float64(n))
		return spanstore.Appended{}, err
	}
	s.metrics.stored.Add(float64(out.Stored))
	s.metrics.duplicate.Add(float64(out.Duplicate))
	return out, nil
}

func (s *Store) append(ctx context.Context, b *span.Batch) (spanstore.Appended, error) {
	if err := s.guard.check(); err != nil {
		return spanstore.Appended{}, err
	}
	h, err := s.writer()
	if err != nil {
		return spanstore.Appended{}, err
	}
	if h.fs.isStalled() {
		s.letGo(h)
		return spanstore.Appended{}, s.stalled()
	}
	r := requests.Get().(*request)
	defer requests.Put(r)
	n := len(b.Spans)
	r.hashes, r.isNew = r.hashes[:0], make([]bool, n)
	for i := range b.Spans {
		r.hashes = append(r.hashes, s.recent.hash(b, &b.Spans[i]))
	}
	f, others, known := s.recent.claim(r.hashes, r.isNew)
	if known < n {
		err = s.write(ctx, h, r, b, f)
	} else {
		s.recent.land(f, nil)
		s.letGo(h)
	}
	if err != nil {
		return spanstore.Appended{}, err
	}
	// The copies of what is not yet durable are not either.
	for _, o := range others {
		select {
		case <-o.done:
			if o.err != nil {
				return spanstore.Appended{}, o.err
			}
		case <-ctx.Done():
			return spanstore.Appended{}, ctx.Err()
		case <-h.fs.stall():
			return spanstore.Appended{}, s.stalled()
		case <-h.failed:
			return spanstore.Appended{}, h.failure
		}
	}
	out := spanstore.Appended{Stored: n - known, Duplicate: known}
	if known > 0 {
		out.New = r.isNew
	}
	return out, nil
}

// writer returns the partition that takes spans, held for one Append.
func (s *Store) writer() (*handle, error) {
	for {
		p := s.current.Load()
		if p == nil {
			return nil, ErrClosed
		}
		h, err := p.acquire()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBroken, err)
		}
		if err := h.broken(); err != nil {
			h.release()
			return nil, err
		}
		if h.w != nil {
			h.w.inUse.RLock()
			if !h.w.ended {
				return h, nil
			}
			h.w.inUse.RUnlock()
		}
		h.release()
		if s.current.Load() == p {
			return nil, ErrClosed
		}
	}
}

// stopWrites lets no Append begin any more and waits for those under way. It returns
// false if the database failed, where none may ever end.
func (h *handle) stopWrites() bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.w.inUse.Lock()
		h.w.ended = true
		h.w.inUse.Unlock()
		h.w.seals.Wait()
	}()
	select {
	case <-done:
		return h.broken() == nil
	case <-h.failed:
		return false
	}
}

// letGo ends what writer began.
func (s *Store) letGo(h *handle) {
	h.w.inUse.RUnlock()
	h.release()
}

// write stores the new spans of b and lets h go.
func (s *Store) write(ctx context.Context, h *handle, r *request, b *span.Batch, f *flight) error {
	refuse := func(err error) error {
		s.recent.forget(r.hashes, r.isNew)
		s.recent.land(f, err)
		s.letGo(h)
		return err
	}
	r.group(b)
	seq := s.next()
	batch := h.db.NewBatch()
	journal, err := s.pack(h, r, b, batch, seq)
	if err != nil {
		return refuse(fmt.Errorf("%w: %w", ErrBroken, err))
	}
	if err := s.await(ctx, h); err != nil {
		return refuse(err)
	}
	if err := s.enlist(h, r, b, batch, journal); err != nil {
		<-h.w.order
		return refuse(fmt.Errorf("%w: %w", ErrBroken, err))
	}
	return s.submit(ctx, h, batch, s.cfg.Sync, func(err error) { s.recent.land(f, err) })
}

// submit commits a batch by the one in the order of commits and lets h go. It returns
// when the batch is durable, or before if it waits for space, fails or ctx ends; landed
// is told how it ended, as soon as that is known.
func (s *Store) submit(ctx context.Context, h *handle, batch *pebble.Batch, sync bool, landed func(error)) error {
	done := make(chan error, 1)
	go func() {
		err := h.apply(batch, sync, h.w.order)
		landed(err)
		s.letGo(h)
		done <- err
	}()
	var why error
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		why = ctx.Err()
	case <-h.fs.stall():
		why = s.stalled()
	case <-h.failed: // done may never come
		why = h.failure
		landed(why)
	}
	select {
	case err := <-done:
		return err
	default:
		return why
	}
}

func (s *Store) stalled() error {
	return fmt.Errorf("%w: a write to %s waits for space", ErrDiskFull, s.cfg.Dir)
}

// await enters the order of commits.
func (s *Store) await(ctx context.Context, h *handle) error {
	if h.fs.isStalled() {
		return s.stalled()
	}
	for {
		full, sealed := h.p.crowded(s.cfg.Index.SegmentSpans, h.w)
		order := h.w.order
		if full {
			order = nil // a segment is sealed first
		}
		select {
		case order <- struct{}{}:
			return nil
		case <-sealed:
		case <-ctx.Done():
			return ctx.Err()
		case <-h.fs.stall():
			return s.stalled()
		case <-h.failed:
			return h.failure
		}
	}
}

// crowded tells whether spans come faster than segments are sealed; then it returns
// what is closed when one is.
func (p *partition) crowded(spans int, w *writing) (bool, chan struct{}) {
	p.segMu.RLock()
	defer p.segMu.RUnlock()
	if n := len(p.lives); n > 1 && p.lives[n-2].sealing && p.lives[n-1].b.Len() >= 2*spans {
		return true, w.sealed
	}
	return false, nil
}

// group sorts the new spans by trace, in the order they came.
func (r *request) group(b *span.Batch) {
	clear(r.byID)
	n := 0
	last := -1
	for i := range b.Spans {
		if !r.isNew[i] {
			continue
		}
		id := b.Spans[i].TraceID
		if last < 0 || r.groups[last].id != id {
			at, ok := r.byID[id]
			if !ok {
				at = n
				r.byID[id] = n
				if n++; n > len(r.groups) {
					r.groups = append(r.groups, group{})
				}
				r.groups[at].id, r.groups[at].spans = id, r.groups[at].spans[:0]
			}
			last = at
		}
		r.groups[last].spans = append(r.groups[last].spans, i)
	}
	r.groups = r.groups[:n]
}

// pack puts the fragments into the Pebble batch and returns the journal's row.
func (s *Store) pack(h *handle, r *request, b *span.Batch, batch *pebble.Batch, seq uint64) ([]byte, error) {
	journal := make([]byte, 8, 8+16*len(r.groups))
	binary.BigEndian.PutUint64(journal, seq)
	r.packing.begin(h.w.dict, seq)
	defer r.packing.end()
	r.packer.Begin(&r.packing, b)
	for i := range r.groups {
		g := &r.groups[i]
		r.key = appendTraceKey(r.key[:0], g.id, seq)
		r.value = r.packer.Append(r.value[:0], g.spans)
		if err := batch.Set(r.key, r.value, nil); err != nil {
			return nil, err
		}
		journal = append(journal, g.id[:]...)
	}
	return journal, nil
}

// enlist gives a commit its number, by the one in the order, and adds its spans to
// the live index.
func (s *Store) enlist(h *handle, r *request, b *span.Batch, batch *pebble.Batch, journal []byte) error {
	s.operations(h, r, b)
	if err := h.w.dict.take(batch); err != nil {
		return err
	}
	at := s.next()
	if err := batch.Set(numberedKey(keyJournal, at), journal, nil); err != nil {
		return err
	}
	l := h.p.filling()
	for i := range r.groups {
		l.add(r.groups[i].id, b, r.groups[i].spans)
	}
	l.commit(at)
	if l.b.Len() >= s.cfg.Index.SegmentSpans {
		s.sealSoon(h, l)
	}
	return nil
}

// filling is the segment that takes spans.
func (p *partition) filling() *live {
	p.segMu.RLock()
	defer p.segMu.RUnlock()
	return p.lives[len(p.lives)-1]
}

// operations notes what the spans are called.
func (s *Store) operations(h *handle, r *request, b *span.Batch) {
	clear(r.met)
	p := h.p
	p.opsMu.RLock()
	for i := range r.groups {
		for _, k := range r.groups[i].spans {
			sp := &b.Spans[k]
			o := operation{name: sp.Name, kind: sp.Kind}
			if sp.Resource >= 0 && sp.Resource < len(b.Resources) {
				o.service = b.Resources[sp.Resource].Service
			}
			if _, have := p.ops[o]; !have && o.service != "" {
				r.met[o] = struct{}{}
			}
		}
	}
	p.opsMu.RUnlock()
	if len(r.met) == 0 {
		return
	}
	p.opsMu.Lock()
	defer p.opsMu.Unlock()
	for o := range r.met {
		if len(p.ops) >= s.cfg.Index.Operations {
			s.metrics.unlisted.Inc()
			continue
		}
		key := o.key()
		o, _ = parseOperation(key) // of its own memory
		p.ops[o] = struct{}{}
		h.w.dict.pend(key, nil)
	}
	clear(r.met)
}
