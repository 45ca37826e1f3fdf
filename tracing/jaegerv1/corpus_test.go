package jaegerv1

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/weir-dev/weir/tracing/span"
)

// A corpus is spans and requests about them, as the program in oracle/ reads it.
type corpus struct {
	Stores map[string]store
	Cases  []request

	names map[string]bool
}

type store struct {
	Spans   []byte
	Skew    time.Duration
	Metrics map[string]json.RawMessage
	Archive bool

	batch *span.Batch
}

type request struct {
	Name, Store, Method, Path, Body, Base string
}

type reply struct {
	Status int
	Type   string
	Body   string
	Asked  []string `json:",omitempty"`
}

func newStore(b *span.Batch) store { return store{Spans: b.Encode(nil), batch: b} }

func (c *corpus) get(store, path string) {
	c.add(request{Name: fmt.Sprintf("%s %s", store, path), Store: store, Method: http.MethodGet, Path: path})
}

func (c *corpus) post(name, store, path, body string) {
	c.add(request{Name: name, Store: store, Method: http.MethodPost, Path: path, Body: body})
}

// add takes a case once.
func (c *corpus) add(r request) {
	if c.names == nil {
		c.names = make(map[string]bool)
	}
	if !c.names[r.Name] {
		c.names[r.Name] = true
		c.Cases = append(c.Cases, r)
	}
}

// generated is the corpus whose answers are in testdata.
func generated(t testing.TB) *corpus {
	c := &corpus{Stores: map[string]store{
		"empty":  newStore(&span.Batch{}),
		"shop":   newStore(shop()),
		"odd":    newStore(odd()),
		"chance": newStore(chance(90)),
	}}
	corrected := c.Stores["odd"]
	corrected.Skew = time.Second
	c.Stores["corrected"] = corrected
	moved := c.Stores["chance"]
	moved.Skew = 300 * time.Millisecond
	c.Stores["moved"] = moved
	archived := c.Stores["shop"]
	archived.Archive = true
	c.Stores["archived"] = archived
	c.lists()
	c.searches()
	c.traces()
	c.links()
	c.metrics()
	c.bodies(t)
	c.routes()
	return c
}

func (c *corpus) lists() {
	for _, store := range []string{"shop", "odd", "empty"} {
		c.get(store, "/api/services")
	}
	for _, v := range []string{"", "true", "false", "1", "0", "no"} {
		c.get("shop", "/api/services?prettyPrint="+v)
	}
	for _, service := range []string{"front", "cart/v2", "pay ment", "größe", "a+b", "db.orders", "weird\"<&>", "p%C3", "/lead", "nobody", ".", ".."} {
		c.get("shop", "/api/services/"+url.PathEscape(service)+"/operations")
		c.get("shop", "/api/services/"+url.QueryEscape(service)+"/operations")
		c.get("shop", "/api/operations?service="+url.QueryEscape(service))
	}
	for _, kind := range []string{"server", "client", "producer", "consumer", "internal", "unspecified", "SERVER", "nothing", ""} {
		c.get("shop", "/api/operations?service=front&spanKind="+kind)
		c.get("shop", "/api/operations?service=a%2Bb&spanKind="+kind)
	}
	c.get("shop", "/api/operations")
	c.get("shop", "/api/operations?service=")
	c.get("shop", "/api/operations?service=front&service=nobody&prettyPrint=1")
	c.get("odd", "/api/operations?service=a&prettyPrint=yes")
	c.get("odd", "/api/operations?service=empty-service-name")
}

// between is the hour of the spans of all stores, in the unit.
func between(unit time.Duration) string {
	n := func(t time.Time) string { return strconv.FormatInt(t.UnixNano()/int64(unit), 10) }
	return "start=" + n(epoch) + "&end=" + n(epoch.Add(2*time.Hour))
}

