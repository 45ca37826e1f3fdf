package jaegerv1

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Querier evaluates PromQL.
type Querier interface {
	QueryRange(ctx context.Context, expr string, start, end time.Time, step time.Duration) (promql.Matrix, error)
}

// ranged is what /api/metrics asks.
type ranged struct {
	services   string // matchers of series
	kinds      string
	by         string // labels to sum by
	operations bool
	start, end time.Time
	step       time.Duration
	per        string // of the rate, as PromQL has it
}

// maxPoints of a series, as Prometheus bounds them: one a minute for a week.
const maxPoints = 11000

// The names that the span metrics have, and under which the Jaeger UI wants labels.
const (
	callsMetric   = "traces_spanmetrics_calls_total"
	latencyMetric = "traces_spanmetrics_latency_bucket" // seconds
	serviceLabel  = "service"
	nameLabel     = "span_name"
)

var displayed = map[string]string{serviceLabel: "service_name", nameLabel: "operation"}

func (h *handler) metrics(w http.ResponseWriter, r *http.Request, what string) error {
	var quantile float64
	if what == "latencies" {
		var err error
		if quantile, err = strconv.ParseFloat(r.FormValue("quantile"), 64); err != nil {
			return bad(parseError("quantile", err))
		}
	}
	q, err := parseRanged(r, h.deps.Now())
	if err != nil {
		return bad(err)
	}
	if h.deps.Metrics == nil {
		return errNoMetrics
	}
	rate := func(metric, more, by string) string {
		return fmt.Sprintf("sum(rate(%s{%s, %s%s}[%s])) by (%s)", metric, q.services, more, q.kinds, q.per, by)
	}
	f := family{name: "service_call_rate", help: "calls/sec, grouped by service"}
	calls := rate(callsMetric, "", q.by)
	expr := calls
	switch what {
	case "latencies":
		f = family{name: "service_latencies", help: fmt.Sprintf("%.2fth quantile latency, grouped by service", quantile)}
		expr = fmt.Sprintf("1000 * histogram_quantile(%s, %s)", strconv.FormatFloat(quantile, 'g', -1, 64), rate(latencyMetric, "", q.by+",le"))
	case "errors":
		f = family{name: "service_error_rate", help: "error rate, computed as a fraction of errors/sec over calls/sec, grouped by service"}
		expr = rate(callsMetric, `status_code = "STATUS_CODE_ERROR", `, q.by) + " / " + calls
	}
	if q.operations {
		f.name = strings.Replace(f.name, "service", "service_operation", 1)
		f.help += " & operation"
	}
	if f.series, err = h.ask(r.Context(), expr, q); err != nil {
		return metricsError(what, "error", err)
	}
	if what == "errors" && len(f.series) == 0 { // no errors, or no calls at all?
		if f.series, err = h.ask(r.Context(), calls, q); err != nil {
			return metricsError(what, "call", err)
		}
		zero(f.series)
	}
	return writeFamily(w, r, &f)
}

var errNoMetrics = fail(http.StatusNotImplemented, errors.New("metrics querying is currently disabled"))

func (h *handler) minStep(w http.ResponseWriter, r *http.Request, _ string) error {
	if h.deps.Metrics == nil {
		return errNoMetrics
	}
	return writeJSON(w, r, envelope{Data: 1})
}

func (h *handler) ask(ctx context.Context, expr string, q ranged) (promql.Matrix, error) {
	m, err := h.deps.Metrics.QueryRange(ctx, expr, q.start, q.end, q.step)
	if err != nil {
		return nil, fmt.Errorf("failed executing metrics query: %w", err)
	}
	return m, nil
}

func metricsError(what, which string, err error) error {
	if what == "errors" {
		return fmt.Errorf("failed getting %s metrics: %w", which, err)
	}
	return err
}

func zero(m promql.Matrix) {
	for i := range m {
		for k := range m[i].Floats {
			m[i].Floats[k].F = 0
		}
	}
}

