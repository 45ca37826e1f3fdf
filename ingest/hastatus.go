package ingest

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// haAnswer is the JSON of /api/v1/status/ha.
type haAnswer struct {
	Status string `json:"status"`
	Data   struct {
		HeldBytes    int64       `json:"heldBytes"`
		MaxHeldBytes int64       `json:"maxHeldBytes"` // ingest.ha.hold_bytes
		Clusters     []haCluster `json:"clusters"`
	} `json:"data"`
}

type haCluster struct {
	Cluster   string      `json:"cluster"`
	Elected   string      `json:"elected"`
	Since     time.Time   `json:"since"`
	Takeovers uint64      `json:"takeovers"`
	Replicas  []haReplica `json:"replicas"`
}

type haReplica struct {
	Replica     string    `json:"replica"`
	Elected     bool      `json:"elected"`
	Clock       time.Time `json:"clock"`    // its newest sample
	LastSeen    time.Time `json:"lastSeen"` // its newest request; zero since the start of this process
	HeldSamples int       `json:"heldSamples"`
	HeldBytes   int64     `json:"heldBytes"`
	Filled      uint64    `json:"filledSamples"` // held samples that were stored since the start of this process
}

// HAHandler serves the state of the HA pairs as JSON: per cluster who is elected,
// since when, and of every replica its clock and what is held of it.
func (in *Ingest) HAHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p := in.w.ha
		a := haAnswer{Status: "success"}
		a.Data.HeldBytes, a.Data.MaxHeldBytes = p.bytes.Load(), p.budget
		a.Data.Clusters = []haCluster{}
		for _, g := range p.sorted() {
			a.Data.Clusters = append(a.Data.Clusters, g.status())
		}
		writeJSON(w, a)
	})
}

func (g *group) status() haCluster {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := haCluster{Cluster: g.cluster, Since: g.since.UTC(), Takeovers: g.takeovers}
	for _, r := range g.replicas {
		hr := haReplica{
			Replica: r.name, Elected: r == g.elected, LastSeen: r.seen.UTC(),
			HeldBytes: r.bytes, Filled: r.filled, HeldSamples: r.samples,
		}
		if r.clock != 0 {
			hr.Clock = time.UnixMilli(r.clock).UTC()
		}
		if hr.Elected {
			c.Elected = r.name
		}
		c.Replicas = append(c.Replicas, hr)
	}
	return c
}

// haCollector shows the pairs as metrics.
type haCollector struct{ p *pairs }

var (
	haElectedDesc = prometheus.NewDesc("weir_ingest_ha_elected",
		"1 for the replica whose samples are stored as they come, 0 for the others of its cluster.",
		[]string{"cluster", "replica"}, nil)
	haClockDesc = prometheus.NewDesc("weir_ingest_ha_clock_timestamp_seconds",
		"Time of the newest sample of a replica.", []string{"cluster", "replica"}, nil)
	haTakeoversDesc = prometheus.NewDesc("weir_ingest_ha_takeovers_total",
		"Times that another replica was elected because the elected one lay behind.", []string{"cluster"}, nil)
	haHeldBytesDesc = prometheus.NewDesc("weir_ingest_ha_held_bytes",
		"Bytes of samples that wait to be needed.", []string{"cluster", "replica"}, nil)
	haHeldSamplesDesc = prometheus.NewDesc("weir_ingest_ha_held_samples",
		"Samples and histograms that wait to be needed.", []string{"cluster", "replica"}, nil)
	haFilledDesc = prometheus.NewDesc("weir_ingest_ha_filled_total",
		"Held samples and histograms that were needed and stored.", []string{"cluster", "replica"}, nil)
)

func (haCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{haElectedDesc, haClockDesc, haTakeoversDesc, haHeldBytesDesc, haHeldSamplesDesc, haFilledDesc} {
		ch <- d
	}
}

func (c haCollector) Collect(ch chan<- prometheus.Metric) {
	for _, g := range c.p.all() {
		st := g.status()
		ch <- prometheus.MustNewConstMetric(haTakeoversDesc, prometheus.CounterValue, float64(st.Takeovers), st.Cluster)
		for _, r := range st.Replicas {
			elected, clock := 0.0, 0.0
			if r.Elected {
				elected = 1
			}
			if !r.Clock.IsZero() {
				clock = float64(r.Clock.UnixMilli()) / 1000
			}
			for _, m := range []struct {
				desc *prometheus.Desc
				kind prometheus.ValueType
				v    float64
			}{
				{haElectedDesc, prometheus.GaugeValue, elected},
				{haClockDesc, prometheus.GaugeValue, clock},
				{haHeldBytesDesc, prometheus.GaugeValue, float64(r.HeldBytes)},
				{haHeldSamplesDesc, prometheus.GaugeValue, float64(r.HeldSamples)},
				{haFilledDesc, prometheus.CounterValue, float64(r.Filled)},
			} {
				ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.v, st.Cluster, r.Replica)
			}
		}
	}
}
