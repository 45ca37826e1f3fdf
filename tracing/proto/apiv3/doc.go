// Package apiv3 is the generated code of jaeger.api_v3, that of Jaeger's UI and of Grafana.
//
// In:   the .proto files of Jaeger's Go modules, through scripts/gen-proto.sh.
// Out:  messages, clients and server interfaces; OTLP messages in them are those of
// go.opentelemetry.io/proto/otlp.
// Owns: nothing.
//
// The room may import it.
package apiv3
