// Package derive makes metrics of spans as they come in, before any sampling: calls,
// errors and durations by service and operation, and the graph of which service calls
// which, under the names that Grafana's panels for Tempo ask for.
//
//	                ┌> services ──> series (calls, duration, size) ─┐
//	span.Batch ─Take┤                                               ├─ Flush ─> checkpoint, then samples
//	                └> graph ─────> edges, links between services ──┘
//
// In:   batches of which the store says what is new. They are borrowed until Take
// returns, and nothing of their memory is kept.
// Out:  every interval, one sample of each series to a [storage.AppendableV2]; every
// minute, the calls between services for Jaeger's dependencies.
// Owns: its totals, in memory and in the file `derived.bin` of its directory.
//
// # Counters never go down
//
// A flush first copies all totals together with the store's position, then writes
// them to the file, and only when they are durable appends them as samples. After a
// crash the file is read and the spans stored after its position are taken once more.
// So what a sample has shown is in the file, or in the spans that the store brings
// again. Callers bracket the store's append and Take by [Derive.Enter] and
// [Derive.Leave], so that a position tells which spans have been counted.
//
// # The graph
//
// A call is a client span and the server span that names it as its parent (or a
// producer and a consumer). Whichever comes first waits for the other, up to
// `graph.wait`. A client span of a database is a call at once, for databases send no
// spans. Other halves that stay alone become calls of a virtual node where the span
// names its peer, and are counted as unpaired where it does not.
//
// The room and package main may import it.
package derive
