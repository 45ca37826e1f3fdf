package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// WriteBlocks puts all that is to be backfilled into dir as a Prometheus would have:
// blocks of a day, and of two hours for the last two days.
func (h *History) WriteBlocks(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var begins []int64
	recent := h.Cut - 2*dayMillis
	for t := h.Begin; t < h.Cut; {
		begins = append(begins, t)
		if next := t/dayMillis*dayMillis + dayMillis; next <= recent {
			t = next
		} else {
			t += historyBlock
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(begins))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, begin := range begins {
		end := append(begins, h.Cut)[i+1]
		slots <- struct{}{}
		wg.Go(func() {
			errs[i] = h.writeBlock(ctx, dir, begin, end)
			<-slots
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// writeBlock makes the block [begin, end).
func (h *History) writeBlock(ctx context.Context, dir string, begin, end int64) (err error) {
	log := slog.New(slog.DiscardHandler)
	opts := tsdb.DefaultHeadOptions()
	opts.ChunkRange, opts.ChunkDirRoot = end-begin, filepath.Join(dir, fmt.Sprintf("head-%d", begin))
	defer func() { err = errors.Join(err, os.RemoveAll(opts.ChunkDirRoot)) }()
	head, err := tsdb.NewHead(nil, log, nil, nil, opts, tsdb.NewHeadStats())
	if err != nil {
		return fmt.Errorf("write block: %w", err)
	}
	defer func() { err = errors.Join(err, head.Close()) }()
	if err := head.Init(begin); err != nil {
		return fmt.Errorf("write block: %w", err)
	}
	if err := h.fill(head.Appender(ctx), begin, end); err != nil {
		return fmt.Errorf("write block: %w", err)
	}
	compactor, err := tsdb.NewLeveledCompactor(ctx, nil, log, []int64{end - begin}, chunkenc.NewPool(), nil)
	if err != nil {
		return fmt.Errorf("write block: %w", err)
	}
	// Not tsdb.BlockWriter, whose blocks end with their last sample.
	if _, err := compactor.Write(dir, head, begin, end, nil); err != nil {
		return fmt.Errorf("write block: %w", err)
	}
	return nil
}

// fill appends the samples of [begin, end).
func (h *History) fill(app storage.Appender, begin, end int64) (err error) {
	for _, s := range h.Series() {
		var ref storage.SeriesRef
		for _, t := range Times(begin-1, end-1) {
			if s.Float != nil {
				ref, err = app.Append(ref, s.Labels, t, s.Float(t))
			} else {
				ref, err = app.AppendHistogram(ref, s.Labels, t, s.Histogram(t), nil)
			}
			if err != nil {
				return errors.Join(fmt.Errorf("append to %s: %w", s.Labels, err), app.Rollback())
			}
		}
	}
	return app.Commit()
}

// Send sends the samples of (after, until] by remote write, oldest first.
func (h *History) Send(ctx context.Context, base string, after, until int64) error {
	const atOnce = 60 // samples of each series in a request: half an hour
	times := Times(after, until)
	for chunk := range slices.Chunk(times, atOnce) {
		var req prompb.WriteRequest
		for _, s := range h.Series() {
			ts := prompb.TimeSeries{Labels: prompb.FromLabels(s.Labels, nil)}
			for _, t := range chunk {
				if s.Float != nil {
					ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: t, Value: s.Float(t)})
				} else {
					ts.Histograms = append(ts.Histograms, prompb.FromIntHistogram(t, s.Histogram(t)))
				}
			}
			req.Timeseries = append(req.Timeseries, ts)
		}
		body, err := req.Marshal()
		if err != nil {
			return fmt.Errorf("encode remote write: %w", err)
		}
		if err := postWrite(ctx, base+"/api/v1/write", snappy.Encode(nil, body)); err != nil {
			return err
		}
	}
	return nil
}

// Live sends the samples after a time as they become due, until ctx ends. What is
// not acknowledged is sent again.
func (h *History) Live(ctx context.Context, base string, after int64, say func(format string, args ...any)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for wrong := false; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			err := h.Send(ctx, base, after, now.UnixMilli())
			if err == nil {
				after = now.UnixMilli()
			} else if !wrong && ctx.Err() == nil {
				say("the mill's samples wait: %v", err)
			}
			wrong = err != nil
		}
	}
}

func postWrite(ctx context.Context, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if resp.StatusCode/100 != 2 {
		return errors.Join(fmt.Errorf("post %s: %s: %s", url, resp.Status, bytes.TrimSpace(text)), err)
	}
	return nil
}

// Backfill writes all that is to be backfilled into the folder blocks, and has the
// binary weir put it into its own directory data. Nothing may serve that meanwhile.
func (h *History) Backfill(ctx context.Context, weir, blocks, data string) error {
	if err := h.WriteBlocks(ctx, blocks); err != nil {
		return err
	}
	_, err := Run(ctx, weir, "blocks", "backfill", "prometheus", "--dir="+data, blocks)
	return err
}
