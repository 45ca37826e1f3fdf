package tiers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/weir-dev/weir/bench/measure"
)

const (
	// idle is how long Thanos must use next to no CPU to count as done. Between its
	// two passes it reads the bucket anew, which takes milliseconds here.
	idle = 2 * time.Second
	// pollEvery is how often it is looked at; its wall time is as exact as this.
	pollEvery = 20 * time.Millisecond
	// thanosTimeout bounds the wait for all rollups: 20 times what the largest of
	// the ready-made data sets takes.
	thanosTimeout = 30 * time.Minute
)

// Cost is what processes took.
type Cost struct {
	CPU, Wall time.Duration
	RSS       int64 // peak, bytes
}

// Bucket is a directory that Thanos takes for object storage.
type Bucket struct {
	Dir    string
	Config string // file for --objstore.config-file
	raw    []Block
}

// FillBucket links raw blocks into a bucket below dir and gives each the meta.json
// that Thanos wants.
func FillBucket(dir string, raw []Block) (*Bucket, error) {
	b := &Bucket{Dir: filepath.Join(dir, "bucket"), Config: filepath.Join(dir, "bucket.yaml"), raw: raw}
	for i := range raw {
		dest, err := raw[i].Link(b.Dir)
		if err != nil {
			return nil, err
		}
		if err := addThanos(filepath.Join(dest, "meta.json")); err != nil {
			return nil, err
		}
	}
	text := fmt.Appendf(nil, "type: FILESYSTEM\nconfig:\n  directory: %s\n", b.Dir)
	return b, os.WriteFile(b.Config, text, 0o600)
}

// addThanos adds to a meta.json what a sidecar would.
func addThanos(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	meta := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &meta); err != nil {
		return fmt.Errorf("parse %s: %w", path, err)
	}
	meta["thanos"] = json.RawMessage(`{"version":1,"source":"sidecar","labels":{"cluster":"bench"},"downsample":{"resolution":0}}`)
	if text, err = json.Marshal(meta); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o666)
}

// Thanos rolls raw blocks of 40 hours and more to 5m, those of 10 days and more on
// to 1h, and leaves shorter ones alone.
const (
	shortest5m = 40 * 3600 * 1000
	shortest1h = 10 * 24 * 3600 * 1000
)

// expected is how many rollups Thanos will make.
func (b *Bucket) expected() int {
	n := 0
	for _, r := range b.raw {
		if r.MaxTime-r.MinTime >= shortest5m {
			n++
		}
		if r.MaxTime-r.MinTime >= shortest1h {
			n++
		}
	}
	return n
}

// Downsample runs thanos tools bucket downsample on core with dir for its files,
// until all rollups are in the bucket and it has gone quiet.
func (b *Bucket) Downsample(ctx context.Context, binary, dir string, core int) (Cost, error) {
	var c Cost
	expected := b.expected()
	if expected == 0 {
		return c, errors.New("thanos rolls up blocks of 40 h and more, and the data set has none")
	}
	ports, err := measure.FreePorts(1)
	if err != nil {
		return c, err
	}
	argv := measure.OnCore(core, binary, "tools", "bucket", "downsample", "--objstore.config-file="+b.Config,
		"--data-dir="+filepath.Join(dir, "work"), "--http-address="+ports[0], "--downsample.concurrency=1")
	p, err := measure.Start("thanos", dir, filepath.Join(dir, "downsample.log"), argv)
	if err != nil {
		return c, err
	}
	c, err = b.watch(ctx, p, expected)
	if err != nil {
		err = fmt.Errorf("%w; its log ends: %s", err, p.LogTail())
	}
	return c, errors.Join(err, p.Stop())
}

// watch returns the cost up to the last time that the process used CPU before it
// went quiet with all expected rollups in the bucket.
func (b *Bucket) watch(ctx context.Context, p *measure.Program, expected int) (Cost, error) {
	ctx, cancel := context.WithTimeout(ctx, thanosTimeout)
	defer cancel()
	var c Cost
	start, busy := time.Now(), time.Now()
	for {
		select {
		case <-p.Done():
			return c, fmt.Errorf("it ended with %s", p.State())
		case <-ctx.Done():
			return c, fmt.Errorf("wait for %d rollups in its bucket: %w", expected, ctx.Err())
		case <-time.After(pollEvery):
		}
		cpu, err := measure.CPUClock(p.Pid())
		if err != nil {
			return c, err
		}
		if cpu-c.CPU > pollEvery/10 {
			busy = time.Now()
			c.Wall = busy.Sub(start)
		}
		c.CPU = cpu
		if c.RSS, err = measure.PeakRSSAlone(p.Pid()); err != nil {
			return c, err
		}
		if time.Since(busy) < idle {
			continue
		}
		found, err := Find(b.Dir)
		if err != nil || len(found)-len(b.raw) >= expected {
			return c, err
		}
	}
}
