package plan

import (
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// Replace puts a plain selector in the place of s, whose series have the answer
// at each time of s.Grid. It returns the first of the new selector's matchers,
// which no other selector shares: by it the querier knows what is asked for.
//
// The new selector has the labels and the place in the text of the old one, so
// that absent() names the same labels and annotations point to the same words.
func (s *Selector) Replace() *labels.Matcher {
	matchers := slices.Clone(s.Vector.LabelMatchers)
	own := *matchers[0]
	matchers[0] = &own
	var answer parser.Expr = &parser.VectorSelector{
		Name: s.Vector.Name, LabelMatchers: matchers, PosRange: s.Vector.PosRange,
	}
	switch {
	case s.absent != nil:
		s.absent.Func = parser.Functions["absent"]
	case s.Func != "":
		// A call: no function may take it for a selector that the user wrote.
		answer = &parser.ParenExpr{Expr: answer, PosRange: s.Expr.PositionRange()}
	}
	*s.slot = answer
	return &own
}

// Widen makes a range that only samples can answer hold at least two points of a
// resolution, which stand in for samples where those are gone. It reports whether
// it did.
func (s *Selector) Widen(resolution int64) bool {
	if s.matrix == nil || s.matrix.Range.Milliseconds() >= 2*resolution {
		return false
	}
	s.matrix.Range = time.Duration(2*resolution) * time.Millisecond
	return true
}
