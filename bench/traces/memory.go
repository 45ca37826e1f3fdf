package main

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/weir-dev/weir/bench/shop"
)

// remembered bounds the traces that are kept to ask for: enough that 100,000
// questions do not meet the same one so often that it is all in a cache.
const remembered = 20_000

// memory is a fair sample of the traces sent. Connections add to it while it is asked.
type memory struct {
	settled time.Duration // how old a trace is before it is asked for

	mu   sync.Mutex
	rng  *rand.Rand
	seen int
	kept []sent
}

// sent is a trace of which all spans are acknowledged.
type sent struct {
	shop.Trace
	at time.Time
}

func newMemory(seed uint64, settled time.Duration) *memory {
	return &memory{settled: settled, rng: rand.New(rand.NewPCG(seed, 1<<32))}
}

// add keeps one trace of each body with the same chance.
func (m *memory) add(sample func() shop.Trace) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen++
	if len(m.kept) < remembered {
		m.kept = append(m.kept, sent{sample(), time.Now()})
	} else if i := m.rng.IntN(m.seen); i < remembered {
		m.kept[i] = sent{sample(), time.Now()}
	}
}

// pick is any trace that has settled.
func (m *memory) pick() (shop.Trace, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range 1000 {
		if len(m.kept) == 0 {
			break
		}
		if s := m.kept[m.rng.IntN(len(m.kept))]; time.Since(s.at) >= m.settled {
			return s.Trace, nil
		}
	}
	return shop.Trace{}, errors.New("no trace has settled that could be asked for")
}
