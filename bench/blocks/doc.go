// Command blocks writes a data set of package dataset to disk, for bench/rollup and
// bench/ranges.
//
//	blocks -set 14d -o DIR
//	blocks -mix counters -series 2000 -days 30 -block 162h -o DIR
//
// It prints one line a block and the bytes a sample of the whole. It is deterministic:
// the same flags give the same bytes. Nobody imports it.
package main
