// Package storetest is what every store of spans has to do, as tests that run on all of
// them: the embedded one, and a Jaeger behind jaeger.storage.v2 ([Run]).
//
// In:  a reader and a writer of one store. It need not be empty, but for what earlier
// runs of the suite wrote: services, trace ids and attributes are made anew each run.
// Out: failed tests, each named for what a store has to do.
//
// What a protocol cannot carry, or a foreign store does not keep, is a [Lack]. It makes
// the tests ask for less and is never a reason to skip what remains.
//
// Only tests import it.
package storetest
