// Package rangefn evaluates what PromQL does with a range vector over the points
// of rollups, and over samples where the two are stitched into one series.
//
//	rollup.Columns of one series + function, range, evaluation times -> values
//
// A range (t-r, t] is the same left-open stretch a point covers. On an aligned grid,
// where evaluation times and range are multiples of the resolution, a range is a
// number of whole points and the Exact functions see just the samples they would
// see raw. Elsewhere a point at the edge counts by the part of it that lies within,
// or, where that makes no sense, as a whole. What a function makes of points is in
// [Describe], and how far it can be from the truth.
//
// rate and increase are the exact rise between the last sample at or before the
// range's start and the last one in it. They do not extrapolate, and ranges side by
// side add up to the rise of the whole. Only after a hole longer than the range is
// the rise over it spread evenly, so that it does not come as a burst.
//
// The package does no I/O and borrows the columns until the call returns, the
// histograms in them for as long as the result is used. The query room imports it.
package rangefn
