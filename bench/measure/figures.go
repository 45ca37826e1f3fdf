package measure

import "fmt"

// Spread prints the median of sorted values and their range.
func Spread(format string, v []float64) string {
	if len(v) == 0 {
		return "-"
	}
	return fmt.Sprintf(format+" ("+format+" to "+format+")", Median(v), v[0], v[len(v)-1])
}

// Median of sorted values.
func Median(v []float64) float64 {
	mid := len(v) / 2
	if len(v)%2 == 1 {
		return v[mid]
	}
	return (v[mid-1] + v[mid]) / 2
}