func (c *corpus) searches() {
	hour := "/api/traces?" + between(time.Microsecond)
	for _, q := range []string{
		"", "&service=", "&service=nobody", "&operation=x",
		"&service=front&limit=2", "&service=front&limit=1&prettyPrint=true", "&service=front&operation=nothing", "&service=front&operation=cart&limit=1",
		"&service=a%2Bb", "&service=größe&limit=1", "&service=cart%2Fv2&limit=1", "&service=weird%22%3C%26%3E&limit=2", "&service=p%25C3&limit=1", "&service=%2Flead&limit=1",
		"&service=a%2Bb&limit=0", "&service=a%2Bb&limit=-1", "&service=a%2Bb&limit=300000", "&service=a%2Bb&limit=", "&service=front&limit=x", "&service=front&limit=1.5", "&service=front&limit=99999999999",
		"&service=a%2Bb&limit=9&limit=1",
		"&service=a%2Bb&lookback=1h&maxDuration&minDuration",
		"&service=front&minDuration=31ms", "&service=front&maxDuration=20ms", "&service=front&minDuration=25ms&maxDuration=25ms", "&service=front&minDuration=25000us&maxDuration=26000us",
		"&service=front&minDuration=2ms&maxDuration=1ms", "&service=front&minDuration=5", "&service=front&maxDuration=x", "&service=front&maxDuration=-1ms", "&service=a%2Bb&minDuration=-1ms", "&service=a%2Bb&minDuration=0s&maxDuration=0s", "&service=front&minDuration=1h&maxDuration=2h", "&service=a%2Bb&minDuration=1.0ms&maxDuration=1.2ms",
		"&service=front&tag=error:true&limit=2", "&service=front&tag=http.status_code:500&limit=1", "&service=front&tag=http.method:GET&tag=cached:true&limit=1", "&service=front&tag=cached:false&tag=cached:true&limit=1",
		"&service=a%2Bb&tag=w:k:v:w", "&service=a%2Bb&tag=w:k", "&service=größe&tag=url:http://x/?a%3D1:2&limit=1", "&service=front&tag=nocolon", "&service=front&tag=", "&service=front&tag=k:", "&service=front&tag=:v",
		`&service=front&tags={"error":"true"}&limit=1`, `&service=front&tags={"error":"true","cached":"true"}&limit=1`, `&service=front&tags={"error":true}`, `&service=front&tags={"http.status_code":500}`, `&service=front&tags=[]`, `&service=front&tags=x`, `&service=front&tags={}&limit=1`, `&service=front&tags=null&limit=1`, `&service=front&tags=`, `&service=front&tags={"cached":"true"}&tags={"cached":"false"}&limit=1`, `&service=front&tag=cached:true&tags={"cached":"false"}&limit=1`,
		"&service=front&tag=ip:10.0.0.0&limit=1", "&service=front&tag=ip:10.0.0.1", "&service=cart%2Fv2&tag=key:3", "&service=cart%2Fv2&tag=event:cache%20miss&limit=1", "&service=front&tag=span.kind:server&limit=1", "&service=db.orders&tag=otel.status_description:deadlock&limit=1", "&service=db.orders&tag=otel.status_code:ERROR&limit=1", "&service=front&tag=http.method:GET&tag=peer.service:cart/v2", "&service=pay%20ment&tag=amount:27",
		"&service=front&raw=maybe&limit=1", "&service=front&raw=true&limit=1", "&service=front&foo=bar&limit=1",
		"&service=front&traceID=3e8", "&traceID=a100000000000003e8", "&traceID=a1000000000000 03e8", "&traceID=x", "&traceID=", "&traceID=3e9&traceID=ffff&traceID=3eb", "&traceID=ffff&traceID=eeee", "&traceID=3e9&traceID=3e9", "&traceID=3e9&prettyPrint=1", "&traceID=0", "&traceID=ffff&minDuration=2ms&maxDuration=1ms", "&traceID=ffff&limit=x",
	} {
		c.get("shop", urlOf(hour+q))
	}
	for _, when := range []string{
		"start=x", "end=x", "start=1.5", "start=-5&end=-6", "start=-5", "start=0", "start=0&end=0", "end=0", "", "start=&end=",
		"start=99999999999999999999", "end=9223372036854775807", "start=-9223372036854775808",
		between(time.Second), between(time.Millisecond), between(time.Nanosecond),
		"start=1714557700000000&end=1714557700000001", "start=1714561200000000&end=1714557600000000", "start=1714557600000000", "end=1714564800000000",
		"start=1714558200000000&end=1714558260000000",
	} {
		c.get("shop", "/api/traces?service=a%2Bb&"+when)
	}
	for _, service := range []string{"b", "empty-service-name", "OTLPResourceNoServiceName"} {
		c.get("chance", hour+"&limit=3&service="+service)
	}
	c.get("empty", hour+"&service=front")
}

// urlOf escapes what a request line cannot have.
func urlOf(query string) string {
	var out []byte
	for i := range len(query) {
		switch b := query[i]; {
		case b <= ' ' || b >= 0x7f || b == '"' || b == '{' || b == '}' || b == '<' || b == '>':
			out = fmt.Appendf(out, "%%%02X", b)
		default:
			out = append(out, b)
		}
	}
	return string(out)
}

