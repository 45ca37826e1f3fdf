// Package e2e runs Weir among the real programs it is made for: two Prometheus
// servers that scrape the same targets as a high-availability pair, a
// node_exporter, and a program with the OpenTelemetry SDK.
//
//	node_exporter <── Prometheus a ── remote_write 2.0 ──┐
//	        └──────── Prometheus b ── remote_write 1.0 ──┼──> Weir
//	                  OTel SDK program ── OTLP, gRPC ────┤
//	                  a shop's traces ─── OTLP, gRPC ────┘
//
// In: binaries, a folder and the time between scrapes. Out: a Stack of running
// programs that can be killed and started again one by one. All listen on
// loopback, each is the head of a process group of its own, and none outlives the
// program that started it.
//
// A History is months of samples, each a function of its time: backfilled and then
// sent, so that a Graph, the answer to a range query with where each value comes from,
// can be held against the truth across all tiers.
//
// A Shop sends traces, and knows which services have called which in them.
//
// The demo and the tests with the tags e2e and chaos use it; nothing in the binary
// may. It knows Weir as its senders do: by configuration, signals and HTTP.
package e2e
