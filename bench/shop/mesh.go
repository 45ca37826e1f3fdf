package shop

import (
	"fmt"
	"math/rand/v2"
)

// Mesh is the size of a graph of services.
type Mesh struct {
	Services int // 2 or more
	Edges    int // distinct calls between two of them, at least Services-1
}

// callsPerTrace is how many calls 10 spans hold: the root, and two a call, and one
// that works alone.
const callsPerTrace = (spansPerTrace - 2) / 2

// meshShapes makes walks through a random graph without cycles, of which every edge
// is in one walk or more.
func meshShapes(m Mesh, rng *rand.Rand) ([]shape, error) {
	if most := m.Services * (m.Services - 1) / 2; m.Services < 2 || m.Edges < m.Services-1 || m.Edges > most {
		return nil, fmt.Errorf("mesh of %d services with %d edges: want 2 services or more, and %d to %d edges", m.Services, m.Edges, m.Services-1, most)
	}
	callees := make([][]int, m.Services)
	known := map[[2]int]bool{}
	connect := func(a, b int) {
		if a > b {
			a, b = b, a
		}
		if a != b && !known[[2]int{a, b}] {
			known[[2]int{a, b}] = true
			callees[a] = append(callees[a], b)
		}
	}
	for b := 1; b < m.Services; b++ { // everybody but the first is called by somebody
		connect(rng.IntN(b), b)
	}
	for len(known) < m.Edges {
		connect(rng.IntN(m.Services), rng.IntN(m.Services))
	}
	var out []shape
	for a, bs := range callees {
		for _, b := range bs {
			out = append(out, walk(a, b, callees, rng))
		}
	}
	return out, nil
}

// walk is a trace that begins with a calling b, and goes on from any service it has
// come to.
func walk(a, b int, callees [][]int, rng *rand.Rand) shape {
	s := shape{weight: 1, seconds: 0.02 + 0.2*rng.Float64()}
	s.steps = append(s.steps, step{
		parent: -1, service: meshName(a), kind: server, proto: httpServer,
		name: "GET /" + meshName(a), route: "/" + meshName(a), to: 1,
	})
	type place struct{ service, span int }
	at := []place{{a, 0}}
	visit := func(p place, to int) {
		op := fmt.Sprintf("example.mesh.v1.S%03d/Do%d", to, rng.IntN(4))
		n := len(s.steps)
		from := 0.05 + 0.1*float64(len(at))
		s.steps = append(s.steps, call(p.span, meshName(p.service), meshName(to), op, from, from+0.3),
			serve(n, meshName(to), meshName(p.service), op))
		at = append(at, place{to, n + 1})
	}
	visit(at[0], b)
	for range callsPerTrace - 1 {
		p := at[rng.IntN(len(at))]
		if len(callees[p.service]) == 0 {
			p = at[0] // calls b at least
		}
		next := callees[p.service]
		visit(p, next[rng.IntN(len(next))])
	}
	last := at[len(at)-1]
	s.steps = append(s.steps, step{
		parent: last.span, service: meshName(last.service), kind: internal, proto: work, name: "render", from: 0.5, to: 0.9,
	})
	return s
}

func meshName(i int) string { return fmt.Sprintf("svc-%03d", i) }
