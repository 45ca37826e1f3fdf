package tiers

import (
	"sync"
	"time"
)

const (
	// firstWait and longestWait bound how soon a failed step is tried again: 5 s,
	// doubled each time up to 10 min. What fails is the disk, which comes back in
	// minutes, or a damaged block, which does not and may then wait.
	firstWait   = 5 * time.Second
	longestWait = 10 * time.Minute
	// mostRetries bounds the memory for subjects that failed and never came again.
	mostRetries = 10_000
)

// retries is the one policy for steps that failed, by what they were about.
type retries struct {
	mu   sync.Mutex
	by   map[string]retry
	last failure
}

type retry struct {
	fails int
	next  time.Time
}

// failure is the newest one, for status.
type failure struct {
	At      time.Time `json:"at"`
	Subject string    `json:"subject"`
	Error   string    `json:"error"`
}

// ready says whether a step may be tried at now.
func (r *retries) ready(subject string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.by[subject]
	// A clock that jumped back must not make a step wait for longer than ever.
	return !now.Before(x.next) || x.next.Sub(now) > longestWait
}

// failed notes a failure and returns how long the step waits.
func (r *retries) failed(subject string, now time.Time, err error) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by == nil || len(r.by) >= mostRetries {
		r.by = map[string]retry{}
	}
	x := r.by[subject]
	wait := min(firstWait<<min(x.fails, 20), longestWait)
	r.by[subject] = retry{x.fails + 1, now.Add(wait)}
	r.last = failure{now.UTC(), subject, err.Error()}
	return wait
}

// failing says whether a step failed when it was last tried.
func (r *retries) failing(subject string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.by[subject].fails > 0
}

func (r *retries) done(subject string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.by, subject)
}

func (r *retries) lastFailure() *failure {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last.At.IsZero() {
		return nil
	}
	f := r.last
	return &f
}
