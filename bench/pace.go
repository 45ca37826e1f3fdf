package main

import (
	"slices"
	"sync"
)

// maxLead is how many bodies of its own one connection may be ahead of the
// slowest. A round is 15 s a sample of simulated time and may pass in
// milliseconds; a connection that is held up for half a second would fall behind
// the others by more than the hour that a TSDB looks back. Four bodies are at most
// two rounds in all sets.
const maxLead = 4

// pace keeps connections together, as real time does. Connections may have
// different numbers of bodies a round, so what is compared is the part that each
// has sent of its own.
type pace struct {
	mu    sync.Mutex
	moved *sync.Cond
	sent  []float64 // 0 to 1
}

func newPace(n int) *pace {
	p := &pace{sent: make([]float64, n)}
	p.moved = sync.NewCond(&p.mu)
	return p
}

// wait blocks until connection c may send body n of its total.
func (p *pace) wait(c, n, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent[c] = float64(n) / float64(total)
	p.moved.Broadcast()
	for p.sent[c]-slices.Min(p.sent) > maxLead/float64(total) {
		p.moved.Wait()
	}
}

// leave takes connection c out: nobody waits for it any more.
func (p *pace) leave(c int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent[c] = 1
	p.moved.Broadcast()
}
