// Package jaegerrpc answers what Jaeger's clients ask over gRPC, and over HTTP since v3.
//
//	Kiali        ──> jaeger.api_v2.QueryService ──────────┐
//	api_v3       ──> jaeger.api_v3.QueryService, /api/v3 ─┼─> query ──> spanstore.Reader
//	stock Jaeger ──> jaeger.storage.v2 ───────────────────┘
//	stock Jaeger ──> OTLP TraceService.Export ──> Deps.Export (the intake)
//
// In:   requests, at most [Limits.MaxRequest] each, [Limits.Concurrency] at once.
// Out:  traces as OTLP or as api_v2 spans, in messages of less than the 4 MiB that
// gRPC clients take; adjusted as Jaeger adjusts them ([Deps.Adjust]) unless raw ones are
// asked for. storage.v2 is always raw: the Jaeger in front adjusts.
// Owns: the batches that the reader hands out, until they are sent.
//
// The room and package main may import it.
package jaegerrpc
