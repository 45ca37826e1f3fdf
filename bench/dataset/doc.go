// Package dataset makes TSDB blocks of a known shape, and the same samples in
// other forms, for benchmarks of rolling up and of range queries.
//
// In: a Spec, "2,000 series of mix for 14 days". Out: blocks as Prometheus writes
// them (120 samples a chunk), or series to read sample by sample. Equal specs give
// equal bytes, so a server that takes no blocks can be sent what the others were
// given.
//
// The order of the files:
//
//	spec.go    what is made: mix, number of series, days, length of a block
//	pods.go    the pods and targets that series belong to, and their labels
//	series.go  the samples of one series, in time order
//	write.go   series to blocks on disk
//
// Every sample follows from the seed and its number alone, so memory is bounded by
// the number of series and not by their length. What is handed out belongs to the
// caller. The programs of bench import it.
package dataset
