package query

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/notifier"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/prometheus/prometheus/util/notifications"
	"github.com/prometheus/prometheus/web"
	v1 "github.com/prometheus/prometheus/web/api/v1"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/conf"
)

// database is a real TSDB with what the admin doors ask of one.
type database struct {
	*tsdb.DB
	reg *prometheus.Registry
}

func (d database) Stats(label string, limit int) (*tsdb.Stats, error) {
	return d.Head().Stats(label, limit), nil
}

func (d database) WALReplayStatus() (tsdb.WALReplayStatus, error) {
	return tsdb.WALReplayStatus{Min: 1, Max: 3, Current: 2}, nil
}

func (d database) BlockMetas() ([]tsdb.BlockMeta, error) { return d.DB.BlockMetas(), nil }

// fill is everything a query can meet, for an hour until now: counters with
// exemplars, gauges, every kind of histogram, names beyond ASCII, series that went
// stale, series that fell silent.
func fill(t *testing.T, now time.Time) database {
	t.Helper()
	opts := tsdb.DefaultOptions()
	opts.EnableExemplarStorage, opts.MaxExemplars = true, 1000
	reg := prometheus.NewRegistry()
	db, err := tsdb.Open(t.TempDir(), nil, reg, opts, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })

	app := db.AppenderV2(t.Context())
	add := func(ls labels.Labels, ts int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, es ...exemplar.Exemplar) {
		_, err := app.Append(0, ls, 0, ts, v, h, fh, storage.AOptions{Exemplars: es})
		require.NoError(t, err)
	}
	const steps, step = 240, int64(15_000)
	first := now.UnixMilli() - steps*step
	for i := range int64(steps) {
		ts, n := first+i*step, float64(i)
		e := exemplar.Exemplar{Labels: labels.FromStrings("trace_id", strings.Repeat("ab", 8)), Value: n, Ts: ts, HasTs: true}
		for _, pod := range []string{"a", "b", "ü"} {
			var es []exemplar.Exemplar
			if i%60 == 0 {
				es = append(es, e)
			}
			add(labels.FromStrings("__name__", "http_requests_total", "instance", "10.0.0.1:80", "pod", pod), ts, n*7, nil, nil, es...)
			add(labels.FromStrings("__name__", "up", "job", pod), ts, 1, nil, nil)
			add(labels.FromStrings("A", "before the name", "__name__", "up", "job", pod), ts, 0, nil, nil)
		}
		add(labels.FromStrings("__name__", "größe in %", "label mit raum", `quote " and \ and`+"\nline"), ts, -n/3, nil, nil)
		add(labels.FromStrings("__name__", "native_int", "le", "none"), ts, 0, tsdbutil.GenerateTestHistogram(i), nil)
		add(labels.FromStrings("__name__", "native_float"), ts, 0, nil, tsdbutil.GenerateTestFloatHistogram(i))
		add(labels.FromStrings("__name__", "native_gauge"), ts, 0, nil, tsdbutil.GenerateTestGaugeFloatHistogram(i))
		add(labels.FromStrings("__name__", "custom"), ts, 0, tsdbutil.GenerateTestCustomBucketsHistogram(i), nil)
		// One name with three kinds of samples.
		add(labels.FromStrings("__name__", "mixed", "k", "1"), ts, n, nil, nil)
		add(labels.FromStrings("__name__", "mixed", "k", "2"), ts, 0, tsdbutil.GenerateTestHistogram(i), nil)
		add(labels.FromStrings("__name__", "mixed", "k", "3"), ts, 0, nil, tsdbutil.GenerateTestGaugeFloatHistogram(i))
		add(labels.FromStrings("__name__", "mixed", "k", "4"), ts, 0, tsdbutil.GenerateTestCustomBucketsHistogram(i), nil)
		gone := i == steps-1
		switch {
		case gone:
			stale := &histogram.Histogram{Sum: stale()}
			add(labels.FromStrings("__name__", "gone"), ts, stale.Sum, nil, nil)
			add(labels.FromStrings("__name__", "gone_histogram"), ts, 0, stale, nil)
		default:
			add(labels.FromStrings("__name__", "gone"), ts, n, nil, nil)
			add(labels.FromStrings("__name__", "gone_histogram"), ts, 0, tsdbutil.GenerateTestHistogram(i), nil)
		}
		if i < steps/2 {
			add(labels.FromStrings("__name__", "silent"), ts, n, nil, nil)
		}
	}
	require.NoError(t, app.Commit())
	return database{db, reg}
}

