// Package pack is the embedded store's encoding of the spans of one trace that came in
// one request: a fragment. tracing/FORMAT.md specifies it byte by byte.
//
//	span.Batch ──> Append ──> fragment ──> (zstd of many, by the store) ──> Decode ──> span.Batch
//	                  └── Dict: strings, key lists, resources, scopes ──┘
//
// In:   indexes of spans of a batch, and a dictionary that belongs to a partition.
// Out:  bytes from which the very same spans come back, but for the trace id, which
// the store has in its key.
// Owns: nothing. Append borrows the batch; what Decode appends has memory of its own
// or the dictionary's.
//
// Only tracing/pebblestore may import it.
package pack
