// Package store keeps samples: Prometheus' TSDB as a library, with the parts a
// library leaves to its host.
//
//	write   AppenderV2 -> disk guard -> WAL -> head -> blocks (every 2h) -> retention
//	keep    blocks -> tiers/ (rollups, retention, deletion) -> bucket/ (object storage)
//	read    Querier, ChunkQuerier, ExemplarQuerier over head, out-of-order head, blocks,
//	        and the rollups where raw data is gone; [Store.Tiers] for the query room
//	by ref  Last, SampleAt: one series of the head, no label matching
//
// In: samples, histograms, exemplars and metadata through [storage.AppenderV2],
// times in Unix milliseconds. Out: the same through Prometheus' storage
// interfaces, bit-exact. The package owns everything below its directory, held by
// a lock file; labels and histograms handed to Append are kept by the head and
// must not be changed afterwards.
//
// What it adds to the TSDB:
//   - Rollups, and retention that waits for them (tiers/, wired in store.go and
//     ship.go): raw blocks are deleted when tiers.Deletable says so. Raw blocks too
//     damaged to open are put into quarantine/ before the TSDB sees them.
//   - Readiness: until the WAL is replayed every door answers [tsdb.ErrNotReady].
//   - Disk-full behaviour (guard.go, heal.go): writes are refused with
//     [ErrDiskFull] while the disk is short, queries go on, and a write-ahead log
//     torn by a full disk is mended before the next sample is accepted. A file
//     reserves room for head chunks, and no block is begun without room
//     (compactor.go).
//   - Lookups by reference (lookup.go), which ingest needs to tell a duplicate
//     from a conflict.
//
// It is imported by cmd and by tests only; the rooms see Prometheus' interfaces.
package store
