package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// Cluster is the value of the label `cluster` that both Prometheus servers send.
const Cluster = "demo"

// Setup says what a Stack is made of.
type Setup struct {
	Dir      string                           // for binaries, settings, data and logs; the caller removes it
	Peers    string                           // folder with prometheus and, perhaps, prometheus-node-exporter
	Jaeger   string                           // a Jaeger from 2.15 on, to have Weir as its storage; "" for none
	Listen   string                           // where Weir listens; "" for a free port
	OTLP     string                           // where Weir takes OTLP over gRPC; "" for a free port
	Traces   string                           // where Weir answers Jaeger's HTTP APIs; "" for a free port
	Scrape   time.Duration                    // between two scrapes, and two exports of the OTel program
	Failover time.Duration                    // ingest.ha.failover_after
	Store    string                           // more settings of Weir's store, YAML between braces; "" for the defaults
	Timeout  time.Duration                    // to build all, and for each program to become ready
	Say      func(format string, args ...any) // is told what happens, a line a call
}

// Stack is the set-up of the package comment. Any program may be killed and
// started again; addresses and folders stay.
type Stack struct {
	Weir         *Program
	Prometheus   map[string]*Program // by replica: "a", "b"
	NodeExporter *Program            // nil if the machine has none
	OTelProgram  *Program
	Jaeger       *Program // nil if none was given

	OTLP       string // where Weir takes OTLP over gRPC
	Traces     string // URL of Jaeger's HTTP APIs
	TracesGRPC string // where Weir answers Jaeger's gRPC APIs

	setup Setup
}

// New builds Weir and the OTel program and writes all settings, but starts nothing.
func New(ctx context.Context, setup Setup) (*Stack, error) {
	s := &Stack{setup: setup, Prometheus: make(map[string]*Program)}
	ctx, cancel := context.WithTimeout(ctx, setup.Timeout)
	defer cancel()
	bin := filepath.Join(setup.Dir, "bin")
	setup.Say("building weir and the OTel program (the first time takes minutes)")
	if err := Build(ctx, bin, WeirCommand, OTelCommand); err != nil {
		return nil, err
	}
	free, err := FreeAddresses(7)
	if err != nil {
		return nil, err
	}
	listen, otlp := firstOf(setup.Listen, free[0]), firstOf(setup.OTLP, free[1])
	traces := firstOf(setup.Traces, free[5])
	s.OTLP, s.Traces, s.TracesGRPC = otlp, "http://"+traces, free[6]
	s.NodeExporter = s.nodeExporter(free[2])
	s.OTelProgram = s.program("otelprogram", "", "",
		filepath.Join(bin, "otelprogram"), "-endpoint="+otlp, "-interval="+setup.Scrape.String())
	settings := fill(weirConfig, map[string]any{
		"Listen": listen, "OTLP": otlp, "Data": s.Data(), "Failover": setup.Failover, "Store": setup.Store,
		"Traces": traces, "TracesGRPC": s.TracesGRPC,
	})
	if setup.Jaeger != "" {
		if s.Jaeger, err = NewJaeger(setup.Jaeger, setup.Dir, s.TracesGRPC); err != nil {
			return nil, err
		}
	}
	s.Weir, err = NewWeir(bin, setup.Dir, listen, settings)
	return s, errors.Join(err,
		s.prometheus("a", "io.prometheus.write.v2.Request", free[3], free[4], listen),
		s.prometheus("b", "prometheus.WriteRequest", free[4], free[3], listen),
	)
}

