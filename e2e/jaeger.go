package e2e

import (
	"os"
	"path/filepath"
	"text/template"
)

// NewJaeger makes a stock Jaeger that is not started. It keeps nothing: a Weir is
// its storage, both ways, by jaeger.storage.v2 at the host:port weir. binary is a
// Jaeger from 2.15 on, which speaks it; settings and log go to dir.
func NewJaeger(binary, dir, weir string) (*Program, error) {
	binary, err := filepath.Abs(binary) // it runs in dir
	if err != nil {
		return nil, err
	}
	free, err := FreeAddresses(3)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "jaeger.yaml")
	settings := fill(jaegerConfig, map[string]any{"HTTP": free[0], "GRPC": free[1], "OTLP": free[2], "Weir": weir})
	return &Program{
		Name: "jaeger", URL: "http://" + free[0], Log: filepath.Join(dir, "jaeger.log"), ready: "/api/v3/services",
		args: []string{binary, "--config=" + file},
	}, os.WriteFile(file, []byte(settings), 0o644)
}

var jaegerConfig = template.Must(template.New("jaeger").Parse(`service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {receivers: [otlp], processors: [batch], exporters: [jaeger_storage_exporter]}
  telemetry: {metrics: {level: none}}
extensions:
  jaeger_query:
    storage: {traces: weir}
    enable_tracing: false
    http: {endpoint: "{{.HTTP}}"}
    grpc: {endpoint: "{{.GRPC}}"}
  jaeger_storage:
    backends:
      weir:
        grpc:
          endpoint: "{{.Weir}}"
          tls: {insecure: true}
          writer: {endpoint: "{{.Weir}}", tls: {insecure: true}}
receivers:
  otlp: {protocols: {grpc: {endpoint: "{{.OTLP}}"}}}
processors:
  batch:
exporters:
  jaeger_storage_exporter: {trace_storage: weir}
`))
