package tiers

import (
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestProgress looks at the status and the metrics from within rolling a block up.
func TestProgress(t *testing.T) {
	r := open(t, config(t.TempDir()))
	r.fill(0, 10)
	r.compact()
	b := r.tiers.view()[0]
	look := func() (now *Rolling, values map[string]float64) {
		t.Helper()
		w := httptest.NewRecorder()
		r.tiers.StatusHandler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		var answer struct{ Data struct{ Rolling *Rolling } }
		r.must(json.Unmarshal(w.Body.Bytes(), &answer))
		families, err := r.tiers.deps.Reg.(*prometheus.Registry).Gather()
		r.must(err)
		values = map[string]float64{}
		for _, f := range families {
			values[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
		return answer.Data.Rolling, values
	}
	wantMetrics := func(values map[string]float64, series, seriesDone, samples, samplesDone float64) {
		t.Helper()
		for name, want := range map[string]float64{
			"weir_rollup_rolling_series": series, "weir_rollup_rolling_series_done": seriesDone,
			"weir_rollup_rolling_samples": samples, "weir_rollup_rolling_samples_done": samplesDone,
		} {
			if got, ok := values[name]; !ok || got != want {
				t.Errorf("%s is %g (there: %t), want %g", name, got, ok, want)
			}
		}
	}
	calls := 0
	r.tiers.log = slog.New(slog.NewTextHandler(lines(func(line string) {
		if !strings.Contains(line, "block made") { // which is logged for each rung, when all series are done
			return
		}
		calls++
		now, values := look()
		if now == nil || now.Block != b.ULID.String() || now.Series != 2 || now.SeriesDone != 2 ||
			now.Samples != b.Stats.NumSamples || now.SamplesDone != b.Stats.NumSamples || now.SamplesPerSec <= 0 || now.Seconds <= 0 {
			t.Errorf("rolling: %+v of %+v", now, b.Stats)
		}
		wantMetrics(values, 2, 2, float64(b.Stats.NumSamples), float64(b.Stats.NumSamples))
	}), nil))
	if did, err := r.tiers.rollNext(t.Context(), r.tiers.view()); err != nil || !did || calls != 2 {
		t.Fatalf("rolled: %t, looked %d times, or: %v", did, calls, err)
	}
	now, values := look()
	if now != nil {
		t.Errorf("rolling when it is done: %+v", now)
	}
	wantMetrics(values, 0, 0, 0, 0)
}

// lines is a writer of a log.
type lines func(string)

func (f lines) Write(b []byte) (int, error) {
	f(string(b))
	return len(b), nil
}
