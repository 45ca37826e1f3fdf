package rangefn

import (
	"cmp"
	"math"
	"slices"
)

// weighed is a value that stands for a number of samples.
type weighed struct{ v, n float64 }

// spread gathers what is known of the range's samples: of each point its least and
// its greatest one and the mean of the others, as often as there are such.
func (e *eval) spread() []weighed {
	out := e.sorted[:0]
	c := e.cols
	for i := e.lo; i < e.over; i++ {
		share, n := e.share(i), c.Count[i]
		if n == 1 || c.Min[i] == c.Max[i] || c.Min[i] != c.Min[i] {
			out = append(out, weighed{c.Max[i], n * share})
			continue
		}
		out = append(out, weighed{c.Min[i], share}, weighed{c.Max[i], share})
		if n > 2 {
			out = append(out, weighed{rest(c.Sum[i], n, c.Min[i], c.Max[i]), (n - 2) * share})
		}
	}
	e.sorted = out
	return out
}

// rest is the mean of n samples less the least and the greatest of them.
func rest(sum, n, lo, hi float64) float64 {
	v := (sum - lo - hi) / (n - 2)
	if v != v { // NaN is among them, or infinities
		return lo + (hi-lo)/2
	}
	return min(max(v, lo), hi)
}

func quantileAt(e *eval) (float64, bool) { return quantile(e.call.Params[0], e.spread()), true }

// quantile sorts the values and returns a quantile as PromQL does, between the two
// samples it lies between.
func quantile(q float64, values []weighed) float64 {
	switch {
	case math.IsNaN(q) || len(values) == 0:
		return math.NaN()
	case q < 0:
		return math.Inf(-1)
	case q > 1:
		return math.Inf(+1)
	}
	slices.SortFunc(values, func(a, b weighed) int { return cmp.Compare(a.v, b.v) })
	total := 0.0
	for _, w := range values {
		total += w.n
	}
	rank := q * max(total-1, 0)
	lower := math.Floor(rank)
	upper := min(lower+1, max(total-1, lower))
	weight := rank - lower
	return nth(values, lower)*(1-weight) + nth(values, upper)*weight
}

// nth returns the sample with n others before it.
func nth(sorted []weighed, n float64) float64 {
	seen := 0.0
	for _, w := range sorted {
		// Shares of points may add up to a hair less than a whole sample.
		if seen += w.n; seen > n+1e-9 {
			return w.v
		}
	}
	return sorted[len(sorted)-1].v
}

func mad(e *eval) (float64, bool) {
	for _, v := range e.cols.Sum[e.lo:e.over] {
		if math.IsNaN(v) {
			return math.NaN(), true
		}
	}
	values := e.spread()
	median := quantile(0.5, values)
	for i := range values {
		values[i].v = math.Abs(values[i].v - median)
	}
	return quantile(0.5, values), true
}

func stddev(e *eval) (float64, bool) {
	v, ok := stdvar(e)
	return math.Sqrt(v), ok
}

func stdvar(e *eval) (float64, bool) {
	c := e.cols
	var n, mean float64
	for i := e.lo; i < e.over; i++ {
		w := c.Count[i] * e.share(i)
		n += w
		mean += (c.Sum[i]/c.Count[i] - mean) * (w / n)
	}
	var squares float64
	for i := e.lo; i < e.over; i++ {
		d := c.Sum[i]/c.Count[i] - mean
		squares += c.Count[i] * e.share(i) * (d*d + variance(c.Count[i], c.Sum[i], c.Min[i], c.Max[i]))
	}
	return squares / n, true
}

// variance estimates the variance of a point's samples. It is least when all but
// the two extremes are equal, and greatest, (max-avg)(avg-min), when all samples
// are at the extremes. Samples spread evenly over the range have a third of that; up to
// three samples are known from the four values, and have the least.
func variance(n, sum, lo, hi float64) float64 {
	if lo == hi || n < 2 {
		return 0
	}
	avg := sum / n
	lowest := (hi-avg)*(hi-avg) + (avg-lo)*(avg-lo)
	if n > 2 {
		d := rest(sum, n, lo, hi) - avg
		lowest += (n - 2) * d * d
	}
	return max(lowest/n, (hi-avg)*(avg-lo)/3)
}
