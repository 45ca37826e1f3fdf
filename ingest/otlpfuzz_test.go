package ingest

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"github.com/weir-dev/weir/ingest/internal/wire"
)

// FuzzOTLP holds the reader against the collector's: what that one accepts we
// accept or call unusual, and see the same points. We accept more, since
// attributes are read only for series not seen before.
func FuzzOTLP(f *testing.F) {
	for seed := range uint64(10) {
		o := odd{Rand: rand.New(rand.NewPCG(seed, 3)), t: time.Unix(1.7e9, 0), max: time.Minute}
		raw, err := pmetricotlp.NewExportRequestFromMetrics(o.request(pmetric.AggregationTemporalityCumulative)).MarshalProto()
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var ours wire.OTLP
		err := ours.Decode(raw)
		theirs := pmetricotlp.NewExportRequest()
		if theirs.UnmarshalProto(raw) != nil {
			return
		}
		if err != nil {
			require.ErrorIs(t, err, wire.ErrUnusual)
			again, err := theirs.MarshalProto()
			require.NoError(t, err)
			require.NoError(t, ours.Decode(again))
		}
		compareOTLP(t, &ours, theirs.Metrics())
	})
}

func compareOTLP(t *testing.T, o *wire.OTLP, md pmetric.Metrics) {
	require.Len(t, o.Resources, md.ResourceMetrics().Len())
	var scopes, metrics, points uint32
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			require.Equal(t, sm.SchemaUrl(), string(o.Bytes(o.Scopes[scopes].SchemaURL)))
			scopes++
			for _, m := range sm.Metrics().All() {
				got := o.Metrics[metrics]
				metrics++
				require.Equal(t, m.Name(), string(o.Bytes(got.Name)))
				require.Equal(t, m.Unit(), string(o.Bytes(got.Unit)))
				require.Equal(t, m.Description(), string(o.Bytes(got.Description)))
				require.Equal(t, points, got.Points.Lo)
				comparePoints(t, o, o.Points[got.Points.Lo:got.Points.Hi], got, m)
				points = got.Points.Hi
			}
		}
	}
	require.Len(t, o.Scopes, int(scopes))
	require.Len(t, o.Metrics, int(metrics))
	require.Len(t, o.Points, int(points))
}

func comparePoints(t *testing.T, o *wire.OTLP, got []wire.OTLPPoint, m wire.OTLPMetric, want pmetric.Metric) {
	common := func(i int, p interface {
		Timestamp() pcommon.Timestamp
		StartTimestamp() pcommon.Timestamp
		Flags() pmetric.DataPointFlags
	}, exemplars int,
	) {
		require.EqualValues(t, p.Timestamp(), got[i].T)
		require.EqualValues(t, p.StartTimestamp(), got[i].ST)
		require.EqualValues(t, p.Flags(), got[i].Flags)
		require.Equal(t, exemplars, got[i].Exemplars.Len())
	}
	number := func(p pmetric.NumberDataPointSlice) {
		require.Len(t, got, p.Len())
		for i, p := range p.All() {
			common(i, p, p.Exemplars().Len())
			v := p.DoubleValue()
			if p.ValueType() == pmetric.NumberDataPointValueTypeInt {
				v = float64(p.IntValue())
			}
			require.Equal(t, math.Float64bits(v), math.Float64bits(got[i].V))
		}
	}
	total := func(h *wire.OTLPHistogram, count uint64, sum float64) {
		require.Equal(t, count, h.Count)
		require.Equal(t, math.Float64bits(sum), math.Float64bits(h.Sum))
	}
	counts := func(want pcommon.UInt64Slice, at wire.Range) {
		require.Equal(t, want.AsRaw(), append([]uint64(nil), o.Counts[at.Lo:at.Hi]...))
	}
	switch want.Type() {
	case pmetric.MetricTypeGauge:
		number(want.Gauge().DataPoints())
	case pmetric.MetricTypeSum:
		require.Equal(t, want.Sum().IsMonotonic(), m.Monotonic)
		require.EqualValues(t, want.Sum().AggregationTemporality(), m.Temporality)
		number(want.Sum().DataPoints())
	case pmetric.MetricTypeHistogram:
		require.EqualValues(t, want.Histogram().AggregationTemporality(), m.Temporality)
		require.Len(t, got, want.Histogram().DataPoints().Len())
		for i, p := range want.Histogram().DataPoints().All() {
			h := &o.Histograms[got[i].Extra]
			common(i, p, p.Exemplars().Len())
			total(h, p.Count(), p.Sum())
			require.Equal(t, p.HasSum(), h.HasSum)
			counts(p.BucketCounts(), h.Counts)
			require.Equal(t, p.ExplicitBounds().Len(), h.Bounds.Len())
			for j, b := range p.ExplicitBounds().All() {
				require.Equal(t, math.Float64bits(b), math.Float64bits(o.Bounds[int(h.Bounds.Lo)+j]))
			}
		}
	case pmetric.MetricTypeExponentialHistogram:
		require.EqualValues(t, want.ExponentialHistogram().AggregationTemporality(), m.Temporality)
		require.Len(t, got, want.ExponentialHistogram().DataPoints().Len())
		for i, p := range want.ExponentialHistogram().DataPoints().All() {
			h := &o.Histograms[got[i].Extra]
			common(i, p, p.Exemplars().Len())
			total(h, p.Count(), p.Sum())
			require.Equal(t, p.Scale(), h.Scale)
			require.Equal(t, p.ZeroCount(), h.ZeroCount)
			require.Equal(t, p.Positive().Offset(), h.Positive.Offset)
			counts(p.Positive().BucketCounts(), h.Positive.Counts)
			require.Equal(t, p.Negative().Offset(), h.Negative.Offset)
			counts(p.Negative().BucketCounts(), h.Negative.Counts)
		}
	case pmetric.MetricTypeSummary:
		require.Len(t, got, want.Summary().DataPoints().Len())
		for i, p := range want.Summary().DataPoints().All() {
			h := &o.Histograms[got[i].Extra]
			common(i, p, 0)
			total(h, p.Count(), p.Sum())
			require.Equal(t, p.QuantileValues().Len(), h.Quantiles.Len())
			for j, q := range p.QuantileValues().All() {
				require.Equal(t, math.Float64bits(q.Value()), math.Float64bits(o.Quantiles[int(h.Quantiles.Lo)+j].Value))
				require.Equal(t, math.Float64bits(q.Quantile()), math.Float64bits(o.Quantiles[int(h.Quantiles.Lo)+j].Quantile))
			}
		}
	default:
		require.Empty(t, got)
	}
	if t.Failed() {
		require.NoError(t, errors.New("points differ"))
	}
}
