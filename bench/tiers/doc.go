// Package tiers looks at blocks on disk by their resolution, hands raw ones to
// servers, and has Thanos make rollups of them.
//
// In: data sets and other directories of blocks, raw or rolled up, in the format that
// Prometheus and Thanos share. Out: what they hold and how many bytes they take; links
// to them; a bucket that Thanos has downsampled, with what that cost.
//
//	blocks.go  blocks below a directory
//	thanos.go  thanos tools bucket downsample, which does not end by itself
//
// Blocks are linked and never changed. The programs of bench import it.
package tiers
