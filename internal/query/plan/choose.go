package plan

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/model"

	"github.com/weir-dev/weir/internal/rollup"
)

// Unset is the MaxSource of a query that names none.
const Unset int64 = -1

// Rules is what the choice depends on beside the selector and the holdings.
type Rules struct {
	// Exact says that aligned windows give just what samples give.
	Exact bool
	// MinStretch is how long the time read must be for windows to stand in for
	// samples that are still held. Milliseconds.
	MinStretch int64
	// MaxSource is the coarsest resolution the caller asked for, in milliseconds;
	// [Unset] if he named none. 0 is samples wherever they are held.
	MaxSource int64
	// Lead is how much to read before the stretch, so that what happened between
	// the last sample before it and the first in it is known. Milliseconds.
	Lead int64
}

// Choice is from where a selector is answered.
type Choice struct {
	// Spans to read, in time order and disjoint. They may reach beyond the stretch
	// of the selector: to the end of its last window, and by the lead.
	Spans []rollup.Span
	// Parts of the selector's data grid, in time order. All have the selector's own
	// range if no window is wider than it.
	Parts []Part
	// Why says in a few words how the choice came about.
	Why string
}

// Part is consecutive times of a data grid that look back equally far.
type Part struct {
	Grid  Grid
	Range int64 // milliseconds
}

// Rolled reports whether anything is answered from windows.
func (c *Choice) Rolled() bool { return c.Coarsest() > rollup.Raw }

// Coarsest is the coarsest resolution chosen, in milliseconds.
func (c *Choice) Coarsest() int64 {
	r := rollup.Raw
	for _, s := range c.Spans {
		r = max(r, s.Resolution)
	}
	return r
}

// Widest is the longest range any part looks back.
func (c *Choice) Widest() (r int64) {
	for _, p := range c.Parts {
		r = max(r, p.Range)
	}
	return r
}

// Choose decides from where to answer s, given what is held of its series.
//
// The tiers are put in order of preference; each takes what it holds of the time
// that those before it left. No window is cut: two tiers meet where a window of
// the coarser one ends, or where it holds no more.
func Choose(s *Selector, held []rollup.Holding, rules Rules) Choice {
	after, until := s.Stretch()
	order, why := preference(s, held, rules)
	f := filling{after: after, until: until}
	for _, p := range order {
		f.take(p)
	}
	f.finish(rules.Lead)
	c := Choice{Why: why}
	for _, g := range f.segments {
		c.Spans = append(c.Spans, rollup.Span{After: g.after, Until: g.until, Resolution: g.resolution})
	}
	c.Parts = parts(s, c.Spans, rules.Exact)
	return c
}

// preferred is a tier in the order of preference.
type preferred struct {
	rollup.Holding
	// whole windows only: where the stretch begins or ends within a window, leave
	// the rest to finer tiers.
	whole bool
}

// preference orders the tiers for s, best first, and says why.
func preference(s *Selector, held []rollup.Holding, rules Rules) (order []preferred, why string) {
	var raw, partial []rollup.Holding
	var rungs []rollup.Holding // finest first
	for _, h := range held {
		switch {
		case len(h.Held) == 0:
		case h.Resolution == rollup.Raw:
			raw = append(raw, h)
		case h.Partial:
			partial = append(partial, h)
		default:
			rungs = append(rungs, h)
		}
	}
	finer := func(a, b rollup.Holding) int { return cmp.Compare(a.Resolution, b.Resolution) }
	slices.SortFunc(rungs, finer)
	slices.SortFunc(partial, finer)

	add := func(whole bool, hs ...rollup.Holding) {
		for _, h := range hs {
			order = append(order, preferred{h, whole})
		}
	}
	after, until := s.Stretch()
	exact := exactRungs(s, rungs, rules)
	switch {
	case len(rungs)+len(partial) == 0:
		why = "no rollups are held of that time"
		add(false, raw...)
	case rules.MaxSource > 0 && len(exact) > 0:
		why = "exact on aligned windows, max_source_resolution allows them"
		add(true, exact...)
		add(false, raw...)
	case rules.MaxSource > 0 && len(coarsest(s, rungs, rules.MaxSource)) > 0:
		why = "max_source_resolution asks for it"
		add(false, coarsest(s, rungs, rules.MaxSource)...)
		add(false, raw...)
	case rules.MaxSource >= 0:
		why = "samples where they are held: max_source_resolution allows no rollup"
		add(false, raw...)
	case len(exact) == 0 && rules.Exact:
		why = "samples where they are held: times or range do not fit the windows"
		add(false, raw...)
	case len(exact) == 0:
		why = "samples where they are held: windows only estimate it"
		add(false, raw...)
	case until-after < rules.MinStretch:
		why = fmt.Sprintf("samples where they are held: less than query.rollups.min_range (%s) is read", Duration(rules.MinStretch))
		add(false, raw...)
	default:
		why = "exact on aligned windows"
		add(true, exact...)
		add(false, raw...)
	}
	add(false, fallback(s, rungs, rules)...)
	add(false, partial...)
	return order, why
}

