package tiers

import (
	"math"
	"slices"

	"github.com/weir-dev/weir/internal/rollup"
)

// span is a half-open stretch of time [from, to) in milliseconds, as blocks have.
type span struct{ from, to int64 }

func (s span) overlaps(o span) bool { return s.from < o.to && o.from < s.to }

func (s span) within(o span) bool { return o.from <= s.from && s.to <= o.to }

func (s span) cut(o span) span { return span{max(s.from, o.from), min(s.to, o.to)} }

func (s span) empty() bool { return s.from >= s.to }

// minus returns what of s no hole takes, in order.
func (s span) minus(holes []span) []span {
	sorted := slices.SortedFunc(slices.Values(holes), func(a, b span) int {
		switch {
		case a.from < b.from:
			return -1
		case a.from > b.from:
			return 1
		}
		return 0
	})
	var left []span
	for _, h := range sorted {
		if h.empty() || h.to <= s.from {
			continue
		}
		if h.from >= s.to {
			break
		}
		if h.from > s.from {
			left = append(left, span{s.from, h.from})
		}
		s.from = h.to
	}
	if !s.empty() {
		left = append(left, s)
	}
	return left
}

// windowEnd returns the end of the window of t: the first multiple of r that is
// not before it. At the ends of time it is the end of time.
func windowEnd(t, r int64) int64 {
	if t > math.MaxInt64-r || t < math.MinInt64+r {
		return t
	}
	return floor(t-1, r) + r
}

// floor returns the last multiple of length that is not after t.
func floor(t, length int64) int64 {
	q := t / length
	if t%length < 0 {
		q--
	}
	return q * length
}

// plus adds without leaving the range of int64.
func plus(t, d int64) int64 {
	switch {
	case d > 0 && t > math.MaxInt64-d:
		return math.MaxInt64
	case d < 0 && t < math.MinInt64-d:
		return math.MinInt64
	}
	return t + d
}

func intervals(spans []span) []rollup.Interval {
	out := make([]rollup.Interval, 0, len(spans))
	for _, s := range spans {
		out = append(out, rollup.Interval{MinT: s.from, MaxT: s.to - 1})
	}
	return out
}
