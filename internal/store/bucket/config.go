package bucket

import (
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/weir-dev/weir/internal/conf"
)

// Config says where blocks are shipped to, and how.
type Config struct {
	Location `yaml:",inline"`
	// Labels that say in the bucket whose blocks these are, at least one, for
	// instance {cluster: eu1}. No two servers that ship to one bucket may have the
	// same. They are not added to samples. Restart.
	ExternalLabels map[string]string `yaml:"external_labels"`
	// Raw blocks that are in the bucket leave the disk when their newest sample is
	// older than this, and are read from the bucket from then on. 0s: they stay as
	// long as store.retention.time says. Restart.
	After conf.Duration `yaml:"after"`
	// A block is uploaded when its newest sample is at least this old; blocks that
	// are merged into longer ones before are not uploaded at all. 0s: at once.
	// Restart.
	Delay conf.Duration `yaml:"delay"`
	// Time from marking a block in the bucket for deletion to deleting it, so that
	// other readers (Thanos) can let go of it. 0s: at once. Restart.
	DeleteDelay conf.Duration `yaml:"delete_delay"`
	// How often the bucket is listed. Restart.
	Refresh conf.Duration `yaml:"refresh"`
	// A request is given up when no byte has moved for so long. Restart.
	Timeout conf.Duration `yaml:"timeout"`
	// How often a failed request is repeated, after waits that double from half a
	// second. 0: never. Restart.
	Retries int `yaml:"retries"`
	// Objects that are sent or fetched at the same time. Restart.
	Concurrency int `yaml:"concurrency"`
	// How an upload is checked before the block counts as shipped: size (of each
	// object, as the bucket says) or hash (each object is read back). Restart.
	Verify string `yaml:"verify"`
	// Directory of what was fetched from the bucket for queries. Empty:
	// "bucket-cache" below store.dir. Restart.
	CacheDir string `yaml:"cache_dir"`
	// Bytes that cache_dir may take. Restart.
	CacheSize conf.Bytes `yaml:"cache_size"`
}

// Location is a place in an object store, written as Thanos' object storage
// configuration writes it.
type Location struct {
	// Kind of store: filesystem, s3, gcs or azure, in any case. Empty: there is no
	// bucket. Restart.
	Type string `yaml:"type"`
	// The store's own settings, as in Thanos' object storage configuration: for s3
	// bucket, endpoint, access_key, secret_key and so on. Restart.
	Config Provider `yaml:"config"`
	// Put before the name of every object, as a directory. Restart.
	Prefix string `yaml:"prefix"`
}

// The ways an upload can be checked.
const (
	VerifySize = "size"
	VerifyHash = "hash"
)

// DefaultConfig has no bucket.
func DefaultConfig() Config {
	return Config{
		DeleteDelay: conf.Duration(48 * time.Hour), // Thanos' compactor waits as long
		// Each listing is one request a thousand objects. Unmeasured: new blocks come
		// every two hours.
		Refresh: conf.Duration(5 * time.Minute),
		Timeout: conf.Duration(time.Minute),
		Retries: 5, // 0.5 s to 16 s, half a minute in all
		// Unmeasured: enough to fill a line of 1 Gbit/s with requests of 50 ms.
		Concurrency: 4,
		Verify:      VerifySize,
		CacheSize:   1 << 30, // half for indexes, half for 8191 pages of chunks
	}
}

// On says whether there is a bucket.
func (l *Location) On() bool { return l.Type != "" }

// Validate adds each fault to f.
func (c *Config) Validate(f *conf.Faults) {
	c.Location.Validate(f)
	if c.On() && len(c.ExternalLabels) == 0 {
		f.Add("external_labels", "none", "at least one label, so that Thanos and other servers can tell whose blocks these are")
	}
	for name := range c.ExternalLabels {
		if !model.LegacyValidation.IsValidLabelName(name) || name == model.MetricNameLabel {
			f.At("external_labels").Add("", name, "label names of letters, digits and underscores")
		}
	}
	for _, d := range []struct {
		name string
		v    conf.Duration
	}{{"after", c.After}, {"delay", c.Delay}, {"delete_delay", c.DeleteDelay}} {
		if d.v < 0 {
			f.Add(d.name, d.v, "0s or more")
		}
	}
	if c.Refresh < conf.Duration(time.Second) {
		f.Add("refresh", c.Refresh, "1s or more")
	}
	if c.Timeout < conf.Duration(time.Millisecond) {
		f.Add("timeout", c.Timeout, "1ms or more")
	}
	if c.Retries < 0 || c.Retries > 100 {
		f.Add("retries", c.Retries, "0..100")
	}
	if c.Concurrency < 1 || c.Concurrency > 256 {
		f.Add("concurrency", c.Concurrency, "1..256")
	}
	if c.Verify != VerifySize && c.Verify != VerifyHash {
		f.Add("verify", c.Verify, "size or hash")
	}
	if c.CacheSize < minCache {
		f.Add("cache_size", c.CacheSize, conf.Bytes(minCache).String()+" or more")
	}
}

