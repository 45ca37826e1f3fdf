// Command gen writes the Go code of those Jaeger services that no Go module offers:
// jaeger.api_v3, jaeger.storage.v2, jaeger.expression.v1 and jaeger.api_v2.metrics.
//
//	.proto of a Go module ──> parse, strip, link ──> protoc-gen-go, protoc-gen-go-grpc ──> ../<package>
//
// In:   folders of the modules that publish the contracts: -idl, -metrics.
// Out:  *.pb.go below -out. Custom options (HTTP bindings, OpenAPI, gogo) and comments
// are left out: they change nothing on the wire and would bring their own modules along.
// OTLP messages are those of go.opentelemetry.io/proto/otlp.
//
// It is a module of its own, so that the compiler of protobuf is no part of Weir's.
// Run it by scripts/gen-proto.sh.
package main
