package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

// requestTimeout bounds one write. Far above any answer seen (p99 under 0.5 s):
// a server that needs longer has hung.
const requestTimeout = 2 * time.Minute

// outcome is what the server answered to one phase of load.
type outcome struct {
	wall      time.Duration
	samples   int // in requests answered 2xx
	requests  int
	refused   int // requests answered otherwise, or not at all
	fault     string
	written   int // samples the server says it wrote, remote_write 2.0 only
	latencies []time.Duration
}

// send plays bodies[c] on connection c, all connections at once, each with one
// request in flight. It retries nothing: a refusal is a result.
func send(ctx context.Context, url string, proto protocol, bodies [][]body) outcome {
	var wg sync.WaitGroup
	outs := make([]outcome, len(bodies))
	p := newPace(len(bodies))
	start := time.Now()
	for c := range bodies {
		wg.Go(func() {
			defer p.leave(c)
			outs[c] = sendLane(ctx, url, proto, bodies[c], func(n int) { p.wait(c, n, len(bodies[c])) })
		})
	}
	wg.Wait()
	total := outcome{wall: time.Since(start)}
	for _, o := range outs {
		total.samples += o.samples
		total.requests += o.requests
		total.refused += o.refused
		total.written += o.written
		total.latencies = append(total.latencies, o.latencies...)
		if total.fault == "" {
			total.fault = o.fault
		}
	}
	slices.Sort(total.latencies)
	return total
}

// sendLane calls wait with the number of a body before it sends it.
func sendLane(ctx context.Context, url string, proto protocol, bodies []body, wait func(n int)) outcome {
	tr := &http.Transport{MaxConnsPerHost: 1, DisableCompression: true}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: requestTimeout}
	o := outcome{latencies: make([]time.Duration, 0, len(bodies))}
	for n, b := range bodies {
		wait(n)
		if ctx.Err() != nil {
			break
		}
		begin := time.Now()
		written, err := post(ctx, client, url, proto, b.data)
		o.latencies = append(o.latencies, time.Since(begin))
		o.requests++
		if err != nil {
			o.refused++
			if o.fault == "" {
				o.fault = err.Error()
			}
			continue
		}
		o.samples += b.samples
		o.written += written
	}
	return o
}

// post sends one body and returns the samples the server says it wrote, 0 when
// the protocol has no such answer.
func post(ctx context.Context, client *http.Client, url string, proto protocol, data []byte) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(data))
	if err != nil {
		return 0, err
	}
	setHeaders(req.Header, proto)
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return 0, fmt.Errorf("read answer of %s: %w", url, err)
	}
	if resp.StatusCode/100 != 2 {
		return 0, fmt.Errorf("%s answered %s: %s", url, resp.Status, bytes.TrimSpace(answer[:min(len(answer), 300)]))
	}
	switch proto {
	case rw1:
		return 0, nil
	case otlp:
		return 0, partialSuccess(url, answer)
	}
	n, err := strconv.Atoi(resp.Header.Get("X-Prometheus-Remote-Write-Samples-Written"))
	if err != nil {
		return 0, fmt.Errorf("read X-Prometheus-Remote-Write-Samples-Written of %s: %w", url, err)
	}
	return n, nil
}

// partialSuccess turns data points that an OTLP receiver rejected in a 200 answer
// into an error. An empty answer rejects nothing.
func partialSuccess(url string, answer []byte) error {
	resp := pmetricotlp.NewExportResponse()
	if err := resp.UnmarshalProto(answer); err != nil {
		return fmt.Errorf("read OTLP answer of %s: %w", url, err)
	}
	if p := resp.PartialSuccess(); p.RejectedDataPoints() > 0 {
		return fmt.Errorf("%s rejected %d data points: %s", url, p.RejectedDataPoints(), p.ErrorMessage())
	}
	return nil
}

// setHeaders sets what a Prometheus server or an OTel program sends.
func setHeaders(h http.Header, proto protocol) {
	h.Set("Content-Type", "application/x-protobuf")
	switch proto {
	case rw1:
		h.Set("User-Agent", "Prometheus/3.14.0")
		h.Set("Content-Encoding", "snappy")
		h.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	case rw2:
		h.Set("User-Agent", "Prometheus/3.14.0")
		h.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
		h.Set("Content-Encoding", "snappy")
		h.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
	default:
		h.Set("User-Agent", "OTel-OTLP-Exporter-Go/1.40.0")
	}
}

// percentile returns the p-th percentile, 0 to 100, of sorted durations.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(p/100*float64(len(sorted))))]
}
