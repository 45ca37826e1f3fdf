// Package storagev2 is the generated code of jaeger.storage.v2, by which Jaeger reaches a store in another process.
//
// In:   the .proto files of Jaeger's Go modules, through scripts/gen-proto.sh.
// Out:  messages, clients and server interfaces; OTLP messages in them are those of
// go.opentelemetry.io/proto/otlp.
// Owns: nothing.
//
// The room may import it.
package storagev2
