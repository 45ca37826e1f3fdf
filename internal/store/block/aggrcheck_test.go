package block

import (
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"

	"github.com/weir-dev/weir/internal/rollup"
)

// TestCheckHistograms takes a part away from a chunk of histograms.
func TestCheckHistograms(t *testing.T) {
	h := func(hint histogram.CounterResetHint) *histogram.FloatHistogram {
		return &histogram.FloatHistogram{Count: 3, Sum: 2, CounterResetHint: hint}
	}
	for name, hint := range map[string]histogram.CounterResetHint{"counter": histogram.UnknownCounterReset, "gauge": histogram.GaugeType} {
		p := points{hist: true}
		c, err := p.encodeHistogram(&point{end: 1000, count: 2, histSum: h(histogram.GaugeType), histCounter: h(hint)})
		if err != nil {
			t.Fatal(err)
		}
		var a aggrChecker
		if n, samples, err := a.checkAggr(c, 1000, 1000, true); n != 1 || samples != 2 || err != nil {
			t.Errorf("%s: got %d points of %d samples and error %v", name, n, samples, err)
		}
		_, counter, err := c.Part(rollup.Counter)
		if err != nil {
			t.Fatal(err)
		}
		c = append(c[:len(c)-len(counter)-2], 0) // length and encoding, a byte each
		for _, ours := range []bool{true, false} {
			if _, _, err := a.checkAggr(c, 1000, 1000, ours); err == nil || !strings.Contains(err.Error(), "part counter") {
				t.Errorf("%s without counter part: got error %v", name, err)
			}
		}
		if _, err := decodePoints(c); err == nil || !strings.Contains(err.Error(), "part counter") {
			t.Errorf("%s without counter part: decoding it gives error %v", name, err)
		}
	}
}