// Validate adds each fault to f.
func (l *Location) Validate(f *conf.Faults) {
	if strings.HasPrefix(l.Prefix, "/") || strings.HasSuffix(l.Prefix, "/") || strings.Contains("/"+l.Prefix+"/", "/../") {
		f.Add("prefix", l.Prefix, `a relative path such as "metrics/weir"`)
	}
	if !l.On() {
		if len(l.Config) > 0 {
			f.Add("type", "nothing", "filesystem, s3, gcs or azure, for there is a config")
		}
		return
	}
	p, ok := providers()[strings.ToLower(l.Type)]
	if !ok {
		f.Add("type", l.Type, "filesystem, s3, gcs or azure")
		return
	}
	at := f.At("config")
	target := p.config()
	if err := l.Config.decode(target); err != nil {
		addYAMLFaults(at, err, l.Type)
		return
	}
	p.check(target, at)
}

var (
	unknownField = regexp.MustCompile(`field (\S+) not found in type`)
	lineNumber   = regexp.MustCompile(`^line \d+: `)
)

// addYAMLFaults turns what the YAML library says of a provider's config into
// faults. Its lines count from the section's start, so they are left out.
func addYAMLFaults(f *conf.Faults, err error, kind string) {
	var list *yaml.TypeError
	if !errors.As(err, &list) {
		f.Add("", errors.New("what cannot be read"), "the settings of Thanos' "+strings.ToLower(kind)+" object storage")
		return
	}
	for _, text := range list.Errors {
		if m := unknownField.FindStringSubmatch(text); m != nil {
			f.Add(m[1], errors.New("a setting there is not"), "one of Thanos' "+strings.ToLower(kind)+" object storage settings")
			continue
		}
		f.Add("", errors.New(lineNumber.ReplaceAllString(text, "")), "the types of Thanos' "+strings.ToLower(kind)+" object storage settings")
	}
}

// Provider holds the settings of one kind of object store. Printed, every text in
// it that is not known to be harmless reads "<redacted>".
type Provider map[string]any

// harmless are the settings that may be shown. All others may be secrets, or be
// called so by a later release of a store's client.
var harmless = regexp.MustCompile(`^(bucket|container|directory|endpoint|region|prefix|type|storage_account|az_tenant_id|` +
	`user_assigned_id|msi_resource|sts_endpoint|list_objects_version|bucket_lookup_type|kms_key_id|` +
	`ca_file|cert_file|key_file|server_name|\w+_(timeout|delay))$`)

// MarshalYAML hides secrets.
func (p Provider) MarshalYAML() (any, error) {
	if p == nil {
		return map[string]any{}, nil
	}
	return redact(map[string]any(p)), nil
}

func redact(m map[string]any) map[string]any {
	shown := make(map[string]any, len(m))
	for k, v := range m {
		switch v := v.(type) {
		case map[string]any:
			shown[k] = redact(v)
		case bool, int, int64, uint64, float64, nil:
			shown[k] = v
		case string:
			shown[k] = v
			if !harmless.MatchString(k) && v != "" {
				shown[k] = conf.Secret(v).String()
			}
		default:
			shown[k] = conf.Secret("?").String()
		}
	}
	return shown
}

// secrets returns the texts that no message may hold.
func (p Provider) secrets() []string {
	var list []string
	for k, v := range p {
		switch v := v.(type) {
		case map[string]any:
			list = append(list, Provider(v).secrets()...)
		case string:
			if len(v) >= 4 && !harmless.MatchString(k) { // shorter ones are in every other word
				list = append(list, v)
			}
		}
	}
	return list
}

// decode reads the settings into target, which holds the defaults. Settings that
// target does not have are faults.
func (p Provider) decode(target any) error {
	text, err := yaml.Marshal(map[string]any(p))
	if err != nil {
		return err
	}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	dec.KnownFields(true)
	return dec.Decode(target)
}
