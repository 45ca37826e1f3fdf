package pebblestore

import (
	"fmt"
	"slices"
	"time"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/internal/index"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Config of the embedded store.
type Config struct {
	// Where the store lives. Restart.
	Dir string `yaml:"dir"`
	// A partition takes spans for this long, by the time they arrive; what expires
	// does so a partition at a time. Restart.
	Partition conf.Duration `yaml:"partition"`
	// A partition that has grown to this before is followed by the next one at once.
	// 0: no bound. Restart.
	PartitionSize conf.Bytes `yaml:"partition_size"`
	// Whether spans are acknowledged only when the disk has them. Without, a crash of
	// the machine, and a kill of the process, may lose the last second. Restart.
	Sync bool `yaml:"sync"`
	// Spans are refused while the file system has less space than this. 0: no guard.
	// Restart.
	MinFree conf.Bytes `yaml:"min_free"`
	// How long traces are kept.
	Retention Retention `yaml:"retention"`
	// What search finds without reading spans one by one.
	Index Index `yaml:"index"`
	// How far a search goes that no index serves.
	Scan Scan `yaml:"scan"`
	// What the store may hold in memory.
	Memory Memory `yaml:"memory"`
}

// Retention bounds what is kept; whichever bound is met first applies.
type Retention struct {
	// Traces are deleted when their partition is older than this. 0: no bound by
	// time. Restart.
	Time conf.Duration `yaml:"time"`
	// The oldest partitions are deleted when all together take more than this. 0: no
	// bound by size. Restart.
	Size conf.Bytes `yaml:"size"`
	// Traces that are kept for longer than others. Restart.
	Keep []Keep `yaml:"keep"`
}

// Keep is a kind of trace that is worth more.
type Keep struct {
	// What one span of the trace has to be, all at once. Restart.
	Where Where `yaml:"where"`
	// How long the trace is kept; longer than retention.time. Restart.
	Time conf.Duration `yaml:"time"`
}

// Where selects spans.
type Where struct {
	// The service that made the span. Empty: any. Restart.
	Service string `yaml:"service"`
	// The name of the span. Empty: any. Restart.
	Operation string `yaml:"operation"`
	// Whether its status has to be an error. Restart.
	Error bool `yaml:"error"`
	// The least it took. 0s: anything. Restart.
	MinDuration conf.Duration `yaml:"min_duration"`
	// Attributes of the span, its resource or its events, and their values as text.
	// Restart.
	Attributes map[string]string `yaml:"attributes"`
}

func (w Where) query() spanstore.Query {
	q := spanstore.Query{Service: w.Service, Operation: w.Operation, MinDuration: w.MinDuration.Std()}
	if w.Error {
		q.Error = &w.Error
	}
	for _, key := range sortedKeys(w.Attributes) {
		q.Where = append(q.Where, spanstore.Condition{Key: key, Op: spanstore.Equal, Value: w.Attributes[key]})
	}
	return q
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Index says which attributes are found by the index.
type Index struct {
	// Keys of the attributes that are indexed, "*" for all of them. Restart.
	Attributes []string `yaml:"attributes"`
	// Keys that are not, whatever attributes has. Restart.
	Exclude []string `yaml:"exclude"`
	// Values whose text is longer are not indexed. Restart.
	MaxValue conf.Bytes `yaml:"max_value"`
	// Attributes indexed of one span; those with more are looked at one by one.
	// Restart.
	MaxTerms int `yaml:"max_terms"`
	// Spans of a segment of the index, which is in memory until it is written. Restart.
	SegmentSpans int `yaml:"segment_spans"`
	// Operations that one partition lists; further ones are stored and found, but not
	// listed. Restart.
	Operations int `yaml:"operations"`
}

func (c Index) index() index.Config {
	return index.Config{Attributes: c.Attributes, Exclude: c.Exclude, MaxValueBytes: int(c.MaxValue), MaxTermsPerSpan: c.MaxTerms}
}

// Scan bounds a search that looks at spans one by one.
type Scan struct {
	// Spans looked at by one search before it answers with what it has. Restart.
	Spans int `yaml:"spans"`
	// Time after which it does. Restart.
	Time conf.Duration `yaml:"time"`
}

// Memory bounds what the store holds in memory.
type Memory struct {
	// Blocks of the database kept uncompressed. Restart.
	Cache conf.Bytes `yaml:"cache"`
	// Spans gathered before they are written to a table; up to four times that is held
	// while the disk is slow. Restart.
	Memtable conf.Bytes `yaml:"memtable"`
	// Spans of which a second copy is told from the first, 16 bytes each. Restart.
	RecentSpans int `yaml:"recent_spans"`
	// Partitions kept open while nobody reads them. Restart.
	OpenPartitions int `yaml:"open_partitions"`
}

// DefaultConfig keeps two days in ./data/traces.
func DefaultConfig() Config {
	ix := index.DefaultConfig()
	return Config{
		Dir: "data/traces",
		// An hour is 1 of 48 of the default retention, so that retention deletes 2% at
		// a time; a search of 24 hours meets 24 partitions.
		Partition: conf.Duration(time.Hour),
		// At 150 bytes a span, 28M of them: compacting that when the partition is
		// closed takes about a minute of one core and the same space once more.
		PartitionSize: 4 << 30,
		Sync:          true,
		// A few tables and logs that may be growing when the guard closes.
		MinFree:   256 << 20,
		Retention: Retention{Time: conf.Duration(48 * time.Hour)},
		Index: Index{
			Attributes: ix.Attributes, Exclude: ix.Exclude, MaxValue: conf.Bytes(ix.MaxValueBytes), MaxTerms: ix.MaxTermsPerSpan,
			SegmentSpans: 128 << 10,
			// 10 MiB of names at 100 bytes each, a thousand operations of 100 services.
			Operations: 100_000,
		},
		// At 20 us a span read cold, about as long as a person waits.
		Scan: Scan{Spans: 200_000, Time: conf.Duration(5 * time.Second)},
		// 16 MiB for the spans of the last 26 to 52 s at 20k a second; senders try again
		// within seconds. Reading them again at a start takes about 2 s.
		Memory: Memory{Cache: 64 << 20, Memtable: 16 << 20, RecentSpans: 1 << 20, OpenPartitions: 64},
	}
}

// Validate adds each fault to f.
func (c *Config) Validate(f *conf.Faults) {
	if c.Dir == "" {
		f.Add("dir", c.Dir, "a directory")
	}
	if c.Partition < conf.Duration(time.Minute) {
		f.Add("partition", c.Partition, "1m or more")
	}
	if c.PartitionSize != 0 && c.PartitionSize < minPartitionSize {
		f.Add("partition_size", c.PartitionSize, "0 (no bound), or 64MiB or more")
	}
	if c.MinFree < 0 {
		f.Add("min_free", c.MinFree, "0 (no guard) or more")
	}
	c.Retention.validate(f.At("retention"))
	c.Index.validate(f.At("index"))
	if c.Scan.Spans < 1 {
		f.At("scan").Add("spans", c.Scan.Spans, "1 or more")
	}
	if c.Scan.Time <= 0 {
		f.At("scan").Add("time", c.Scan.Time, "more than 0s")
	}
	m := f.At("memory")
	if c.Memory.Cache < 1<<20 {
		m.Add("cache", c.Memory.Cache, "1MiB or more")
	}
	if c.Memory.Memtable < 1<<20 || c.Memory.Memtable > 1<<30 {
		m.Add("memtable", c.Memory.Memtable, "1MiB to 1GiB")
	}
	if c.Memory.RecentSpans < 1024 || c.Memory.RecentSpans > 1<<28 {
		m.Add("recent_spans", c.Memory.RecentSpans, "1024 to 268435456")
	}
	if c.Memory.OpenPartitions < 1 {
		m.Add("open_partitions", c.Memory.OpenPartitions, "1 or more")
	}
}

// minPartitionSize keeps a partition from being closed at its first table.
const minPartitionSize = 64 << 20

func (r *Retention) validate(f *conf.Faults) {
	if r.Time < 0 {
		f.Add("time", r.Time, "0s (no bound) or more")
	}
	if r.Size < 0 {
		f.Add("size", r.Size, "0 (no bound) or more")
	}
	for i, k := range r.Keep {
		at := f.At(fmt.Sprintf("keep[%d]", i))
		if r.Time == 0 || k.Time <= r.Time {
			at.Add("time", k.Time, "longer than retention.time ("+r.Time.String()+"), which has to be set")
		}
		w := k.Where
		if w.Service == "" && w.Operation == "" && !w.Error && w.MinDuration <= 0 && len(w.Attributes) == 0 {
			at.Add("where", "nothing", "at least one of service, operation, error, min_duration, attributes")
		}
		if w.MinDuration < 0 {
			at.At("where").Add("min_duration", w.MinDuration, "0s (any) or more")
		}
	}
}

func (c *Index) validate(f *conf.Faults) {
	if c.MaxValue < 1 {
		f.Add("max_value", c.MaxValue, "1 or more")
	}
	if c.MaxTerms < 1 {
		f.Add("max_terms", c.MaxTerms, "1 or more")
	}
	if c.SegmentSpans < 1 || c.SegmentSpans > 4<<20 {
		f.Add("segment_spans", c.SegmentSpans, "1 to 4194304")
	}
	if c.Operations < 1 {
		f.Add("operations", c.Operations, "1 or more")
	}
}