func (c *corpus) traces() {
	for i := range oddTraces {
		id := "/api/traces/" + hexID(uint64(i%2), uint64(i+1))
		c.get("odd", id)
		c.get("odd", id+"?raw=true")
		c.get("corrected", id)
	}
	dice := c.Stores["chance"].batch
	seen := make(map[span.TraceID]bool)
	for _, s := range dice.Spans {
		if seen[s.TraceID] {
			continue
		}
		seen[s.TraceID] = true
		c.get([]string{"chance", "moved"}[len(seen)%2], "/api/traces/"+s.TraceID.String())
	}
	for _, id := range []string{
		"3e8", "000000000000000000000000000003e9", "3E9", "00000000000003e9", "a100000000000003e8", "00000000000000a100000000000003e8", "0000000000000000000000000000003e9",
		"x", "0x3e9", "+3e9", "-1", "1_0", "%33e9", "ffff", "0", "00", "3e9/", "3e9%20", "3e9?raw=1", "3e9?raw=T", "3e9?raw=0", "3e9?raw=yes", "3e9?prettyPrint=true", "3e9?prettyPrint=false",
		"3e9?start=x&end=y", "3e9?start=1714557600000&end=1714564800000", "3e9?start=1714557600000000&end=1714564800000000", "3e9?start=5&end=1",
	} {
		c.get("shop", "/api/traces/"+id)
	}
	c.get("shop", "/api/traces/")
}

func hexID(high, low uint64) string {
	if high == 0 {
		return fmt.Sprintf("%016x", low)
	}
	return fmt.Sprintf("%016x%016x", high, low)
}

func (c *corpus) links() {
	day := "endTs=" + strconv.FormatInt(epoch.Add(2*time.Hour).UnixMilli(), 10)
	for _, q := range []string{
		day, day + "&lookback=86400000", day + "&lookback=1", day + "&lookback=0", day + "&lookback=-1", day + "&lookback=x", day + "&lookback=1h", day + "&lookback=",
		"endTs=x", "endTs=0", "endTs=-1", "endTs=1.5", "", day + "&service=front", day + "&service=nobody", day + "&service=cart/v2", day + "&service=", day + "&service=a%2Bb&prettyPrint=1",
		"endTs=1714564800000000&lookback=86400000",
	} {
		c.get("shop", "/api/dependencies?"+q)
	}
	c.get("odd", "/api/dependencies?"+day)
	c.get("empty", "/api/dependencies?"+day)
}

// matrix is what a Prometheus answers; labels of the series are Jaeger's.
const (
	calls = `{"resultType":"matrix","result":[
		{"metric":{"service_name":"front"},"values":[[1714557600,"0.5"],[1714557605,"0"],[1714557610.5,"1e-9"],[1714557615,"NaN"],[1714557620,"+Inf"],[1714557625,"-Inf"],[1714557630,"1e+22"],[1714557635,"123456.789"]]},
		{"metric":{"service_name":"cart/v2","span_name":"GetCart <b>"},"values":[[1714557600.001,"3"]]},
		{"metric":{"service_name":""},"values":[[0,"0"],[-5,"-1.5"]]},
		{"metric":{},"values":[[1714557600,"1"]]}]}`
	noSeries = `{"resultType":"matrix","result":[]}`
)

