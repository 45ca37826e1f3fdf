// Package jaegermodel turns a trace into the model of Jaeger's first APIs, and adjusts
// it for people to look at.
//
//	span.Batch ──> Trace ──> model.Trace ──> Adjust ──> model.Trace
//
// In:   a whole trace as a store gives it.
// Out:  spans in the order of their start, with what Jaeger v1.62 makes of OTLP: its
// tags, references and logs, and after Adjust its corrections and warnings.
// Owns: nothing. The result shares the strings of the batch; spans of one resource
// share their process.
//
// The Jaeger APIs of the room may import it.
package jaegermodel
