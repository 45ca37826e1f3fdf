// Package rollup turns samples into windows and windows into chunks, and back.
//
//	write  raw chunks of one series -> [Folder] -> aggregate chunks, one stream a rung
//	read   aggregate and raw chunks of one series -> [Columns] -> package rangefn
//
// A rung of the ladder has a resolution r. A window of it is the left-open stretch
// (k*r, (k+1)*r], the same edges as a PromQL range that ends on a multiple of r, so
// that an aligned query over windows sees just the samples it would see raw. A
// point is what is known of one window: count, sum, min, max and counter of its
// samples, stamped with the window's end. It is stamped earlier when the block ends
// within the window (at the block's last millisecond) and when what came next was a
// stale marker, in this window or a later one (at the point's last sample), so that
// nothing is looked back at over it. Two points may then share a window, and their sum
// is the window. A last sample right at the window's end stamps it as ever: of the
// marker after it there is no trace.
//
// Chunks are in Thanos' aggregate encoding; internal/store/FORMAT.md has every byte.
// The package does no I/O. Bytes handed in are borrowed until the call returns.
// The store and the query room import it.
package rollup
