//go:build !race

// The race detector has sync.Pool drop things at random, so allocations say nothing.

package wire

import (
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
)

// TestDecodeAllocs: a pooled Request reads floats of either protocol, and their
// labels, without one allocation.
func TestDecodeAllocs(t *testing.T) {
	v1, v2 := &prompb.WriteRequest{}, &writev2.Request{}
	st := writev2.NewSymbolTable()
	ls := labels.FromStrings("__name__", "up", "instance", "10.0.0.1:9100", "job", "node")
	for i := range 500 {
		v1.Timeseries = append(v1.Timeseries, prompb.TimeSeries{
			Labels:  prompb.FromLabels(ls, nil),
			Samples: []prompb.Sample{{Timestamp: int64(i), Value: 1}, {Timestamp: int64(i + 1), Value: 2}},
		})
		v2.Timeseries = append(v2.Timeseries, writev2.TimeSeries{
			LabelsRefs: st.SymbolizeLabels(ls, nil),
			Samples:    []writev2.Sample{{Timestamp: int64(i), Value: 1}, {Timestamp: int64(i + 1), Value: 2}},
		})
	}
	v2.Symbols = st.Symbols()
	raw1, raw2 := encode(t, v1), encode(t, v2)

	read := 0
	add := func(name, value string) { read += len(name) + len(value) }
	r := &Request{}
	require.Zero(t, testing.AllocsPerRun(50, func() {
		require.NoError(t, r.DecodeV1(raw1))
		for i := range r.Series {
			_ = LabelsV1(r.RawLabels(&r.Series[i]), add)
		}
	}), "1.0")
	require.Zero(t, testing.AllocsPerRun(50, func() {
		require.NoError(t, r.DecodeV2(raw2))
		for i := range r.Series {
			r.LabelsV2(r.Refs[r.Series[i].Refs.Lo:r.Series[i].Refs.Hi], add)
		}
	}), "2.0")
	require.NotZero(t, read)
}
