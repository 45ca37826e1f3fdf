// Command weir takes Prometheus remote_write and OTLP in, stores the samples and
// answers PromQL.
//
// In: the command line, one YAML file, signals. Out: an exit code of 0 or 1, the
// answer on standard output, logs and errors on standard error. It imports every
// room and ties them together in serve.go; nothing imports it.
package main
