package rangefn

import "math"

// line is a least-squares line through weighed points, x in seconds.
type line struct {
	n, sumX, sumY, sumXY, sumX2 float64
	first                       float64
	varies                      bool
}

func (l *line) add(x, y, w float64) {
	if l.n == 0 {
		l.first = y
	}
	l.varies = l.varies || y != l.first
	l.n += w
	l.sumX += w * x
	l.sumY += w * y
	l.sumXY += w * x * y
	l.sumX2 += w * x * x
}

// fit returns the slope a second and the value at x = 0.
func (l *line) fit() (slope, at float64) {
	if !l.varies {
		if math.IsInf(l.first, 0) {
			return math.NaN(), math.NaN()
		}
		return 0, l.first
	}
	slope = (l.sumXY - l.sumX*l.sumY/l.n) / (l.sumX2 - l.sumX*l.sumX/l.n)
	return slope, l.sumY/l.n - slope*l.sumX/l.n
}

// regression returns the line through the range's points, with x = 0 at time zero,
// in Unix milliseconds. There is none through fewer than two samples.
func (e *eval) regression(zero int64) (slope, at float64, ok bool) {
	c := e.cols
	if e.over-e.lo == 1 {
		return e.through(e.lo, zero)
	}
	var l line
	for i := e.lo; i < e.over; i++ {
		l.add(e.center(i, zero), c.Sum[i]/c.Count[i], c.Count[i]*e.share(i))
	}
	slope, at = l.fit()
	return slope, at, true
}

// center is the middle of point i in seconds after zero. For a point at the edge
// of the range it is the middle of all of it, as the mean is of all of it.
func (e *eval) center(i int, zero int64) float64 {
	return (float64(e.start[i]-zero) + float64(e.end[i]-zero)) / 2e3
}

// through returns the line through point i, the only one of the range. Its slope is
// taken from the point before or after where one is near and has not so few samples
// that they may be far from its middle, else from its extremes.
func (e *eval) through(i int, zero int64) (slope, at float64, ok bool) {
	c := e.cols
	if c.Count[i] < 2 {
		return 0, 0, false
	}
	x, y := e.center(i, zero), c.Sum[i]/c.Count[i]
	var l line
	l.add(x, y, 1)
	switch {
	case c.Min[i] == c.Max[i]:
	case i > 0 && e.start[i]-e.end[i-1] <= e.call.Range && 2*c.Count[i-1] >= c.Count[i]:
		l.add(e.center(i-1, zero), c.Sum[i-1]/c.Count[i-1], 1)
	case i+1 < len(e.end) && e.start[i+1]-e.end[i] <= e.call.Range && 2*c.Count[i+1] >= c.Count[i]:
		l.add(e.center(i+1, zero), c.Sum[i+1]/c.Count[i+1], 1)
	default:
		seconds := float64(e.end[i]-e.start[i]) / 1000
		slope = (c.Last[i] - e.first(i)) / seconds
		return slope, y - slope*x, true
	}
	slope, at = l.fit()
	return slope, at, true
}

func deriv(e *eval) (float64, bool) {
	// Times near zero keep the sums precise.
	slope, _, ok := e.regression(e.end[e.lo])
	return slope, ok
}

func predictLinear(e *eval) (float64, bool) {
	slope, at, ok := e.regression(e.to)
	return slope*e.call.Params[0] + at, ok
}

// smoothRepeats bounds how often a point's mean is fed to the smoothing, whose cost
// is that of its samples. After so many equal inputs, factors down to about 0.01
// have come to rest.
const smoothRepeats = 1000

func smooth(e *eval) (float64, bool) {
	c := e.cols
	sf, tf := e.call.Params[0], e.call.Params[1]
	var s0, s1, b float64
	seen := 0
	for i := e.lo; i < e.over; i++ {
		v := c.Sum[i] / c.Count[i]
		n := int(max(1, math.Round(min(c.Count[i]*e.share(i), smoothRepeats))))
		for range n {
			switch seen {
			case 0:
				s1 = v
			default:
				if seen == 1 {
					b = v - s1
				} else {
					b = tf*(s1-s0) + (1-tf)*b
				}
				s0, s1 = s1, sf*v+(1-sf)*(s1+b)
			}
			seen++
		}
	}
	// Of a point that is barely in the range, more than one sample may be.
	return s1, seen > 1 || c.Count[e.lo] > 1
}