// exactRungs are the tiers whose windows give s just what samples give, coarsest
// first. A single time may begin and end within windows: finer tiers see to its
// edges.
func exactRungs(s *Selector, rungs []rollup.Holding, rules Rules) (fit []rollup.Holding) {
	if !rules.Exact {
		return nil
	}
	for _, h := range slices.Backward(rungs) {
		r := h.Resolution
		if r <= s.Range && (rules.MaxSource <= 0 || r <= rules.MaxSource) && (s.Data().single() || aligned(s, r)) {
			fit = append(fit, h)
		}
	}
	return fit
}

// aligned reports whether the ranges at all times of s are whole windows.
func aligned(s *Selector, r int64) bool {
	g := s.Data()
	return g.Start%r == 0 && s.Range%r == 0 && (g.single() || g.Step%r == 0)
}

// coarsest are the tiers up to a resolution, coarsest first. A range is widened
// only if no tier fits into it; a plain selector has none to widen.
func coarsest(s *Selector, rungs []rollup.Holding, limit int64) (fit []rollup.Holding) {
	for _, h := range slices.Backward(rungs) {
		if h.Resolution <= limit && (s.matrix == nil || h.Resolution <= s.Range) {
			fit = append(fit, h)
		}
	}
	if len(fit) == 0 && len(rungs) > 0 && rungs[0].Resolution <= limit {
		fit = rungs[:1]
	}
	return fit
}

// fallback orders all rungs for time of which nothing better is held: for an exact
// answer the coarsest that fits, else the finest, then the finer before the
// coarser.
func fallback(s *Selector, rungs []rollup.Holding, rules Rules) []rollup.Holding {
	order := slices.Clone(rungs)
	if !rules.Exact {
		return order
	}
	for i, h := range slices.Backward(order) {
		if h.Resolution <= s.Range && aligned(s, h.Resolution) {
			slices.Reverse(order[:i+1])
			break
		}
	}
	return order
}

// parts divides the data grid of s by how far to look back: where a window that
// can be seen is wider than the range, as far as the window is wide, because a
// narrower range would often be empty. That does not hold for functions that
// aligned windows answer exactly: they take the part of a window that lies in the
// range, and widening would make an increase, a sum or a count greater.
func parts(s *Selector, spans []rollup.Span, exact bool) (ps []Part) {
	g := s.Data()
	if exact {
		return []Part{{Grid: g, Range: s.Range}}
	}
	for t := g.Start; t <= g.End; t += g.Step {
		width := s.Range
		for _, sp := range spans {
			if sp.Resolution > width && sp.After < t && t-s.Range < sp.Until {
				width = sp.Resolution
			}
		}
		if n := len(ps); n > 0 && ps[n-1].Range == width {
			ps[n-1].Grid.End = t
		} else {
			ps = append(ps, Part{Grid{t, t, g.Step}, width})
		}
	}
	return ps
}

// Duration prints milliseconds as PromQL would.
func Duration(ms int64) string { return model.Duration(time.Duration(ms) * time.Millisecond).String() }
