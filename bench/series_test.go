package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/prompb"
)

// TestLabelMix holds the series to what the results claim: 8 to 14 labels, and
// 400 to 460 bytes in a 1.0 request before compression, sample included.
func TestLabelMix(t *testing.T) {
	const pods = 400
	var bytes, count int
	for slot := range pods {
		all := newPod(1, slot*7, 0).series()
		if len(all) != seriesPerPod {
			t.Fatalf("slot %d: got %d series, want %d", slot, len(all), seriesPerPod)
		}
		for _, s := range all {
			if n := len(s.labels); n < 8 || n > 14 {
				t.Errorf("%s: got %d labels, want 8 to 14", s.metric.name, n)
			}
			if !slices.IsSortedFunc(s.labels, func(a, b label) int { return strings.Compare(a.name, b.name) }) {
				t.Errorf("%s: labels not sorted: %v", s.metric.name, s.labels)
			}
			ts := prompb.TimeSeries{Samples: []prompb.Sample{{Value: 1.5, Timestamp: 1.8e12}}}
			for _, l := range s.labels {
				ts.Labels = append(ts.Labels, prompb.Label{Name: l.name, Value: l.value})
			}
			bytes += ts.Size()
			count++
		}
	}
	if avg := bytes / count; avg < 400 || avg > 460 {
		t.Errorf("bytes a series: got %d, want 400 to 460", avg)
	}
}

func TestSeriesAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for slot := range 300 {
		for gen := range 2 {
			for _, s := range newPod(1, slot, gen).series() {
				key := selector(rw1, &s)
				if seen[key] {
					t.Fatalf("slot %d generation %d: series %s twice", slot, gen, key)
				}
				seen[key] = true
			}
		}
	}
}

// TestOTLPSelectorsAreDistinct guards the probes of OTLP runs, which see only
// the labels that are not the resource's.
func TestOTLPSelectorsAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for slot := range 300 {
		for _, s := range newPod(1, slot, 0).series()[:16] {
			key := selector(otlp, &s)
			if seen[key] {
				t.Fatalf("slot %d: selector %s twice", slot, key)
			}
			seen[key] = true
		}
	}
	for _, a := range templates {
		for _, b := range templates {
			if a.metric.name != b.metric.name && strings.HasPrefix(a.metric.name, b.metric.name) {
				t.Errorf("%s is the beginning of %s: metricSelector would count both", b.metric.name, a.metric.name)
			}
		}
	}
}

func TestSeriesFollowSeed(t *testing.T) {
	a, b, other := newPod(1, 17, 3).series(), newPod(1, 17, 3).series(), newPod(2, 17, 3).series()
	if !reflect.DeepEqual(a, b) {
		t.Error("same seed, slot and generation gave different series")
	}
	if reflect.DeepEqual(a, other) {
		t.Error("different seeds gave the same series")
	}
}

func TestValues(t *testing.T) {
	for slot := range 50 {
		for _, s := range newPod(1, slot, 0).series() {
			checkValues(t, &s)
		}
	}
}

func checkValues(t *testing.T, s *series) {
	t.Helper()
	last := s.at(0)
	for n := int64(1); n < 500; n++ {
		v := s.at(n)
		if v < 0 || v != s.at(n) {
			t.Fatalf("%s at %d: got %v, then %v, want the same and not negative", s.metric.name, n, v, s.at(n))
		}
		if s.metric.counter && v < last {
			t.Fatalf("%s at %d: counter fell from %v to %v", s.metric.name, n, last, v)
		}
		if s.metric.shape == constant && v != last {
			t.Fatalf("%s at %d: constant moved from %v to %v", s.metric.name, n, last, v)
		}
		last = v
	}
}
