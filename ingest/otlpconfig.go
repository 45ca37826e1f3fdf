package ingest

import (
	"net"
	"slices"
	"strings"

	"github.com/prometheus/otlptranslator"

	"github.com/weir-dev/weir/internal/conf"
)

// OTLPConfig is the `ingest.otlp` section. What concerns translation has the
// names and the meaning of Prometheus' `otlp` section.
type OTLPConfig struct {
	// OTLP over gRPC. Restart.
	GRPC OTLPEndpoint `yaml:"grpc"`

	// OTLP over HTTP, protobuf and JSON, at /v1/metrics and, if tracing is enabled, /v1/traces. Restart.
	HTTP OTLPEndpoint `yaml:"http"`

	// Bytes of one message, compressed or not; a larger one is answered RESOURCE_EXHAUSTED or 413. 1KiB to 1GiB. Restart.
	MaxRecvMsgSize conf.Bytes `yaml:"max_recv_msg_size"`

	// TLS of both endpoints. Without cert_file they speak plain text. Restart.
	TLS OTLPTLSConfig `yaml:"tls"`

	// How metric and label names are made: UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, NoUTF8EscapingWithSuffixes or NoTranslation. Reload.
	TranslationStrategy string `yaml:"translation_strategy"`

	// Make every resource attribute a label of every series, save those of ignore_resource_attributes. Reload.
	PromoteAllResourceAttributes bool `yaml:"promote_all_resource_attributes"`

	// Resource attributes that become labels of every series. Empty is none, beside job and instance. Reload.
	PromoteResourceAttributes []string `yaml:"promote_resource_attributes"`

	// Resource attributes that promote_all_resource_attributes leaves out. Reload.
	IgnoreResourceAttributes []string `yaml:"ignore_resource_attributes"`

	// Keep service.name, service.namespace and service.instance.id as labels of target_info, beside job and instance. Reload.
	KeepIdentifyingResourceAttributes bool `yaml:"keep_identifying_resource_attributes"`

	// Store histograms with explicit buckets as native histograms with custom buckets instead of _bucket, _sum and _count series. Reload.
	ConvertHistogramsToNHCB bool `yaml:"convert_histograms_to_nhcb"`

	// Make name, version, schema URL and attributes of the scope labels otel_scope_* of its series. Reload.
	PromoteScopeMetadata bool `yaml:"promote_scope_metadata"`

	// Put "key" before label names that begin with one underscore, when names are escaped. Reload.
	LabelNameUnderscoreSanitization bool `yaml:"label_name_underscore_sanitization"`

	// Keep several underscores in a row in label names, when names are escaped. Reload.
	LabelNamePreserveMultipleUnderscores bool `yaml:"label_name_preserve_multiple_underscores"`
}

// OTLPEndpoint is one way in.
type OTLPEndpoint struct {
	// Address to listen on, host:port. Empty turns it off. Restart.
	Endpoint string `yaml:"endpoint"`
}

// OTLPTLSConfig is the `ingest.otlp.tls` section.
type OTLPTLSConfig struct {
	// Certificate (PEM) that Weir shows. Empty is no TLS. Restart.
	CertFile string `yaml:"cert_file"`

	// Key of the certificate (PEM). Restart.
	KeyFile string `yaml:"key_file"`

	// Certificate authorities (PEM) that senders' certificates must come from. Empty asks for none. Restart.
	ClientCAFile string `yaml:"client_ca_file"`

	// Oldest TLS version accepted: 1.2 or 1.3. Restart.
	MinVersion string `yaml:"min_version"`

	// How often certificate and key are read anew. 0s is never. Restart.
	ReloadInterval conf.Duration `yaml:"reload_interval"`
}

