package derive

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/teststorage"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// epoch is a whole minute.
var epoch = time.Unix(1_790_000_040, 0).UTC()

// rig is a Derive on a real TSDB, with a log of batches in the place of the span
// store: what was appended to it is durable.
type rig struct {
	t    testing.TB
	cfg  Config
	dir  string
	db   *teststorage.TestStorage
	d    *Derive
	reg  *prometheus.Registry
	mu   sync.Mutex
	now  time.Time
	log  []*span.Batch
	deps map[time.Time][]spanstore.Dependency
	fail error // of Links
}

func newRig(t testing.TB, change func(*Config)) *rig {
	r := &rig{t: t, cfg: DefaultConfig(), dir: t.TempDir(), db: teststorage.New(t), now: epoch, deps: make(map[time.Time][]spanstore.Dependency)}
	if change != nil {
		change(&r.cfg)
	}
	f := &conf.Faults{}
	if r.cfg.Validate(f); f.Err() != nil {
		t.Fatal(f.Err())
	}
	r.start()
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// start makes a new process on what the old one left.
func (r *rig) start() {
	r.t.Helper()
	r.reg = prometheus.NewRegistry()
	var err error
	r.d, err = New(r.cfg, Deps{
		Samples: r.db, Dir: r.dir, Log: slog.New(slog.DiscardHandler), Reg: r.reg, Now: r.clock,
		Position: func() uint64 { r.mu.Lock(); defer r.mu.Unlock(); return uint64(len(r.log)) },
		Replay: func(_ context.Context, after uint64, take func(*span.Batch)) error {
			for _, b := range r.log[after:] {
				take(b)
			}
			return nil
		},
		Links: func(_ context.Context, minute time.Time, links []spanstore.Dependency) error {
			if r.fail == nil {
				r.deps[minute] = links
			}
			return r.fail
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.d.Open(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

// take stores spans and counts them.
func (r *rig) take(b *span.Batch) {
	r.d.Enter()
	defer r.d.Leave()
	r.mu.Lock()
	r.log = append(r.log, b)
	now := r.now
	r.mu.Unlock()
	r.d.Take(b, nil, now)
}

// flush moves the clock and flushes.
func (r *rig) flush(after time.Duration) {
	r.t.Helper()
	r.mu.Lock()
	r.now = r.now.Add(after)
	r.mu.Unlock()
	if err := r.d.Flush(context.Background()); err != nil {
		r.t.Fatal(err)
	}
}

// query returns an instant vector as lines, sorted.
func (r *rig) query(q string) []string {
	r.t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e7, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{}),
	})
	defer func() { _ = engine.Close() }()
	qry, err := engine.NewInstantQuery(context.Background(), r.db, nil, q, r.clock())
	if err != nil {
		r.t.Fatal(err)
	}
	defer qry.Close()
	v, err := qry.Exec(context.Background()).Vector()
	if err != nil {
		r.t.Fatal(err)
	}
	lines := make([]string, 0, len(v))
	for _, s := range v {
		if s.H != nil {
			lines = append(lines, fmt.Sprintf("%s %s", s.Metric, s.H))
		} else {
			lines = append(lines, fmt.Sprintf("%s %v", s.Metric, s.F))
		}
	}
	slices.Sort(lines)
	return lines
}

func (r *rig) want(q string, want ...string) {
	r.t.Helper()
	if got := r.query(q); !slices.Equal(got, want) {
		r.t.Errorf("%s\n got  %s\n want %s", q, strings.Join(got, "\n      "), strings.Join(want, "\n      "))
	}
}

func spanID(n int) (id span.ID) {
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

func traceID(n int) (id span.TraceID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

// one is a span of a service, in a batch of its own.
func one(service string, s span.Span, attrs ...string) *span.Batch {
	for i := 0; i < len(attrs); i += 2 {
		s.Attrs = append(s.Attrs, span.Attr{Key: attrs[i], Value: span.Value{Type: span.TypeString, Str: attrs[i+1]}})
	}
	if s.End == 0 {
		s.Start, s.End = uint64(epoch.UnixNano()), uint64(epoch.Add(10*time.Millisecond).UnixNano())
	}
	return &span.Batch{Resources: []span.Resource{{Service: service}}, Scopes: []span.Scope{{}}, Spans: []span.Span{s}}
}

// shop is a small shop's trace: browser -> front -> cart -> postgres, cart -> queue ->
// mailer, front -> an uninstrumented bank.
func shop(n int) []*span.Batch {
	tr := traceID(n)
	at := func(id, parent int, kind span.Kind, name string, millis int) span.Span {
		return span.Span{
			TraceID: tr, ID: spanID(id), Parent: spanID(parent), Kind: kind, Name: name,
			Start: uint64(epoch.UnixNano()), End: uint64(epoch.Add(time.Duration(millis) * time.Millisecond).UnixNano()),
		}
	}
	failed := at(9, 1, span.KindClient, "POST /pay", 30)
	failed.Status = span.StatusError
	return []*span.Batch{
		one("cart", at(3, 2, span.KindServer, "GET /cart", 8), "tier", "gold"),
		one("front", at(1, 0, span.KindServer, "GET /", 50), "tier", "gold"),
		one("front", at(2, 1, span.KindClient, "GET", 10)),
		one("cart", at(4, 3, span.KindClient, "SELECT", 3), "db.system", "postgresql", "db.name", "carts", "server.address", "db-0"),
		one("cart", at(5, 3, span.KindProducer, "send", 1), "messaging.destination.name", "mails"),
		one("mailer", at(6, 5, span.KindConsumer, "process", 20), "messaging.destination.name", "mails"),
		one("mailer", at(7, 6, span.KindInternal, "render", 15)),
		one("front", failed, "server.address", "bank.example"),
	}
}

func TestSeriesGolden(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.Dimensions = []string{"tier"}
		c.Buckets = []float64{.005, .02}
		c.Size = true
	})
	for n := range 3 {
		for _, b := range shop(n + 1) {
			r.take(b)
		}
	}
	r.flush(15 * time.Second)
	r.flush(r.cfg.Graph.Wait.Std() + time.Second) // the bank does not answer
	got := strings.Join(r.query(`{__name__=~"traces_.+"}`), "\n") + "\n"
	golden(t, "series.txt", got)
	r.want(`sum(increase(traces_service_graph_request_total{server="bank.example"}[1m]))`, `{} 3`)
}

func TestRunFlushesAtTheEnd(t *testing.T) {
	r := newRig(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.d.Run(ctx) }()
	r.take(one("a", span.Span{TraceID: traceID(1), ID: spanID(1), Name: "x"}))
	r.mu.Lock()
	r.now = r.now.Add(time.Second)
	r.mu.Unlock()
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	r.want(`sum(traces_spanmetrics_calls_total)`, `{} 1`)
}

func TestIncreaseSeesFirstSpans(t *testing.T) {
	r := newRig(t, nil)
	r.flush(15 * time.Second)
	r.take(one("a", span.Span{TraceID: traceID(1), ID: spanID(1), Name: "x"}))
	r.flush(15 * time.Second)
	r.want(`traces_spanmetrics_calls_total - traces_spanmetrics_calls_total offset 14s`,
		`{service="a", span_kind="SPAN_KIND_UNSPECIFIED", span_name="x", status_code="STATUS_CODE_UNSET"} 1`)
	r.want(`histogram_count(traces_spanmetrics_latency) - histogram_count(traces_spanmetrics_latency offset 14s)`,
		`{service="a", span_kind="SPAN_KIND_UNSPECIFIED", span_name="x", status_code="STATUS_CODE_UNSET"} 1`)
}

var update = flag.Bool("update", false, "write golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew); got:\n%s", path, got)
	}
}

func TestFolding(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxSeriesPerService, c.MaxSeries, c.MaxServices = 3, 5, 3 })
	for i := range 10 {
		r.take(one("a", span.Span{TraceID: traceID(1), ID: spanID(i + 1), Name: fmt.Sprint("op", i)}))
	}
	for i := range 3 {
		r.take(one("b", span.Span{TraceID: traceID(1), ID: spanID(i + 100), Name: fmt.Sprint("op", i), Kind: span.KindServer}))
		r.take(one(fmt.Sprint("more", i), span.Span{TraceID: traceID(1), ID: spanID(i + 200), Name: "x"}))
	}
	r.flush(15 * time.Second)
	r.want(`sum by (service, span_name) (traces_spanmetrics_calls_total)`,
		`{service="_other", span_name="_other"} 2`,
		`{service="a", span_name="_other"} 7`,
		`{service="a", span_name="op0"} 1`, `{service="a", span_name="op1"} 1`, `{service="a", span_name="op2"} 1`,
		`{service="b", span_name="_other"} 2`,
		`{service="b", span_name="op0"} 1`,
		`{service="more0", span_name="x"} 1`)
	want := []Folded{{"a", 7}, {"_other", 2}, {"b", 2}}
	if got := r.d.Status().Folded; !slices.Equal(got, want) {
		t.Errorf("folded %v, want %v", got, want)
	}
}

