//go:build chaos

package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// writers send all feeds, each over a connection of its own, and each request
// again until it is acknowledged, as Prometheus does.
type writers struct {
	t    *testing.T
	base string // of the server
	stop context.CancelFunc
	over chan struct{}

	acked  atomic.Int64 // requests that every feed has had acknowledged
	resent atomic.Int64 // requests that had to be sent again
}

func startWriters(t *testing.T, server string) *writers {
	ctx, stop := context.WithCancel(t.Context())
	w := &writers{t: t, base: server, stop: stop, over: make(chan struct{})}
	go w.run(ctx)
	t.Cleanup(func() {
		w.stop()
		<-w.over
	})
	return w
}

// run keeps the feeds together in time, else the slowest would fall behind what
// the store takes out of order.
func (w *writers) run(ctx context.Context) {
	defer close(w.over)
	clients := make([]http.Client, len(feeds))
	for i := range clients {
		clients[i] = http.Client{Transport: &http.Transport{}, Timeout: 30 * time.Second}
	}
	for request := 0; ctx.Err() == nil; request++ {
		var wg sync.WaitGroup
		for i, f := range feeds {
			wg.Go(func() { w.deliver(ctx, &clients[i], f, request) })
		}
		wg.Wait()
		if ctx.Err() == nil {
			w.acked.Store(int64(request) + 1)
		}
	}
}

// deliver returns when the request is acknowledged or ctx ends.
func (w *writers) deliver(ctx context.Context, client *http.Client, f feed, request int) {
	body := f.body(request)
	for try := 0; ctx.Err() == nil; try++ {
		if try == 1 {
			w.resent.Add(1)
		}
		status, header, text, err := post(ctx, client, w.base+"/api/v1/write", f.v2, body)
		switch {
		case err != nil || status/100 == 5:
			time.Sleep(30 * time.Millisecond)
			continue
		case f.spoilt && status == http.StatusBadRequest, !f.spoilt && status/100 == 2:
		default:
			w.t.Errorf("request %d of %s: got status %d: %s", request, f.name, status, text)
		}
		if n := written(header); n != seriesPerFeed*f.samples {
			w.t.Errorf("request %d of %s, try %d: %d samples written by the answer's headers, want %d: %s", request, f.name, try, n, seriesPerFeed*f.samples, text)
		}
		return
	}
}

func post(ctx context.Context, client *http.Client, url string, v2 bool, body []byte) (status int, header http.Header, text []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	if v2 {
		req.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
		req.Header.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	text, err = io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, text, err
}

// written is what the server says to have taken of samples and histograms.
func written(header http.Header) int {
	total := 0
	for _, kind := range []string{"Samples", "Histograms"} {
		n, err := strconv.Atoi(header.Get("X-Prometheus-Remote-Write-" + kind + "-Written"))
		if err != nil {
			return -1
		}
		total += n
	}
	return total
}

// count is what a check found.
type count struct {
	right, lost, altered, doubled, invented int

	examples []string
}

// example keeps a few faults, to tell where to look.
func (c *count) example(f feed, series int, what string, t int64) {
	if len(c.examples) < 10 {
		c.examples = append(c.examples, fmt.Sprintf("%s: %s @%d", f.labels(series), what, t))
	}
}

func (c count) String() string {
	return fmt.Sprintf("%d samples right, %d lost, %d altered, %d doubled, %d never sent", c.right, c.lost, c.altered, c.doubled, c.invented)
}

// check reads back what was acknowledged from request lo on.
func (w *writers) check(lo int) (n count) {
	w.t.Helper()
	hi := int(w.acked.Load())
	lo = max(0, lo-lo%mix)
	for _, f := range feeds {
		found := read(w.t, w.base, timeOf(lo, 0), timeOf(hi+2*mix, 0), equal("feed", f.name))
		if len(found) > seriesPerFeed {
			w.t.Errorf("feed %s has %d series, want %d", f.name, len(found), seriesPerFeed)
		}
		for series := range seriesPerFeed {
			f.compare(&n, found[f.labels(series).String()], series, lo, hi)
		}
	}
	if n.lost+n.altered+n.doubled+n.invented > 0 {
		w.t.Errorf("requests %d to %d: %s\n%s", lo, hi, n, strings.Join(n.examples, "\n"))
	}
	return n
}

// compare counts into n what became of the samples of requests [lo, hi). More may
// be there: what was sent but not acknowledged.
func (f feed) compare(n *count, found []sample, series, lo, hi int) {
	there := make(map[int64]bool, len(found))
	for i, s := range found {
		if i > 0 && s.t <= found[i-1].t {
			n.doubled++
			n.example(f, series, "doubled", s.t)
		}
		there[s.t] = true
		slot, j := int((s.t-base)/interval), int((s.t-base)%interval/(interval/4))
		switch want := f.at(series, slot, j).compact(); {
		case j >= f.samples || want.t != s.t:
			n.invented++
			n.example(f, series, "never sent: "+s.String(), s.t)
		case !want.same(s):
			n.altered++
			n.example(f, series, "altered: "+s.String()+", sent was "+want.String(), s.t)
		default:
			n.right++
		}
	}
	for request := lo; request < hi; request++ {
		for j := range f.samples {
			if !there[timeOf(f.slot(request), j)] {
				n.lost++
				n.example(f, series, fmt.Sprintf("lost: request %d", request), timeOf(f.slot(request), j))
			}
		}
	}
}
