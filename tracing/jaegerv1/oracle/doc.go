// Program oracle asks Jaeger v1.62's own handler what it answers.
//
//	corpus, JSON on stdin ──> Jaeger's OTLP translation, sanitizers, memory store,
//	                          query service, HTTP handler ──> answers, JSON on stdout
//
// It is the standard for the JSON that package jaegerv1 writes, and its tests' only
// user; a module of its own, since that Jaeger does not go with what Weir is built of.
//
// Jaeger leaves the order of services, operations, dependencies, traces, and of the
// spans in an adjusted trace to chance. So here a reader around the store and one more
// adjuster after Jaeger's sort them, as Weir does; all else is Jaeger's.
package main
