package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/weir-dev/weir/bench/measure"
)

// askTimeout bounds one query. The dearest here, 90 days raw, takes Prometheus half
// a minute.
const askTimeout = 10 * time.Minute

// answer is what a server made of a query.
type answer struct {
	series map[string][]model.SamplePair // by labels, sorted and joined
	infos  []string
	stats  json.RawMessage
}

// sample is what one asking cost.
type sample struct {
	cpu, wall time.Duration
	bytes     int // of the answer
}

// ask runs q over [start, end] ms at c once. The server's CPU is read right before
// and right after; the answer is parsed after that.
func (c *contestant) ask(ctx context.Context, q query, start, end int64, more ...string) (sample, *answer, error) {
	args := url.Values{
		"query": {q.expr}, "start": {seconds(start)}, "end": {seconds(end)}, "step": {fmt.Sprint(q.step.Seconds())},
		"timeout": {"10m"},
	}
	maps.Copy(args, c.args)
	for i := 0; i < len(more); i += 2 {
		args.Set(more[i], more[i+1])
	}
	before, err := c.server.cpu()
	if err != nil {
		return sample{}, nil, err
	}
	began := time.Now()
	text, err := post(ctx, c.server.base+"/api/v1/query_range", args)
	if err != nil {
		return sample{}, nil, fmt.Errorf("ask %s for %s: %w", c.name, q.expr, err)
	}
	s := sample{wall: time.Since(began), bytes: len(text)}
	after, err := c.server.cpu()
	if err != nil {
		return s, nil, err
	}
	s.cpu = after - before
	a, err := parseAnswer(text)
	if err != nil {
		return s, nil, fmt.Errorf("ask %s for %s: %w", c.name, q.expr, err)
	}
	return s, a, nil
}

func seconds(ms int64) string { return fmt.Sprintf("%d.%03d", ms/1000, ms%1000) }

// post sends args as a form and returns the body of a 200.
func post(ctx context.Context, to string, args url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(args.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return measure.Fetch(req)
}

func parseAnswer(text []byte) (*answer, error) {
	var body struct {
		Infos []string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Values []model.SamplePair
			}
			Stats json.RawMessage
		}
	}
	if err := json.Unmarshal(text, &body); err != nil {
		return nil, fmt.Errorf("%w in %s", err, text[:min(len(text), 300)])
	}
	a := &answer{series: map[string][]model.SamplePair{}, infos: body.Infos, stats: body.Data.Stats}
	for _, s := range body.Data.Result {
		var key strings.Builder
		for _, name := range slices.Sorted(maps.Keys(s.Metric)) {
			fmt.Fprintf(&key, "%s=%q,", name, s.Metric[name])
		}
		a.series[key.String()] = s.Values
	}
	return a, nil
}

// samplesRead is how many samples, or points of rollups, the server says that it
// read for the answer; false when it does not say.
func (a *answer) samplesRead() (float64, bool) {
	var stats struct {
		Samples struct{ TotalQueryableSamples *float64 }
	}
	if json.Unmarshal(a.stats, &stats) != nil || stats.Samples.TotalQueryableSamples == nil {
		return 0, false
	}
	return *stats.Samples.TotalQueryableSamples, true
}
