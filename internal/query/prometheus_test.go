package query

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"testing"
	"time"

	"github.com/gogo/protobuf/proto"
	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/conf"
)

// timings are what two runs of one query cannot agree on.
var timings = regexp.MustCompile(`"(\w+Time)":[0-9.e-]+`)

// same asks both servers and wants status, headers and body equal.
func same(t *testing.T, ours, theirs string, c call) answer {
	t.Helper()
	got, want := c.to(t, ours), c.to(t, theirs)
	for _, a := range []*answer{&got, &want} {
		a.Body = timings.ReplaceAllString(a.Body, `"$1":0`)
		if timings.MatchString(a.Body) {
			a.Header.Del("Content-Length")
		}
	}
	require.Equal(t, want, got, "%+v", c)
	return want
}

// TestAsPrometheus asks what Grafana and other clients ask, of us and of
// Prometheus' own web server over the same database.
func TestAsPrometheus(t *testing.T) {
	now := time.Now()
	db := fill(t, now)
	ours, theirs := serve(t, db, nil).url, oracle(t, db, DefaultConfig())

	at := fmt.Sprintf("%d", now.Unix()-60)
	window := url.Values{"start": {fmt.Sprint(now.Unix() - 1800)}, "end": {fmt.Sprint(now.Unix())}}
	form := func(kv ...string) string {
		v := url.Values{"start": window["start"], "end": window["end"]}
		for i := 0; i < len(kv); i += 2 {
			v.Add(kv[i], kv[i+1])
		}
		return v.Encode()
	}
	origin := http.Header{"Origin": {"https://grafana.example"}}
	for _, c := range []struct {
		status int
		call
	}{
		// What Grafana's Prometheus data source sends first.
		{200, call{path: "/api/v1/status/buildinfo"}},
		{200, call{method: "POST", path: "/api/v1/query", form: "query=1%2B1&time=" + at}},
		{200, call{path: "/api/v1/labels?" + form()}},
		{200, call{method: "POST", path: "/api/v1/labels", form: form("match[]", "up")}},
		{200, call{path: "/api/v1/label/__name__/values?" + form()}},
		{200, call{path: "/api/v1/label/job/values?" + form("match[]", `up{job!="a"}`)}},
		{200, call{path: "/api/v1/label/pod/values?limit=1"}},
		{200, call{path: "/api/v1/label/U__label_20_mit_20_raum/values"}},
		{200, call{path: "/api/v1/series?" + form("match[]", "up", "match[]", `{__name__=~"native.*"}`)}},
		{200, call{method: "POST", path: "/api/v1/series", form: form("match[]", "up", "limit", "2")}},
		{200, call{method: "POST", path: "/api/v1/query_range", form: form("query", "rate(http_requests_total[1m])", "step", "15")}},
		{200, call{method: "POST", path: "/api/v1/query_range", form: form("query", "histogram_quantile(0.9, rate(native_int[5m]))", "step", "1m")}},
		{200, call{path: "/api/v1/query_range?" + form("query", "native_float", "step", "5m")}},
		{200, call{path: "/api/v1/query_range?" + form("query", `{"größe in %"}`, "step", "60")}},
		{200, call{path: "/api/v1/query_range?" + form("query", "sum by (pod) (http_requests_total)", "step", "60", "stats", "all")}},
		{200, call{path: "/api/v1/query_exemplars?" + form("query", "http_requests_total")}},
		{200, call{method: "POST", path: "/api/v1/query_exemplars", form: form("query", `rate(http_requests_total{pod="a"}[5m])`)}},
		{200, call{path: "/api/v1/rules"}},
		{200, call{path: "/api/v1/rules?type=alert"}},
		{200, call{path: "/api/v1/alerts"}},
		// Queries of every type, with warnings, infos, statistics.
		{200, call{path: "/api/v1/query?query=up&time=" + at}},
		{200, call{path: "/api/v1/query?query=up[1m]&time=" + at}},
		{200, call{path: "/api/v1/query?query=native_gauge&time=" + at}},
		{200, call{path: `/api/v1/query?query="text"&time=` + at}},
		{200, call{path: "/api/v1/query?query=rate(up[1m])&time=" + at}},
		{200, call{path: "/api/v1/query?query=up&limit=2&time=" + at}},
		{200, call{path: "/api/v1/query?query=up&stats=all&time=" + at}},
		{200, call{path: "/api/v1/query?query=up&stats=odd&time=" + at}},
		{200, call{path: "/api/v1/query?query=silent&lookback_delta=1h&time=" + at}},
		{200, call{path: "/api/v1/query?query=sum_over_time(up[10m:])&time=" + at}},
		{200, call{path: "/api/v1/query?query=up+offset+(1m%2B30s)&time=" + at}},
		{200, call{path: "/api/v1/format_query?query=sum(up)by(job)"}},
		{200, call{path: "/api/v1/parse_query?query=sum(up)by(job)"}},
		// Mistakes.
		{400, call{path: "/api/v1/query?query=up{"}},
		{400, call{path: "/api/v1/query"}},
		{400, call{path: "/api/v1/query?query=up&time=yesterday"}},
		{400, call{path: "/api/v1/query?query=up&timeout=soon"}},
		{400, call{path: "/api/v1/query?query=up&limit=-1"}},
		{400, call{path: "/api/v1/query_range?" + form("query", "up", "step", "0")}},
		{400, call{path: "/api/v1/query_range?" + form("query", "up", "step", "0.01")}},
		{400, call{path: "/api/v1/query_range?" + form("query", "up[1m]", "step", "15")}},
		{422, call{path: "/api/v1/query?query=up+*+on(job)+group_left()+up&time=" + at}},
		{400, call{path: "/api/v1/series"}},
		{400, call{path: "/api/v1/series?match[]={}"}},
		{400, call{path: "/api/v1/query_exemplars?query=up{"}},
		{400, call{path: "/api/v1/rules?type=x"}},
		{404, call{path: "/api/v1/nonsense"}},
		{405, call{method: "DELETE", path: "/api/v1/query"}},
		{405, call{path: "/api/v1/read"}},
		{400, call{method: "POST", path: "/api/v1/read", body: "garbage"}},
		// What needs no scraping answers as if nothing were configured.
		{200, call{path: "/api/v1/targets"}},
		{200, call{path: "/api/v1/targets?state=active"}},
		{200, call{path: "/api/v1/targets/metadata"}},
		{200, call{path: "/api/v1/scrape_pools"}},
		{200, call{path: "/api/v1/alertmanagers"}},
		{200, call{path: "/api/v1/metadata"}},
		{400, call{path: "/api/v1/metadata?limit=x"}},
		{200, call{path: "/api/v1/notifications"}},
		// Status.
		{200, call{path: "/api/v1/status/tsdb"}},
		{200, call{path: "/api/v1/status/tsdb?limit=2"}},
		{400, call{path: "/api/v1/status/tsdb?limit=0"}},
		{200, call{path: "/api/v1/status/tsdb/blocks"}},
		{200, call{path: "/api/v1/status/walreplay"}},
		{200, call{path: "/api/v1/status/flags"}},
		{200, call{path: "/api/v1/openapi.yaml"}},
		{500, call{method: "POST", path: "/api/v1/admin/tsdb/snapshot"}}, // disabled: so says Prometheus
		// Browsers and compression.
		{200, call{path: "/api/v1/labels", header: origin}},
		{204, call{method: "OPTIONS", path: "/api/v1/query", header: origin}},
		{204, call{method: "OPTIONS", path: "/api/v1/metadata", header: origin}},
		{200, call{path: "/api/v1/label/__name__/values", header: http.Header{"Accept-Encoding": {"gzip"}}}},
	} {
		got := same(t, ours, theirs, c.call)
		require.Equal(t, c.status, got.Status, "%+v: %s", c.call, got.Body)
	}
}

