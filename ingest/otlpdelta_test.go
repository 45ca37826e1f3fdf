package ingest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/processor/deltatocumulativeprocessor"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/processor"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
)

// deltaRequest has one series of each kind that can be a delta.
func deltaRequest(o odd, t time.Time) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	rm.Resource().Attributes().PutStr("service.name", "shop")
	ms := rm.ScopeMetrics().AppendEmpty().Metrics()
	at := func(pt interface {
		SetTimestamp(pcommon.Timestamp)
		SetStartTimestamp(pcommon.Timestamp)
	}) {
		pt.SetTimestamp(pcommon.NewTimestampFromTime(t))
		pt.SetStartTimestamp(pcommon.NewTimestampFromTime(t.Add(-time.Minute)))
	}
	for _, mono := range []bool{true, false} {
		m := ms.AppendEmpty()
		m.SetName(fmt.Sprintf("sum.%v", mono))
		m.SetEmptySum().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		m.Sum().SetIsMonotonic(mono)
		pt := m.Sum().DataPoints().AppendEmpty()
		pt.SetDoubleValue(float64(o.IntN(100)) / 4)
		at(pt)
	}
	m := ms.AppendEmpty()
	m.SetName("explicit")
	m.SetEmptyHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	pt := m.Histogram().DataPoints().AppendEmpty()
	pt.ExplicitBounds().FromRaw([]float64{1, 2, 4, 8, 16})
	counts := make([]uint64, 6)
	for range 3 {
		counts[o.IntN(6)]++
	}
	pt.BucketCounts().FromRaw(counts)
	pt.SetCount(3)
	pt.SetSum(float64(o.IntN(64)) / 2)
	at(pt)
	m = ms.AppendEmpty()
	m.SetName("exponential")
	m.SetEmptyExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
	e := m.ExponentialHistogram().DataPoints().AppendEmpty()
	e.SetScale(int32(o.IntN(3)) + 2)
	e.SetZeroCount(uint64(o.IntN(2)))
	e.Positive().SetOffset(int32(o.IntN(50)) - 25)
	n := uint64(1 + o.IntN(5))
	e.Positive().BucketCounts().FromRaw([]uint64{1, 0, 0, 0, n})
	e.Negative().SetOffset(int32(o.IntN(4)))
	e.Negative().BucketCounts().FromRaw([]uint64{2})
	e.SetCount(3 + n + e.ZeroCount())
	e.SetSum(float64(n))
	at(e)
	return md
}

// TestDeltaAgainstProcessor compares with what Prometheus does when it converts
// deltas: the collector's processor before the translator.
func TestDeltaAgainstProcessor(t *testing.T) {
	for _, native := range []bool{false, true} {
		t.Run(fmt.Sprintf("nhcb=%v", native), func(t *testing.T) {
			change := otlpCfg(func(c *OTLPConfig) { c.ConvertHistogramsToNHCB = native })
			ours, theirs := newRig(t, change), newRig(t, change)
			next, err := consumer.NewMetrics(func(_ context.Context, md pmetric.Metrics) error {
				reference(t, theirs, md)
				return nil
			})
			require.NoError(t, err)
			f := deltatocumulativeprocessor.NewFactory()
			d2c, err := f.CreateMetrics(context.Background(), processor.Settings{
				ID:                component.NewID(f.Type()),
				TelemetrySettings: component.TelemetrySettings{MeterProvider: metricnoop.NewMeterProvider()},
			}, f.CreateDefaultConfig(), next)
			require.NoError(t, err)
			require.NoError(t, d2c.Start(context.Background(), nil))
			defer func() { require.NoError(t, d2c.Shutdown(context.Background())) }()
			o := odd{Rand: rand.New(rand.NewPCG(1, 2))}
			start := time.Now().Add(-time.Hour).Truncate(time.Minute)
			for i := range 50 {
				md := deltaRequest(o, start.Add(time.Duration(i)*time.Minute))
				_, err := ours.consume(md)
				require.NoError(t, err)
				require.NoError(t, d2c.ConsumeMetrics(context.Background(), md))
			}
			got, want := points(t, ours), points(t, theirs)
			require.Len(t, got, len(want))
			for i := range want {
				require.Equal(t, want[i], got[i])
			}
			ours.balanced(t)
		})
	}
}

// points returns all samples; native histograms without the layout of their
// empty buckets, which the two ways of adding leave in different places.
func points(t *testing.T, r *rig) (out []string) {
	t.Helper()
	each(t, r.store, func(ls labels.Labels, x point) {
		s := fmt.Sprintf("%s @%d %v", ls, x.t, x.v)
		if x.h != nil {
			s += shape(x.h)
		}
		out = append(out, s)
	})
	return out
}

func shape(h *histogram.Histogram) string {
	s := fmt.Sprintf(" schema %d count %d sum %v zero %d bounds %v:", h.Schema, h.Count, h.Sum, h.ZeroCount, h.CustomValues)
	for it := h.PositiveBucketIterator(); it.Next(); {
		if b := it.At(); b.Count > 0 {
			s += fmt.Sprintf(" %d=%d", b.Index, b.Count)
		}
	}
	for it := h.NegativeBucketIterator(); it.Next(); {
		if b := it.At(); b.Count > 0 {
			s += fmt.Sprintf(" -%d=%d", b.Index, b.Count)
		}
	}
	return s
}

// TestDeltaSurvives sends deltas across a restart, again, late, and after a
// failed write.
func TestDeltaSurvives(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r := openRig(t, dir, otlpCfg(nil))
	now := time.Now().Truncate(time.Second)
	send := func(d time.Duration, v float64) error {
		md := otlpGauge("things", v)
		m := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0)
		pt := m.Gauge().DataPoints().At(0)
		pt.SetTimestamp(pcommon.NewTimestampFromTime(now.Add(d)))
		sum := pmetric.NewSum()
		sum.SetIsMonotonic(true)
		sum.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		pt.CopyTo(sum.DataPoints().AppendEmpty())
		sum.CopyTo(m.SetEmptySum())
		_, err := r.consume(md)
		return err
	}
	series := `{__name__="things_total", i="0", job="shop"}`
	value := func() float64 { return r.newest(t, "__name__", "things_total")[series] }
	require.NoError(t, send(-60*time.Second, 5))
	require.NoError(t, send(-50*time.Second, 7))
	require.InDelta(t, 12, value(), 0)
	require.NoError(t, send(-50*time.Second, 7), "again: no error, and not counted twice")
	require.InDelta(t, 12, value(), 0)
	require.ErrorContains(t, send(-55*time.Second, 1), "out_of_order")

	r.stop() // the write that fails must not be in the sum when it comes again
	require.Error(t, send(-40*time.Second, 8))
	r = openRig(t, dir, otlpCfg(nil))
	require.NoError(t, send(-40*time.Second, 8))
	require.InDelta(t, 20, value(), 0)
	require.NoError(t, send(-50*time.Second, 7), "again, after a restart")
	require.InDelta(t, 20, value(), 0)
	r.balanced(t)
}
