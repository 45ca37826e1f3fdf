package block

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"time"

	"github.com/oklog/ulid/v2"
)

// Options of making a block. The zero value will do.
type Options struct {
	// Labels are the external labels that meta.json carries.
	Labels map[string]string
	// Hashes puts the SHA-256 of each file into meta.json.
	Hashes bool
	// Memory bounds the buffers, in bytes; 0 is 16 MiB. Beside it, a block takes about
	// 70 bytes a series.
	Memory int64
	// Now gives the time of the new ULID; nil is time.Now.
	Now func() time.Time
	// After is a ULID that the new one must exceed, as newer blocks of a resolution
	// shadow older ones: clocks jump back.
	After ulid.ULID
	// Log gets a line a block made; nil is none.
	Log *slog.Logger
	// Progress is told by [Roll], every 256 series and at the last, how many series of
	// the raw block it has passed, and how many of its samples, stale markers included,
	// it has read. What is made is then still to be verified. It is called by the same
	// goroutine and must not block; nil is none.
	Progress func(series, samples uint64)
}

// newULID is above all of after, which a clock that jumped back cannot promise.
func (o *Options) newULID(after ...ulid.ULID) (ulid.ULID, error) {
	now := time.Now
	if o.Now != nil {
		now = o.Now
	}
	ms := ulid.Timestamp(now())
	for _, a := range append(after, o.After) {
		if ms <= a.Time() && a != (ulid.ULID{}) {
			ms = a.Time() + 1
		}
	}
	if ms > ulid.MaxTime() {
		return ulid.ULID{}, errors.New("make a ULID: the clock is beyond the year 10889")
	}
	return ulid.New(ms, rand.Reader)
}

func (o *Options) log() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

const (
	// defaultMemory gives the ten buffers of a ladder of two rungs as much as they use.
	defaultMemory = 16 << 20
	// minBuffer keeps reading and writing to a system call a few dozen chunks, also
	// with a small Options.Memory and many blocks to merge.
	minBuffer = 64 << 10
	// maxBuffer is where larger ones gain nothing. Unmeasured beyond: at 1 MiB, system
	// calls are a seventh of the CPU of rolling up, most of it copying.
	maxBuffer = 1 << 20
)

// buffer is the size of each of n buffers.
func (o *Options) buffer(n int) int {
	m := o.Memory
	if m <= 0 {
		m = defaultMemory
	}
	return int(min(max(m/int64(n), minBuffer), maxBuffer))
}