// TestLimitsAsPrometheus sets limits that an ordinary query exceeds.
func TestLimitsAsPrometheus(t *testing.T) {
	now := time.Now()
	db := fill(t, now)
	at := fmt.Sprintf("&time=%d", now.Unix()-60)

	cfg := DefaultConfig()
	cfg.MaxSamples = 3
	got := same(t, serve(t, db, func(c *Config, _ *Deps) { *c = cfg }).url, oracle(t, db, cfg), call{path: "/api/v1/query?query=up" + at})
	require.Equal(t, 422, got.Status)

	cfg = DefaultConfig()
	cfg.Timeout = conf.Duration(20 * time.Millisecond)
	for _, base := range []string{serve(t, db, func(c *Config, _ *Deps) { *c = cfg }).url, oracle(t, db, cfg)} {
		got := get(t, base, "/api/v1/query?query=count_over_time(vector(1)[30d:1s])"+at)
		require.Equal(t, 503, got.Status, got.Body)
		require.Contains(t, got.Body, `"errorType":"timeout"`)
	}
}

func TestRemoteReadAsPrometheus(t *testing.T) {
	now := time.Now()
	db := fill(t, now)
	cfg := DefaultConfig()
	cfg.RemoteRead.MaxBytesInFrame = 2000 // several frames
	ours, theirs := serve(t, db, func(c *Config, _ *Deps) { *c = cfg }).url, oracle(t, db, cfg)

	read := func(c Config, kind prompb.ReadRequest_ResponseType) call {
		q, err := remote.ToQuery(now.UnixMilli()-600_000, now.UnixMilli(), []*labels.Matcher{
			labels.MustNewMatcher(labels.MatchRegexp, "__name__", "up|native_int|mixed"),
		}, nil)
		require.NoError(t, err)
		b, err := proto.Marshal(&prompb.ReadRequest{
			Queries: []*prompb.Query{q}, AcceptedResponseTypes: []prompb.ReadRequest_ResponseType{kind},
		})
		require.NoError(t, err)
		return call{method: "POST", path: "/api/v1/read", body: string(snappy.Encode(nil, b)), header: http.Header{
			"Content-Type": {"application/x-protobuf"}, "Content-Encoding": {"snappy"},
		}}
	}
	for _, kind := range []prompb.ReadRequest_ResponseType{prompb.ReadRequest_SAMPLES, prompb.ReadRequest_STREAMED_XOR_CHUNKS} {
		got := same(t, ours, theirs, read(cfg, kind))
		require.Equal(t, 200, got.Status)
		require.Greater(t, len(got.Body), 500)
	}

	cfg.RemoteRead.SampleLimit = 10
	got := same(t, serve(t, db, func(c *Config, _ *Deps) { *c = cfg }).url, oracle(t, db, cfg), read(cfg, prompb.ReadRequest_SAMPLES))
	require.Equal(t, 400, got.Status)
	require.Contains(t, got.Body, "sample limit")
}

