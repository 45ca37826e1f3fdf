package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/weir-dev/weir/bench/shop"
)

// question is one usual search. Zero fields do not narrow it.
type question struct {
	name               string
	service, operation string
	tags               []tag
	failed             bool
	min, max           time.Duration
	start, end         time.Time
	limit              int
	certain            bool // something must be found
}

type tag struct {
	key   string
	value any // string or int
}

// questions are the ten, about the services and values of a trace that is known, in
// a span of time that it is in. 20 is the limit that Grafana and the Jaeger UI send.
func questions(t shop.Trace, start, end time.Time) []question {
	q := func(name string, about shop.Span, change func(*question)) question {
		q := question{name: name, service: about.Service, start: start, end: end, limit: 20}
		change(&q)
		return q
	}
	root, called := t.Spans[0], t.Spans[2]
	return []question{
		q("service", called, func(q *question) { q.certain = true }),
		q("service, operation", called, func(q *question) { q.operation, q.certain = called.Name, true }),
		q("service, errors", called, func(q *question) { q.failed = true }),
		q("service, over 1 s", called, func(q *question) { q.min = time.Second }),
		q("operation, 100 to 200 ms", root, func(q *question) { q.operation, q.min, q.max = root.Name, 100*time.Millisecond, 200*time.Millisecond }),
		q("service, status code", root, func(q *question) { q.tags = []tag{{"http.response.status_code", 500}} }),
		q("service, one order", root, func(q *question) { q.tags, q.certain = []tag{{"shop.order.id", t.Order}}, true }),
		q("service, one user", root, func(q *question) { q.tags, q.certain = []tag{{"enduser.id", t.User}}, true }),
		q("service, two tags", called, func(q *question) {
			q.tags = []tag{{"rpc.grpc.status_code", 14}, {"cloud.availability_zone", "us-east-1c"}}
		}),
		q("service, one minute, 200", called, func(q *question) {
			q.limit, q.certain = 200, true
			q.start, q.end = t.Start.Add(-30*time.Second), t.Start.Add(30*time.Second)
			if t.End.After(q.end) {
				q.end = t.End
			}
		}),
	}
}

// dialect is how a server is asked.
type dialect struct {
	trace  func(base, id string) string
	search func(base string, q *question) string
	spans  func(answer []byte) (int, error) // of a trace
	found  func(answer []byte) (int, error) // traces of a search
}

// jaeger is HTTP API v1: what Grafana asks.
var jaeger = dialect{
	trace: func(base, id string) string { return base + "/api/traces/" + id },
	search: func(base string, q *question) string {
		args := url.Values{
			"service": {q.service}, "limit": {strconv.Itoa(q.limit)},
			"start": {strconv.FormatInt(q.start.UnixMicro(), 10)}, "end": {strconv.FormatInt(q.end.UnixMicro(), 10)},
		}
		if q.operation != "" {
			args.Set("operation", q.operation)
		}
		if q.min > 0 {
			args.Set("minDuration", q.min.String())
		}
		if q.max > 0 {
			args.Set("maxDuration", q.max.String())
		}
		tags := map[string]string{}
		for _, t := range q.tags {
			tags[t.key] = fmt.Sprint(t.value)
		}
		if q.failed {
			tags["error"] = "true"
		}
		if len(tags) > 0 {
			text, _ := json.Marshal(tags) // strings cannot fail
			args.Set("tags", string(text))
		}
		return base + "/api/traces?" + args.Encode()
	},
	spans: func(answer []byte) (int, error) {
		traces, err := jaegerTraces(answer)
		if err != nil || len(traces) != 1 {
			return 0, fmt.Errorf("got %d traces, want 1: %w", len(traces), err)
		}
		return len(traces[0].Spans), nil
	},
	found: func(answer []byte) (int, error) {
		traces, err := jaegerTraces(answer)
		return len(traces), err
	},
}

type jaegerTrace struct{ Spans []struct{ SpanID string } }

