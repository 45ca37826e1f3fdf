package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// query is one expression on a grid over the whole data set.
type query struct {
	name, expr string
	step       time.Duration
}

// sets are the ready-made lists of queries: "seven" is for mix, "dashboard" for
// counters.
var sets = map[string][]query{
	"seven": {
		{"rate 5m", `sum by (namespace) (rate(http_requests_total[5m]))`, time.Hour},
		{"quantile 5m", `histogram_quantile(0.99, sum by (le, service) (rate(http_request_duration_seconds_bucket[5m])))`, time.Hour},
		{"max 1h", `max by (namespace) (max_over_time(container_memory_working_set_bytes[1h]))`, time.Hour},
		{"increase 1d", `sum by (service) (increase(http_requests_total[1d]))`, time.Hour},
		{"topk step 5m", `topk(10, sum by (pod) (rate(http_requests_total{code="500"}[5m])))`, 5 * time.Minute},
		{"rate 1h", `sum by (namespace) (rate(http_requests_total[1h]))`, time.Hour},
		{"quantile 1h", `histogram_quantile(0.99, sum by (le, service) (rate(http_request_duration_seconds_bucket[1h])))`, time.Hour},
	},
	"dashboard": {
		{"dashboard", `sum by (namespace) (rate(http_requests_total[5m]))`, time.Hour},
	},
}

func setNames() string { return strings.Join(slices.Sorted(maps.Keys(sets)), ", ") }

func querySet(name string) ([]query, error) {
	qs := sets[name]
	if qs == nil {
		return nil, fmt.Errorf("-set %q: want one of %s", name, setNames())
	}
	return qs, nil
}
