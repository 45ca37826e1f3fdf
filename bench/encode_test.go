package main

import (
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

// sent is a series as a decoder of its protocol saw it.
type sent struct {
	labels map[string]string
	ms     []int64
	values []float64
}

func encodeFirst(t *testing.T, line string) (*plan, request, []byte) {
	t.Helper()
	p := newPlan(mustScenario(t, line), 1, time.Now())
	r := p.window[1][0]
	b, err := (&encoder{plan: p}).encode(r)
	if err != nil {
		t.Fatal(err)
	}
	if want := len(r) * seriesPerPod * p.scenario.K; b.samples != want {
		t.Errorf("body claims %d samples, want %d", b.samples, want)
	}
	return p, r, b.data
}

// checkSent compares what a decoder saw with what the plan meant. Labels in
// ignore are not expected.
func checkSent(t *testing.T, p *plan, r request, got []sent, ignore map[string]bool) {
	t.Helper()
	i := 0
	for _, part := range r {
		pd := newPod(p.seed, part.slot, part.gen)
		for _, s := range pd.series() {
			if i >= len(got) {
				t.Fatalf("got %d series, want more", len(got))
			}
			checkSeries(t, p, part, pd, &s, got[i], ignore)
			i++
		}
	}
	if i != len(got) {
		t.Errorf("got %d series, want %d", len(got), i)
	}
}

func checkSeries(t *testing.T, p *plan, part part, pd *pod, s *series, got sent, ignore map[string]bool) {
	t.Helper()
	want := 0
	for _, l := range s.labels {
		if ignore[l.name] {
			continue
		}
		want++
		if got.labels[l.name] != l.value {
			t.Fatalf("%s: label %s: got %q, want %q", s.metric.name, l.name, got.labels[l.name], l.value)
		}
	}
	if len(got.labels) != want || len(got.ms) != part.k {
		t.Fatalf("%s: got %d labels and %d samples, want %d and %d", s.metric.name, len(got.labels), len(got.ms), want, part.k)
	}
	for i := range got.ms {
		n := part.first + int64(i)
		if got.ms[i] != p.at(pd, n) || got.values[i] != s.at(n) {
			t.Fatalf("%s sample %d: got %v at %d, want %v at %d", s.metric.name, n, got.values[i], got.ms[i], s.at(n), p.at(pd, n))
		}
	}
}

func TestEncodeV1(t *testing.T) {
	p, r, data := encodeFirst(t, "rw1 series=2k batch=500 k=3 rounds=3 churn=0.1")
	raw, err := snappy.Decode(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	var req prompb.WriteRequest
	if err := req.Unmarshal(raw); err != nil {
		t.Fatal(err)
	}
	var got []sent
	for _, ts := range req.Timeseries {
		s := sent{labels: map[string]string{}}
		for _, l := range ts.Labels {
			s.labels[l.Name] = l.Value
		}
		for _, x := range ts.Samples {
			s.ms, s.values = append(s.ms, x.Timestamp), append(s.values, x.Value)
		}
		got = append(got, s)
	}
	checkSent(t, p, r, got, nil)
}

func TestEncodeV2(t *testing.T) {
	p, r, data := encodeFirst(t, "rw2 series=2k batch=500 k=3 rounds=3 churn=0.1")
	raw, err := snappy.Decode(nil, data)
	if err != nil {
		t.Fatal(err)
	}
	var req writev2.Request
	if err := req.Unmarshal(raw); err != nil {
		t.Fatal(err)
	}
	var got []sent
	b := labels.NewScratchBuilder(0)
	for _, ts := range req.Timeseries {
		ls, err := ts.ToLabels(&b, req.Symbols)
		if err != nil {
			t.Fatal(err)
		}
		s := sent{labels: ls.Map()}
		if m, err := ts.ToMetadata(req.Symbols); err != nil || m.Help == "" || m.Type == "unknown" {
			t.Errorf("%s: got metadata %+v, %v, want help and type", ls, m, err)
		}
		for _, x := range ts.Samples {
			s.ms, s.values = append(s.ms, x.Timestamp), append(s.values, x.Value)
		}
		got = append(got, s)
	}
	checkSent(t, p, r, got, nil)
}

func TestEncodeOTLP(t *testing.T) {
	p, r, data := encodeFirst(t, "otlp series=2k batch=500 rounds=3 churn=0.1")
	req := pmetricotlp.NewExportRequest()
	if err := req.UnmarshalProto(data); err != nil {
		t.Fatal(err)
	}
	rms := req.Metrics().ResourceMetrics()
	if rms.Len() != len(r) {
		t.Fatalf("got %d resources, want one a pod, %d", rms.Len(), len(r))
	}
	var got []sent
	for _, rm := range rms.All() {
		if id, _ := rm.Resource().Attributes().Get("service.instance.id"); id.Str() == "" {
			t.Error("resource without service.instance.id")
		}
		for _, m := range rm.ScopeMetrics().At(0).Metrics().All() {
			got = append(got, pointsOf(m)...)
		}
	}
	ignore := map[string]bool{}
	for name := range resourceLabels {
		ignore[name] = name != "__name__"
	}
	checkSent(t, p, r, got, ignore)
}

func pointsOf(m pmetric.Metric) []sent {
	var out []sent
	for _, dp := range otlpPoints(m).All() {
		s := sent{labels: map[string]string{"__name__": m.Name()}}
		dp.Attributes().Range(func(k string, v pcommon.Value) bool { s.labels[k] = v.Str(); return true })
		s.ms, s.values = []int64{dp.Timestamp().AsTime().UnixMilli()}, []float64{dp.DoubleValue()}
		out = append(out, s)
	}
	return out
}