func (c *corpus) metrics() {
	withMetrics := func(name string, answers map[string]string) {
		s := c.Stores["empty"]
		s.Metrics = make(map[string]json.RawMessage)
		for part, data := range answers {
			s.Metrics[part] = json.RawMessage(data)
		}
		c.Stores[name] = s
	}
	withMetrics("prometheus", map[string]string{"histogram_quantile": calls, "calls_total": calls, "STATUS_CODE_ERROR": calls})
	withMetrics("no errors", map[string]string{"calls_total": calls, "STATUS_CODE_ERROR": noSeries})
	withMetrics("nothing", map[string]string{"histogram_quantile": noSeries, "calls_total": noSeries, "STATUS_CODE_ERROR": noSeries})
	withMetrics("broken", nil)
	withMetrics("half broken", map[string]string{"STATUS_CODE_ERROR": noSeries})
	end := "endTs=1714557600000"
	for _, what := range []string{"latencies?quantile=0.95&", "calls?", "errors?"} {
		path := "/api/metrics/" + what
		for _, store := range []string{"prometheus", "no errors", "nothing", "broken", "half broken"} {
			if store == "prometheus" || what != "latencies?quantile=0.95&" || store == "nothing" {
				c.get(store, path+end+"&service=front")
			}
		}
		c.get("empty", path+"service=front")
		for _, q := range []string{
			"&service=front&service=cart%2Fv2&groupByOperation=true", "&service=front&spanKind=client&spanKind=unspecified", "&service=front&lookback=3600000&step=60000&ratePer=600000",
			"&service=front&prettyPrint=1", "", "&service=front&groupByOperation=x", "&service=front&spanKind=x", "&service=front&spanKind=", "&service=front&lookback=x", "&service=front&step=1h", "&service=front&ratePer=x", "&endTs=x&service=front",
		} {
			c.get("prometheus", path+end+q)
		}
	}
	c.get("prometheus", "/api/metrics/latencies?service=front&endTs=x")
	c.get("prometheus", "/api/metrics/latencies?service=front&quantile=x&"+end)
	c.get("prometheus", "/api/metrics/calls?service=front&endTs=x")
	c.get("prometheus", "/api/metrics/calls?service=front&step=0&"+end)
	c.get("prometheus", "/api/metrics/calls?service=front&ratePer=-1&"+end)
	c.get("nothing", "/api/metrics/errors?service=front&prettyPrint=1&"+end)
	c.get("prometheus", "/api/metrics/minstep")
	c.get("prometheus", "/api/metrics/minstep?prettyPrint=1")
	c.get("empty", "/api/metrics/minstep")
	c.get("empty", "/api/metrics/calls")
	c.get("empty", "/api/metrics/latencies")
	c.get("empty", "/api/metrics/nothing")
}

func (c *corpus) bodies(t testing.TB) {
	for _, id := range []string{"3e9", "x", ""} {
		c.post("archive none "+id, "shop", "/api/archive/"+id, "")
		c.post("archive "+id, "archived", "/api/archive/"+id, "")
	}
	c.post("archive missing", "archived", "/api/archive/ffff", "")
	c.post("archive pretty", "archived", "/api/archive/3e9?prettyPrint=1", "")
	otlp := func(b *span.Batch) string {
		traces, err := b.Traces()
		if err != nil {
			t.Fatal(err)
		}
		body, err := (&ptrace.JSONMarshaler{}).MarshalTraces(traces)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	m := &maker{}
	for _, name := range []string{"shared ids", "same span twice", "values", "events", "no service", "library tags", "link to the parent", "scopes", "same start"} {
		for i, o := range oddTraces {
			if o.name == name {
				m.begin(traceID(0, uint64(i+1)))
				o.make(m, m.resource)
				one := &maker{at: m.at}
				one.begin(m.trace)
				o.make(one, one.resource)
				c.post("transform "+name, "empty", "/api/transform", otlp(&one.batch))
			}
		}
	}
	c.post("transform many", "empty", "/api/transform?prettyPrint=1", otlp(&m.batch))
	for _, body := range []string{"", "{}", `{"resourceSpans":[]}`, "null", "x", "[]", `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz"}]}]}]}`} {
		c.post("transform "+body, "empty", "/api/transform", body)
	}
}

func (c *corpus) routes() {
	for _, path := range []string{"/", "/api", "/api/", "/api/nothing", "/api/services/", "/api/services/front", "/api/services/front/operations/x", "/api/services//operations", "/api/traces/1/2", "/jaeger/api/services"} {
		c.get("shop", path)
	}
	for _, base := range []string{"/jaeger", "/a/b"} {
		for _, path := range []string{"/api/services", "/api/services/cart%2Fv2/operations", "/api/traces/3e9", "/api/nothing"} {
			c.add(request{Name: base + path, Store: "shop", Method: http.MethodGet, Path: base + path, Base: base})
		}
		c.add(request{Name: base + " missing", Store: "shop", Method: http.MethodGet, Path: "/api/services", Base: base})
	}
	for _, m := range []struct{ method, path string }{
		{"POST", "/api/services"}, {"PUT", "/api/traces"}, {"DELETE", "/api/traces/3e9"}, {"GET", "/api/transform"}, {"GET", "/api/archive/3e9"}, {"OPTIONS", "/api/services"},
		{"HEAD", "/api/services"}, {"HEAD", "/api/traces/3e9"}, {"HEAD", "/api/traces/ffff"},
	} {
		c.add(request{Name: m.method + " " + m.path, Store: "shop", Method: m.method, Path: m.path})
	}
}