func defaultOTLPConfig() OTLPConfig {
	return OTLPConfig{
		GRPC:                                 OTLPEndpoint{"127.0.0.1:4317"},
		HTTP:                                 OTLPEndpoint{"127.0.0.1:4318"},
		MaxRecvMsgSize:                       20 << 20, // the collector's HTTP default
		TLS:                                  OTLPTLSConfig{MinVersion: "1.2"},
		TranslationStrategy:                  string(otlptranslator.UnderscoreEscapingWithSuffixes),
		LabelNameUnderscoreSanitization:      true,
		LabelNamePreserveMultipleUnderscores: true,
	}
}

func (c *OTLPConfig) on() bool { return c.GRPC.Endpoint != "" || c.HTTP.Endpoint != "" }

func (c *OTLPConfig) validate(f *conf.Faults, maxInFlight conf.Bytes) {
	c.GRPC.validate(f.At("grpc"))
	c.HTTP.validate(f.At("http"))
	if c.GRPC.Endpoint != "" && c.GRPC.Endpoint == c.HTTP.Endpoint && !strings.HasSuffix(c.GRPC.Endpoint, ":0") {
		f.At("http").Add("endpoint", c.HTTP.Endpoint, "an address other than grpc.endpoint")
	}
	if c.MaxRecvMsgSize < 1<<10 || c.MaxRecvMsgSize > 1<<30 || c.MaxRecvMsgSize > maxInFlight {
		f.Add("max_recv_msg_size", c.MaxRecvMsgSize, "1KiB to 1GiB, and at most ingest.max_in_flight_bytes")
	}
	c.TLS.validate(f.At("tls"))
	switch otlptranslator.TranslationStrategyOption(c.TranslationStrategy) {
	case otlptranslator.UnderscoreEscapingWithSuffixes, otlptranslator.UnderscoreEscapingWithoutSuffixes,
		otlptranslator.NoUTF8EscapingWithSuffixes, otlptranslator.NoTranslation:
	default:
		f.Add("translation_strategy", c.TranslationStrategy, "UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, NoUTF8EscapingWithSuffixes or NoTranslation")
	}
	if c.PromoteAllResourceAttributes && len(c.PromoteResourceAttributes) > 0 {
		f.Add("promote_resource_attributes", c.PromoteResourceAttributes, "none, as promote_all_resource_attributes is true")
	}
	if !c.PromoteAllResourceAttributes && len(c.IgnoreResourceAttributes) > 0 {
		f.Add("ignore_resource_attributes", c.IgnoreResourceAttributes, "none, unless promote_all_resource_attributes is true")
	}
	validateAttributes(f, "promote_resource_attributes", c.PromoteResourceAttributes)
	validateAttributes(f, "ignore_resource_attributes", c.IgnoreResourceAttributes)
}

func (c *OTLPEndpoint) validate(f *conf.Faults) {
	if c.Endpoint == "" {
		return
	}
	if _, _, err := net.SplitHostPort(c.Endpoint); err != nil {
		f.Add("endpoint", c.Endpoint, "host:port, or empty to turn it off")
	}
}

func (c *OTLPTLSConfig) validate(f *conf.Faults) {
	if (c.CertFile == "") != (c.KeyFile == "") {
		f.Add("key_file", c.KeyFile, "set together with cert_file")
	}
	if c.ClientCAFile != "" && c.CertFile == "" {
		f.Add("client_ca_file", c.ClientCAFile, "empty, unless cert_file is set")
	}
	if c.MinVersion != "1.2" && c.MinVersion != "1.3" {
		f.Add("min_version", c.MinVersion, `"1.2" or "1.3"`)
	}
	if c.ReloadInterval < 0 {
		f.Add("reload_interval", c.ReloadInterval, "0s (never) or more")
	}
}

func validateAttributes(f *conf.Faults, field string, attributes []string) {
	for i, a := range attributes {
		if a == "" || strings.TrimSpace(a) != a {
			f.Add(field, a, "attribute names without space around them")
		}
		if slices.Contains(attributes[:i], a) {
			f.Add(field, a, "each attribute once")
		}
	}
}
