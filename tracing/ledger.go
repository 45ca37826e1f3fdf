package tracing

import (
	"encoding/json"
	"net/http"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// protocol is how spans came in.
type protocol uint8

const (
	protoOTLP protocol = iota
	protoJaegerGRPC
	protoJaegerThrift
	protoZipkin
	numProtocols
)

func (p protocol) String() string {
	return [...]string{"otlp", "jaeger_grpc", "jaeger_thrift", "zipkin"}[p]
}

// outcome is the one end that a received span finds. Values from firstRefusal on are
// refusals, one a reason.
type outcome uint8

const (
	stored    outcome = iota // durable
	duplicate                // the very span was stored already
	dropped                  // sampling had decided against its trace before it came
	firstRefusal
)

// The reasons for which a span is refused.
const (
	zeroID outcome = firstRefusal + iota
	tooNew
	limitRate
	limitTrace
	unavailable
	numOutcomes
)

// refusals is what the world is told of a reason: the label value, what was wrong, and
// the setting to turn if there is one.
var refusals = [numOutcomes]struct{ name, says, turn string }{
	zeroID:      {name: "zero_id", says: "trace id or span id missing or zero"},
	tooNew:      {name: "too_far_in_future", says: "starts or ends too far in the future", turn: "tracing.limits.max_future_skew"},
	limitRate:   {name: "limit_spans_per_second", says: "its service sends too many spans a second", turn: "tracing.limits.max_spans_per_second"},
	limitTrace:  {name: "limit_spans_per_trace", says: "its trace has too many spans", turn: "tracing.limits.max_spans_per_trace"},
	unavailable: {name: "unavailable", says: "the store did not take the spans"},
}

// names are the label values outcome and reason.
func (o outcome) names() (outcome, reason string) {
	if o < firstRefusal {
		return [...]string{"stored", "duplicate", "dropped"}[o], ""
	}
	return "refused", refusals[o].name
}

// change is what was done to a span, or its resource, that is stored all the same.
type change uint8

const (
	cutAttributes change = iota
	cutValue
	cutName
	cutEvents
	cutLinks
	badUTF8
	backwards
	noService
	numChanges
)

func (c change) String() string {
	return [...]string{"attributes", "attribute_value", "name", "events", "links", "invalid_utf8", "negative_duration", "no_service"}[c]
}

// ledger is the public books: what was received, and where each span ended. Received
// is counted when a request has been decoded, outcomes when its answer is known, so at
// rest received is the sum of outcomes, a protocol at a time.
type ledger struct {
	received [numProtocols]atomic.Uint64
	ended    [numProtocols][numOutcomes]atomic.Int64
	changed  [numChanges]atomic.Uint64
}

// Ledger is the JSON of /api/v1/status/traces.
type Ledger struct {
	Protocols []ProtocolBook    `json:"protocols"`
	Changed   map[string]uint64 `json:"changed"` // spans and resources cut or marked, by what
	Store     any               `json:"store,omitempty"`
	Derive    any               `json:"derive,omitempty"`
}

// ProtocolBook is that of one way in.
type ProtocolBook struct {
	Protocol  string           `json:"protocol"`
	Received  uint64           `json:"received"`
	Balance   int64            `json:"balance"` // received minus all outcomes; 0 when no request is in flight
	Stored    int64            `json:"stored"`
	Duplicate int64            `json:"duplicate"`
	Dropped   int64            `json:"dropped"` // sampling had decided against the trace before it came
	Refused   map[string]int64 `json:"refused"`
}

func (l *ledger) totals() Ledger {
	out := Ledger{Changed: map[string]uint64{}}
	for p := range numProtocols {
		b := ProtocolBook{Protocol: p.String(), Refused: map[string]int64{}}
		sum := int64(0)
		for o := range numOutcomes {
			n := l.ended[p][o].Load()
			sum += n
			switch o {
			case stored:
				b.Stored = n
			case duplicate:
				b.Duplicate = n
			case dropped:
				b.Dropped = n
			default:
				if n != 0 {
					b.Refused[refusals[o].name] = n
				}
			}
		}
		// Read last: a request that is counted in between shows as in flight, not as an
		// outcome from nowhere.
		b.Received = l.received[p].Load()
		b.Balance = int64(b.Received) - sum
		out.Protocols = append(out.Protocols, b)
	}
	for c := range numChanges {
		if n := l.changed[c].Load(); n > 0 {
			out.Changed[c.String()] = n
		}
	}
	return out
}

// StatusHandler serves the books, and how store and derived metrics are.
func (t *Tracing) StatusHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		data := t.ledger.totals()
		if t.deps.StoreStatus != nil {
			data.Store = t.deps.StoreStatus()
		}
		if t.deps.DeriveStatus != nil {
			data.Derive = t.deps.DeriveStatus()
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data}) // the client has gone; nobody is left to tell
	})
}

var (
	receivedDesc = prometheus.NewDesc("weir_tracing_spans_received_total",
		"Spans received in requests that could be decoded.", []string{"protocol"}, nil)
	spansDesc = prometheus.NewDesc("weir_tracing_spans_total",
		"What became of received spans: stored, duplicate, dropped by sampling, or refused for a reason.",
		[]string{"protocol", "outcome", "reason"}, nil)
	changedDesc = prometheus.NewDesc("weir_tracing_spans_changed_total",
		"Spans and resources that were cut, repaired or marked before they were stored, by what.", []string{"what"}, nil)
)

// Describe implements prometheus.Collector.
func (l *ledger) Describe(ch chan<- *prometheus.Desc) {
	ch <- receivedDesc
	ch <- spansDesc
	ch <- changedDesc
}

// Collect implements prometheus.Collector.
func (l *ledger) Collect(ch chan<- prometheus.Metric) {
	for p := range numProtocols {
		for o := range numOutcomes {
			if n := l.ended[p][o].Load(); n != 0 || p == protoOTLP && o == stored {
				outcome, reason := o.names()
				ch <- prometheus.MustNewConstMetric(spansDesc, prometheus.CounterValue, float64(n), p.String(), outcome, reason)
			}
		}
		ch <- prometheus.MustNewConstMetric(receivedDesc, prometheus.CounterValue, float64(l.received[p].Load()), p.String())
	}
	for c := range numChanges {
		ch <- prometheus.MustNewConstMetric(changedDesc, prometheus.CounterValue, float64(l.changed[c].Load()), c.String())
	}
}
