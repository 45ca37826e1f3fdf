// Package jaegermodel turns a trace into the model of Jaeger's first APIs.
//
//	span.Batch ──> ptrace.Traces ──> Jaeger's adjusters ──> model.Trace
//
// In:   a whole trace as a store gives it.
// Out:  a trace that shares no memory with it, processes with their spans.
// Owns: nothing.
//
// The Jaeger APIs of the room may import it.
package jaegermodel
