package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"

	"github.com/weir-dev/weir/bench/dataset"
	"github.com/weir-dev/weir/bench/measure"
	"github.com/weir-dev/weir/bench/tiers"
)

// samplesPerBody is how many samples of one series one request carries: some 160
// KB before compression, far below any limit, and few enough requests.
const samplesPerBody = 10_000

// loadedFile holds the fingerprint of the data set beside VictoriaMetrics' data. It
// is written after a clean stop with everything merged, so that the directory can
// be used again.
const loadedFile = "loaded-by-bench"

// fingerprint tells data sets apart, also those of another version of the
// generator.
func fingerprint(s dataset.Spec, raw []tiers.Block) string {
	return fmt.Sprintf("%s, %d bytes of chunks\n", s, tiers.Sum(raw).Chunks)
}

func loaded(dir, holds string) bool {
	text, err := os.ReadFile(filepath.Join(dir, loadedFile))
	return err == nil && string(text) == holds
}

// load pushes the whole data set to the VictoriaMetrics at base and has it merge
// everything, as time would.
func load(ctx context.Context, base string, s dataset.Spec) error {
	for _, x := range s.NewSeries() {
		if err := pushSeries(ctx, base+"/api/v1/write", x, s.End()); err != nil {
			return fmt.Errorf("push %s: %w", x.Labels, err)
		}
	}
	return measure.MergeAll(ctx, base)
}

func pushSeries(ctx context.Context, url string, x *dataset.Series, end int64) error {
	var (
		ts      [samplesPerBody]int64
		vs      [samplesPerBody]float64
		samples = make([]prompb.Sample, samplesPerBody)
		series  prompb.TimeSeries
	)
	x.Labels.Range(func(l labels.Label) {
		series.Labels = append(series.Labels, prompb.Label{Name: l.Name, Value: l.Value})
	})
	for n := x.Read(ts[:], vs[:], end); n > 0; n = x.Read(ts[:], vs[:], end) {
		for i := range n {
			samples[i] = prompb.Sample{Timestamp: ts[i], Value: vs[i]}
		}
		series.Samples = samples[:n]
		raw, err := (&prompb.WriteRequest{Timeseries: []prompb.TimeSeries{series}}).Marshal()
		if err != nil {
			return err
		}
		if err := write(ctx, url, snappy.Encode(nil, raw)); err != nil {
			return err
		}
	}
	return nil
}

func write(ctx context.Context, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = errors.New(resp.Status + ": " + string(text[:min(len(text), 300)]))
	}
	return err
}
