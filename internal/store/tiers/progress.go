package tiers

import (
	"sync"
	"time"
)

// progress is what the worker is at, for whoever asks.
type progress struct {
	mu     sync.Mutex
	now    *Rolling
	since  time.Time
	told   time.Time // when done was called
	rate   float64
	paused string
}

// Rolling is the raw block being rolled up. When all series are done, what was made
// of them is still verified.
type Rolling struct {
	Block         string  `json:"block"`
	Series        uint64  `json:"series"`
	SeriesDone    uint64  `json:"series_done"`
	Samples       uint64  `json:"samples"`
	SamplesDone   uint64  `json:"samples_done"`
	Seconds       float64 `json:"seconds"`            // since it was begun
	SamplesPerSec float64 `json:"samples_per_second"` // while series are read
}

func (p *progress) begin(b rawBlock) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = &Rolling{Block: b.ULID.String(), Series: b.Stats.NumSeries, Samples: b.Stats.NumSamples}
	p.since, p.told = time.Now(), time.Now()
}

// done is for [block.Options.Progress].
func (p *progress) done(series, samples uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != nil {
		p.now.SeriesDone, p.now.SamplesDone, p.told = series, samples, time.Now()
	}
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = nil
}

// rolled notes how fast the last block went.
func (p *progress) rolled(samples uint64, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := took.Seconds(); s > 0 {
		p.rate = float64(samples) / s
	}
}

// pause notes why nothing is rolled, and returns whether it was so before.
func (p *progress) pause(why error) (was bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was = p.paused != ""
	p.paused = ""
	if why != nil {
		p.paused = why.Error()
	}
	return was
}

func (p *progress) read() (now *Rolling, rate float64, paused string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now != nil {
		copied := *p.now
		copied.Seconds = time.Since(p.since).Seconds()
		if took := p.told.Sub(p.since).Seconds(); took > 0 {
			copied.SamplesPerSec = float64(copied.SamplesDone) / took
		}
		now = &copied
	}
	return now, p.rate, p.paused
}
