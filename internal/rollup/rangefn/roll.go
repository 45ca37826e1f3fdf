package rangefn

import (
	"math"

	"github.com/weir-dev/weir/internal/rollup"
)

// fold is how values of a column are put together.
type fold uint8

const (
	adding  fold = iota
	summing      // with what rounding takes
	leastOf
	mostOf
)

// roller folds ranges [a, b) of a column, both ends of which only move forward.
//
// Long ranges that overlap are not folded anew each time: with a border somewhere
// in the range, what lies before it has been folded from the border backwards once
// for every a, and what lies after it is folded on as b moves. When a passes the
// border, it is set to b. Nothing is ever taken away again, so there is no rounding
// error that stays, and NaN and infinity leave with their sample.
type roller struct {
	roll   bool
	border int
	back   []float64 // back[i] is the fold of [i, border)
	front  float64   // the fold of [border, upto), when summing less lost
	lost   float64   // what rounding took from front
	upto   int
}

// shortRange is how many points are folded anew rather than by the roller's books.
// Measured with ranges of four steps on a Xeon, two cores, both busy: for sums the
// two cost the same at about 32 points, for extremes at about 10.
const shortRange = 16

func (r *roller) reset(roll bool) {
	r.roll, r.border, r.upto = roll, 0, 0
}

// of returns the fold of col[a:b].
func (r *roller) of(op fold, col []float64, a, b int) float64 {
	if !r.roll || b-a <= shortRange {
		return total(foldAll(op, empty(op), 0, col[a:b]))
	}
	if a >= r.border {
		if len(r.back) < len(col) {
			r.back = make([]float64, len(col))
		}
		foldBack(op, r.back[a:b], col[a:b])
		r.border, r.upto, r.front, r.lost = b, b, empty(op), 0
	}
	r.front, r.lost = foldAll(op, r.front, r.lost, col[r.upto:max(b, r.upto)])
	r.upto = max(b, r.upto)
	return total(foldAll(op, r.front, r.lost, r.back[a:a+1]))
}

// total is a fold with what it lost.
func total(v, lost float64) float64 {
	if x := v + lost; x-x == 0 {
		return x
	}
	return v
}

// empty returns what changes nothing when folded.
func empty(op fold) float64 {
	if op == adding || op == summing {
		return 0
	}
	return math.NaN()
}

// foldAll folds vs onto v; summing adds to lost what rounding takes. As in PromQL, NaN
// is neither least nor greatest unless there is nothing else.
func foldAll(op fold, v, lost float64, vs []float64) (float64, float64) {
	switch op {
	case adding:
		for _, x := range vs {
			v += x
		}
	case summing:
		for _, x := range vs {
			v, lost = rollup.AddExact(v, lost, x)
		}
	case leastOf:
		for _, x := range vs {
			if x < v || v != v {
				v = x
			}
		}
	case mostOf:
		for _, x := range vs {
			if x > v || v != v {
				v = x
			}
		}
	}
	return v, lost
}

// foldBack sets dst[i] to the fold of vs[i:].
func foldBack(op fold, dst, vs []float64) {
	v, lost := empty(op), 0.0
	for i := len(vs) - 1; i >= 0; i-- {
		x := vs[i]
		switch {
		case op == adding:
			v += x
		case op == summing:
			v, lost = rollup.AddExact(v, lost, x)
		case v != v, op == leastOf && x < v, op == mostOf && x > v:
			v = x
		}
		dst[i] = total(v, lost)
	}
}
