package jaegerv1

import (
	"encoding/json"
	"math"
	"testing"
)

// FuzzString compares with encoding/json, with which Jaeger writes.
func FuzzString(f *testing.F) {
	for _, s := range []string{"", "a", "<&>", "\u2028\u2029", "\xff\xc3(", "\x00\x1f\x7f\b\f\n\r\t", `"\`, "\ufffd", "é\U0001F600", "\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(appendString(nil, s)); got != string(want) {
			t.Errorf("%q: got %s, want %s", s, got, want)
		}
	})
}

func FuzzFloat(f *testing.F) {
	for _, n := range []float64{0, 1, -1, 1e-6, 9.99e-7, 1e21, 9.99e20, 1e-9, 1e-10, 1e100, 1e-100, math.MaxFloat64, math.SmallestNonzeroFloat64, 0.1, 1.0 / 3} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n float64) {
		want, err := json.Marshal(n)
		if err != nil || n == 0 {
			return // not in JSON, or minus zero
		}
		if got := string(appendFloat(nil, n)); got != string(want) {
			t.Errorf("%g: got %s, want %s", n, got, want)
		}
	})
}
