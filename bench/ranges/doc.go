// Command ranges measures what range queries over days and months cost, and how
// far the answers are from Prometheus'.
//
// In: a data set written by bench/blocks and server binaries. Out: a Markdown file
// with the CPU and time of every query on every server, ratios run by run, and the
// relative differences of all values to those of Prometheus.
//
//	ranges -data DIR/14d -weir bin/weir -prometheus P -victoriametrics V -thanos T
//	ranges -data DIR/90d -set dashboard -weir bin/weir -prometheus P
//
// The order of the files:
//
//	queries.go  what is asked
//	servers.go  the servers: their files, flags and when they are ready
//	push.go     the data set's samples to VictoriaMetrics, by remote write
//	ask.go      one range query and what it cost
//	compare.go  two answers to differences
//	report.go   figures to text
//
// All servers get the same samples: blocks by hard link, VictoriaMetrics by remote
// write of the series that the blocks were written from. All run at once on one
// core with GOMAXPROCS=1 and are asked in turn, so their CPU times are comparable
// and their wall times nearly so. Nobody imports it.
package main
