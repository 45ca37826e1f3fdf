package ingest

import (
	"net/http"
	"sync"
	"sync/atomic"
)

// protocol is how samples came in.
type protocol uint8

const (
	protoV1 protocol = iota
	protoV2
	protoOTLP
	numProtocols
)

func (p protocol) String() string { return [...]string{"remote_write_1", "remote_write_2", "otlp"}[p] }

// kind is what is counted.
type kind uint8

const (
	kindFloat kind = iota
	kindHistogram
	kindExemplar
	numKinds
)

func (k kind) String() string { return [...]string{"sample", "histogram", "exemplar"}[k] }

// outcome is the one end that a received sample finds. Values from
// firstRefusal on are refusals, one a reason.
type outcome uint8

const (
	stored       outcome = iota // in the store's log and head
	duplicate                   // the very sample was stored already
	deduplicated                // the other replica of its pair stands for it
	dropped                     // relabelling drops its series
	held                        // not an end: a replica's sample waiting to be needed
	firstRefusal
)

// The reasons for which a sample is refused.
const (
	badLabels outcome = firstRefusal + iota
	badRequest
	badHistogram
	badTemporality
	mixedSeries
	emptySeries
	outOfOrder
	tooOld
	tooNew
	conflict
	exemplarRefused
	limitSeries
	limitMetricSeries
	limitClusterSeries
	limitLabels
	limitNameLength
	limitValueLength
	unavailable
	numOutcomes
)

// refusal is what the world is told of a reason.
type refusal struct {
	name  string // label value of the metrics, key of the ledger
	says  string // what was wrong
	turn  string // setting to turn, if there is one
	retry bool   // the sender should try again: 503; otherwise 400
}

var refusals = [numOutcomes]refusal{
	badLabels:          {name: "invalid_labels", says: "metric name missing, or a label name empty, repeated or not UTF-8"},
	badRequest:         {name: "invalid_request", says: "references outside of the symbol table or in odd number"},
	badHistogram:       {name: "invalid_histogram", says: "native histogram contradicts itself"},
	badTemporality:     {name: "invalid_temporality", says: "OTLP metric says neither cumulative nor delta"},
	mixedSeries:        {name: "mixed_series", says: "a series holds samples and histograms at once"},
	emptySeries:        {name: "empty_series", says: "a series holds neither sample nor histogram"},
	outOfOrder:         {name: "out_of_order", says: "older than the series' newest sample", turn: "store.out_of_order_window"},
	tooOld:             {name: "too_old", says: "older than what the store accepts", turn: "store.out_of_order_window or ingest.limits.max_sample_age"},
	tooNew:             {name: "too_far_in_future", says: "timestamp too far in the future", turn: "ingest.limits.max_future_skew"},
	conflict:           {name: "duplicate_timestamp", says: "another value is stored at this timestamp"},
	exemplarRefused:    {name: "invalid_exemplar", says: "exemplar out of order, too long or too far in the future"},
	limitSeries:        {name: "limit_series", says: "series limit reached", turn: "ingest.limits.max_series"},
	limitMetricSeries:  {name: "limit_series_per_metric", says: "the metric's series limit is reached", turn: "ingest.limits.max_series_per_metric"},
	limitClusterSeries: {name: "limit_series_per_cluster", says: "the cluster's series limit is reached", turn: "ingest.limits.max_series_per_cluster"},
	limitLabels:        {name: "limit_labels_per_series", says: "too many labels", turn: "ingest.limits.max_labels_per_series"},
	limitNameLength:    {name: "limit_label_name_length", says: "label name too long", turn: "ingest.limits.max_label_name_length"},
	limitValueLength:   {name: "limit_label_value_length", says: "label value too long", turn: "ingest.limits.max_label_value_length"},
	unavailable:        {name: "unavailable", says: "the store did not take the write", retry: true},
}

func (o outcome) String() string {
	if o < firstRefusal {
		return [...]string{"stored", "duplicate", "deduplicated", "dropped", "held"}[o]
	}
	return refusals[o].name
}

// clusterID numbers the values of the cluster label; 0 is the empty value.
type clusterID uint32