// table is metadata as the ingest room would tell it.
type table map[string][]metadata.Metadata

func (m table) Families(name string) map[string][]metadata.Metadata {
	if name == "" {
		return m
	}
	if e, ok := m[name]; ok {
		return table{name: e}
	}
	return nil
}

// answers is an API under test behind a real server.
type answers struct {
	*API
	url   string
	ready atomic.Bool
	deps  Deps
}

var build = v1.PrometheusVersion{Version: "3.14.0-weir", Revision: "abc", Branch: "main", BuildUser: "ci", BuildDate: "today", GoVersion: "go1.26"}

func serve(t *testing.T, db database, edit func(*Config, *Deps)) *answers {
	t.Helper()
	a := &answers{}
	a.ready.Store(true)
	reg := prometheus.NewRegistry()
	cfg := DefaultConfig()
	a.deps = Deps{
		Storage: db, Exemplars: db, TSDB: db,
		Metadata:    table{},
		Ready:       func() (bool, string) { return a.ready.Load(), "replaying the WAL" },
		Dir:         t.TempDir(),
		ConfigYAML:  func() string { return "query:\n  max_samples: 1\n" },
		Flags:       map[string]string{"config": "weir.yml"},
		Build:       build,
		Runtime:     func() Runtime { return Runtime{Started: time.Unix(1, 0), ReloadOK: true, Retention: "15d"} },
		ExternalURL: "http://weir.example:9480",
		Gatherer:    db.reg,
		Registerer:  reg,
	}
	if edit != nil {
		edit(&cfg, &a.deps)
	}
	var err error
	a.API, err = New(cfg, a.deps)
	require.NoError(t, err)
	mux := http.NewServeMux()
	a.Register(mux)
	srv := httptest.NewServer(mux)
	t.Cleanup(func() {
		srv.Close()
		require.NoError(t, a.Close())
	})
	problems, err := testutil.GatherAndLint(reg, "weir_query_federation_errors_total", "weir_query_federation_warnings_total")
	require.NoError(t, err)
	require.Empty(t, problems)
	a.url = srv.URL
	return a
}

