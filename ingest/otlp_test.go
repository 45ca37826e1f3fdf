package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote/otlptranslator/prometheusremotewrite"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"

	"github.com/weir-dev/weir/ingest/internal/wire"
	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/store"
)

// otlpCfg turns the listeners off and applies change to the section.
func otlpCfg(change func(*OTLPConfig)) func(*Config, *store.Config) {
	return func(c *Config, _ *store.Config) {
		c.OTLP.GRPC.Endpoint, c.OTLP.HTTP.Endpoint = "", ""
		if change != nil {
			change(&c.OTLP)
		}
	}
}

// consume hands a copy of md to the door behind the listeners.
func (r *rig) consume(md pmetric.Metrics) (*otlpCall, error) {
	own, call := pmetric.NewMetrics(), &otlpCall{}
	md.CopyTo(own)
	return call, r.in.otlp.consume(context.WithValue(context.Background(), otlpCallKey{}, call), own)
}

// TestOTLPAgainstPrometheus sends random metrics through Weir and through
// Prometheus' translator into a store of its own, and compares the two.
func TestOTLPAgainstPrometheus(t *testing.T) {
	for name, change := range map[string]func(*OTLPConfig){
		"default":          nil,
		"without suffixes": func(c *OTLPConfig) { c.TranslationStrategy = string(otlptranslator.UnderscoreEscapingWithoutSuffixes) },
		"utf8":             func(c *OTLPConfig) { c.TranslationStrategy = string(otlptranslator.NoUTF8EscapingWithSuffixes) },
		"no translation":   func(c *OTLPConfig) { c.TranslationStrategy = string(otlptranslator.NoTranslation) },
		"promote some": func(c *OTLPConfig) {
			c.PromoteResourceAttributes = []string{"k8s.pod.name", "http.method", "job"}
			c.KeepIdentifyingResourceAttributes = true
			c.LabelNameUnderscoreSanitization = false
		},
		"promote all": func(c *OTLPConfig) {
			c.PromoteAllResourceAttributes = true
			c.IgnoreResourceAttributes = []string{"cloud.region"}
			c.PromoteScopeMetadata = true
			c.LabelNamePreserveMultipleUnderscores = false
		},
		"native": func(c *OTLPConfig) {
			c.ConvertHistogramsToNHCB = true
			c.PromoteScopeMetadata = true
		},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := newRig(t, otlpCfg(change)), newRig(t, otlpCfg(change))
			seed := uint64(len(name))
			o := odd{Rand: rand.New(rand.NewPCG(seed, 1)), max: 20 * time.Minute}
			for i := range 60 {
				o.t = time.Now().Add(time.Duration(i-100) * 25 * time.Minute).Truncate(time.Millisecond)
				md := o.request(pmetric.AggregationTemporalityCumulative)
				for range 3 { // the second and third time by keys
					reference(t, theirs, md)
					call, err := ours.consume(md)
					if err != nil || call.message != "" {
						// Points that collide by their labels within a request: the first
						// is stored by both, and only we say so.
						require.Regexp(t, "duplicate_timestamp|invalid_exemplar", fmt.Sprint(err, call.message))
					}
					later(md, time.Second)
				}
			}
			got, want := ours.dump(t), theirs.dump(t)
			require.NotEmpty(t, want)
			require.Equal(t, want, got)
			require.Equal(t, theirs.exemplars(t), ours.exemplars(t))
			ours.balanced(t)
		})
	}
}

// reference stores md as Prometheus' receiver does.
func reference(t *testing.T, r *rig, md pmetric.Metrics) {
	t.Helper()
	app := r.store.AppenderV2(context.Background())
	_, err := prometheusremotewrite.NewPrometheusConverter(lenient{app}).FromMetrics(context.Background(), md, settingsOf(r.in.cfg.OTLP))
	require.NoError(t, err)
	require.NoError(t, app.Commit())
}

// exemplars returns all stored exemplars, sorted.
func (r *rig) exemplars(t *testing.T) []string {
	t.Helper()
	q, err := r.store.ExemplarQuerier(context.Background())
	require.NoError(t, err)
	res, err := q.Select(math.MinInt64, math.MaxInt64, []*labels.Matcher{labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".*")})
	require.NoError(t, err)
	var out []string
	for _, s := range res {
		for _, e := range s.Exemplars {
			out = append(out, fmt.Sprintf("%s %s %v @%d", s.SeriesLabels, e.Labels, e.Value, e.Ts))
		}
	}
	sort.Strings(out)
	return out
}

// balanced checks that every sample received by OTLP has found an end.
func (r *rig) balanced(t *testing.T) {
	t.Helper()
	for _, b := range r.in.w.ledger.totals() {
		if b.Protocol == "otlp" {
			require.Zero(t, b.Balance, "%s: %+v", b.Kind, b)
		}
	}
}

