// Package shop makes OTLP traces of a shop, or of a mesh, faster than any server
// takes them.
//
// In: a Spec, and the time at which traces end. Out: OTLP export requests in
// protobuf, and enough of what is in them to ask a server for it again: ids, times,
// services, operations, values that one trace has and no other, and the calls
// between services.
//
//	shape.go     what calls what in one trace: the shop's four requests
//	mesh.go      a graph of services, and walks through it
//	attribute.go what spans and resources say about themselves: 12 and 11 attributes
//	template.go  many traces encoded once, with holes for what differs each time
//	wire.go      protobuf messages that know where their holes are
//	stream.go    templates to bodies: ids, times and values into the holes
//
// A trace has 10 spans. In the shop they are made by 5 services, and 1 trace of 100
// fails; 1 of 100 takes 10 to 50 times as long as others. With 500 spans a body a
// span has about 514 bytes, as in the peers' figures that Weir is held against.
// Everything follows from the seed, but for the time.
//
// A Shop is read-only once made and serves any number of Streams, each with a buffer
// of its own; what Next returns is valid until the next call of Next. Programs of
// bench and e2e import it.
package shop
