package derive

import (
	"math"
	"slices"
	"time"

	"github.com/weir-dev/weir/internal/conf"
)

// Config is the `tracing.derive` section.
type Config struct {
	// Time between two samples of a derived series, and between two checkpoints of all totals. 0s derives nothing. Restart.
	Interval conf.Duration `yaml:"interval"`

	// Attributes that become labels of traces_spanmetrics_* series, looked for on the span and then on its resource. Dots become underscores. A change begins these series anew. Restart.
	Dimensions []string `yaml:"dimensions"`

	// Write traces_spanmetrics_latency and the graph's durations as classic histograms (_bucket, _sum, _count). Restart.
	Classic bool `yaml:"classic_histograms"`

	// Write them as native histograms, under the name without suffix. Restart.
	Native bool `yaml:"native_histograms"`

	// Upper bounds of the classic buckets, in seconds, ascending. A change begins the histograms anew. Restart.
	Buckets []float64 `yaml:"buckets"`

	// Write traces_spanmetrics_size_total, the bytes of spans as OTLP encodes them. Restart.
	Size bool `yaml:"size"`

	// Attach to histograms, for each bucket, the newest span of the interval. Restart.
	Exemplars bool `yaml:"exemplars"`

	// How long sampling is told to keep a trace that an exemplar points to; it must exceed the time until sampling decides. Restart.
	PinFor conf.Duration `yaml:"pin_exemplars_for"`

	// Count a span that its sender has sampled (tracestate `ot=th:...`) as the many it stands for. Spans without a threshold count once. Restart.
	Weigh bool `yaml:"weigh_sampled"`

	// Label sets of one service in traces_spanmetrics_*; what is beyond goes to span_name="_other". Restart.
	MaxSeriesPerService int `yaml:"max_series_per_service"`

	// Label sets in traces_spanmetrics_* in all; what is beyond goes to span_name="_other" of its service. Each is about 20 series in the store. Restart.
	MaxSeries int `yaml:"max_series"`

	// Services, and as many virtual nodes of the graph; what is beyond is named "_other". Restart.
	MaxServices int `yaml:"max_services"`

	// Bytes of a label value; longer names are cut. Restart.
	MaxNameLength int `yaml:"max_name_length"`

	// A label set or an edge that no span has touched for so long ends, with a stale marker; it begins at 0 if it comes again. 0s keeps all. Restart.
	Idle conf.Duration `yaml:"idle"`

	// Which service calls which. Restart.
	Graph GraphConfig `yaml:"graph"`
}

// GraphConfig is the `tracing.derive.graph` section.
type GraphConfig struct {
	// How long one half of a call waits for the other, by arrival. Restart.
	Wait conf.Duration `yaml:"wait"`

	// Halves that may wait at once, about 100 bytes each; beyond, the oldest leave early and are counted as dropped. Restart.
	MaxWaiting int `yaml:"max_waiting"`

	// Spans whose service is remembered to find callers that are no client spans, 16 bytes each. The newest are. Restart.
	Recent int `yaml:"recent_spans"`

	// Edges, with unpaired and dropped spans by service; what is beyond goes to client="_other", server="_other". Restart.
	MaxEdges int `yaml:"max_edges"`

	// Attributes of client spans that name a database, the first present wins; such a span is a call of a virtual node. Restart.
	Databases []string `yaml:"database_attributes"`

	// Attributes of client spans that name a peer which sends no spans itself. Restart.
	Peers []string `yaml:"peer_attributes"`

	// Attributes of producer and consumer spans that name a queue. Restart.
	Queues []string `yaml:"queue_attributes"`
}

// DefaultConfig has Tempo's series with the room's bounds.
func DefaultConfig() Config {
	return Config{
		// Grafana's panels look at rates over a minute or more: four samples.
		Interval: conf.Duration(15 * time.Second),
		Classic:  true, Native: true, Exemplars: true,
		Buckets: []float64{.002, .004, .008, .016, .032, .064, .128, .256, .512, 1.024, 2.048, 4.096, 8.192, 16.384},
		PinFor:  conf.Duration(10 * time.Minute),
		// unmeasured: a service has tens of operations; 500 is far above, and far
		// below what URLs in span names would make.
		MaxSeriesPerService: 500,
		// Bounds the store's head: 200k series, about 1 GiB at the TSDB's usual 4 to
		// 5 KiB each.
		MaxSeries:     10_000,
		MaxServices:   2_000,
		MaxNameLength: 256,
		Idle:          conf.Duration(24 * time.Hour),
		Graph: GraphConfig{
			Wait:       conf.Duration(5 * time.Minute),
			MaxWaiting: 200_000,
			Recent:     1 << 18,
			MaxEdges:   20_000,
			Databases:  []string{"db.namespace", "db.name", "db.system.name", "db.system"},
			Peers:      []string{"peer.service", "server.address", "net.peer.name"},
			Queues:     []string{"messaging.destination.name", "messaging.destination", "messaging.system"},
		},
	}
}

// Validate reports what is out of bounds.
func (c *Config) Validate(f *conf.Faults) {
	if c.Interval != 0 && (c.Interval < conf.Duration(time.Second) || c.Interval > conf.Duration(2*time.Minute)) {
		f.Add("interval", c.Interval, "0s (off), or 1s..2m, or queries would see gaps")
	}
	for i, d := range c.Dimensions {
		if d == "" || slices.Contains(ownLabels, labelName(d)) || slices.ContainsFunc(c.Dimensions[:i], func(o string) bool { return labelName(o) == labelName(d) }) {
			f.Add("dimensions", d, "attribute names that differ as labels, none of service, span_name, span_kind, status_code, le")
		}
	}
	if len(c.Buckets) == 0 || len(c.Buckets) > 64 || !slices.IsSorted(c.Buckets) || c.Buckets[0] <= 0 ||
		math.IsInf(c.Buckets[len(c.Buckets)-1], 0) || len(slices.Compact(slices.Clone(c.Buckets))) != len(c.Buckets) {
		f.Add("buckets", c.Buckets, "1 to 64 ascending, positive, finite seconds")
	}
	if c.PinFor < 0 {
		f.Add("pin_exemplars_for", c.PinFor, "0s (not at all) or more")
	}
	if c.Idle != 0 && c.Idle < conf.Duration(10*time.Minute) {
		f.Add("idle", c.Idle, "0s (never), or 10m or more")
	}
	atLeast(f, "max_series_per_service", c.MaxSeriesPerService, 1)
	atLeast(f, "max_series", c.MaxSeries, 1)
	atLeast(f, "max_services", c.MaxServices, 1)
	atLeast(f, "max_name_length", c.MaxNameLength, 16)
	c.Graph.validate(f.At("graph"))
}

func (c *GraphConfig) validate(f *conf.Faults) {
	if c.Wait < conf.Duration(time.Second) || c.Wait > conf.Duration(time.Hour) {
		f.Add("wait", c.Wait, "1s..1h")
	}
	atLeast(f, "max_waiting", c.MaxWaiting, 16)
	atLeast(f, "recent_spans", c.Recent, 0)
	atLeast(f, "max_edges", c.MaxEdges, 1)
}

func atLeast(f *conf.Faults, field string, got, least int) {
	if got < least || got > math.MaxInt32 {
		f.Add(field, got, "a whole number from "+itoa(least)+" to 2147483647")
	}
}