func TestNamesAreBoundedAndUTF8(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxNameLength = 16; c.Classic, c.Native = false, false })
	for _, name := range []string{"aaaaaaaaaaaaaaaé", "aaaaaaaaaaaaaaaéb", "a\xff", "a\uFFFD", ""} {
		r.take(one("", span.Span{TraceID: traceID(1), ID: spanID(1), Name: name}))
	}
	r.flush(15 * time.Second)
	r.want(`sum by (service, span_name) (traces_spanmetrics_calls_total)`,
		`{service="OTLPResourceNoServiceName", span_name="aaaaaaaaaaaaaaa"} 2`,
		`{service="OTLPResourceNoServiceName", span_name="a`+"\uFFFD"+`"} 2`,
		`{service="OTLPResourceNoServiceName"} 1`)
}

func TestOnlyNewSpansCount(t *testing.T) {
	r := newRig(t, nil)
	b := one("a", span.Span{TraceID: traceID(1), ID: spanID(1), Name: "x"})
	b.Spans = append(b.Spans, b.Spans[0], b.Spans[0])
	b.Spans[2].Resource = 7 // of no resource: the batch is not trusted
	r.d.Take(b, []bool{false, true, false}, epoch)
	r.d.Take(b, []bool{false, false, true}, epoch)
	r.flush(15 * time.Second)
	r.want(`sum by (service) (traces_spanmetrics_calls_total)`, `{service="OTLPResourceNoServiceName"} 1`, `{service="a"} 1`)
}

