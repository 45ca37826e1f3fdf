// Package tiers keeps the rollups of a store beside its raw data: it makes them,
// reads them, and decides what may be deleted.
//
//	make    raw blocks of the TSDB -> [Tiers.Run] -> blocks of each rung -> merged ones
//	keep    age, size, selector -> [Tiers.Deletable] for raw blocks, Run for the rungs
//	read    [Tiers.Holdings] -> the query room chooses -> [Tiers.Columns]
//	        [Tiers.Querier]: time that has no raw data any more, as samples
//
// A raw block is covered at a rung when each of its sources is a source of one of
// the rung's blocks. What is not covered is rolled, oldest first; what is covered
// may be deleted when it is old. A block compacted from covered ones needs nothing;
// one with late samples in it has a source that is new, is rolled as a whole, and
// shadows what was rolled before (see shadows). Files, in the order data meets them:
// raw.go (what is covered), work.go (rolling), merge.go, retain.go and select.go
// (retention), delete.go, segments.go and holdings.go (who answers when), columns.go.
//
// In: directories of blocks, times in Unix milliseconds. It owns rollup/ and audit.log
// below the store's directory, and quarantine/, where damaged blocks are put. The
// TSDB owns the raw blocks. Every step is one rename, and the state file is written
// before what it speaks of is done, so that a crash leaves nothing to repair.
//
// internal/store imports it; the query room sees it through interfaces of its own.
package tiers