// maxClusters bounds the ledger: 3 protocols x 3 kinds x 23 outcomes x 8 bytes
// a cluster is 1.6 KiB. Later clusters are counted together as "(other)".
const maxClusters = 1024

// ledger is the public books: what was received, and where each sample ended.
//
// received is counted when a request has been decoded, outcomes when its answer
// is known; held moves to stored or deduplicated later. So at rest
// received == sum of outcomes, a protocol and kind at a time.
type ledger struct {
	received [numProtocols][numKinds]atomic.Uint64

	mu       sync.RWMutex
	ids      map[string]clusterID
	clusters []*clusterBook
}

type clusterBook struct {
	name string
	n    [numProtocols][numKinds][numOutcomes]atomic.Int64
}

func newLedger() *ledger {
	l := &ledger{ids: map[string]clusterID{"": 0}}
	l.clusters = []*clusterBook{{}}
	return l
}

// cluster returns the number of a cluster label value.
func (l *ledger) cluster(name string) clusterID {
	l.mu.RLock()
	id, ok := l.ids[name]
	l.mu.RUnlock()
	if ok {
		return id
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if id, ok := l.ids[name]; ok {
		return id
	}
	switch {
	case len(l.clusters) == maxClusters:
		return maxClusters - 1
	case len(l.clusters) == maxClusters-1:
		name = "(other)"
	}
	id = clusterID(len(l.clusters))
	l.ids[name] = id
	l.clusters = append(l.clusters, &clusterBook{name: name})
	return id
}

func (l *ledger) book(id clusterID) *clusterBook {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.clusters[id]
}

// books returns all clusters' books.
func (l *ledger) books() []*clusterBook {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.clusters[:len(l.clusters):len(l.clusters)]
}

// ledgerAnswer is the JSON of /api/v1/status/ledger.
type ledgerAnswer struct {
	Status string `json:"status"`
	Data   struct {
		Protocols []protocolBook `json:"protocols"`
	} `json:"data"`
}

type protocolBook struct {
	Protocol string                  `json:"protocol"`
	Kind     string                  `json:"kind"`
	Received uint64                  `json:"received"`
	Balance  int64                   `json:"balance"` // received minus all outcomes; 0 when no request is in flight
	Clusters map[string]clusterTotal `json:"clusters"`
}

type clusterTotal struct {
	Stored       int64            `json:"stored"`
	Duplicate    int64            `json:"duplicate"`
	Deduplicated int64            `json:"deduplicated"`
	Dropped      int64            `json:"dropped"`
	Held         int64            `json:"held"`
	Refused      map[string]int64 `json:"refused"`
}

func (l *ledger) totals() []protocolBook {
	var out []protocolBook
	books := l.books()
	for p := range numProtocols {
		for k := range numKinds {
			b := protocolBook{Protocol: p.String(), Kind: k.String(), Clusters: map[string]clusterTotal{}}
			var sum int64
			for _, c := range books {
				t, n := c.total(p, k)
				if n != 0 {
					b.Clusters[c.name] = t
					sum += n
				}
			}
			// Read last: a request that is counted in between shows as in flight,
			// not as an outcome from nowhere.
			b.Received = l.received[p][k].Load()
			b.Balance = int64(b.Received) - sum
			out = append(out, b)
		}
	}
	return out
}

func (c *clusterBook) total(p protocol, k kind) (t clusterTotal, sum int64) {
	t.Refused = map[string]int64{}
	for o := range numOutcomes {
		n := c.n[p][k][o].Load()
		sum += n
		switch o {
		case stored:
			t.Stored = n
		case duplicate:
			t.Duplicate = n
		case deduplicated:
			t.Deduplicated = n
		case dropped:
			t.Dropped = n
		case held:
			t.Held = n
		default:
			if n != 0 {
				t.Refused[o.String()] = n
			}
		}
	}
	return t, sum
}

func (l *ledger) serve(w http.ResponseWriter, _ *http.Request) {
	a := ledgerAnswer{Status: "success"}
	a.Data.Protocols = l.totals()
	writeJSON(w, a)
}