func parseRanged(r *http.Request, now time.Time) (q ranged, err error) {
	params := r.URL.Query()
	services, ok := params["service"]
	if !ok {
		return q, parseError("service", errors.New("please provide at least one service name"))
	}
	if text := r.FormValue("groupByOperation"); text != "" {
		if q.operations, err = strconv.ParseBool(text); err != nil {
			return q, parseError("groupByOperation", err)
		}
	}
	kinds, err := spanKinds(params["spanKind"])
	if err != nil {
		return q, parseError("spanKind", err)
	}
	for i := range services {
		services[i] = regexp.QuoteMeta(services[i])
	}
	q.services = serviceLabel + " =~ " + strconv.Quote(strings.Join(services, "|"))
	q.kinds = "span_kind =~ " + strconv.Quote(strings.Join(kinds, "|"))
	q.by = serviceLabel
	if q.operations {
		q.by += "," + nameLabel
	}
	return q, q.times(r, now)
}

func (q *ranged) times(r *http.Request, now time.Time) error {
	end, err := parseTime(r, "endTs", now)
	if err != nil {
		return err
	}
	lookback, err := parseMillis(r, "lookback", time.Hour)
	if err != nil {
		return err
	}
	if q.step, err = parseMillis(r, "step", 5*time.Second); err != nil {
		return err
	}
	per, err := parseMillis(r, "ratePer", 10*time.Minute)
	switch {
	case err != nil:
		return err
	case q.step <= 0 || per <= 0 || lookback < 0:
		return fmt.Errorf("got step %v and ratePer %v, want them above 0; lookback %v, want 0 or more", q.step, per, lookback)
	case lookback/q.step >= maxPoints:
		return fmt.Errorf("got step %v and lookback %v, want at most %d points", q.step, lookback, maxPoints)
	}
	q.start, q.end, q.per = end.Add(-lookback), end, model.Duration(per).String()
	return nil
}

// spanKinds are Jaeger's kinds in the words of the span metrics; none stands for server.
func spanKinds(names []string) ([]string, error) {
	if len(names) == 0 {
		return []string{"SPAN_KIND_SERVER"}, nil
	}
	kinds := make([]string, len(names))
	for i, name := range names {
		known := name == unspecified
		for kind := span.KindInternal; kind <= span.KindConsumer; kind++ {
			known = known || spanstore.KindName(kind) == name
		}
		if !known {
			return nil, fmt.Errorf("unsupported span kind: '%s'", name)
		}
		kinds[i] = "SPAN_KIND_" + strings.ToUpper(name)
	}
	return kinds, nil
}

// family is an answer without an envelope, in the JSON of jaeger.api_v2.metrics.
type family struct {
	name, help string
	series     promql.Matrix
}

func writeFamily(w http.ResponseWriter, r *http.Request, f *family) error {
	return writeJSON(w, r, json.RawMessage(appendFamily(nil, f)))
}

func appendFamily(b []byte, f *family) []byte {
	b = appendString(append(b, `{"name":`...), f.name)
	b = appendString(append(b, `,"type":"GAUGE","help":`...), f.help)
	b = append(b, `,"metrics":[`...)
	for i, s := range f.series {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendLabels(append(b, `{"labels":[`...), s.Metric)
		b = append(b, `],"metricPoints":[`...)
		for k, p := range s.Floats {
			if k > 0 {
				b = append(b, ',')
			}
			b = appendFloat(append(b, `{"gaugeValue":{"doubleValue":`...), p.F)
			b = append(appendTimestamp(append(b, `},"timestamp":"`...), p.T), `"}`...)
		}
		b = append(b, `]}`...)
	}
	return append(b, `]}`...)
}

// appendLabels leaves out an empty value, as this JSON wants it.
func appendLabels(b []byte, ls labels.Labels) []byte {
	type pair struct{ name, value string }
	var pairs []pair
	ls.Range(func(l labels.Label) { pairs = append(pairs, pair{cmp.Or(displayed[l.Name], l.Name), l.Value}) })
	slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	for i, p := range pairs {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"name":`...), p.name)
		if p.value != "" {
			b = appendString(append(b, `,"value":`...), p.value)
		}
		b = append(b, '}')
	}
	return b
}

// appendTimestamp writes RFC 3339 with as many groups of three digits as needed.
func appendTimestamp(b []byte, milliseconds int64) []byte {
	t := time.UnixMilli(milliseconds).UTC()
	if milliseconds%1000 == 0 {
		return t.AppendFormat(b, "2006-01-02T15:04:05Z")
	}
	return t.AppendFormat(b, "2006-01-02T15:04:05.000Z")
}
