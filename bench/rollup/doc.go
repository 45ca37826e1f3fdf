// Command rollup measures what turning raw blocks into rollups costs, beside
// `thanos tools bucket downsample` on the same blocks in the same run.
//
// In: a data set written by bench/blocks and program binaries. Out: a Markdown file
// with CPU, time, peak memory and bytes a tier of every run, medians, and ratios
// pair by pair.
//
//	rollup -data DIR -weir bin/weir -thanos PATH -n 5 -o bench/results/rollup-14d.md
//
// The order of the files:
//
//	run.go     one run of a program, from the block in the page cache to figures
//	weir.go    weir blocks rollup, a process that ends by itself
//	report.go  figures to text
//
// Programs run in turn, A B A B, on one core with GOMAXPROCS=1; whole processes are
// counted, start and verification included. Nobody imports it.
package main