// Build puts commands of this module into the folder bin. The working directory
// must be in the module.
func Build(ctx context.Context, bin string, commands ...string) error {
	args := append([]string{"build", "-o", bin + "/"}, commands...)
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// The commands to Build.
const (
	WeirCommand = "github.com/weir-dev/weir/cmd/weir"
	OTelCommand = "github.com/weir-dev/weir/e2e/otelprogram"
)

// NewWeir makes a Weir that is not started. Its settings, YAML, and its log go to
// dir; they must name the same listen address.
func NewWeir(bin, dir, listen, settings string) (*Program, error) {
	file := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(file, []byte(settings), 0o644); err != nil {
		return nil, err
	}
	return &Program{
		Name: "weir", URL: "http://" + listen, Log: filepath.Join(dir, "weir.log"), ready: "/-/ready",
		args: []string{filepath.Join(bin, "weir"), "serve", "--config.file=" + file},
	}, nil
}

// Run runs a program to its end and returns its output.
func Run(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// Data is Weir's directory.
func (s *Stack) Data() string { return filepath.Join(s.setup.Dir, "weir") }

// Command is Weir's binary, for its other verbs.
func (s *Stack) Command() string { return s.Weir.args[0] }

func firstOf(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func (s *Stack) program(name, url, ready string, args ...string) *Program {
	return &Program{Name: name, URL: url, ready: ready, args: args, Log: filepath.Join(s.setup.Dir, name+".log")}
}

func (s *Stack) nodeExporter(listen string) *Program {
	for _, bin := range []string{filepath.Join(s.setup.Peers, "prometheus-node-exporter"), "prometheus-node-exporter", "node_exporter"} {
		if path, err := exec.LookPath(bin); err == nil {
			return s.program("node_exporter", "http://"+listen, "/metrics", path, "--web.listen-address="+listen,
				"--no-collector.systemd", "--no-collector.textfile") // they log errors where there is nothing for them
		}
	}
	s.setup.Say("no node_exporter here, so its metrics will be missing (apt-get install prometheus-node-exporter)")
	return nil
}

var weirConfig = template.Must(template.New("weir").Parse(`server: {listen: "{{.Listen}}"}
store: {dir: "{{.Data}}"{{with .Store}}, {{.}}{{end}}}
ingest:
  ha: {failover_after: "{{.Failover}}"}
  otlp: {grpc: {endpoint: "{{.OTLP}}"}, http: {endpoint: ""}}
tracing: {query: {http: {endpoint: "{{.Traces}}"}, grpc: {endpoint: "{{.TracesGRPC}}"}}}
`))

var prometheusConfig = template.Must(template.New("prometheus").Parse(`global:
  scrape_interval: {{.Scrape}}
  scrape_timeout: {{.Scrape}}
  scrape_native_histograms: true
  always_scrape_classic_histograms: true
  external_labels: {cluster: {{.Cluster}}, __replica__: {{.Replica}}}
scrape_configs:
  - job_name: prometheus
    static_configs: [{targets: ["{{.Listen}}", "{{.Other}}"]}]
{{- if .Node}}
  - job_name: node
    static_configs: [{targets: ["{{.Node}}"]}]
{{- end}}
remote_write:
  - url: http://{{.Weir}}/api/v1/write
    protobuf_message: {{.Protocol}}
    send_native_histograms: true
    # So that a sample is in Weir a second after its scrape.
    queue_config: {batch_send_deadline: 1s}
`))

// prometheus makes one of the pair. Both scrape the same targets, each other
// included; their scrapes do not coincide, because Prometheus derives the moment
// from the external labels.
func (s *Stack) prometheus(replica, protocol, listen, other, weir string) error {
	name := "prometheus-" + replica
	file := filepath.Join(s.setup.Dir, name+".yaml")
	s.Prometheus[replica] = s.program(name, "http://"+listen, "/-/ready",
		filepath.Join(s.setup.Peers, "prometheus"),
		"--config.file="+file,
		"--storage.tsdb.path="+filepath.Join(s.setup.Dir, name),
		"--web.listen-address="+listen)
	var node string
	if s.NodeExporter != nil {
		node = strings.TrimPrefix(s.NodeExporter.URL, "http://")
	}
	return os.WriteFile(file, []byte(fill(prometheusConfig, map[string]any{
		"Scrape": s.setup.Scrape, "Cluster": Cluster, "Replica": replica, "Protocol": protocol,
		"Listen": listen, "Other": other, "Node": node, "Weir": weir,
	})), 0o644)
}

func fill(text *template.Template, values map[string]any) string {
	var b strings.Builder
	if err := text.Execute(&b, values); err != nil {
		panic(err) // the templates and their values are all in this file
	}
	return b.String()
}

// Programs returns all, receivers before senders.
func (s *Stack) Programs() []*Program {
	all := []*Program{s.Weir}
	if s.NodeExporter != nil {
		all = append(all, s.NodeExporter)
	}
	if s.Jaeger != nil {
		all = append(all, s.Jaeger)
	}
	return append(all, s.Prometheus["a"], s.Prometheus["b"], s.OTelProgram)
}

// Start starts all. When one does not start, the others are killed.
func (s *Stack) Start(ctx context.Context) error {
	for _, p := range s.Programs() {
		if p.URL != "" {
			s.setup.Say("starting %s on %s", p.Name, p.URL)
		} else {
			s.setup.Say("starting %s", p.Name)
		}
		ready, cancel := context.WithTimeout(ctx, s.setup.Timeout)
		err := p.Start(ready)
		cancel()
		if err != nil {
			s.Kill()
			return err
		}
	}
	return nil
}

// Stop ends all in order, senders first, so that what they still send arrives.
func (s *Stack) Stop() (err error) {
	all := s.Programs()
	for i := len(all) - 1; i >= 0; i-- {
		s.setup.Say("stopping %s", all[i].Name)
		err = errors.Join(err, all[i].Stop(20*time.Second))
	}
	return err
}

// Kill ends all at once.
func (s *Stack) Kill() {
	for _, p := range s.Programs() {
		p.Kill()
	}
}