func jaegerTraces(answer []byte) ([]jaegerTrace, error) {
	var body struct{ Data []jaegerTrace }
	if err := json.Unmarshal(answer, &body); err != nil {
		return nil, fmt.Errorf("%w in %s", err, answer[:min(len(answer), 300)])
	}
	return body.Data, nil
}

// traceByID is the name of that among the searches.
const traceByID = "trace by id"

// asked is what the answers to one question were.
type asked struct {
	times []time.Duration // sorted once all are asked
	found int             // traces, of all answers
}

// asker asks one server over one connection.
type asker struct {
	server *server
	client *http.Client
	memory *memory
	rng    *rand.Rand
	begun  time.Time // nothing is older
	asked  map[string]*asked
}

func newAsker(s *server, m *memory, seed uint64, begun time.Time) *asker {
	return &asker{
		server: s, memory: m, rng: rand.New(rand.NewPCG(seed, 2<<32)), begun: begun, asked: map[string]*asked{},
		client: &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1, DisableCompression: true}, Timeout: requestTimeout},
	}
}

func (a *asker) close() { a.client.CloseIdleConnections() }

// all asks until ctx ends: in turn for ten traces and, about another trace, the ten
// searches, so that each kind has as many times. Half the searches are of all that
// there is, the others of the 15 minutes around the trace.
func (a *asker) all(ctx context.Context) error {
	for ctx.Err() == nil {
		t, err := a.memory.pick()
		if err != nil {
			return err
		}
		for range 10 {
			if err := a.traceByID(ctx); err != nil {
				return a.unless(ctx, err)
			}
		}
		start, end := a.begun, time.Now()
		if a.rng.IntN(2) == 0 {
			start, end = t.Start.Add(-15*time.Minute), t.Start.Add(15*time.Minute)
		}
		for _, q := range questions(t, start, end) {
			if err := a.search(ctx, &q); err != nil {
				return a.unless(ctx, err)
			}
		}
	}
	return nil
}

// unless drops an error that the end of the time has made.
func (a *asker) unless(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// traceByID asks for any trace, which has ten spans.
func (a *asker) traceByID(ctx context.Context) error {
	t, err := a.memory.pick()
	if err != nil {
		return err
	}
	where := a.server.dialect.trace(a.server.query, t.ID)
	answer, err := a.get(ctx, traceByID, where)
	if err != nil {
		return err
	}
	n, err := a.server.dialect.spans(answer)
	if err == nil && n != len(t.Spans) {
		err = fmt.Errorf("got %d spans, want %d", n, len(t.Spans))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	a.asked[traceByID].found++
	return nil
}

func (a *asker) search(ctx context.Context, q *question) error {
	where := a.server.dialect.search(a.server.query, q)
	answer, err := a.get(ctx, q.name, where)
	if err != nil {
		return err
	}
	n, err := a.server.dialect.found(answer)
	if err == nil && n == 0 && q.certain {
		err = fmt.Errorf("found nothing, want a trace or more")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	a.asked[q.name].found += n
	return nil
}

// get times a request to the end of its answer.
func (a *asker) get(ctx context.Context, name, where string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	begun := time.Now()
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	took := time.Since(begun)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", where, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s: %s", where, resp.Status, text[:min(len(text), 300)])
	}
	if a.asked[name] == nil {
		a.asked[name] = &asked{}
	}
	a.asked[name].times = append(a.asked[name].times, took)
	return text, nil
}

// results sorts the times and adds those of all searches together.
func (a *asker) results() map[string]*asked {
	total := &asked{}
	for _, name := range slices.Collect(maps.Keys(a.asked)) {
		got := a.asked[name]
		if name != traceByID {
			total.times = append(total.times, got.times...)
			total.found += got.found
		}
		slices.Sort(got.times)
	}
	slices.Sort(total.times)
	a.asked[allSearches] = total
	return a.asked
}

const allSearches = "all ten searches"
