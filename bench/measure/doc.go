// Package measure starts programs on one core and reads what they cost.
//
// In: command lines and process numbers. Out: CPU time, peak memory and bytes on
// disk, and the lines that say in a results file what they were measured on.
//
//	command.go  a program of bench itself: signals, flags, exit status
//	program.go  starts, waits for and stops a program
//	proc.go     its CPU and memory from /proc, its disk from the file system
//	weir.go     the config that Weir is measured with
//	merge.go    VictoriaMetrics' data in its final form
//	machine.go  the machine, the binaries and the command in words
//	figures.go  medians and ranges
//	table.go    a results file: its beginning and its tables
//
// It needs Linux. The programs of bench import it.
package measure
