// Package spanstore is what the room asks of a store of spans, whichever it is: the
// embedded one ([github.com/weir-dev/weir/tracing/pebblestore]) or a Jaeger behind
// jaeger.storage.v2. Subpackage storetest has the conformance suite that runs on all.
//
// In:   questions of the Jaeger APIs and of search.
// Out:  whole traces as [span.Batch], whose memory the receiver owns.
//
// The room and package main may import it.
package spanstore
