// Package ingest turns remote_write and OTLP metric requests into samples of
// the store, exactly once, and says of every sample what became of it.
//
//	body ──> wire ──> batch ──> keys ──> series ──> append ──> store
//	                    │         └ unknown: labels, rules, limits, HA group
//	                    └──────────────────────> ledger
//
// In:   HTTP requests on [Ingest.WriteHandler], OTLP on its own listeners.
// Out:  samples to a [Store]; answers with exact counts; the ledger.
// Owns: a request's bytes from the first read until the answer is written.
//
// Files stand in the order a sample meets them: remotewrite.go (HTTP), source.go
// (labels as the protocol wrote them), batch.go, key.go and table.go (series
// identity), series.go (what is remembered of a series), identity.go (labels,
// relabelling), limits.go, append.go (rounds of append and commit), sample.go (one
// sample's turn), complaint.go (what a refusal says), sweep.go (forgetting), ha.go,
// hold.go, journal.go, restore.go and hastatus.go (high-availability pairs: who is
// elected, what is held of the others, how it outlives a kill), ledger.go, metadata.go, config.go.
// OTLP joins at batch.go; otlp.go lists its files.
//
// Only package main may import ingest; ingest imports no other room.
package ingest
