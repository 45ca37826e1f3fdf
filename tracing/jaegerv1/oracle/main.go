package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/jaegertracing/jaeger/cmd/query/app"
	"github.com/jaegertracing/jaeger/cmd/query/app/querysvc"
	"github.com/jaegertracing/jaeger/model/adjuster"
	"github.com/jaegertracing/jaeger/pkg/prometheus/config"
	"github.com/jaegertracing/jaeger/pkg/tenancy"
	"github.com/jaegertracing/jaeger/plugin/metrics/disabled"
	"github.com/jaegertracing/jaeger/plugin/metrics/prometheus/metricsstore"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"
)

// Corpus is what Weir's test sends.
type Corpus struct {
	Stores map[string]Store
	Cases  []Case
}

// Store is what a handler answers from.
type Store struct {
	Spans []byte // OTLP TracesData, base64 in JSON
	Skew  int64  // nanoseconds by which clocks are corrected at most
	// Metrics are the data of Prometheus' answers ({"resultType":"matrix",...}) by what
	// the query contains; nil: no metrics store.
	Metrics map[string]json.RawMessage
	Archive bool
}

// Case is a request.
type Case struct {
	Name, Store, Method, Path, Body string
	Base                            string // path prefix
}

// Answer to it.
type Answer struct {
	Status int
	Type   string
	Body   string
	Asked  []string `json:",omitempty"` // PromQL
}

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	var corpus Corpus
	if err := json.NewDecoder(in).Decode(&corpus); err != nil {
		return fmt.Errorf("read corpus: %w", err)
	}
	answers := make([]Answer, 0, len(corpus.Cases))
	for _, c := range corpus.Cases {
		answer, err := ask(corpus.Stores[c.Store], c)
		if err != nil {
			return fmt.Errorf("case %s: %w", c.Name, err)
		}
		answers = append(answers, answer)
	}
	return json.NewEncoder(out).Encode(answers)
}

// ask fills a store for the one request, because some answers of Jaeger's memory store
// change it.
func ask(s Store, c Case) (Answer, error) {
	store, err := fill(s.Spans)
	if err != nil {
		return Answer{}, err
	}
	adjusters := append(querysvc.StandardAdjusters(time.Duration(s.Skew)), adjuster.Func(sorted))
	options := querysvc.QueryServiceOptions{Adjuster: adjuster.Sequence(adjusters...)}
	if s.Archive {
		options.ArchiveSpanWriter = nowhere{}
	}
	prometheus := &prometheus{answers: s.Metrics}
	metrics, done, err := prometheus.reader()
	if err != nil {
		return Answer{}, err
	}
	defer done()
	handler := app.NewAPIHandler(
		querysvc.NewQueryService(ordered{store}, store, options),
		tenancy.NewManager(&tenancy.Options{}),
		app.HandlerOptions.MetricsQueryService(metrics),
	)
	router := app.NewRouter()
	routes := router
	if c.Base != "" {
		routes = router.PathPrefix(c.Base).Subrouter()
	}
	handler.RegisterRoutes(routes)
	answer := request(router, c)
	answer.Asked = prometheus.asked
	return answer, nil
}

func request(router *mux.Router, c Case) Answer {
	w := httptest.NewRecorder()
	router.ServeHTTP(w, httptest.NewRequest(c.Method, c.Path, strings.NewReader(c.Body)))
	body := w.Body.Bytes()
	if strings.Contains(c.Path, "/dependencies") || strings.HasSuffix(strings.Split(c.Path, "?")[0], "/operations") {
		body = orderedData(body)
	}
	return Answer{Status: w.Code, Type: w.Header().Get("Content-Type"), Body: string(body)}
}

// prometheus answers as one does.
type prometheus struct {
	answers map[string]json.RawMessage
	asked   []string
}

func (p *prometheus) reader() (querysvc.MetricsQueryService, func(), error) {
	if p.answers == nil {
		r, err := disabled.NewMetricsReader()
		return r, func() {}, err
	}
	server := httptest.NewServer(p)
	r, err := metricsstore.NewMetricsReader(config.Configuration{
		ServerURL: server.URL, ConnectTimeout: time.Second,
		MetricNamespace: "traces_spanmetrics", LatencyUnit: "ms", NormalizeCalls: true, NormalizeDuration: true,
	}, zap.NewNop(), noop.NewTracerProvider())
	return orderedLabels{r}, server.Close, err
}

func (p *prometheus) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.FormValue("query")
	p.asked = append(p.asked, fmt.Sprintf("%s start=%s end=%s step=%s", query, r.FormValue("start"), r.FormValue("end"), r.FormValue("step")))
	w.Header().Set("Content-Type", "application/json")
	for _, name := range []string{"histogram_quantile", "STATUS_CODE_ERROR", "calls_total"} {
		if !strings.Contains(query, name) {
			continue
		}
		if data, ok := p.answers[name]; ok {
			fmt.Fprintf(w, `{"status":"success","data":%s}`, data)
			return
		}
		w.WriteHeader(http.StatusUnprocessableEntity)
		io.WriteString(w, `{"status":"error","errorType":"execution","error":"told to fail"}`)
		return
	}
}

// orderedData sorts the data of an answer, which the handler takes out of a map.
func orderedData(body []byte) []byte {
	var envelope struct {
		Data   []json.RawMessage `json:"data"`
		Total  int               `json:"total"`
		Limit  int               `json:"limit"`
		Offset int               `json:"offset"`
		Errors json.RawMessage   `json:"errors"`
	}
	if json.Unmarshal(body, &envelope) != nil || len(envelope.Data) < 2 {
		return body
	}
	sortData(envelope.Data)
	marshal := json.Marshal
	if bytes.Contains(body, []byte("\n    ")) {
		marshal = func(v any) ([]byte, error) { return json.MarshalIndent(v, "", "    ") }
	}
	text, err := marshal(envelope)
	if err != nil {
		return body
	}
	return text
}