// TestFederateAsPrometheus compares every format that a scraper may ask for. One
// request selects at most one series of float histograms, because there Prometheus
// v3.14 is no oracle: it keeps pointers into a ring that the next such series
// overwrites, and so tells another series' buckets. See TestFederateFloatHistograms.
func TestFederateAsPrometheus(t *testing.T) {
	now := time.Now()
	db := fill(t, now)
	ours, theirs := serve(t, db, nil).url, oracle(t, db, DefaultConfig())
	const (
		pb   = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily"
		text = "text/plain;version=0.0.4"
	)
	formats := map[string]string{
		"none":         "",
		"text":         text,
		"text, utf-8":  "text/plain;version=1.0.0;escaping=allow-utf-8",
		"text, dots":   "text/plain;version=1.0.0;escaping=dots",
		"text, values": "text/plain;version=1.0.0;escaping=values",
		"openmetrics":  "application/openmetrics-text;version=1.0.0",
		"delimited":    pb + ";encoding=delimited",
		"proto utf-8":  pb + ";encoding=delimited;escaping=allow-utf-8",
		"proto text":   pb + ";encoding=text",
		"compact":      pb + ";encoding=compact-text",
		"as scraped":   pb + ";encoding=delimited;q=0.6," + text + ";q=0.3,*/*;q=0.1",
	}
	for name, accept := range formats {
		for _, c := range []struct {
			status, least int // least size of the body
			match         string
		}{
			{200, 500, `match[]={__name__=~".%2B",__name__!~"native_(float|gauge)",k!="3"}`},
			{200, 100, `match[]=up&match[]={job="a"}&match[]=up`},
			{200, 30, `match[]=mixed{k!="3"}`},
			{200, 30, `match[]=mixed{k!="2",k!="4"}`},
			{200, 0, `match[]=native_float`},
			{200, 0, `match[]=native_gauge`},
			{200, 0, `match[]=gone&match[]=gone_histogram&match[]=silent`},
			{200, 0, `match[]=nothing`},
			{200, 0, ``},
			{400, 0, `match[]=up{`},
			{200, 0, `match[]={}`},
		} {
			for _, encoding := range []string{"identity", "gzip"} {
				h := http.Header{"Accept-Encoding": {encoding}}
				if accept != "" {
					h.Set("Accept", accept)
				}
				got := same(t, ours, theirs, call{path: "/federate?" + c.match, header: h})
				require.Equal(t, c.status, got.Status, "%s %s: %s", name, c.match, got.Body)
				if encoding == "identity" {
					require.GreaterOrEqual(t, len(got.Body), c.least, "%s %s", name, c.match)
				}
			}
		}
	}
}

// Float histograms asked for together are the ones asked for one by one.
func TestFederateFloatHistograms(t *testing.T) {
	a := serve(t, fill(t, time.Now()), nil)
	ask := func(match string) string {
		got := call{path: "/federate?" + match, header: http.Header{
			"Accept": {"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"},
		}}.to(t, a.url)
		require.Equal(t, 200, got.Status)
		require.NotEmpty(t, got.Body)
		return got.Body
	}
	single := ask(`match[]=mixed{k="3"}`) + ask("match[]=native_float") + ask("match[]=native_gauge")
	require.Equal(t, single, ask(`match[]=mixed{k="3"}&match[]=native_float&match[]=native_gauge`))
}

func TestFederateIsBounded(t *testing.T) {
	a := serve(t, fill(t, time.Now()), func(c *Config, _ *Deps) { c.MaxSamples = 3 })
	got := get(t, a.url, "/federate?match[]=up")
	require.Equal(t, 422, got.Status)
	require.Contains(t, got.Body, "query.max_samples")
}
