package main

import (
	"fmt"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// body is one encoded request.
type body struct {
	data    []byte
	samples int
}

// encoder turns the requests of a plan into bodies. Its buffers are reused from
// one request to the next; the bodies are copies.
type encoder struct {
	plan *plan
	v1   prompb.WriteRequest
	v2   writev2.Request
	buf  []byte
	raw  int64 // bytes before compression, all requests so far
}

// encodeAll encodes every request of every connection.
func (e *encoder) encodeAll(conns [][]request) ([][]body, error) {
	out := make([][]body, len(conns))
	for c, reqs := range conns {
		for _, r := range reqs {
			b, err := e.encode(r)
			if err != nil {
				return nil, fmt.Errorf("encode %s request: %w", e.plan.scenario.Proto, err)
			}
			out[c] = append(out[c], b)
		}
	}
	return out, nil
}

func (e *encoder) encode(r request) (body, error) {
	var (
		b   = body{}
		err error
	)
	for _, p := range r {
		b.samples += p.k * seriesPerPod
	}
	switch e.plan.scenario.Proto {
	case rw1:
		b.data, err = e.encodeV1(r)
	case rw2:
		b.data, err = e.encodeV2(r)
	default:
		b.data, err = e.encodeOTLP(r)
	}
	return b, err
}

// encodeV1 writes remote_write 1.0: every label of every series in full.
func (e *encoder) encodeV1(r request) ([]byte, error) {
	ts := e.v1.Timeseries[:0]
	for _, p := range r {
		pd := newPod(e.plan.seed, p.slot, p.gen)
		for _, s := range pd.series() {
			ls := make([]prompb.Label, len(s.labels))
			for i, l := range s.labels {
				ls[i] = prompb.Label{Name: l.name, Value: l.value}
			}
			samples := make([]prompb.Sample, p.k)
			for i := range samples {
				n := p.first + int64(i)
				samples[i] = prompb.Sample{Value: s.at(n), Timestamp: e.plan.at(pd, n)}
			}
			ts = append(ts, prompb.TimeSeries{Labels: ls, Samples: samples})
		}
	}
	e.v1.Timeseries = ts
	e.buf = grow(e.buf, e.v1.Size())
	n, err := e.v1.MarshalToSizedBuffer(e.buf)
	if err != nil {
		return nil, err
	}
	return e.compress(e.buf[len(e.buf)-n:]), nil
}

// encodeV2 writes remote_write 2.0 as the queue manager of Prometheus does: one
// symbol table a request, filled series by series with help, unit and labels.
func (e *encoder) encodeV2(r request) ([]byte, error) {
	syms := writev2.NewSymbolTable()
	ts := e.v2.Timeseries[:0]
	for _, p := range r {
		pd := newPod(e.plan.seed, p.slot, p.gen)
		for _, s := range pd.series() {
			var t writev2.TimeSeries
			t.Metadata.Type = v2Type(s.metric)
			t.Metadata.HelpRef = syms.Symbolize(s.metric.help)
			t.Metadata.UnitRef = syms.Symbolize(s.metric.unit)
			t.LabelsRefs = make([]uint32, 0, 2*len(s.labels))
			for _, l := range s.labels {
				t.LabelsRefs = append(t.LabelsRefs, syms.Symbolize(l.name), syms.Symbolize(l.value))
			}
			t.Samples = make([]writev2.Sample, p.k)
			for i := range t.Samples {
				n := p.first + int64(i)
				t.Samples[i] = writev2.Sample{Value: s.at(n), Timestamp: e.plan.at(pd, n)}
			}
			ts = append(ts, t)
		}
	}
	e.v2.Timeseries, e.v2.Symbols = ts, syms.Symbols()
	data, err := e.v2.OptimizedMarshal(e.buf)
	if err != nil {
		return nil, err
	}
	e.buf = data
	return e.compress(data), nil
}

func v2Type(m *metric) writev2.Metadata_MetricType {
	if m.counter {
		return writev2.Metadata_METRIC_TYPE_COUNTER
	}
	return writev2.Metadata_METRIC_TYPE_GAUGE
}

// compress returns a copy of exactly the compressed length: bodies stay in
// memory for the whole run.
func (e *encoder) compress(src []byte) []byte {
	e.raw += int64(len(src))
	return append([]byte(nil), snappy.Encode(nil, src)...)
}

func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
