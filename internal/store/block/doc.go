// Package block makes and reads the directories that hold data at rest: raw blocks
// of the TSDB, and tier blocks, which hold their rollups.
//
//	make   raw block -> [Roll] -> tier blocks, one a rung
//	       tier blocks -> [Merge] -> one longer tier block
//	       any block -> [Rewrite] -> the same without what was deleted
//	check  any block -> [Verify] -> a [Report] that names each fault
//	read   directory -> [Open], objects of a bucket -> [OpenAt] -> [Block.Select], [Block.Chunk]
//
// ../FORMAT.md specifies every byte that is written. Blocks never change: what
// differs is written beside, under a new ULID, verified, synced and only then
// renamed to its place; what a crash leaves is found by [RemoveUnfinished].
//
// Making a block takes memory for a few buffers and about 70 bytes a series, however
// long it is: files are read through windows and not mapped, and labels are handled
// as numbers of symbols. Measured peak RSS of rolling up to 5m and 1h: 32 MB for 2,000
// series of 14 days, 99 MB for a million series of 2 hours.
//
// Mapped bytes belong to the [Block]; they are valid while it is acquired. The
// store's own packages import this one, and the verbs in cmd.
package block