// oracle is Prometheus' whole web server over the same database, with nothing to
// scrape and no rules.
func oracle(t *testing.T, db database, cfg Config) string {
	t.Helper()
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	ctx, cancel := context.WithCancel(context.Background())
	tracker, err := promql.NewActiveQueryTracker(t.TempDir(), cfg.MaxConcurrency, log)
	require.NoError(t, err)
	p := parser.NewParser(parser.Options{ExperimentalDurationExpr: true})
	engine := promql.NewEngine(promql.EngineOpts{
		Logger: log, Reg: reg, MaxSamples: cfg.MaxSamples, Timeout: cfg.Timeout.Std(), ActiveQueryTracker: tracker,
		LookbackDelta: cfg.Lookback.Std(), NoStepSubqueryIntervalFn: func(int64) int64 { return 60_000 },
		EnableAtModifier: true, EnableNegativeOffset: true, Parser: p,
	})
	scraper, err := scrape.NewManager(nil, log, nil, nil, db, reg)
	require.NoError(t, err)
	external, err := url.Parse("http://weir.example:9480")
	require.NoError(t, err)
	cors, err := relabel.NewRegexp(cfg.CORSOrigin)
	require.NoError(t, err)
	server := web.New(log, &web.Options{
		Context: ctx, LocalStorage: db, Storage: db, ExemplarStorage: db, QueryEngine: engine, Parser: p,
		LookbackDelta: cfg.Lookback.Std(), ScrapeManager: scraper,
		RuleManager:         rules.NewManager(&rules.ManagerOptions{Context: ctx, Logger: log, Registerer: reg, Queryable: db, Appendable: db}),
		Notifier:            notifier.NewManager(&notifier.Options{Registerer: reg}, 0, log),
		Version:             &build,
		NotificationsGetter: func() []notifications.Notification { return []notifications.Notification{} },
		NotificationsSub:    func() (<-chan notifications.Notification, func(), bool) { return nil, nil, false },
		Flags:               map[string]string{"config": "weir.yml"},
		ListenAddresses:     []string{"127.0.0.1:0"}, ExternalURL: external, RoutePrefix: "/", CORSOrigin: cors.Regexp, MaxConnections: 16,
		RemoteReadSampleLimit: cfg.RemoteRead.SampleLimit, RemoteReadConcurrencyLimit: cfg.RemoteRead.Concurrency,
		RemoteReadBytesInFrame: int(cfg.RemoteRead.MaxBytesInFrame),
		Gatherer:               db.reg, Registerer: reg, AppName: "Prometheus",
	})
	require.NoError(t, server.ApplyConfig(&config.Config{}))
	server.SetReady(web.Ready)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx, []net.Listener{ln}, "") }()
	t.Cleanup(func() {
		cancel()
		<-done
		require.NoError(t, tracker.Close())
	})
	return "http://" + ln.Addr().String()
}

// call is one request, and answer what came back, headers that name the moment
// left out.
type call struct {
	method, path string // path with its query
	form         string // body of a POST
	body         string // body with a content type in header
	header       http.Header
}

type answer struct {
	Status int
	Header http.Header
	Body   string
}

