package measure

import (
	"fmt"
	"slices"
)

// Spread prints the median of sorted values and their range.
func Spread(format string, v []float64) string {
	if len(v) == 0 {
		return "-"
	}
	return fmt.Sprintf(format+" ("+format+" to "+format+")", Median(v), v[0], v[len(v)-1])
}

// Distinct returns the key of each element once, in their order.
func Distinct[T any, K comparable](list []T, key func(T) K) []K {
	var out []K
	for _, x := range list {
		if k := key(x); !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

// Median of sorted values.
func Median(v []float64) float64 {
	mid := len(v) / 2
	if len(v)%2 == 1 {
		return v[mid]
	}
	return (v[mid-1] + v[mid]) / 2
}
