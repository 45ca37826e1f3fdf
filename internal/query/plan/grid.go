package plan

import "github.com/prometheus/prometheus/promql/parser"

// Grid is the times at which something is evaluated: Start, Start+Step and so on
// up to End. Unix milliseconds; Step is at least 1. End before Start is no time at
// all.
type Grid struct{ Start, End, Step int64 }

// Last is the last of the times, which may be before End.
func (g Grid) Last() int64 { return g.Start + (g.End-g.Start)/g.Step*g.Step }

// Steps is the number of times.
func (g Grid) Steps() int64 {
	if g.End < g.Start {
		return 0
	}
	return (g.End-g.Start)/g.Step + 1
}

func (g Grid) single() bool { return g.Steps() == 1 }

// at moves the grid to the time of the data that is asked for.
func (g Grid) at(shift int64) Grid { return Grid{g.Start - shift, g.Last() - shift, g.Step} }

// invariant is the grid below a StepInvariantExpr, which is evaluated once.
func (g Grid) invariant() Grid { return Grid{g.Start, g.Start, g.Step} }

// subquery is the grid inside e when e itself is evaluated on g: multiples of the
// step of e, from the first after the begin of its first range to the end of its
// last.
func (g Grid) subquery(e *parser.SubqueryExpr, defaultStep func(rangeMillis int64) int64) Grid {
	width, step := e.Range.Milliseconds(), e.Step.Milliseconds()
	if step == 0 {
		step = defaultStep(width)
	}
	shift := g.shift(e.Timestamp, e.OriginalOffset.Milliseconds())
	begin := g.Start - shift - width
	first := begin / step * step
	if first <= begin {
		first += step
	}
	return Grid{first, g.Last() - shift, step}
}

// shift is by how much the data asked for at a time of the grid is older than that
// time: the offset, and what leads to the time after an @, which holds at the
// grid's first time.
func (g Grid) shift(at *int64, offset int64) int64 {
	if at == nil {
		return offset
	}
	return offset + g.Start - *at
}
