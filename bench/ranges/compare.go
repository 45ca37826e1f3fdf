package main

import (
	"math"
	"slices"

	"github.com/prometheus/common/model"
)

// difference is how far an answer is from another one, value by value.
type difference struct {
	points  int     // in both
	missing int     // only in the reference
	extra   int     // only in the answer
	median  float64 // relative difference of the points in both
	worst   float64
	at      string // series of the worst
}

// compare looks up every value of ref in got. A relative difference is that of two
// values over the larger of them; two NaN are equal.
func compare(ref, got *answer) difference {
	var (
		d    difference
		rels []float64
	)
	for key, want := range ref.series {
		have := map[model.Time]float64{}
		for _, p := range got.series[key] {
			have[p.Timestamp] = float64(p.Value)
		}
		for _, p := range want {
			v, ok := have[p.Timestamp]
			if !ok {
				d.missing++
				continue
			}
			delete(have, p.Timestamp)
			rel := relative(float64(p.Value), v)
			if rels = append(rels, rel); rel > d.worst {
				d.worst, d.at = rel, key
			}
		}
		d.extra += len(have)
	}
	for key, ps := range got.series {
		if _, ok := ref.series[key]; !ok {
			d.extra += len(ps)
		}
	}
	d.points = len(rels)
	slices.Sort(rels)
	if d.points > 0 {
		d.median = rels[d.points/2]
	}
	return d
}

func relative(a, b float64) float64 {
	switch {
	case a == b || math.IsNaN(a) && math.IsNaN(b):
		return 0
	case math.IsNaN(a) != math.IsNaN(b) || math.IsInf(a, 0) || math.IsInf(b, 0):
		return 1
	}
	return math.Abs(a-b) / max(math.Abs(a), math.Abs(b))
}
