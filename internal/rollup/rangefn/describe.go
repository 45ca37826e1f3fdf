package rangefn

import "github.com/weir-dev/weir/internal/rollup"

// Kind tells how a function over points relates to it over samples.
type Kind uint8

// The kinds.
const (
	// Estimated: within the bound that [Describe] gives.
	Estimated Kind = iota
	// Exact: on an aligned grid the same as over samples.
	Exact
)

// String returns the kind in lower case.
func (k Kind) String() string {
	if k == Exact {
		return "exact"
	}
	return "estimated"
}

// Describe tells which columns a function needs, its kind and, in a sentence for
// people, how near the truth it comes. It is not ok for functions that are not of
// range vectors; "" is the plain selector.
func Describe(fn string) (need rollup.Need, kind Kind, bound string, ok bool) {
	f, ok := lookup(fn)
	return f.need, f.kind, f.bound, ok
}

// function is one line of the table.
type function struct {
	need   rollup.Need
	kind   Kind
	params int
	takes  takes
	at     func(*eval) (float64, bool)
	// histAt is the function over a range of histograms only.
	histAt histFunc
	bound  string
}

// takes says what a function makes of a range with histograms in it.
type takes uint8

const (
	all     takes = iota // counts any sample
	floats               // passes over histograms
	alike                // has no value for floats and histograms together
	anyType              // sorts it out itself
)

const (
	needCount = rollup.NeedCount
	needSum   = rollup.NeedSum
	needMin   = rollup.NeedMin
	needMax   = rollup.NeedMax
	needInc   = rollup.NeedInc
	needLast  = rollup.NeedLast
	needShape = needCount | needSum | needMin | needMax
)

const (
	edgeSum = "Exact on an aligned grid; elsewhere a point at the range's edge counts by the part of it that lies within."
	edgeAll = "Exact on an aligned grid; elsewhere points at the range's edges count as a whole, so it is at most theirs."
	rising  = "The exact rise from the last sample at or before the range's start to the last in it, without extrapolation; on an unaligned grid a point at the edge counts by the part of it that lies within; NaN samples are passed over."
)

// lookup is the table of functions.
func lookup(fn string) (function, bool) {
	switch fn {
	case "":
		return function{needLast, Estimated, 0, anyType, nil, plainPoint,
			"The last sample of the newest point where that is known (counters, constant values, histograms), else its mean; always between the point's least and greatest sample."}, true
	case "last_over_time":
		return function{needLast, Estimated, 0, anyType, nil, newestPoint,
			"The last sample of the newest point where that is known (counters, constant values, histograms), else its mean; always between the point's least and greatest sample."}, true
	case "first_over_time":
		return function{needLast | needMin | needMax, Estimated, 0, anyType, nil, oldestPoint,
			"Between the least and greatest sample of the oldest point."}, true
	case "rate":
		return function{needInc, Exact, 0, alike, rate, rateHist, rising}, true
	case "increase":
		return function{needInc, Exact, 0, alike, increase, increaseHist, rising}, true
	case "irate":
		return function{needInc, Estimated, 0, alike, irate, irateHist,
			"The mean rate over the newest point instead of the one between its last two samples; of evenly sampled series, between the least and the greatest such rate, give or take one sample's rise."}, true
	case "idelta":
		return function{needLast | needMin | needMax | needCount, Estimated, 0, alike, idelta, ideltaHist,
			"The mean difference from one sample of the newest point to the next instead of the one between its last two samples; at most the distance of the extremes of that point and the one before, divided by the number of samples."}, true
	case "delta":
		return function{needLast | needMin | needMax, Estimated, 0, alike, delta, deltaHist,
			"The difference between the range's ends, without extrapolation, each end between the least and greatest sample of its point."}, true
	case "sum_over_time":
		return function{needSum, Exact, 0, alike, sum, sumHist, edgeSum}, true
	case "count_over_time":
		return function{needCount, Exact, 0, all, count, nil, edgeSum}, true
	case "avg_over_time":
		return function{needSum | needCount, Exact, 0, alike, avg, avgHist, edgeSum}, true
	case "min_over_time":
		return function{needMin, Exact, 0, floats, least, nil, edgeAll}, true
	case "max_over_time":
		return function{needMax, Exact, 0, floats, most, nil, edgeAll}, true
	case "present_over_time", "absent_over_time":
		return function{0, Exact, 0, all, present, nil,
			"Exact on an aligned grid; elsewhere a point at the range's edge counts as present."}, true
	}
	return lookupEstimated(fn)
}

// lookupEstimated is the rest of the table.
func lookupEstimated(fn string) (function, bool) {
	switch fn {
	case "changes":
		return function{needMin | needMax | needLast, Estimated, 0, anyType, nil, changes,
			"At least: each point whose samples differ counts once, and each border between points that have no value in common; at most the number of samples less one."}, true
	case "resets":
		return function{needMin | needMax | needInc | needLast, Estimated, 0, anyType, nil, resets,
			"At least: each point in which the counter must have fallen counts once, however often it fell; at most the number of samples less one."}, true
	case "quantile_over_time":
		return function{needShape, Estimated, 1, floats, quantileAt, nil,
			"Of each point's least and greatest sample and the mean of its other samples, as often as there are such; exact for quantiles 0 and 1 and for points of up to three samples, else each sample is off by no more than its point's range."}, true
	case "mad_over_time":
		return function{needShape, Estimated, 0, floats, mad, nil,
			"Of each point's least and greatest sample and the mean of its other samples, as often as there are such; exact for points of up to three samples, else off by no more than twice the greatest range of a point."}, true
	case "stddev_over_time", "stdvar_over_time":
		f := function{needShape, Estimated, 0, floats, stddev, nil,
			"The variance of the points' means, which is exact, and an estimate of that within points, which is at most (max-avg)*(avg-min) and at least what the two extremes make for; exact for points of up to three samples."}
		if fn == "stdvar_over_time" {
			f.at = stdvar
		}
		return f, true
	case "deriv":
		return function{needShape | needLast, Estimated, 0, floats, deriv, nil,
			"The regression line through the points' means, each at the middle of its point and as heavy as it has samples; exact for a straight line sampled evenly, else each sample is off by no more than its point's range."}, true
	case "predict_linear":
		return function{needShape | needLast, Estimated, 1, floats, predictLinear, nil,
			"The regression line through the points' means, each at the middle of its point and as heavy as it has samples; exact for a straight line sampled evenly, give or take what it rises in half a sampling interval; else each sample is off by no more than its point's range."}, true
	case "double_exponential_smoothing":
		return function{needCount | needSum, Estimated, 2, floats, smooth, nil,
			"Smoothed over each point's mean, repeated once a sample; each input is off by no more than its point's range, but no bound is known for the result."}, true
	case "ts_of_first_over_time":
		return function{needCount, Estimated, 0, all, tsOfFirst, nil,
			"Within the oldest point: off by no more than its resolution."}, true
	case "ts_of_last_over_time":
		return function{0, Estimated, 0, all, tsOfLast, nil,
			"The end of the newest point: late by less than its resolution."}, true
	case "ts_of_max_over_time":
		return function{needMax, Estimated, 0, floats, tsOfMax, nil,
			"The middle of the point with the greatest sample: off by no more than half its resolution."}, true
	case "ts_of_min_over_time":
		return function{needMin, Estimated, 0, floats, tsOfMin, nil,
			"The middle of the point with the least sample: off by no more than half its resolution."}, true
	}
	return function{}, false
}
