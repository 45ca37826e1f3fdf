package store

import (
	"time"

	"github.com/prometheus/prometheus/util/compression"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/store/bucket"
	"github.com/weir-dev/weir/internal/store/tiers"
)

// Config says where samples are kept, for how long and how carefully.
type Config struct {
	// Directory of the database, created when missing, held by a lock file.
	// Restart.
	Dir string `yaml:"dir"`
	// How long and how much to keep. Reload.
	Retention Retention `yaml:"retention"`
	// The ladder of rollups, finest first: what raw data is kept as for longer.
	// Empty: none. Restart.
	Rollups []tiers.Rung `yaml:"rollups"`
	// What making rollups takes.
	Rolling Rolling `yaml:"rolling"`
	// Object storage that blocks are shipped to and read back from.
	Bucket bucket.Config `yaml:"bucket"`
	// How far behind the newest sample of all series a sample may be, and still be
	// accepted out of order. 0: each series takes samples in order only. Reload.
	OutOfOrderWindow conf.Duration `yaml:"out_of_order_window"`
	// Exemplars. Reload.
	Exemplars Exemplars `yaml:"exemplars"`
	// Compression of write-ahead log records: snappy, zstd or none (true means
	// snappy, false none). Restart.
	WALCompression Compression `yaml:"wal_compression"`
	// Shortest time a block covers, at least 1m; the head holds 1.5 times as much
	// in memory. Restart.
	MinBlockDuration conf.Duration `yaml:"min_block_duration"`
	// Longest time a compacted block covers. 0: a tenth of the retention time,
	// at most 31d. Restart.
	MaxBlockDuration conf.Duration `yaml:"max_block_duration"`
	// What to do with the start timestamps of counters: none, zero_sample (store a
	// zero at the start time if that is the newest sample of its series) or stored
	// (keep it beside each sample, which other Prometheus versions may not read).
	// Restart.
	StartTimestamps string `yaml:"start_timestamps"`
	// Keep metric metadata (type, unit, help) in the write-ahead log and the
	// head, so that it survives a restart. Restart.
	MetadataInWAL bool `yaml:"metadata_in_wal"`
	// Write the head's open chunks to disk on an orderly stop, for a faster start.
	// It does nothing for a killed process. Restart.
	SnapshotOnShutdown bool `yaml:"snapshot_on_shutdown"`
	// Below this much free space on the file system of dir, writes are refused
	// (503) and queries go on. 0, or less than 16MiB: 16MiB, without which the TSDB
	// may not survive a full disk when it happens to be writing head chunks. Reload.
	MinFreeDisk conf.Bytes `yaml:"min_free_disk"`
	// CPUs that replay the write-ahead log at start. 0: all. More are faster and
	// take more memory. Restart.
	ReplayConcurrency int `yaml:"replay_concurrency"`
}

// Retention bounds what is kept; whichever bound is met first applies. Raw blocks
// wait until they are rolled up and, with a bucket, shipped.
type Retention struct {
	// Raw blocks older than this are deleted. 0: no bound by time. Reload.
	Time conf.Duration `yaml:"time"`
	// Blocks are deleted when all blocks, rollups, WAL and head chunks together take
	// more bytes than this: the oldest raw ones first, then the oldest of the finest
	// rung, and so on. 0: no bound by size. Reload.
	Size conf.Bytes `yaml:"size"`
	// Series that are kept for a shorter time than others. Reload.
	Selectors []tiers.SelectorKeep `yaml:"selectors"`
}

// Rolling bounds what making rollups takes.
type Rolling struct {
	// Bytes of buffers while a block is rolled up, beside about twelve bytes a series
	// of the block. Restart.
	Memory conf.Bytes `yaml:"memory"`
	// How often new blocks are looked for. Restart.
	CheckInterval conf.Duration `yaml:"check_interval"`
}

// Exemplars bounds the exemplar store.
type Exemplars struct {
	// Exemplars kept in memory, in one ring for all series, about 100 bytes each.
	// 0: none; going from
	// or to 0 waits for a restart. Reload.
	Max int64 `yaml:"max"`
}

// Compression is the compression of write-ahead log records.
type Compression string

// The compressions a configuration may name.
const (
	CompressionNone   Compression = "none"
	CompressionSnappy Compression = "snappy"
	CompressionZstd   Compression = "zstd"
)

// The ways to treat start timestamps that a configuration may name.
const (
	StartTimestampsNone       = "none"
	StartTimestampsZeroSample = "zero_sample"
	StartTimestampsStored     = "stored"
)

// UnmarshalText takes true and false as Prometheus users write them.
func (c *Compression) UnmarshalText(text []byte) error {
	switch string(text) {
	case "true":
		*c = CompressionSnappy
	case "false":
		*c = CompressionNone
	default:
		*c = Compression(text)
	}
	return nil
}

func (c Compression) tsdb() compression.Type {
	switch c {
	case CompressionSnappy:
		return compression.Snappy
	case CompressionZstd:
		return compression.Zstd
	}
	return compression.None
}

