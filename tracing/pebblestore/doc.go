// Package pebblestore is the embedded store of spans: Pebble databases, one for each
// hour of arrival, below one directory.
//
//	write   Append -> disk guard -> known spans fall out -> fragments, one a trace -> one
//	        Pebble batch, synced -> live index -> (every 128k spans) sealed segment
//	read    Trace: Bloom filters of every partition -> fragments -> one batch
//	        Find: live index, sealed segments, newest first -> candidates -> their traces,
//	        verified span by span
//	keep    a partition is closed and compacted when its hour is over; expires by age, by
//	        size, or rewritten to what retention.keep names; then its folder is removed
//
// In:   [span.Batch] and the questions of [spanstore.Reader]. A batch given to Append is
// borrowed until it returns.
// Out:  batches of their own memory.
// Owns: everything below its directory, held by a lock file. Every byte of it is in
// ../FORMAT.md.
//
// What is acknowledged is in Pebble's synced log. A crash loses nothing: the index of
// spans that no sealed segment has is rebuilt at Open from the journal of commits, and
// so is the knowledge of the newest spans, so that what is sent again is not stored
// twice. On a full disk spans are refused and Pebble's writers wait (fs.go); after any
// other failure of the disk the partition is opened anew beneath the readers (run.go).
//
// The room and package main may import it.
package pebblestore