// lenient hides errors about single samples and exemplars, at which the
// translator would give up a metric.
type lenient struct{ storage.AppenderV2 }

func (l lenient) Append(ref storage.SeriesRef, ls labels.Labels, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, o storage.AOptions) (storage.SeriesRef, error) {
	_, err := l.AppenderV2.Append(ref, ls, st, t, v, h, fh, o)
	if errors.Is(err, tsdb.ErrNotReady) {
		return 0, err
	}
	return 0, nil
}

// later moves all points of md and changes the values of numbers.
func later(md pmetric.Metrics, d time.Duration) {
	type timed interface {
		Timestamp() pcommon.Timestamp
		SetTimestamp(pcommon.Timestamp)
	}
	move := func(p timed) { p.SetTimestamp(p.Timestamp() + pcommon.Timestamp(d)) }
	for _, rm := range md.ResourceMetrics().All() {
		for _, sm := range rm.ScopeMetrics().All() {
			for _, m := range sm.Metrics().All() {
				switch m.Type() {
				case pmetric.MetricTypeGauge:
					for _, p := range m.Gauge().DataPoints().All() {
						move(p)
						p.SetDoubleValue(p.DoubleValue() + 1)
					}
				case pmetric.MetricTypeSum:
					for _, p := range m.Sum().DataPoints().All() {
						move(p)
						p.SetIntValue(p.IntValue() + 1)
					}
				case pmetric.MetricTypeHistogram:
					for _, p := range m.Histogram().DataPoints().All() {
						move(p)
						if n := p.BucketCounts().Len(); n > 0 {
							p.BucketCounts().SetAt(n-1, p.BucketCounts().At(n-1)+1)
							p.SetCount(p.Count() + 1)
						}
					}
				case pmetric.MetricTypeExponentialHistogram:
					for _, p := range m.ExponentialHistogram().DataPoints().All() {
						move(p)
					}
				case pmetric.MetricTypeSummary:
					for _, p := range m.Summary().DataPoints().All() {
						move(p)
						p.SetCount(p.Count() + 1)
					}
				}
			}
		}
	}
}

// TestExponentialFine merges buckets finer than the store's finest schema:
// nothing may be lost, or land in another bucket than by Prometheus' own
// reduction of resolution.
func TestExponentialFine(t *testing.T) {
	o := odd{Rand: rand.New(rand.NewPCG(7, 7))}
	for range 500 {
		down := int32(1 + o.IntN(6))
		offset := int32(o.IntN(200)) - 100
		counts := make([]uint64, 1+o.IntN(40))
		for i := range counts {
			counts[i] = uint64(max(0, o.IntN(6)-3))
		}
		q := &otlpRequest{}
		q.Counts = counts
		all := wire.OTLPBuckets{Offset: offset, Counts: wire.Range{Hi: uint32(len(counts))}}
		got := q.exponential(&wire.OTLPHistogram{Scale: histogram.ExponentialSchemaMax + down, Positive: all})
		want := q.exponential(&wire.OTLPHistogram{Scale: histogram.ExponentialSchemaMax - 6, Positive: all})
		want.Schema = histogram.ExponentialSchemaMax - 6 // where reduction is allowed
		require.NoError(t, want.ReduceResolution(histogram.ExponentialSchemaMax-6-down))
		got.Schema = want.Schema
		require.Equal(t, shape(want), shape(got))
	}
}

// TestOTLPReload changes how names are made while series are known.
func TestOTLPReload(t *testing.T) {
	r := newRig(t, otlpCfg(nil))
	send := func() {
		_, err := r.consume(otlpGauge("a.b", 1))
		require.NoError(t, err)
		time.Sleep(2 * time.Millisecond)
	}
	send()
	cfg := r.in.cfg
	cfg.OTLP.TranslationStrategy = string(otlptranslator.NoTranslation)
	r.in.Apply(cfg)
	send()
	send()
	require.Len(t, r.newest(t, "__name__", "a_b"), 1)
	require.Len(t, r.newest(t, "__name__", "a.b"), 1)
	require.Len(t, r.dump(t), 3)
}

// TestOTLPConcurrent has resources split over requests at once: target_info of
// one resource meets itself, and nobody hears of it.
func TestOTLPConcurrent(t *testing.T) {
	r := newRig(t, otlpCfg(nil))
	start := time.Now().Add(-time.Minute)
	var g sync.WaitGroup
	for i := range 8 {
		g.Go(func() {
			for j := range 20 {
				md := otlpGauge(fmt.Sprintf("metric%d", i), 1, 2, 3)
				md.ResourceMetrics().At(0).Resource().Attributes().PutStr("zone", "a")
				for _, p := range md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Gauge().DataPoints().All() {
					p.SetTimestamp(pcommon.NewTimestampFromTime(start.Add(time.Duration(j*8+i%4) * time.Millisecond)))
				}
				call, err := r.consume(md)
				assert.NoError(t, err)
				assert.Empty(t, call.message)
			}
		})
	}
	g.Wait()
	require.Len(t, r.dump(t), 8*20*3+4*20)
	r.balanced(t)
}