// DefaultConfig keeps 15 days in ./data.
func DefaultConfig() Config {
	return Config{
		Dir:       "data",
		Retention: Retention{Time: conf.Duration(15 * 24 * time.Hour)},
		Rollups:   tiers.DefaultRungs(),
		// Memory bounds the size of each of some dozen buffers, which stop growing at
		// 1 MiB each. A block comes every two hours, and looking for it is reading a
		// list, so 5 s bound how long a query waits for its rollups, not the CPU.
		Rolling:          Rolling{Memory: 64 << 20, CheckInterval: conf.Duration(5 * time.Second)},
		Bucket:           bucket.DefaultConfig(),
		OutOfOrderWindow: conf.Duration(30 * time.Minute),
		Exemplars:        Exemplars{Max: 100_000}, // about 10 MiB, as in Prometheus' own default
		WALCompression:   CompressionSnappy,
		MinBlockDuration: conf.Duration(2 * time.Hour),
		StartTimestamps:  StartTimestampsNone,
		// Two 128 MiB files: the WAL segment and the head chunk file that may be
		// growing when the guard closes. Unmeasured beyond the full-disk test.
		MinFreeDisk: 256 << 20,
	}
}

// Validate adds each fault to f.
func (c *Config) Validate(f *conf.Faults) {
	if c.Dir == "" {
		f.Add("dir", c.Dir, "a directory")
	}
	if c.Retention.Time < 0 {
		f.At("retention").Add("time", c.Retention.Time, "0s (no bound) or more")
	}
	if c.Retention.Size < 0 {
		f.At("retention").Add("size", c.Retention.Size, "0 (no bound) or more")
	}
	tiers.ValidateRungs(f.At("rollups"), c.Rollups, c.MinBlockDuration)
	tiers.ValidateSelectors(f.At("retention.selectors"), c.Retention.Selectors, c.Rollups, c.OutOfOrderWindow+c.MinBlockDuration)
	if len(c.Rollups) > 0 && c.Retention.Time > 0 && c.Retention.Time < c.OutOfOrderWindow+c.MinBlockDuration {
		f.At("retention").Add("time", c.Retention.Time, "0s (no bound), or at least out_of_order_window and min_block_duration together ("+(c.OutOfOrderWindow+c.MinBlockDuration).String()+"), or late samples would miss the rollups they belong to")
	}
	if c.Rolling.Memory < minRolling {
		f.At("rolling").Add("memory", c.Rolling.Memory, conf.Bytes(minRolling).String()+" or more")
	}
	if c.Rolling.CheckInterval < conf.Duration(time.Millisecond) {
		f.At("rolling").Add("check_interval", c.Rolling.CheckInterval, "1ms or more")
	}
	c.Bucket.Validate(f.At("bucket"))
	if after := c.Bucket.After; c.Bucket.On() && after > 0 && after < c.OutOfOrderWindow+c.MinBlockDuration {
		f.At("bucket").Add("after", after, "0s (as retention.time), or at least out_of_order_window and min_block_duration together ("+(c.OutOfOrderWindow+c.MinBlockDuration).String()+")")
	}
	if c.OutOfOrderWindow < 0 {
		f.Add("out_of_order_window", c.OutOfOrderWindow, "0s (in order only) or more")
	}
	if c.Exemplars.Max < 0 {
		f.At("exemplars").Add("max", c.Exemplars.Max, "0 (none kept) or more")
	}
	switch c.WALCompression {
	case CompressionNone, CompressionSnappy, CompressionZstd:
	default:
		f.Add("wal_compression", string(c.WALCompression), "snappy, zstd or none")
	}
	if c.MinBlockDuration < conf.Duration(time.Minute) {
		f.Add("min_block_duration", c.MinBlockDuration, "1m or more")
	}
	if c.MaxBlockDuration != 0 && c.MaxBlockDuration < c.MinBlockDuration {
		f.Add("max_block_duration", c.MaxBlockDuration, "0s (a tenth of the retention) or at least min_block_duration")
	}
	switch c.StartTimestamps {
	case StartTimestampsNone, StartTimestampsZeroSample, StartTimestampsStored:
	default:
		f.Add("start_timestamps", c.StartTimestamps, "none, zero_sample or stored")
	}
	if c.MinFreeDisk < 0 {
		f.Add("min_free_disk", c.MinFreeDisk, "0 (no guard) or more")
	}
	if c.ReplayConcurrency < 0 {
		f.Add("replay_concurrency", c.ReplayConcurrency, "0 (all CPUs) or more")
	}
}

// minRolling is what the smallest buffers of rolling take together: one for each of
// the files that are read and written at a time, at least 64 KiB.
const minRolling = 2 << 20

// tiers is the part of the configuration that the rollups are about.
func (c *Config) tiers() tiers.Config {
	t := tiers.Config{
		Dir: c.Dir, Rungs: c.Rollups, Retention: c.retention(),
		MinBlock: c.MinBlockDuration.Std(), Late: c.OutOfOrderWindow.Std(),
		Memory: c.Rolling.Memory, Check: c.Rolling.CheckInterval.Std(),
	}
	if c.Bucket.On() {
		t.External, t.RawOnDisk = c.Bucket.ExternalLabels, c.Bucket.After.Std()
	}
	return t
}

func (c *Config) retention() tiers.Retention {
	return tiers.Retention{Time: c.Retention.Time.Std(), Size: c.Retention.Size, Selectors: c.Retention.Selectors}
}

// maxBlock returns the longest block: a tenth of the retention, so that retention
// by time frees the disk in steps of at most a tenth.
func (c *Config) maxBlock() time.Duration {
	const longest = 31 * 24 * time.Hour // Prometheus' cap: larger blocks compact too slowly
	if c.MaxBlockDuration > 0 {
		return c.MaxBlockDuration.Std()
	}
	d := longest
	if c.Retention.Time > 0 {
		d = min(d, c.Retention.Time.Std()/10)
	}
	return max(d, c.MinBlockDuration.Std())
}
