package ingest

import (
	"fmt"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/weir-dev/weir/internal/conf"
)

// Config is the `ingest` section.
type Config struct {
	// Bytes of one remote_write body, compressed or not; a larger one is answered 413, or 400 when only its announced decoded length is larger. Prometheus' own receiver has 32MiB. Restart.
	MaxRequestBytes conf.Bytes `yaml:"max_request_bytes"`

	// Bytes that all remote_write and OTLP requests in flight may hold, compressed and decoded together; above it requests are answered 503 with Retry-After. Restart.
	MaxInFlightBytes conf.Bytes `yaml:"max_in_flight_bytes"`

	// Remote_write and OTLP requests handled at once; above it requests are answered 503 with Retry-After. Restart.
	MaxInFlightRequests int `yaml:"max_in_flight_requests"`

	// Labels given to every series that has no label of that name. Empty adds none. Reload.
	ExternalLabels map[string]string `yaml:"external_labels"`

	// Prometheus relabel configs applied to every series on its way in, before external labels and the HA pair's replica label. Empty changes nothing. Reload.
	RelabelConfigs []*relabel.Config `yaml:"relabel_configs"`

	// What a series, a sample and a sender may cost. Reload.
	Limits LimitsConfig `yaml:"limits"`

	// Pairs of identical senders of which one is stored. Restart.
	HA HAConfig `yaml:"ha"`

	// OTLP metrics, and spans if tracing is enabled, on listeners of their own. Restart.
	OTLP OTLPConfig `yaml:"otlp"`
}

// LimitsConfig is the `ingest.limits` section. Zero means no limit.
type LimitsConfig struct {
	// Series in the store's head. 0 is no limit. Reload.
	MaxSeries int `yaml:"max_series"`

	// Series of one metric name in the store's head. 0 is no limit. Reload.
	MaxSeriesPerMetric int `yaml:"max_series_per_metric"`

	// Series of one value of the cluster label in the store's head. 0 is no limit. Reload.
	MaxSeriesPerCluster int `yaml:"max_series_per_cluster"`

	// Labels of one series, the metric name included. 0 is no limit. Reload.
	MaxLabelsPerSeries int `yaml:"max_labels_per_series"`

	// Bytes of a label name. 0 is no limit. Reload.
	MaxLabelNameLength int `yaml:"max_label_name_length"`

	// Bytes of a label value, the metric name included. 0 is no limit. Reload.
	MaxLabelValueLength int `yaml:"max_label_value_length"`

	// Age of a sample, by the server's clock. 0 leaves it to the store, which refuses what is older than its out-of-order window. Reload.
	MaxSampleAge conf.Duration `yaml:"max_sample_age"`

	// How far a sample may lie in the future, by the server's clock. Prometheus has 10m. 0 is no limit. Reload.
	MaxFutureSkew conf.Duration `yaml:"max_future_skew"`
}

// HAConfig is the `ingest.ha` section.
type HAConfig struct {
	// Label that names the cluster a sender watches; the ledger and max_series_per_cluster count by it. Restart.
	ClusterLabel string `yaml:"cluster_label"`

	// Label that tells the replicas of one cluster apart. It is removed before storing. A series that lacks it or the cluster label belongs to no pair. Empty turns pairs off. Restart.
	ReplicaLabel string `yaml:"replica_label"`

	// How far, in sample time, the elected replica may lie behind another before the other takes over. Restart.
	FailoverAfter conf.Duration `yaml:"failover_after"`

	// Directory of the journal that keeps samples of replicas not elected, and elections, over a restart. Empty is `ha` in the store's directory. Restart.
	Dir string `yaml:"dir"`

	// Bytes that samples of replicas not elected may occupy while they wait to be needed. When full, the oldest are settled early: dropped if the elected replica has passed them, stored if not. Restart.
	HoldBytes conf.Bytes `yaml:"hold_bytes"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		MaxRequestBytes:     32 << 20,
		MaxInFlightBytes:    512 << 20,
		MaxInFlightRequests: 256,
		Limits: LimitsConfig{
			MaxLabelsPerSeries:  128,
			MaxLabelNameLength:  1024,
			MaxLabelValueLength: 16 << 10,
			MaxFutureSkew:       conf.Duration(10 * time.Minute),
		},
		HA: HAConfig{
			ClusterLabel:  "cluster",
			ReplicaLabel:  "__replica__",
			FailoverAfter: conf.Duration(30 * time.Second),
			HoldBytes:     256 << 20,
		},
		OTLP: defaultOTLPConfig(),
	}
}

// Validate reports every value out of bounds.
func (c *Config) Validate(f *conf.Faults) {
	if c.MaxRequestBytes < 1<<10 || c.MaxRequestBytes > 1<<30 {
		f.Add("max_request_bytes", c.MaxRequestBytes, "1KiB to 1GiB")
	}
	if c.MaxInFlightBytes < 2*c.MaxRequestBytes {
		f.Add("max_in_flight_bytes", c.MaxInFlightBytes, fmt.Sprintf("at least twice max_request_bytes, %v", 2*c.MaxRequestBytes))
	}
	if c.MaxInFlightRequests < 1 {
		f.Add("max_in_flight_requests", c.MaxInFlightRequests, "1 or more")
	}
	for name := range c.ExternalLabels {
		if !model.UTF8Validation.IsValidLabelName(name) || name == model.MetricNameLabel {
			f.Add("external_labels", name, "a label name other than __name__")
		}
	}
	for i, r := range c.RelabelConfigs {
		if r == nil {
			f.At("relabel_configs").Add(fmt.Sprintf("[%d]", i), "null", "a relabel config")
		} else if err := r.Validate(model.UTF8Validation); err != nil {
			f.At("relabel_configs").Add(fmt.Sprintf("[%d]", i), err.Error(), "a valid Prometheus relabel config")
		}
	}
	c.Limits.validate(f.At("limits"))
	c.HA.validate(f.At("ha"))
	c.OTLP.validate(f.At("otlp"), c.MaxInFlightBytes)
}

func (c *LimitsConfig) validate(f *conf.Faults) {
	for _, l := range []struct {
		name string
		got  int
	}{
		{"max_series", c.MaxSeries},
		{"max_series_per_metric", c.MaxSeriesPerMetric},
		{"max_series_per_cluster", c.MaxSeriesPerCluster},
		{"max_labels_per_series", c.MaxLabelsPerSeries},
		{"max_label_name_length", c.MaxLabelNameLength},
		{"max_label_value_length", c.MaxLabelValueLength},
	} {
		if l.got < 0 {
			f.Add(l.name, l.got, "0 (no limit) or more")
		}
	}
	if c.MaxSampleAge < 0 {
		f.Add("max_sample_age", c.MaxSampleAge, "0 (no limit) or more")
	}
	if c.MaxFutureSkew < 0 {
		f.Add("max_future_skew", c.MaxFutureSkew, "0 (no limit) or more")
	}
}

func (c *HAConfig) validate(f *conf.Faults) {
	if !model.UTF8Validation.IsValidLabelName(c.ClusterLabel) {
		f.Add("cluster_label", c.ClusterLabel, "a label name")
	}
	if c.ReplicaLabel == "" {
		return
	}
	if c.ReplicaLabel == c.ClusterLabel {
		f.Add("replica_label", c.ReplicaLabel, "a label other than cluster_label")
	}
	if c.FailoverAfter < conf.Duration(time.Second) {
		f.Add("failover_after", c.FailoverAfter, "1s or more; twice the scrape interval is a good value")
	}
	if c.HoldBytes < 1<<20 {
		f.Add("hold_bytes", c.HoldBytes, "1MiB or more")
	}
}
