// Command traces measures what taking in spans costs, and how long it takes to find
// them again while more come in.
//
// In: scenario lines ("grpc spans=1M rate=20k ask=30s") and server binaries, or the
// addresses of servers that run already. Out: a text file with the machine, the
// commands, every run, medians with pair-by-pair ratios, the times of trace-by-id
// and of ten usual searches, and lines that benchstat reads.
//
//	traces -weir bin/weir -jaeger jaeger -jaeger-config badger,memory
//	traces -weir bin/weir -fill 100000000
//
// The way of a span, and the order of the files:
//
//	scenario.go what is sent, how, and what is asked for how long
//	server.go   the servers under test: flags, files, addresses
//	tempo.go    Tempo's settings and its ways to be asked
//	export.go   one body to a server: OTLP over gRPC or HTTP
//	load.go     bodies on all connections, as fast as they are taken or at a rate
//	memory.go   some of the traces that were sent, to ask for them
//	ask.go      trace-by-id and ten searches, over Jaeger's HTTP API v1 or Tempo's
//	run.go      one run from empty directory to figures; pairs of runs
//	report.go   figures to text
//
// Bodies are made by package shop while they are sent, at 0.07 CPU seconds a million
// spans. The program speaks HTTP and gRPC and imports no package of this module
// outside bench: it measures what a client feels. Nobody imports it.
package main
