package query

import (
	"io"
	"log/slog"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/proto"
)

// federateFormats are the formats that /federate speaks, the one that carries all
// the most first.
var federateFormats = []expfmt.Format{
	expfmt.NewFormat(expfmt.TypeProtoDelim),
	expfmt.NewFormat(expfmt.TypeProtoText),
	expfmt.NewFormat(expfmt.TypeProtoCompact),
	expfmt.NewFormat(expfmt.TypeTextPlain),
}

// kind is what must be equal for two samples to share a family. Samples of one
// name may differ in it; they then follow each other as two families of that
// name, which only Prometheus' parser reads, and it is the one that asks.
type kind struct {
	name  string
	typ   dto.MetricType
	valid bool
}

func kindOf(s sample) kind {
	switch {
	case s.h == nil:
		return kind{s.name, dto.MetricType_UNTYPED, true}
	case s.h.CounterResetHint == histogram.GaugeType:
		return kind{s.name, dto.MetricType_GAUGE_HISTOGRAM, true}
	}
	return kind{s.name, dto.MetricType_HISTOGRAM, true}
}

// encodeFamilies writes samples, which are in the order of their names, a family
// at a time. The text format has no words for exponential histograms: they are
// left out of it, as Prometheus does.
func encodeFamilies(w io.Writer, format expfmt.Format, samples []sample, log *slog.Logger) error {
	enc := expfmt.NewEncoder(w, format)
	text := format.FormatType() == expfmt.TypeTextPlain
	var (
		open   kind
		family *dto.MetricFamily
	)
	flush := func() error {
		if family == nil {
			return nil
		}
		return enc.Encode(family)
	}
	for _, s := range samples {
		if text && s.h != nil && !s.h.UsesCustomBuckets() {
			continue
		}
		if s.name == "" {
			log.Warn("series without a name not federated", "series", s.metric)
			continue
		}
		if k := kindOf(s); k != open {
			if err := flush(); err != nil {
				return err
			}
			open, family = k, &dto.MetricFamily{Name: proto.String(k.name), Type: k.typ.Enum()}
		}
		family.Metric = append(family.Metric, metricOf(s))
	}
	return flush()
}

func metricOf(s sample) *dto.Metric {
	m := &dto.Metric{Label: labelPairs(s.metric), TimestampMs: proto.Int64(s.t)}
	switch {
	case s.h == nil:
		m.Untyped = &dto.Untyped{Value: proto.Float64(s.v)}
	case s.h.UsesCustomBuckets():
		m.Histogram = classicHistogram(s.h)
	default:
		m.Histogram = nativeHistogram(s.h)
	}
	return m
}

// labelPairs returns all labels but the name. A series without an instance gets an
// empty one, lest the scraping Prometheus, honouring our labels, add its own.
func labelPairs(ls labels.Labels) []*dto.LabelPair {
	pairs := make([]*dto.LabelPair, 0, ls.Len())
	ls.Range(func(l labels.Label) {
		if l.Name != model.MetricNameLabel && l.Value != "" {
			pairs = append(pairs, &dto.LabelPair{Name: proto.String(l.Name), Value: proto.String(l.Value)})
		}
	})
	if ls.Get(model.InstanceLabel) == "" {
		pairs = append(pairs, &dto.LabelPair{Name: proto.String(model.InstanceLabel), Value: proto.String("")})
	}
	return pairs
}

// nativeHistogram is for exponential schemas, whose buckets stay as they are.
func nativeHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	return &dto.Histogram{
		SampleCountFloat: proto.Float64(h.Count),
		SampleSum:        proto.Float64(h.Sum),
		Schema:           proto.Int32(h.Schema),
		ZeroThreshold:    proto.Float64(h.ZeroThreshold),
		ZeroCountFloat:   proto.Float64(h.ZeroCount),
		PositiveSpan:     bucketSpans(h.PositiveSpans),
		PositiveCount:    h.PositiveBuckets,
		NegativeSpan:     bucketSpans(h.NegativeSpans),
		NegativeCount:    h.NegativeBuckets,
	}
}

func bucketSpans(spans []histogram.Span) []*dto.BucketSpan {
	out := make([]*dto.BucketSpan, len(spans))
	for i, s := range spans {
		out[i] = &dto.BucketSpan{Offset: proto.Int32(s.Offset), Length: proto.Uint32(s.Length)}
	}
	return out
}

// classicHistogram is for custom buckets, which are the classic ones by another
// name: counts become cumulative, and the bucket up to +Inf is implied.
func classicHistogram(h *histogram.FloatHistogram) *dto.Histogram {
	counts := make([]float64, len(h.CustomValues)+1) // by bucket, the last is +Inf
	for it := h.PositiveBucketIterator(); it.Next(); {
		b := it.At()
		counts[b.Index] = b.Count
	}
	out := &dto.Histogram{
		SampleCountFloat: proto.Float64(h.Count),
		SampleSum:        proto.Float64(h.Sum),
		Bucket:           make([]*dto.Bucket, len(h.CustomValues)),
	}
	total := 0.0
	for i, bound := range h.CustomValues {
		total += counts[i]
		out.Bucket[i] = &dto.Bucket{UpperBound: proto.Float64(bound), CumulativeCountFloat: proto.Float64(total)}
	}
	return out
}