func (c call) to(t *testing.T, base string) answer {
	t.Helper()
	body := c.body
	if c.form != "" {
		body = c.form
	}
	method := c.method
	if method == "" {
		method = "GET"
	}
	req, err := http.NewRequestWithContext(t.Context(), method, base+c.path, strings.NewReader(body))
	require.NoError(t, err)
	for k, v := range c.header {
		req.Header[k] = v
	}
	if c.form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if req.Header.Get("Accept-Encoding") == "" {
		req.Header.Set("Accept-Encoding", "identity") // else the client hides what it did
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	resp.Header.Del("Date")
	return answer{resp.StatusCode, resp.Header, string(text)}
}

func get(t *testing.T, base, path string) answer { t.Helper(); return call{path: path}.to(t, base) }

func stale() float64 { return math.Float64frombits(value.StaleNaN) }

func TestMetadata(t *testing.T) {
	a := serve(t, fill(t, time.Now()), func(_ *Config, d *Deps) {
		d.Metadata = table{
			"up":                  {{Type: "gauge", Help: "alive"}},
			"http_requests_total": {{Type: "counter", Help: "one", Unit: "requests"}, {Type: "counter", Help: "two"}},
		}
	})
	for _, c := range []struct {
		query, want string
	}{
		{"?metric=up", `{"up":[{"type":"gauge","unit":"","help":"alive"}]}`},
		{"?metric=nothing", `{}`},
		{"?metric=http_requests_total&limit_per_metric=1", `{"http_requests_total":[{"type":"counter","unit":"requests","help":"one"}]}`},
		{"?limit=0", `{}`},
	} {
		got := get(t, a.url, "/api/v1/metadata"+c.query)
		require.Equal(t, 200, got.Status)
		require.Equal(t, `{"status":"success","data":`+c.want+`}`, got.Body, c.query)
	}
	families := func(query string) map[string][]metadata.Metadata {
		var r struct {
			Data map[string][]metadata.Metadata
		}
		require.NoError(t, json.Unmarshal([]byte(get(t, a.url, "/api/v1/metadata"+query).Body), &r))
		return r.Data
	}
	all := families("")
	require.Len(t, all, 2)
	require.Len(t, all["http_requests_total"], 2, "what senders disagree on is all shown")
	require.Len(t, families("?limit=1"), 1)
	require.Equal(t, 400, get(t, a.url, "/api/v1/metadata?limit=x").Status)
	require.Contains(t, get(t, a.url, "/api/v1/targets").Body, `"activeTargets":[]`, "metadata does not show as targets")
}

func TestStatusPages(t *testing.T) {
	a := serve(t, fill(t, time.Now()), nil)
	got := get(t, a.url, "/api/v1/status/config")
	require.Equal(t, `{"status":"success","data":{"yaml":"query:\n  max_samples: 1\n"}}`, got.Body)
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
	require.Equal(t, 405, call{method: "POST", path: "/api/v1/status/config"}.to(t, a.url).Status)

	var info struct{ Data v1.RuntimeInfo }
	require.NoError(t, json.Unmarshal([]byte(get(t, a.url, "/api/v1/status/runtimeinfo").Body), &info))
	require.Equal(t, "15d", info.Data.StorageRetention)
	require.True(t, info.Data.ReloadConfigSuccess)
	require.Equal(t, time.Unix(1, 0).UTC(), info.Data.StartTime)
	require.Contains(t, get(t, a.url, "/api/v1/features").Body, `"remote_write_receiver":true`)

	require.Equal(t, 404, call{method: "POST", path: "/api/v1/write"}.to(t, a.url).Status, "writing is another room's")
}

func TestNotReady(t *testing.T) {
	a := serve(t, fill(t, time.Now()), nil)
	a.ready.Store(false)
	for _, p := range []string{
		"/api/v1/query?query=up", "/api/v1/labels", "/api/v1/series?match[]=up", "/api/v1/status/config", "/api/v1/metadata",
		"/api/v1/status/tsdb", "/api/v1/status/buildinfo", "/federate?match[]=up", "/api/v1/query_exemplars?query=up",
	} {
		got := get(t, a.url, p)
		require.Equal(t, 503, got.Status, p)
		require.Contains(t, got.Body, "replaying the WAL", p)
	}
	require.Equal(t, 503, call{method: "POST", path: "/api/v1/read"}.to(t, a.url).Status)
	require.Equal(t, 200, get(t, a.url, "/api/v1/status/walreplay").Status, "progress is always told")
}

// A storage may close between the first check and the querier.
func TestStorageClosesMeanwhile(t *testing.T) {
	var asked atomic.Int32
	a := serve(t, fill(t, time.Now()), func(_ *Config, d *Deps) {
		d.Ready = func() (bool, string) { return asked.Add(1)%2 == 1, "closing" }
	})
	for _, p := range []string{"/api/v1/query?query=up", "/api/v1/labels", "/federate?match[]=up", "/api/v1/query_exemplars?query=up"} {
		asked.Store(0)
		require.Equal(t, 503, get(t, a.url, p).Status, p)
	}
}

func TestQueueIsBounded(t *testing.T) {
	a := serve(t, fill(t, time.Now()), func(c *Config, _ *Deps) {
		c.MaxConcurrency, c.Timeout = 1, conf.Duration(50*time.Millisecond)
	})
	turn, err := a.tracker.Insert(t.Context(), "a query that takes long")
	require.NoError(t, err)
	for _, p := range []string{"/api/v1/query?query=up", "/api/v1/query_range?query=up&start=1&end=2&step=1", "/federate?match[]=up"} {
		got := get(t, a.url, p)
		require.Equal(t, 503, got.Status, p)
		require.Contains(t, got.Body, "query.max_concurrency", p)
	}
	a.tracker.Delete(turn)
	require.Equal(t, 200, get(t, a.url, "/api/v1/query?query=up").Status)
}

func TestQueryLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "queries.log")
	cfg := DefaultConfig()
	cfg.LogFile = file
	a := serve(t, fill(t, time.Now()), func(c *Config, _ *Deps) { *c = cfg })
	lines := func(path string) []string {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		return strings.Split(strings.TrimSpace(string(b)), "\n")
	}
	get(t, a.url, "/api/v1/query?query=first")
	require.Len(t, lines(file), 1)
	require.Contains(t, lines(file)[0], `"query":"first"`)
	require.Contains(t, lines(file)[0], `"path":"/api/v1/query"`)

	require.NoError(t, os.Rename(file, file+".1"))
	require.NoError(t, a.Apply(cfg))
	get(t, a.url, "/api/v1/query?query=second")
	require.Len(t, lines(file+".1"), 1)
	require.Contains(t, lines(file)[0], `"query":"second"`)

	bad := cfg
	bad.LogFile = filepath.Join(t.TempDir(), "no", "such", "folder", "q.log")
	require.ErrorContains(t, a.Apply(bad), "query.log_file")
	get(t, a.url, "/api/v1/query?query=third")
	require.Len(t, lines(file), 2, "the old log stays")

	cfg.LogFile = ""
	require.NoError(t, a.Apply(cfg))
	get(t, a.url, "/api/v1/query?query=fourth")
	require.Len(t, lines(file), 2)
}

