// Package index is the embedded store's search index of a segment: the spans that one
// partition took in one stretch of time. tracing/FORMAT.md specifies it byte by byte.
//
//	span.Batch ──> Builder.Add ──> Builder.Search (in memory)
//	                   └──> Builder.Seal ──> pages ──> Search (from disk)
//
// In:   spans, and questions of spanstore.
// Out:  ids of traces that have a matching span, newest first.
// Owns: what a Builder holds; pages belong to whoever puts and gets them.
//
// Only tracing/pebblestore may import it.
package index
