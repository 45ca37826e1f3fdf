// Package jaegerstore is a store of spans that is somebody else's: a Jaeger, with
// memory, Badger, Elasticsearch, Cassandra or ClickHouse behind it, or another Weir.
//
//	write   Append ──> OTLP, gRPC (in messages of at most jaeger.max_send) ──> it
//	read    Trace, Find, ... ──> jaeger.storage.v2, gRPC ──> it
//	                  <── traces, each span once, verified span by span
//
// In:   [span.Batch], borrowed, and the questions of [spanstore.Reader].
// Out:  batches of their own memory.
// Owns: two connections, made when they are first needed and again when they break.
//
// The protocol has words for service, operation, time, duration and equality of an
// attribute. What else a query has is verified here on the newest traces that fulfil the
// rest, at most jaeger.max_traces of them; [spanstore.Notes] say when there may be more.
// Where more traces match than are asked for, which of them come is the storage's
// choice: most call those the newest whose first span is.
//
// A storage says nothing of spans that it has already. They are counted as stored, and
// dropped when they are read.
//
// The room and package main may import it.
package jaegerstore
