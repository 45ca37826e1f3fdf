// Package expressionv1 is the generated code of jaeger.expression.v1, the filters of jaeger.api_v3 and jaeger.storage.v2.
//
// In:   the .proto files of Jaeger's Go modules, through scripts/gen-proto.sh.
// Out:  messages, clients and server interfaces; OTLP messages in them are those of
// go.opentelemetry.io/proto/otlp.
// Owns: nothing.
//
// The room may import it.
package expressionv1
