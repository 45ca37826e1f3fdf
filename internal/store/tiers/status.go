package tiers

import (
	"encoding/json"
	"net/http"

	"github.com/prometheus/prometheus/tsdb"
)

// Status is what the worker is at and what the rungs hold.
type Status struct {
	Rungs []RungStatus `json:"rungs"`
	// Waiting raw blocks are not rolled up yet; Lag is from the beginning of the oldest
	// of them to the end of the newest block.
	Waiting    int     `json:"blocks_waiting"`
	LagSeconds float64 `json:"lag_seconds"`
	// Paused says why nothing is rolled up; empty when it is.
	Paused        string   `json:"paused,omitempty"`
	Rolling       *Rolling `json:"rolling,omitempty"`
	SamplesPerSec float64  `json:"last_samples_per_second"`
	Deletions     int      `json:"deletions_waiting"`
	LastFailure   *failure `json:"last_failure,omitempty"`
}

// RungStatus is one rung. Times are Unix milliseconds, [MinTime, MaxTime).
type RungStatus struct {
	Resolution  string `json:"resolution"`
	Keep        string `json:"keep"`
	Selector    string `json:"selector,omitempty"`
	Blocks      int    `json:"blocks"`
	Bytes       int64  `json:"bytes"`
	InBucket    int    `json:"blocks_in_bucket_only"`
	Quarantined int    `json:"blocks_quarantined"`
	MinTime     int64  `json:"min_time"`
	MaxTime     int64  `json:"max_time"`
}

// Status tells what is so now.
func (t *Tiers) Status() *Status {
	s := &Status{Rungs: t.rungStatus(), LastFailure: t.retry.lastFailure()}
	s.Rolling, s.SamplesPerSec, s.Paused = t.progress.read()
	if t.deps.DB() == nil {
		return s
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	raw := t.seen
	newest := t.newest(raw)
	for _, d := range t.state.Deletions {
		if d.Done.IsZero() {
			s.Deletions++
		}
	}
	for _, b := range raw {
		if len(t.lacking(b, newest)) > 0 {
			s.Waiting++
			s.LagSeconds = max(s.LagSeconds, float64(newest-b.from)/1000)
		}
	}
	return s
}

func (t *Tiers) rungStatus() []RungStatus {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := []RungStatus{}
	for _, r := range t.rungs {
		x := RungStatus{Resolution: r.Name(), Keep: r.Keep.String(), Selector: r.Selector, Blocks: len(r.blocks), Quarantined: len(r.lost)}
		for _, e := range r.blocks {
			x.Bytes += e.size()
		}
		for _, g := range r.segs {
			if g.by[0].far() {
				x.InBucket++
			}
		}
		if n := len(r.segs); n > 0 {
			x.MinTime, x.MaxTime = r.segs[0].from, r.segs[n-1].to
		}
		out = append(out, x)
	}
	return out
}

// Due lists what retention takes now, blocks first, then series out of blocks. It is
// what the next passes do, but for what waits.
func (t *Tiers) Due() ([]Removal, error) {
	db := t.deps.DB()
	if db == nil {
		return nil, tsdb.ErrNotReady
	}
	raw := t.view()
	shipped := t.shipped(raw)
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := append([]Removal{}, t.due(raw, db.Head().Size(), shipped)...)
	return append(out, t.dueBySelector(raw, shipped)...), nil
}

// StatusHandler answers GET /api/v1/status/rollup with [Status].
func (t *Tiers) StatusHandler() http.Handler {
	return answer(func() (any, error) { return t.Status(), nil })
}

// RetentionHandler answers GET /api/v1/status/retention with what would go and why.
// It never deletes; the parameter dry_run is taken and changes nothing.
func (t *Tiers) RetentionHandler() http.Handler {
	return answer(func() (any, error) {
		due, err := t.Due()
		return map[string]any{"dry_run": true, "removals": due}, err
	})
}

// answer wraps data as Prometheus' API does.
func answer(get func() (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			reply(w, http.StatusMethodNotAllowed, map[string]any{"status": "error", "errorType": "bad_data", "error": "want GET"})
			return
		}
		data, err := get()
		if err != nil {
			reply(w, http.StatusServiceUnavailable, map[string]any{"status": "error", "errorType": "unavailable", "error": err.Error()})
			return
		}
		reply(w, http.StatusOK, map[string]any{"status": "success", "data": data})
	})
}

func reply(w http.ResponseWriter, code int, body any) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the client is gone, then
}