// TestOTLPRefusals counts points that never become series.
func TestOTLPRefusals(t *testing.T) {
	r := newRig(t, otlpCfg(nil))
	md := otlpGauge("good", 1)
	ms := md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics()
	now := pcommon.NewTimestampFromTime(time.Now())
	unspecified := ms.AppendEmpty()
	unspecified.SetName("unspecified")
	unspecified.SetEmptySum().DataPoints().AppendEmpty().SetTimestamp(now)
	coarse := ms.AppendEmpty()
	coarse.SetName("coarse")
	coarse.SetEmptyExponentialHistogram().SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	pt := coarse.ExponentialHistogram().DataPoints().AppendEmpty()
	pt.SetScale(-5)
	pt.SetTimestamp(now)
	nameless := ms.AppendEmpty()
	nameless.SetEmptyGauge().DataPoints().AppendEmpty().SetTimestamp(now)
	call, err := r.consume(md)
	require.NoError(t, err)
	require.EqualValues(t, 3, call.rejected)
	for _, want := range []string{`invalid_temporality: 1 refused`, `metric "unspecified"`, `invalid_histogram: 1 refused`, "scale -5", "invalid_labels: 1 refused"} {
		require.Contains(t, call.message, want)
	}
	require.Len(t, r.dump(t), 1)
	r.balanced(t)
}

// TestTargetInfoBound sends a point of 1970 beside one of today.
func TestTargetInfoBound(t *testing.T) {
	r := newRig(t, otlpCfg(nil))
	md := otlpGauge("ages", 1, 2)
	md.ResourceMetrics().At(0).Resource().Attributes().PutStr("zone", "a")
	md.ResourceMetrics().At(0).ScopeMetrics().At(0).Metrics().At(0).Gauge().DataPoints().At(0).SetTimestamp(0)
	_, err := r.consume(md)
	require.NoError(t, err)
	require.LessOrEqual(t, int(r.in.w.ledger.received[protoOTLP][kindFloat].Load()), 2+maxInfoSamples+1)
	r.balanced(t)
}

// TestOTLPConfig holds every fault against its message.
func TestOTLPConfig(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*OTLPConfig)
		says   string
	}{
		"defaults":   {func(*OTLPConfig) {}, ""},
		"off":        {func(c *OTLPConfig) { c.GRPC.Endpoint, c.HTTP.Endpoint = "", "" }, ""},
		"endpoint":   {func(c *OTLPConfig) { c.GRPC.Endpoint = "4317" }, "otlp.grpc.endpoint"},
		"one port":   {func(c *OTLPConfig) { c.HTTP.Endpoint = c.GRPC.Endpoint }, "otlp.http.endpoint"},
		"size":       {func(c *OTLPConfig) { c.MaxRecvMsgSize = 0 }, "otlp.max_recv_msg_size"},
		"key":        {func(c *OTLPConfig) { c.TLS.CertFile = "a" }, "otlp.tls.key_file"},
		"ca":         {func(c *OTLPConfig) { c.TLS.ClientCAFile = "a" }, "otlp.tls.client_ca_file"},
		"version":    {func(c *OTLPConfig) { c.TLS.MinVersion = "1.0" }, "otlp.tls.min_version"},
		"interval":   {func(c *OTLPConfig) { c.TLS.ReloadInterval = -1 }, "otlp.tls.reload_interval"},
		"strategy":   {func(c *OTLPConfig) { c.TranslationStrategy = "x" }, "otlp.translation_strategy"},
		"all or few": {func(c *OTLPConfig) { c.PromoteAllResourceAttributes, c.PromoteResourceAttributes = true, []string{"a"} }, "otlp.promote_resource_attributes"},
		"ignore":     {func(c *OTLPConfig) { c.IgnoreResourceAttributes = []string{"a"} }, "otlp.ignore_resource_attributes"},
		"twice":      {func(c *OTLPConfig) { c.PromoteResourceAttributes = []string{"a", "a"} }, "each attribute once"},
	} {
		cfg, f := DefaultConfig(), new(conf.Faults)
		c.change(&cfg.OTLP)
		cfg.Validate(f)
		if c.says == "" {
			require.NoError(t, f.Err(), name)
		} else {
			require.ErrorContains(t, f.Err(), c.says, name)
		}
	}
}
