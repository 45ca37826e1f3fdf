package bucket

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/conf"
)

func decode(text string) (Config, error) {
	cfg := DefaultConfig()
	err := conf.Decode(strings.NewReader(text), &cfg)
	return cfg, err
}

func TestConfigFaults(t *testing.T) {
	labels := "\nexternal_labels: {cluster: eu1}"
	for text, want := range map[string]string{
		"type: s4" + labels:                                                                       `type: got "s4", want filesystem, s3, gcs or azure (line 1)`,
		"config: {bucket: b}":                                                                     `type: got "nothing", want filesystem, s3, gcs or azure, for there is a config`,
		"type: filesystem\nconfig: {directory: /x}":                                               "external_labels: got \"none\", want at least one label",
		"type: filesystem" + labels:                                                               "config.directory",
		"type: s3\nconfig: {bucket: b}" + labels:                                                  "config.endpoint",
		"type: s3\nconfig: {bucket: b, endpoint: e, secret_key: hush}" + labels:                   "config.secret_key: got only one of access_key and secret_key",
		"type: s3\nconfig: {bucket: b, endpoint: e, sekret_key: hush}" + labels:                   "config.sekret_key: got a setting there is not",
		"type: s3\nconfig: {bucket: b, endpoint: e, part_size: hush}" + labels:                    "config: got cannot unmarshal",
		"type: gcs\nconfig: {service_account: hush}" + labels:                                     "config.bucket",
		"type: azure\nconfig: {storage_account: a, storage_account_key: hush}" + labels:           "config.container",
		"type: gcs\nconfig: {bucket: b}\nprefix: /x" + labels:                                     `prefix: got "/x", want a relative path`,
		"type: gcs\nconfig: {bucket: b}\nprefix: x/../y" + labels:                                 "prefix",
		"type: gcs\nconfig: {bucket: b}\nexternal_labels: {'a-b': c}":                             "external_labels: got \"a-b\", want label names",
		"retries: -1\nconcurrency: 0\nverify: maybe\ntimeout: 0s\nrefresh: 1ms\ncache_size: 1MiB": "retries: got -1, want 0..100",
	} {
		_, err := decode(text)
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, err.Error(), `"hush"`, text)
	}
	for _, text := range []string{
		"", "type: S3\nconfig: {bucket: b, endpoint: e}" + labels,
		"type: s3\nconfig: {bucket: b, endpoint: e, access_key: a, secret_key: b, part_size: 1000000, http_config: {idle_conn_timeout: 90s, tls_config: {ca_file: x}}, bucket_lookup_type: path}" + labels,
		"type: GCS\nconfig: {bucket: b, service_account: '{}'}" + labels,
		"type: azure\nconfig: {storage_account: a, storage_account_key: k, container: c, pipeline_config: {try_timeout: 1m}}" + labels,
	} {
		_, err := decode(text)
		require.NoError(t, err, text)
	}
}

func TestConfigPrintsNoSecret(t *testing.T) {
	cfg, err := decode(`
type: s3
config:
  bucket: metrics
  endpoint: s3.example.org
  access_key: hush-id
  secret_key: hush
  sse_config: {type: SSE-C, encryption_key: hush-file}
  put_user_metadata: {X-Token: hush-too}
  part_size: 67108864
  insecure: true
  http_config: {idle_conn_timeout: 90s}
external_labels: {cluster: eu1}`)
	require.NoError(t, err)
	out, err := conf.Print(cfg)
	require.NoError(t, err)
	require.NotContains(t, string(out), "hush")
	for _, shown := range []string{"bucket: metrics", "s3.example.org", "67108864", "90s", "insecure: true", "secret_key: <redacted>"} {
		require.Contains(t, string(out), shown)
	}
	back, err := decode(string(out))
	require.NoError(t, err, "what is printed must be readable")
	require.Equal(t, cfg.ExternalLabels, back.ExternalLabels)
}

func TestErrorsHoldNoSecret(t *testing.T) {
	l := Location{Config: Provider{"secret_key": "hush-hush", "endpoint": "e.example.org", "a": map[string]any{"b": "psst-psst"}}}
	err := scrub(errorText("at e.example.org: hush-hush and psst-psst"), l.Config.secrets())
	require.EqualError(t, err, "at e.example.org: <redacted> and <redacted>")
}

type errorText string

func (e errorText) Error() string { return string(e) }
