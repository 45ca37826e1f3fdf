package jaegerv1

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weir-dev/weir/tracing/jaegermodel"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"

	"github.com/jaegertracing/jaeger-idl/model/v1"
)

// Texts of errors are Jaeger's, which people and scripts know.
var (
	errNoService = errors.New("parameter 'service' is required")
	errDurations = errors.New("'maxDuration' should be greater than 'minDuration'")
)

func parseError(name string, err error) error {
	return fmt.Errorf("unable to parse param '%s': %w", name, err)
}

// search is what /api/traces asks.
type search struct {
	query spanstore.Query
	ids   []span.TraceID // those alone, if any
	raw   bool
	never bool   // nothing can be found
	note  string // why there may be less than the client expects; empty: there is not
}

const (
	defaultLookback = 48 * time.Hour // of a search that does not say when
	defaultLimit    = 100            // traces
	// maxConditions bounds the work that a search makes with each span it looks at.
	// Nobody types more; unmeasured.
	maxConditions = 64
)

func (h *handler) parseSearch(r *http.Request) (search, error) {
	var s search
	q := &s.query
	q.Service, q.Operation = r.FormValue("service"), r.FormValue("operation")
	now := h.deps.Now()
	var err error
	if q.Start, err = parseTime(r, "start", now.Add(-defaultLookback)); err != nil {
		return s, err
	}
	if q.End, err = parseTime(r, "end", now); err != nil {
		return s, err
	}
	if q.Where, err = parseTags(r.Form["tag"], r.Form["tags"]); err != nil {
		return s, err
	}
	if q.Limit, s.note, err = h.parseLimit(r.FormValue("limit")); err != nil {
		return s, err
	}
	if q.MinDuration, err = parseDuration(r, "minDuration"); err != nil {
		return s, err
	}
	if q.MaxDuration, err = parseDuration(r, "maxDuration"); err != nil {
		return s, err
	}
	for _, text := range r.Form["traceID"] {
		id, err := parseID(text)
		if err != nil {
			return s, fmt.Errorf("cannot parse traceID param: %w", err)
		}
		s.ids = append(s.ids, id)
	}
	s.raw = raw(r)
	return s, s.check(h.limits.MaxTraces, r.FormValue("start") != "" && r.FormValue("end") != "")
}

// check tells what cannot be meant. The client said when the search begins and ends, or
// only one of it.
func (s *search) check(most int, bounds bool) error {
	q := &s.query
	switch {
	case len(s.ids) == 0 && q.Service == "":
		return errNoService
	case q.MinDuration != 0 && q.MaxDuration != 0 && q.MaxDuration < q.MinDuration:
		return errDurations
	case len(s.ids) > most:
		return fmt.Errorf("got %d traceID params, want at most %d", len(s.ids), most)
	case len(s.ids) > 0:
		return nil
	case q.MaxDuration < 0:
		s.never = true // no span lasts so long
	case q.End.Before(q.Start):
		s.never = true
		if bounds {
			s.note = fmt.Sprintf("start %s is after end %s", q.Start.UTC().Format(time.RFC3339Nano), q.End.UTC().Format(time.RFC3339Nano))
		}
	}
	q.MinDuration = max(q.MinDuration, 0)
	return nil
}

// parseLimit takes 0 and less for as many as possible, as Jaeger's memory store does.
func (h *handler) parseLimit(text string) (limit int, note string, err error) {
	most := h.limits.MaxTraces
	if text == "" {
		return min(defaultLimit, most), "", nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	switch {
	case err != nil:
		return 0, "", err
	case n <= 0:
		return most, fmt.Sprintf("limit %d stands for as many as possible: these are %d, and there may be more", n, most), nil
	case n > int64(most):
		return most, fmt.Sprintf("limit %d is above the largest of %d, and there may be more traces", n, most), nil
	}
	return int(n), "", nil
}

// parseTime reads a number since 1970 in the unit that makes it a time between 1973
// and 5138, be it seconds, milli-, micro- or nanoseconds: Jaeger wants microseconds
// for some parameters and milliseconds for others, and Grafana mixes them up.
func parseTime(r *http.Request, name string, otherwise time.Time) (time.Time, error) {
	text := r.FormValue(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, parseError(name, err)
	}
	const seconds, millis, micros = 1e11, 1e14, 1e17
	switch {
	case n > -seconds && n < seconds:
		return time.Unix(n, 0), nil
	case n > -millis && n < millis:
		return time.UnixMilli(n), nil
	case n > -micros && n < micros:
		return time.UnixMicro(n), nil
	}
	return time.Unix(0, n), nil
}

func parseDuration(r *http.Request, name string) (time.Duration, error) {
	text := r.FormValue(name)
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, parseError(name, err)
	}
	return d, nil
}

// parseMillis reads a duration that is a number.
func parseMillis(r *http.Request, name string, otherwise time.Duration) (time.Duration, error) {
	text := r.FormValue(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, parseError(name, err)
	}
	return time.Duration(min(max(n, -maxMillis), maxMillis)) * time.Millisecond, nil
}

// maxMillis is a century, so that nothing overflows.
const maxMillis = 100 * 365 * 24 * 3600 * 1000

// parseTags reads "key:value" and objects of strings; what is said last of a key counts.
func parseTags(pairs, objects []string) ([]spanstore.Condition, error) {
	tags := make(map[string]string)
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, ":")
		if !ok {
			return nil, fmt.Errorf("malformed 'tag' parameter, expecting key:value, received: %s", pair)
		}
		tags[key] = value
	}
	for _, object := range objects {
		var more map[string]string
		if err := json.Unmarshal([]byte(object), &more); err != nil {
			return nil, fmt.Errorf("malformed 'tags' parameter, cannot unmarshal JSON: %w", err)
		}
		maps.Copy(tags, more)
	}
	if len(tags) > maxConditions {
		return nil, fmt.Errorf("got %d tags to search for, want at most %d", len(tags), maxConditions)
	}
	var where []spanstore.Condition
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		where = append(where, spanstore.Condition{Key: key, Op: spanstore.Equal, Value: tags[key]})
	}
	return where, nil
}

func parseID(text string) (span.TraceID, error) {
	id, err := model.TraceIDFromString(text)
	if err != nil {
		return span.TraceID{}, err
	}
	return jaegermodel.StoredID(id), nil
}

func raw(r *http.Request) bool {
	is, _ := strconv.ParseBool(r.FormValue("raw")) // Jaeger takes what is no bool for false
	return is
}

// hint is where to look for a trace first. What cannot be read is not needed.
func hint(r *http.Request) spanstore.Window {
	start, badStart := parseTime(r, "start", time.Time{})
	end, badEnd := parseTime(r, "end", time.Time{})
	if badStart != nil || badEnd != nil || !start.IsZero() && !end.IsZero() && end.Before(start) {
		return spanstore.Window{}
	}
	return spanstore.Window{Start: start, End: end}
}

func dependencyWindow(r *http.Request, now time.Time) (spanstore.Window, error) {
	end, err := parseTime(r, "endTs", now)
	if err != nil {
		return spanstore.Window{}, err
	}
	lookback, err := parseMillis(r, "lookback", 24*time.Hour)
	return spanstore.Window{Start: end.Add(-lookback), End: end}, err
}
