package search

import (
	"math"
	"slices"
)

// normalTail is the chance of a normal variable to lie z or more from its mean.
func normalTail(z float64) float64 { return math.Erfc(math.Abs(z) / math.Sqrt2) }

// sharesDiffer is the chance that of n events, each on one side with probability
// share, k or a number as unlikely are on that side; with a correction for continuity.
func sharesDiffer(k, n int, share float64) float64 {
	deviation := math.Sqrt(float64(n) * share * (1 - share))
	if n == 0 || deviation == 0 {
		return 1
	}
	return normalTail(max(0, math.Abs(float64(k)-float64(n)*share)-.5) / deviation)
}

// proportionsDiffer is the chance that k1 of n1 and k2 of n2 differ by so much or more
// if both come of one proportion: exactly (Fisher) where the normal approximation
// does not hold, for want of events.
func proportionsDiffer(k1, n1, k2, n2 int) float64 {
	n, k := n1+n2, k1+k2
	if n1 == 0 || n2 == 0 || k == 0 || k == n {
		return 1
	}
	// The rule of thumb for the approximation is 5 expected in each of the four cells;
	// being exact up to 10 costs little.
	if float64(min(n1, n2))*float64(min(k, n-k))/float64(n) < 10 {
		return fisher(k1, n1, k, n)
	}
	pooled := float64(k) / float64(n)
	deviation := math.Sqrt(pooled * (1 - pooled) * (1/float64(n1) + 1/float64(n2)))
	return normalTail((float64(k1)/float64(n1) - float64(k2)/float64(n2)) / deviation)
}

// fisher is the chance that k1 or what is as unlikely of k events among n fall to the
// n1. It is asked for where the smaller of the margins is below the root of 10n.
func fisher(k1, n1, k, n int) float64 {
	lo, hi := max(0, k-(n-n1)), min(k, n1)
	whole := logChoose(n, k)
	chance := func(x int) float64 { return math.Exp(logChoose(n1, x) + logChoose(n-n1, k-x) - whole) }
	observed, sum := chance(k1), 0.
	for x := lo; x <= hi; x++ {
		if c := chance(x); c <= observed*(1+1e-7) { // equal but for rounding
			sum += c
		}
	}
	return min(sum, 1)
}

func logChoose(n, k int) float64 { return logFactorial(n) - logFactorial(k) - logFactorial(n-k) }

func logFactorial(n int) float64 {
	l, _ := math.Lgamma(float64(n + 1))
	return l
}

// quantilesDiffer tests a quantile: that of both sides together is above as large a
// part of one as of the other if they do not differ. Both are sorted.
func quantilesDiffer(a, b []uint64, q float64) float64 {
	both := slices.Concat(a, b)
	slices.Sort(both)
	at := both[int(q*float64(len(both)-1))]
	above := func(list []uint64) int {
		i, _ := slices.BinarySearch(list, at+1)
		return len(list) - i
	}
	return proportionsDiffer(above(a), len(a), above(b), len(b))
}
