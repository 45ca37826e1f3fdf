// Package bucket keeps blocks in an object store, reads them back from there, and
// makes backups.
//
//	ship    durable blocks on disk -> [Bucket.Run] -> chunks, index, check, meta.json
//	read    meta.json of every block -> [Bucket.Remote] -> [Bucket.OpenRemote] -> pages by range, kept on disk
//	backup  a data directory -> [Backups.Create] -> files by hash and a manifest -> [Backups.Restore]
//
// In: blocks of every tier as directories, times in Unix milliseconds. Out: the
// same blocks, byte for byte, in Thanos' layout: <prefix>/<ULID>/{chunks/*,index,
// meta.json}, a deletion-mark.json where a block is about to go. What is ours alone
// lies under <prefix>/weir/, which Thanos passes over. The bucket is the only truth
// about itself: what is on disk here can be deleted at any time.
//
// The package owns its cache directory and one file of state below the store's.
// Blocks handed out are the caller's to release. internal/store, its tiers and cmd
// import it; it imports internal/store/block and thanos-io/objstore.
package bucket
