// Package jaegerv1 answers the first HTTP API of Jaeger's query service, as Grafana's
// Jaeger data source, Kiali and the Jaeger UI call it.
//
//	GET  /api/services, /api/services/{service}/operations, /api/operations
//	GET  /api/traces, /api/traces/{id}, /api/dependencies
//	GET  /api/metrics/{latencies,calls,errors,minstep}
//	POST /api/archive/{id}, /api/transform
//
//	request ──> question ──> spanstore.Reader ──> jaegermodel ──> JSON, a trace at a time
//
// In:   requests, at most [Limits.Concurrency] at once.
// Out:  the bytes that Jaeger v1.62 writes. The module in oracle/ runs that Jaeger on
// the same spans; DIFFERENCES.md lists where we differ on purpose.
// Owns: the batches that the reader hands out, until they are written.
//
// The room and package main may import it.
package jaegerv1
