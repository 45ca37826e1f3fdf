package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weir-dev/weir/bench/shop"
)

// fleet is all connections to one server.
type fleet struct {
	batch  int
	memory *memory
	lanes  []lane
}

type lane struct {
	exporter
	*shop.Stream
}

// outcome is what the server answered to one phase of load.
type outcome struct {
	wall      time.Duration
	spans     int // in requests answered well
	bytes     int // of them
	requests  int
	refused   int // requests answered otherwise, or not at all
	fault     string
	latencies []time.Duration // sorted
}

func newFleet(s *server, sc scenario, sh *shop.Shop, m *memory) (*fleet, error) {
	f := &fleet{batch: sc.Batch, memory: m}
	for c := range sc.Conns {
		e, err := s.connect(sc.Proto)
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
		f.lanes = append(f.lanes, lane{e, sh.Stream(c)})
	}
	return f, nil
}

func (f *fleet) close() error {
	var faults []error
	for _, l := range f.lanes {
		faults = append(faults, l.Close())
	}
	return errors.Join(faults...)
}

// send sends n spans in all, one body after the other on each connection. at is when
// traces end, by the part of its own that a connection has sent.
func (f *fleet) send(ctx context.Context, n int, at func(part float64) time.Time) outcome {
	each := n / len(f.lanes)
	return f.all(func(l lane, o *outcome) {
		for sent := 0; ctx.Err() == nil && (sent < each || !l.Whole()); {
			sent += f.one(ctx, l, at(float64(sent)/float64(each)), o)
		}
	})
}

// flow sends at a rate, in spans a second, until ctx ends, and then the rest of the
// traces it has begun. What the server is slower than is not made up for.
func (f *fleet) flow(ctx context.Context, rate int) outcome {
	interval := time.Duration(float64(f.batch*len(f.lanes)) / float64(rate) * float64(time.Second))
	return f.all(func(l lane, o *outcome) {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				for !l.Whole() {
					f.one(context.WithoutCancel(ctx), l, time.Now(), o)
				}
				return
			case <-tick.C:
				f.one(context.WithoutCancel(ctx), l, time.Now(), o)
			}
		}
	})
}

// all runs work on every connection at once.
func (f *fleet) all(work func(l lane, o *outcome)) outcome {
	var wg sync.WaitGroup
	outs := make([]outcome, len(f.lanes))
	begun := time.Now()
	for c, l := range f.lanes {
		wg.Go(func() { work(l, &outs[c]) })
	}
	wg.Wait()
	total := outcome{wall: time.Since(begun)}
	for _, o := range outs {
		total.spans += o.spans
		total.bytes += o.bytes
		total.requests += o.requests
		total.refused += o.refused
		total.latencies = append(total.latencies, o.latencies...)
		if total.fault == "" {
			total.fault = o.fault
		}
	}
	slices.Sort(total.latencies)
	return total
}

// one sends one body and returns its spans. It retries nothing: a refusal is a result.
func (f *fleet) one(ctx context.Context, l lane, at time.Time, o *outcome) int {
	body := l.Next(at)
	begun := time.Now()
	err := l.export(ctx, body.Data)
	o.latencies = append(o.latencies, time.Since(begun))
	o.requests++
	if err != nil {
		o.refused++
		if o.fault == "" {
			o.fault = err.Error()
		}
		return body.Spans
	}
	o.spans += body.Spans
	o.bytes += len(body.Data)
	if l.Whole() {
		f.memory.add(l.Sample)
	}
	return body.Spans
}

// refusal says what the server did not take, or nothing.
func (o *outcome) refusal(phase string) string {
	if o.refused == 0 {
		return ""
	}
	return fmt.Sprintf("%s: %d of %d requests refused, first: %s", phase, o.refused, o.requests, o.fault)
}

// percentile returns the p-th percentile, 0 to 100, of sorted durations.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(p/100*float64(len(sorted))))]
}