func TestWeights(t *testing.T) {
	for state, want := range map[string]float64{
		"": 1, "ot=th:0": 1, "ot=th:8": 2, "ot=th:c": 4, "ot=rv:123;th:c": 4, "a=b, ot=th:c,x=y": 4,
		"ot=th:": 1, "ot=th:zz": 1, "ot=th:ffffffffffffff": maxWeight, "ot=th:fffffffffffffff": 1, "xot=th:c": 1,
		"ot=th:e66": 1 / (1 - 0xe66p-12),
	} {
		if got := weight(state); got != want {
			t.Errorf("weight(%q) = %v, want %v", state, got, want)
		}
	}
	r := newRig(t, func(c *Config) { c.Weigh = true })
	r.take(one("a", span.Span{TraceID: traceID(1), ID: spanID(1), Name: "x", State: "ot=th:c"}))
	r.take(one("a", span.Span{TraceID: traceID(1), ID: spanID(2), Name: "x", State: "ot=th:e66"}))
	r.flush(15 * time.Second)
	third := 1 / (1 - 0xe66p-12)
	r.want(`sum(traces_spanmetrics_calls_total)`, fmt.Sprintf("{} %v", 4+third))
	r.want(`sum(histogram_count(traces_spanmetrics_latency))`, fmt.Sprintf("{} %v", 4+third))
	r.want(`sum(traces_spanmetrics_latency_bucket{le="0.016"})`, fmt.Sprintf("{} %v", 4+third))
}

func TestExemplarsResolveAndArePinned(t *testing.T) {
	r := newRig(t, nil)
	for i := range 5 {
		r.take(one("a", span.Span{
			TraceID: traceID(i + 1), ID: spanID(i + 1), Name: "x",
			Start: 1, End: 1 + uint64(i/2)*uint64(20*time.Millisecond),
		}))
	}
	r.flush(15 * time.Second)
	q, err := r.db.ExemplarQuerier(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, metric := range []string{"traces_spanmetrics_latency_bucket", "traces_spanmetrics_latency"} {
		found, err := q.Select(0, r.now.UnixMilli(), []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", metric)})
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]bool)
		for _, s := range found {
			for _, e := range s.Exemplars {
				got[e.Labels.Get("trace_id")+" "+e.Labels.Get("span_id")] = true
			}
		}
		want := make(map[string]bool)
		for _, n := range []int{2, 4, 5} { // the newest of each bucket
			want[traceID(n).String()+" "+spanID(n).String()] = true
		}
		if !maps.Equal(got, want) {
			t.Errorf("exemplars of %s: %v, want %v", metric, got, want)
		}
	}
	for i, want := range []bool{false, true, false, true, true} {
		if got := r.d.Pinned(traceID(i + 1)); got != want {
			t.Errorf("trace %d is pinned: %v, want %v", i+1, got, want)
		}
	}
	for range 3 {
		r.flush(r.cfg.PinFor.Std())
	}
	if r.d.Pinned(traceID(2)) {
		t.Error("a trace stays pinned")
	}
}

func TestIdleSeriesEnd(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Idle = conf.Duration(10 * time.Minute) })
	old := one("a", span.Span{TraceID: traceID(1), ID: spanID(1), Name: "old", Kind: span.KindServer})
	live := one("a", span.Span{TraceID: traceID(1), ID: spanID(2), Name: "live"})
	r.take(old)
	r.take(live)
	for range 11 {
		r.flush(time.Minute)
		r.take(live)
	}
	names := func() []string {
		return r.query(`sum by (span_name, server) ({__name__=~"traces_(spanmetrics_calls|service_graph_request)_total"})`)
	}
	if got, want := names(), []string{`{span_name="live"} 11`}; !slices.Equal(got, want) {
		t.Errorf("after ten idle minutes: %q, want %q", got, want)
	}
	if got := r.d.Status(); got.LabelSets != 1 || got.Edges != 0 {
		t.Errorf("%+v, want one label set and no edge", got)
	}
	r.take(old)
	r.flush(time.Minute)
	if got, want := names(), []string{`{server="a"} 1`, `{span_name="live"} 12`, `{span_name="old"} 1`}; !slices.Equal(got, want) {
		t.Errorf("after it came again: %q, want %q", got, want)
	}
}
