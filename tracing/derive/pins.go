package derive

import (
	"sync"
	"time"

	"github.com/weir-dev/weir/tracing/span"
)

// maxPins bounds the traces that exemplars keep from being sampled away, 16 bytes and
// a map's share each; beyond it no exemplars are written until older ones are due.
const maxPins = 200_000

// pins is the traces that exemplars point to, in two generations: each is kept for at
// least the time that was asked.
type pins struct {
	keep time.Duration

	mu     sync.RWMutex
	turned int64 // Unix milliseconds
	young  map[span.TraceID]struct{}
	old    map[span.TraceID]struct{}
}

func newPins(keep time.Duration) *pins {
	return &pins{keep: keep, young: make(map[span.TraceID]struct{})}
}

func (p *pins) turn(now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now-p.turned >= p.keep.Milliseconds() {
		p.turned, p.old, p.young = now, p.young, make(map[span.TraceID]struct{})
	}
}

// add returns false when there is no room.
func (p *pins) add(id span.TraceID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.young[id]; !ok && len(p.young) >= maxPins/2 {
		return false
	}
	p.young[id] = struct{}{}
	return true
}

func (p *pins) len() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.young) + len(p.old)
}

// Pinned says whether an exemplar written not long ago points to the trace
// (pin_exemplars_for): sampling must keep it.
func (d *Derive) Pinned(id span.TraceID) bool {
	d.pins.mu.RLock()
	defer d.pins.mu.RUnlock()
	if _, ok := d.pins.young[id]; ok {
		return true
	}
	_, ok := d.pins.old[id]
	return ok
}
