// Package span is a request of spans as the room passes it on, and its wire format.
//
//	OTLP protobuf ──> Batch.Decode ──> limits, store, derived metrics ──> Batch.Encode ──> OTLP protobuf
//
// In:   the bytes of an ExportTraceServiceRequest or TracesData (they are the same).
// Out:  a [Batch]: resources, scopes and spans in the order they came.
// Owns: nothing. The strings of a decoded batch lie in the request's bytes, and its
// slices in the batch: both must stay as they are while the batch is used.
//
// Everything in the room and package main may import it.
package span
