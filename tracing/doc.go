// Package tracing is the room of traces: it takes spans in, makes them durable, has
// metrics derived of them, and answers the Jaeger APIs.
//
//	OTLP (ingest's listeners) ─────> TakeOTLP ─┐
//	Jaeger gRPC, Thrift over HTTP ─┐           ├─> clean ─> limits ─> store ─> derive
//	Zipkin v2 and v1 JSON ─────────┴─> take ───┘     └────────┴─────────┴─> ledger
//	Jaeger UI, Grafana, Kiali, another Jaeger ──> doors ──> jaegerv1, jaegerrpc ──> store
//
// In:   OTLP requests as bytes, from package main; requests of its own listeners.
// Out:  spans to a [Store], which says what is new; the new ones to [Derive]; answers
// with exact counts; the ledger.
// Owns: a request's bytes until it is answered. What the store and the derived metrics
// keep, they own.
//
// Files stand in the order a span meets them: receivers.go, jaeger.go, zipkin.go
// (requests that are not OTLP), take.go (one request from bytes to verdict), clean.go
// (what a span may look like), limits.go (rate and size), ledger.go and metrics.go (what
// became of it), listen.go and doors.go (sockets), config.go.
//
// Only package main may import it. The subpackages do not import it; it imports no
// other room.
package tracing
