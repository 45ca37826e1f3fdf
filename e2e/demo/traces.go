package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/weir-dev/weir/bench/shop"
	"github.com/weir-dev/weir/e2e"
)

// visits are the traces of a shop's visitors.
type visits struct {
	shop  *e2e.Shop
	known shop.Trace // one that is acknowledged
}

// newVisits sends the first traces and goes on until ctx ends.
func newVisits(ctx context.Context, stack *e2e.Stack, setup e2e.Setup) (*visits, error) {
	s, err := e2e.NewShop(stack.OTLP)
	if err != nil {
		return nil, err
	}
	v := &visits{shop: s}
	if v.known, err = s.Send(ctx); err != nil {
		return nil, err
	}
	go s.Live(ctx, setup.Say)
	return v, nil
}

// tries are what Grafana, the Jaeger UI and PromQL ask about traces.
func (v *visits) tries(stack *e2e.Stack) []try {
	checkout := v.known.Spans[2].Service
	search := url.Values{"service": {checkout}, "limit": {"20"}, "tags": {fmt.Sprintf(`{"shop.order.id":%q}`, v.known.Order)}}
	third := url.Values{
		"query.serviceName": {checkout}, "query.searchDepth": {"5"},
		"query.startTimeMin": {v.known.Start.Add(-time.Minute).UTC().Format(time.RFC3339)},
		"query.startTimeMax": {v.known.End.Add(time.Minute).UTC().Format(time.RFC3339)},
	}
	all := []try{
		{what: "services that send traces (Jaeger's HTTP API v1, as Grafana asks)", path: "/api/services", has: `"` + checkout + `"`},
		{what: "the traces of one order, found by an attribute", path: "/api/traces?" + search.Encode(), has: v.known.ID},
		{what: "one trace", path: "/api/traces/" + v.known.ID, has: v.known.Spans[9].Name},
		{what: "who calls whom", path: "/api/dependencies?endTs=" + fmt.Sprint(time.Now().Add(time.Hour).UnixMilli()) + "&lookback=7200000", has: `"callCount"`},
		{what: "the same services (API v3, as the newest Jaeger UI asks)", path: "/api/v3/services", has: `"` + checkout + `"`},
		{what: "traces of " + checkout + " as OTLP", path: "/api/v3/traces?" + third.Encode(), has: `"resourceSpans"`},
		{what: "calls a second by service, derived from spans", expr: `sum by (service) (rate(traces_spanmetrics_calls_total[1m]))`},
		{what: "errors among them", expr: `sum by (service) (rate(traces_spanmetrics_calls_total{status_code="STATUS_CODE_ERROR"}[5m]))`},
		{what: "the service graph", expr: serviceGraph},
	}
	for i := range all {
		if all[i].path != "" {
			all[i].at = stack.Traces
		}
	}
	if stack.Jaeger != nil {
		all = append(all,
			try{what: "the same trace from a stock Jaeger, whose storage is Weir", at: stack.Jaeger.URL, path: "/api/traces/" + v.known.ID, has: v.known.Spans[9].Name},
			try{what: "and its list of services", at: stack.Jaeger.URL, path: "/api/v3/services", has: `"` + checkout + `"`})
	}
	return all
}

const serviceGraph = `sum by (client, server) (rate(traces_service_graph_request_total[1m]))`

// waitGraph asks until the derived graph has every call that the shop has made.
func (v *visits) waitGraph(ctx context.Context, stack *e2e.Stack) ([]string, error) {
	for begun := time.Now(); ; {
		lines, missing, err := v.graph(ctx, stack)
		if err == nil && len(missing) == 0 {
			return lines, nil
		}
		if time.Since(begun) > 2*time.Minute {
			return nil, fmt.Errorf("no service graph within two minutes, missing %v: %w", missing, err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// graph is what is derived, a line an edge, and which calls of the shop are not in it.
func (v *visits) graph(ctx context.Context, stack *e2e.Stack) (lines []string, missing []shop.Edge, err error) {
	found, err := e2e.Query(ctx, stack.Weir.URL, serviceGraph)
	if err != nil {
		return nil, nil, err
	}
	derived := map[shop.Edge]bool{}
	for _, s := range found {
		e := shop.Edge{From: s.Metric["client"], To: s.Metric["server"]}
		derived[e] = true
		rate, _ := s.Value[1].(string)
		lines = append(lines, fmt.Sprintf("%-10s -> %-10s %.6s a second", e.From, e.To, rate))
	}
	for e := range v.shop.Calls() {
		if !derived[e] {
			missing = append(missing, e)
		}
	}
	slices.Sort(lines)
	return lines, missing, nil
}

// show prints the graph and what to ask.
func (v *visits) show(stack *e2e.Stack, graph []string) {
	fmt.Printf(`
A shop of five services sends traces to %s, %d spans each. They are stored without
a database, and answered as Jaeger answers (for Grafana: a data source of the type
Jaeger with the URL %s). The graph that Weir has derived from them has every call
that the shop has made:

  %s
`, stack.OTLP, len(v.known.Spans), stack.Traces, strings.Join(graph, "\n  "))
	if stack.Jaeger != nil {
		fmt.Printf("\nA stock Jaeger with Weir as its storage is at %s\n", stack.Jaeger.URL)
	}
	for _, t := range v.tries(stack) {
		fmt.Printf("\n  # %s\n  %s\n", t.what, t.curl(stack.Weir.URL))
	}
}
