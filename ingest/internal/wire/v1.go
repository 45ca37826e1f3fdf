package wire

import (
	"encoding/binary"
	"math"
	"strings"

	"github.com/prometheus/common/model"
)

// DecodeV1 reads a prometheus.WriteRequest:
//
//	WriteRequest { repeated TimeSeries timeseries = 1; repeated MetricMetadata metadata = 3; }
//	TimeSeries   { repeated Label labels = 1; repeated Sample samples = 2;
//	               repeated Exemplar exemplars = 3; repeated Histogram histograms = 4; }
//
// Labels are not looked into: their encoded bytes are the series' identity, and
// a known series needs no more. [Request.LabelsV1] reads them for an unknown
// one and is where a broken label is found. The error wraps [ErrMalformed].
func (r *Request) DecodeV1(body []byte) error {
	r.Reset()
	r.body = body
	for i := 0; i < len(body); {
		num, wt, next, err := field(body, i)
		if err != nil {
			return err
		}
		switch num {
		case 1, 3:
			if wt != wireLen {
				return errWireType("WriteRequest", "timeseries or metadata", wt)
			}
			lo, hi, err := span(body, next)
			if err != nil {
				return err
			}
			if num == 1 {
				err = r.seriesV1(lo, hi)
			} else {
				err = r.metadataV1(body[lo:hi])
			}
			if err != nil {
				return err
			}
			i = hi
		default:
			if i, err = skip(body, next, wt); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Request) seriesV1(i, end int) error {
	b := r.body[:end]
	s := Series{
		Samples:    Range{uint32(len(r.Samples)), 0},
		Histograms: Range{uint32(len(r.Histograms)), 0},
		Exemplars:  Range{uint32(len(r.Exemplars)), 0},
	}
	var labels run
	// The common message is labels only, then samples: skip over adjacent labels
	// without the generic field loop.
	start := i
	for i+1 < len(b) && b[i] == 1<<3|wireLen {
		hi := i + 2 + int(b[i+1])
		if b[i+1] >= 0x80 || hi > len(b) { // long, or broken
			var err error
			if _, hi, err = span(b, i+1); err != nil {
				return err
			}
		}
		i = hi
	}
	if i > start {
		labels = run{at: Bytes{uint32(start), uint32(i)}, any: true}
	}
	for i < len(b) {
		num, wt, next, err := field(b, i)
		if err != nil {
			return err
		}
		if num > 4 {
			if i, err = skip(b, next, wt); err != nil {
				return err
			}
			continue
		}
		if wt != wireLen {
			return errWireType("TimeSeries", [...]string{"", "labels", "samples", "exemplars", "histograms"}[num], wt)
		}
		lo, hi, err := span(b, next)
		if err != nil {
			return err
		}
		switch num {
		case 1:
			labels.add(b, &r.scratch, i, hi)
		case 2:
			err = r.sample(b[lo:hi], 2)
		case 3:
			err = r.exemplarV1(lo, hi)
		case 4:
			err = r.histogram(b[lo:hi], 16)
		}
		if err != nil {
			return err
		}
		i = hi
	}
	s.Labels, s.Moved = labels.at, labels.moved
	s.Samples.Hi = uint32(len(r.Samples))
	s.Histograms.Hi = uint32(len(r.Histograms))
	s.Exemplars.Hi = uint32(len(r.Exemplars))
	r.Series = append(r.Series, s)
	return nil
}

// sample reads Sample { double value = 1; int64 timestamp = 2;
// int64 start_timestamp = 3; }, the last field in 2.0 only: last is the highest
// field number that the schema knows.
func (r *Request) sample(b []byte, last int32) error {
	var s Sample
	i := 0
	// Every sender writes the value first: read it without the generic loop.
	if len(b) >= 9 && b[0] == 1<<3|wireFixed64 {
		s.V, i = math.Float64frombits(binary.LittleEndian.Uint64(b[1:])), 9
	}
	for i < len(b) {
		num, wt, next, err := field(b, i)
		if err != nil {
			return err
		}
		var v uint64
		switch {
		case num == 1:
			if wt != wireFixed64 {
				return errWireType("Sample", "value", wt)
			}
			if s.V, i, err = float(b, next); err != nil {
				return err
			}
		case num == 2:
			if wt != wireVarint {
				return errWireType("Sample", "timestamp", wt)
			}
			if v, i, err = varint(b, next); err != nil {
				return err
			}
			s.T = int64(v)
		case num == 3 && last >= 3:
			if wt != wireVarint {
				return errWireType("Sample", "start_timestamp", wt)
			}
			if v, i, err = varint(b, next); err != nil {
				return err
			}
			s.ST = int64(v)
		default:
			if i, err = skip(b, next, wt); err != nil {
				return err
			}
		}
	}
	r.Samples = append(r.Samples, s)
	return nil
}

// exemplarV1 reads Exemplar { repeated Label labels = 1; double value = 2;
// int64 timestamp = 3; }.
func (r *Request) exemplarV1(i, end int) error {
	b := r.body[:end]
	var e Exemplar
	var labels run
	for i < len(b) {
		num, wt, next, err := field(b, i)
		if err != nil {
			return err
		}
		switch num {
		case 1:
			if wt != wireLen {
				return errWireType("Exemplar", "labels", wt)
			}
			_, hi, err := span(b, next)
			if err != nil {
				return err
			}
			labels.add(b, &r.exemplarScratch, i, hi)
			i = hi
		case 2:
			if wt != wireFixed64 {
				return errWireType("Exemplar", "value", wt)
			}
			if e.V, i, err = float(b, next); err != nil {
				return err
			}
		case 3:
			if wt != wireVarint {
				return errWireType("Exemplar", "timestamp", wt)
			}
			var v uint64
			if v, i, err = varint(b, next); err != nil {
				return err
			}
			e.T = int64(v)
		default:
			if i, err = skip(b, next, wt); err != nil {
				return err
			}
		}
	}
	e.Labels, e.Moved = labels.at, labels.moved
	r.Exemplars = append(r.Exemplars, e)
	return nil
}

// metadataV1 reads MetricMetadata { MetricType type = 1;
// string metric_family_name = 2; string help = 4; string unit = 5; }.
func (r *Request) metadataV1(b []byte) error {
	m := Metadata{Type: model.MetricTypeUnknown}
	for i := 0; i < len(b); {
		num, wt, next, err := field(b, i)
		if err != nil {
			return err
		}
		switch num {
		case 1:
			if wt != wireVarint {
				return errWireType("MetricMetadata", "type", wt)
			}
			var v uint64
			if v, i, err = varint(b, next); err != nil {
				return err
			}
			m.Type = metricType(int32(v))
		case 2, 4, 5:
			if wt != wireLen {
				return errWireType("MetricMetadata", "metric_family_name, help or unit", wt)
			}
			lo, hi, err := span(b, next)
			if err != nil {
				return err
			}
			*[...]*string{2: &m.Family, 4: &m.Help, 5: &m.Unit}[num] = string(b[lo:hi])
			i = hi
		default:
			if i, err = skip(b, next, wt); err != nil {
				return err
			}
		}
	}
	r.Metadata = append(r.Metadata, m)
	return nil
}

// metricType maps the enum that 1.0 and 2.0 share by number.
func metricType(n int32) model.MetricType {
	if n > 0 && int(n) < len(metricTypes) {
		return metricTypes[n]
	}
	return model.MetricTypeUnknown
}

var metricTypes = [...]model.MetricType{
	1: model.MetricTypeCounter,
	2: model.MetricTypeGauge,
	3: model.MetricTypeHistogram,
	4: model.MetricTypeGaugeHistogram,
	5: model.MetricTypeSummary,
	6: model.MetricTypeInfo,
	7: model.MetricTypeStateset,
}

// LabelsV1 calls add for every label in raw, which [Request.RawLabels] gave, in
// the order of the wire. The strings share the body's memory and are valid
// during the call only. The error wraps [ErrMalformed].
//
//	Label { string name = 1; string value = 2; }
func LabelsV1(raw []byte, add func(name, value string)) error {
	for i := 0; i < len(raw); {
		// raw holds nothing but fields number 1 of wire type 2; DecodeV1 saw to it.
		_, _, next, err := field(raw, i)
		if err != nil {
			return err
		}
		lo, hi, err := span(raw, next)
		if err != nil {
			return err
		}
		name, value, err := label(raw[lo:hi])
		if err != nil {
			return err
		}
		add(view(name), view(value))
		i = hi
	}
	return nil
}

func label(b []byte) (name, value []byte, err error) {
	for i := 0; i < len(b); {
		num, wt, next, err := field(b, i)
		if err != nil {
			return nil, nil, err
		}
		if num > 2 {
			if i, err = skip(b, next, wt); err != nil {
				return nil, nil, err
			}
			continue
		}
		if wt != wireLen {
			return nil, nil, errWireType("Label", "name or value", wt)
		}
		lo, hi, err := span(b, next)
		if err != nil {
			return nil, nil, err
		}
		if num == 1 {
			name = b[lo:hi]
		} else {
			value = b[lo:hi]
		}
		i = hi
	}
	return name, value, nil
}

// ExemplarLabelsV1 returns copies of the labels of a 1.0 exemplar as name,
// value pairs.
func (r *Request) ExemplarLabelsV1(e *Exemplar) ([]string, error) {
	var pairs []string
	err := LabelsV1(r.rawExemplarLabels(e), func(name, value string) {
		pairs = append(pairs, strings.Clone(name), strings.Clone(value))
	})
	return pairs, err
}
