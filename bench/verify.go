package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/weir-dev/weir/bench/measure"
)

// queryTimeout bounds one verification query. Unmeasured: generous, as queries run
// after the figures are taken.
const queryTimeout = 10 * time.Minute

// probes is how many series verify compares sample by sample.
const probes = 10

// verify asks the server at base what it holds of the plan: the number of series
// and samples of each metric, and every sample of a few series. A nil error
// means that nothing was found missing, doubled or changed.
func verify(ctx context.Context, base string, p *plan) error {
	perPod := map[string]int{}
	for _, t := range templates {
		perPod[t.metric.name]++
	}
	for name, n := range perPod {
		if err := verifyMetric(ctx, base, p, name, n); err != nil {
			return err
		}
	}
	for i := range probes {
		if err := probe(ctx, base, p, i); err != nil {
			return err
		}
	}
	return nil
}

// verifyMetric counts the series and samples of one metric, of which every pod
// has n series. One query a metric keeps each small, and count_over_time, which
// drops the name, from meeting two series with equal labels.
func verifyMetric(ctx context.Context, base string, p *plan, name string, n int) error {
	over := fmt.Sprintf("(count_over_time(%s%s))", metricSelector(p.scenario.Proto, name), p.lookback())
	for _, q := range []struct {
		what, expr string
		want       int
	}{
		{"series", "count" + over, p.scenario.totalSeries()},
		{"samples", "sum" + over, p.scenario.warmSamples() + p.scenario.windowSamples()},
	} {
		res, err := query(ctx, base, q.expr, p.end())
		if err != nil {
			return err
		}
		got, err := res.scalar()
		if err != nil {
			return fmt.Errorf("query %s: %w", q.expr, err)
		}
		if want := q.want / seriesPerPod * n; got != float64(want) {
			return fmt.Errorf("%s found by %s: got %.0f, want %d", q.what, q.expr, got, want)
		}
	}
	return nil
}

// metricSelector matches all our series of one metric. OTLP receivers may add
// unit and type to a name; no name of ours is the beginning of another.
func metricSelector(proto protocol, name string) string {
	if proto == otlp {
		return fmt.Sprintf(`{__name__=~%q,cluster=%q}`, name+".*", clusterLabel)
	}
	return fmt.Sprintf(`{__name__=%q,cluster=%q}`, name, clusterLabel)
}

// lookback is a range selector that, at the plan's end, holds every sample.
func (p *plan) lookback() string {
	return fmt.Sprintf("[%dms]", p.end()-p.start+scrapeInterval.Milliseconds())
}

// probe compares all samples of the i-th probed series.
func probe(ctx context.Context, base string, p *plan, i int) error {
	slot := i * p.scenario.pods() / probes
	gen := p.gen(slot, p.scenario.Rounds)
	pd := newPod(p.seed, slot, gen)
	all := pd.series()
	idx := i * len(all) / probes
	if p.scenario.Proto == otlp {
		// Of the points only cAdvisor's carry a label that is theirs alone in
		// every server's translation: the cgroup.
		idx %= 16
	}
	expr := selector(p.scenario.Proto, &all[idx]) + p.lookback()
	res, err := query(ctx, base, expr, p.end())
	if err != nil {
		return err
	}
	if len(res) != 1 {
		return fmt.Errorf("query %s: got %d series, want 1", expr, len(res))
	}
	if err := compare(res[0].Values, p, pd, &all[idx]); err != nil {
		return fmt.Errorf("query %s: %w", expr, err)
	}
	return nil
}

// selector matches one series. OTLP receivers may also drop or rename the
// resource's labels.
func selector(proto protocol, s *series) string {
	var parts []string
	for _, l := range s.labels {
		switch {
		case proto == otlp && l.name == "__name__":
			parts = append(parts, fmt.Sprintf(`__name__=~%q`, l.value+".*"))
		case proto == otlp && resourceLabels[l.name]:
		default:
			parts = append(parts, fmt.Sprintf(`%s=%q`, l.name, l.value))
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// compare checks the samples of one series: each there, once, at its time, with
// its value. VictoriaMetrics keeps decimals, so the last bits may differ there.
func compare(got []model.SamplePair, p *plan, pd *pod, s *series) error {
	first := int64(0)
	if pd.gen > 0 {
		for r := 1; p.gen(pd.slot, r) < pd.gen; r++ {
			first = int64(1 + r*p.scenario.K)
		}
		first = max(first, 1)
	}
	if want := p.lastSample() - first + 1; int64(len(got)) != want {
		return fmt.Errorf("got %d samples, want %d", len(got), want)
	}
	for i, g := range got {
		n := first + int64(i)
		if want := model.Time(p.at(pd, n)); g.Timestamp != want {
			return fmt.Errorf("sample %d: got time %d, want %d", n, g.Timestamp, want)
		}
		if v, want := float64(g.Value), s.at(n); math.Abs(v-want) > 1e-12*math.Abs(want) {
			return fmt.Errorf("sample %d: got value %v, want %v", n, v, want)
		}
	}
	return nil
}

// vector is the result of an instant query: Value for a vector, Values for a
// range selector.
type vector []struct {
	Value  *model.SamplePair
	Values []model.SamplePair
}

func (v vector) scalar() (float64, error) {
	if len(v) != 1 || v[0].Value == nil {
		return 0, fmt.Errorf("got %d values, want 1", len(v))
	}
	return float64(v[0].Value.Value), nil
}

// query runs one instant query at ms.
func query(ctx context.Context, base, expr string, ms int64) (vector, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	args := url.Values{
		"query": {expr}, "time": {fmt.Sprintf("%d.%03d", ms/1000, ms%1000)},
		"timeout": {"10m"}, "nocache": {"1"}, // nocache is VictoriaMetrics'
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/api/v1/query?"+args.Encode(), nil)
	if err != nil {
		return nil, err
	}
	text, err := measure.Fetch(req)
	if err != nil {
		return nil, fmt.Errorf("query %s: %w", expr, err)
	}
	var answer struct {
		Status string
		Data   struct{ Result vector }
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("query %s: %w in %s", expr, err, text[:min(len(text), 300)])
	}
	return answer.Data.Result, nil
}

// snapshot asks a TSDB for a snapshot, head included, and returns its name.
func snapshot(ctx context.Context, base string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/v1/admin/tsdb/snapshot", nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  struct{ Name string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return "", fmt.Errorf("snapshot: %s: %w", resp.Status, err)
	}
	if answer.Data.Name == "" {
		return "", fmt.Errorf("snapshot: %s: %s", resp.Status, answer.Error)
	}
	return answer.Data.Name, nil
}
