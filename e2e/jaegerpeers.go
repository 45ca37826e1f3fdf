package e2e

import (
	"errors"
	"os"
	"path/filepath"
)

// Jaeger is a real Jaeger of module v1.62.0 with collector, query and memory.
type Jaeger struct {
	*Program        // its URL has the HTTP APIs
	OTLP     string // host:port where it takes OTLP over gRPC
	GRPC     string // host:port of the gRPC query APIs
}

// NewAllInOne makes one that is not started. Everything that it listens on, it does
// on loopback. jaegers is the folder that jaeger/build.sh has filled.
func NewAllInOne(jaegers, dir string) (*Jaeger, error) {
	free, err := FreeAddresses(11)
	if err != nil {
		return nil, err
	}
	args := []string{
		// It would send traces of itself to port 4317, whoever is there.
		"env", "SPAN_STORAGE_TYPE=memory", "OTEL_TRACES_SAMPLER=always_off",
		filepath.Join(jaegers, "all-in-one"), "--log-level=warn",
	}
	for i, flag := range []string{
		"query.http-server.host-port", "query.grpc-server.host-port", "collector.otlp.grpc.host-port", "collector.otlp.http.host-port",
		"collector.grpc-server.host-port", "collector.http-server.host-port", "admin.http.host-port", "http-server.host-port",
		"processor.jaeger-binary.server-host-port", "processor.jaeger-compact.server-host-port", "processor.zipkin-compact.server-host-port",
	} {
		args = append(args, "--"+flag+"="+free[i])
	}
	return &Jaeger{
		Program: &Program{Name: "jaeger", URL: "http://" + free[0], Log: filepath.Join(dir, "jaeger.log"), ready: "/api/services", args: args},
		GRPC:    free[1], OTLP: free[2],
	}, nil
}

// JaegerStorage is the storage of a real Jaeger of module v1.76.0, served alone.
type JaegerStorage struct {
	*Program
	GRPC string // host:port of jaeger.storage.v2 and, for writes, of OTLP
}

// NewJaegerStorage makes one that is not started, with "memory" or "badger" behind it.
func NewJaegerStorage(jaegers, dir, backend string) (*JaegerStorage, error) {
	free, err := FreeAddresses(2)
	if err != nil {
		return nil, err
	}
	args := []string{
		"env", "SPAN_STORAGE_TYPE=" + backend,
		filepath.Join(jaegers, "remote-storage"), "--log-level=warn", "--grpc.host-port=" + free[0], "--admin.http.host-port=" + free[1],
	}
	if backend == "badger" {
		keys, values := filepath.Join(dir, "keys"), filepath.Join(dir, "values")
		args = append(args, "--badger.ephemeral=false", "--badger.directory-key="+keys, "--badger.directory-value="+values)
		err = errors.Join(os.MkdirAll(keys, 0o755), os.MkdirAll(values, 0o755))
	}
	return &JaegerStorage{
		Program: &Program{Name: "jaeger " + backend, URL: "http://" + free[1], Log: filepath.Join(dir, backend+".log"), ready: "/", args: args},
		GRPC:    free[0],
	}, err
}
