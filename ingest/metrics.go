package ingest

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests     *prometheus.CounterVec
	otlpRequests *prometheus.CounterVec
}

func newMetrics(in *Ingest, reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_ingest_series",
		Help: "Series that ingest remembers.",
	}, func() float64 { return float64(in.w.series.len()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_ingest_series_cache_keys",
		Help: "Label sets whose series is remembered.",
	}, func() float64 { return float64(in.w.keys.len()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_ingest_in_flight_bytes",
		Help: "Bytes held by remote_write and OTLP requests in flight.",
	}, func() float64 { return float64(in.flight.bytes.Load()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_ingest_in_flight_requests",
		Help: "Remote_write and OTLP requests in flight.",
	}, func() float64 { return float64(in.flight.requests.Load()) })
	if reg != nil {
		reg.MustRegister(ledgerCollector{in.w.ledger}, haCollector{in.w.ha})
	}
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_ingest_remote_write_requests_total",
			Help: "Remote_write requests by how they ended.",
		}, []string{"result"}),
		otlpRequests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_ingest_otlp_requests_total",
			Help: "OTLP requests by transport and how they ended.",
		}, []string{"transport", "result"}),
	}
}

// ledgerCollector shows the books as metrics.
type ledgerCollector struct{ l *ledger }

var (
	receivedDesc = prometheus.NewDesc("weir_ingest_received_total",
		"Samples, histograms and exemplars received in requests that could be decoded.",
		[]string{"protocol", "kind"}, nil)
	settledDesc = prometheus.NewDesc("weir_ingest_settled_total",
		"What became of received samples: stored, duplicate, deduplicated, dropped, or refused for a reason.",
		[]string{"protocol", "kind", "cluster", "outcome"}, nil)
	heldDesc = prometheus.NewDesc("weir_ingest_held",
		"Samples of replicas not elected that wait to be needed.",
		[]string{"protocol", "kind", "cluster"}, nil)
)

func (c ledgerCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- receivedDesc
	ch <- settledDesc
	ch <- heldDesc
}

func (c ledgerCollector) Collect(ch chan<- prometheus.Metric) {
	books := c.l.books()
	for p := range numProtocols {
		for k := range numKinds {
			ch <- prometheus.MustNewConstMetric(receivedDesc, prometheus.CounterValue,
				float64(c.l.received[p][k].Load()), p.String(), k.String())
			for _, b := range books {
				collectBook(ch, b, p, k)
			}
		}
	}
}

func collectBook(ch chan<- prometheus.Metric, b *clusterBook, p protocol, k kind) {
	for o := range numOutcomes {
		n := b.n[p][k][o].Load()
		switch {
		case n == 0:
		case o == held:
			ch <- prometheus.MustNewConstMetric(heldDesc, prometheus.GaugeValue, float64(n), p.String(), k.String(), b.name)
		default:
			ch <- prometheus.MustNewConstMetric(settledDesc, prometheus.CounterValue, float64(n), p.String(), k.String(), b.name, o.String())
		}
	}
}
