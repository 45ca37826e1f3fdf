package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// tempo is its own HTTP API; searches are TraceQL.
var tempo = dialect{
	trace: func(base, id string) string { return base + "/api/traces/" + id },
	search: func(base string, q *question) string {
		args := url.Values{
			"q": {q.traceQL()}, "limit": {strconv.Itoa(q.limit)},
			"start": {strconv.FormatInt(q.start.Unix(), 10)}, "end": {strconv.FormatInt(q.end.Unix()+1, 10)},
		}
		return base + "/api/search?" + args.Encode()
	},
	spans: func(answer []byte) (int, error) {
		var body struct {
			Batches []struct {
				ScopeSpans []struct{ Spans []json.RawMessage }
			}
		}
		if err := json.Unmarshal(answer, &body); err != nil {
			return 0, fmt.Errorf("%w in %s", err, answer[:min(len(answer), 300)])
		}
		n := 0
		for _, b := range body.Batches {
			for _, s := range b.ScopeSpans {
				n += len(s.Spans)
			}
		}
		return n, nil
	},
	found: func(answer []byte) (int, error) {
		var body struct{ Traces []json.RawMessage }
		if err := json.Unmarshal(answer, &body); err != nil {
			return 0, fmt.Errorf("%w in %s", err, answer[:min(len(answer), 300)])
		}
		return len(body.Traces), nil
	},
}

func (q *question) traceQL() string {
	terms := []string{fmt.Sprintf("resource.service.name = %q", q.service)}
	if q.operation != "" {
		terms = append(terms, fmt.Sprintf("name = %q", q.operation))
	}
	if q.failed {
		terms = append(terms, "status = error")
	}
	if q.min > 0 {
		terms = append(terms, "duration >= "+q.min.String())
	}
	if q.max > 0 {
		terms = append(terms, "duration <= "+q.max.String())
	}
	for _, t := range q.tags {
		value := fmt.Sprint(t.value)
		if text, ok := t.value.(string); ok {
			value = strconv.Quote(text)
		}
		terms = append(terms, "span."+t.key+" = "+value)
	}
	return "{ " + strings.Join(terms, " && ") + " }"
}

// tempoConfig is -target=all on one disk, as a peer is measured: what it would
// refuse at this load is raised. ports are HTTP, gRPC, OTLP gRPC and OTLP HTTP.
func tempoConfig(dataDir string, ports []string) []byte {
	number := func(address string) string { _, port, _ := strings.Cut(address, ":"); return port }
	return fmt.Appendf(nil, `server:
  http_listen_address: 127.0.0.1
  http_listen_port: %s
  grpc_listen_address: 127.0.0.1
  grpc_listen_port: %s
  log_level: warn
distributor:
  receivers:
    otlp:
      protocols:
        grpc: {endpoint: "%s", max_recv_msg_size_mib: 64}
        http: {endpoint: "%s"}
storage:
  trace:
    backend: local
    local: {path: "%[5]s/blocks"}
    wal: {path: "%[5]s/wal"}
overrides:
  defaults:
    ingestion: {rate_limit_bytes: 1000000000, burst_size_bytes: 1000000000, max_traces_per_user: 0}
usage_report: {reporting_enabled: false}
`, number(ports[0]), number(ports[1]), ports[2], ports[3], dataDir)
}
