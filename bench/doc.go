// Command bench measures what writing to Weir costs, beside real peers started
// the same way in the same run.
//
// In: scenario lines ("rw1 series=100k k=1 rounds=40") and server binaries.
// Out: a text file with the machine, the commands, every run, medians with
// pair-by-pair ratios, and lines that benchstat reads.
//
// The way of a sample, and the order of the files:
//
//	scenario.go  what is sent: protocol, series, samples a series, churn
//	series.go    pods and their 50 series each: labels and values
//	templates.go the metrics of those series, plane by plane
//	plan.go      which pods go in which request on which connection
//	encode.go    requests to bodies: remote_write 1.0, 2.0
//	otlp.go      the same for OTLP metrics
//	load.go      bodies to the server, all encoded before the clock starts
//	server.go    the servers under test: flags, files, addresses
//	verify.go    asks the server whether everything arrived
//	run.go       one run from empty directory to figures; pairs of runs
//	report.go    figures to text
//
// Bodies are owned by the plan's caller and are only read after encoding, so one
// encoded set serves every server of a pair. The program speaks HTTP and
// imports no package of this module outside bench: it measures what a client
// feels. Package measure starts the servers and reads what they cost. Nobody
// imports it.
package main
