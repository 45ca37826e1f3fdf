package main

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/common/model"
)

func at(ms model.Time, v model.SampleValue) model.SamplePair {
	return model.SamplePair{Timestamp: ms, Value: v}
}

func TestCompare(t *testing.T) {
	nan := model.SampleValue(math.NaN())
	ref := &answer{series: map[string][]model.SamplePair{
		"a": {at(0, 1), at(10, 2), at(20, nan), at(30, 4)},
		"b": {at(0, 0)},
	}}
	got := &answer{series: map[string][]model.SamplePair{
		"a": {at(0, 1), at(10, 2.5), at(20, nan), at(40, 4)},
		"c": {at(0, 1), at(10, 1)},
	}}
	d := compare(ref, got)
	want := difference{points: 3, missing: 2, extra: 3, median: 0, worst: 0.2, at: "a"}
	if d != want {
		t.Errorf("compare: got %+v, want %+v", d, want)
	}
}

func TestRelative(t *testing.T) {
	inf, nan := math.Inf(1), math.NaN()
	for _, tt := range []struct{ a, b, want float64 }{
		{0, 0, 0}, {1, 1, 0}, {1, 2, 0.5}, {2, 1, 0.5}, {-1, 1, 2}, {0, 3, 1}, {nan, nan, 0}, {nan, 1, 1}, {inf, inf, 0}, {inf, 1, 1},
	} {
		if got := relative(tt.a, tt.b); got != tt.want {
			t.Errorf("relative(%v, %v): got %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestParseAnswer(t *testing.T) {
	a, err := parseAnswer([]byte(`{"status":"success","infos":["5m rollups"],"data":{"resultType":"matrix",
		"result":[{"metric":{"z":"1","a":"x"},"values":[[1.5,"2"],[3,"NaN"]]}],
		"stats":{"timings":{},"samples":{"totalQueryableSamples":42}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	ps := a.series[`a="x",z="1",`]
	if len(ps) != 2 || ps[0] != at(1500, 2) || ps[1].Timestamp != 3000 || !math.IsNaN(float64(ps[1].Value)) {
		t.Errorf("got %v", a.series)
	}
	if n, ok := a.samplesRead(); !ok || n != 42 || len(a.infos) != 1 {
		t.Errorf("samplesRead: got %v, %v, and infos %v, want 42, true and one", n, ok, a.infos)
	}
	if n, ok := (&answer{}).samplesRead(); ok {
		t.Errorf("samplesRead without stats: got %v, want none", n)
	}
	if a, err := parseAnswer([]byte("oops")); err == nil {
		t.Errorf("parseAnswer(oops): got %v, want an error", a)
	}
}

func TestShort(t *testing.T) {
	if got := short(time.Hour) + " " + short(5*time.Minute); got != "1h 5m" {
		t.Errorf("short: got %s, want 1h 5m", got)
	}
}