func TestAdmin(t *testing.T) {
	db := fill(t, time.Now())
	a := serve(t, db, func(c *Config, _ *Deps) { c.AdminAPI = true })
	count := func() string { return get(t, a.url, "/api/v1/query?query=count(up)").Body }
	require.Contains(t, count(), `"6"`)
	forged := call{method: "POST", path: "/api/v1/admin/tsdb/delete_series?match[]=up", header: http.Header{"Sec-Fetch-Site": {"cross-site"}}}
	require.Equal(t, 403, forged.to(t, a.url).Status)
	require.Equal(t, 204, call{method: "POST", path: `/api/v1/admin/tsdb/delete_series?match[]=up{job="a"}`}.to(t, a.url).Status)
	require.Contains(t, count(), `"4"`)

	var made struct{ Data struct{ Name string } }
	require.NoError(t, json.Unmarshal([]byte(call{method: "PUT", path: "/api/v1/admin/tsdb/snapshot"}.to(t, a.url).Body), &made))
	blocks, err := os.ReadDir(filepath.Join(a.deps.Dir, "snapshots", made.Data.Name))
	require.NoError(t, err)
	require.NotEmpty(t, blocks)
}

func TestNewFails(t *testing.T) {
	_, err := New(DefaultConfig(), Deps{Dir: filepath.Join(os.DevNull, "x"), Registerer: prometheus.NewRegistry()})
	require.ErrorContains(t, err, "store.dir")
	cfg := DefaultConfig()
	cfg.LogFile = filepath.Join(os.DevNull, "q.log")
	_, err = New(cfg, Deps{Dir: t.TempDir(), Registerer: prometheus.NewRegistry()})
	require.ErrorContains(t, err, "query.log_file")
}

func TestValidate(t *testing.T) {
	var f conf.Faults
	cfg := DefaultConfig()
	cfg.Validate(&f)
	require.NoError(t, f.Err())
	cfg = Config{CORSOrigin: "(", RemoteRead: RemoteRead{SampleLimit: -1}}
	cfg.Validate(f.At("query"))
	for _, field := range []string{
		"max_samples", "timeout", "max_concurrency", "lookback", "cors_origin",
		"remote_read.sample_limit", "remote_read.concurrency", "remote_read.max_bytes_in_frame",
	} {
		require.ErrorContains(t, f.Err(), "query."+field+": got ")
	}
}
