package block

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

// Names in a block's directory.
const (
	MetaFile  = "meta.json"
	IndexFile = "index"
	ChunksDir = "chunks"
)

// Source says in meta.json that Weir wrote it.
const Source = "weir"

// Meta is what meta.json says of a block: the TSDB's own fields and Thanos' section,
// which raw blocks of the TSDB lack. Times are Unix milliseconds, [MinTime, MaxTime).
type Meta struct {
	tsdb.BlockMeta
	Thanos Thanos `json:"thanos"`
}

// Thanos is the section that Thanos v0.43 reads, with its names.
type Thanos struct {
	Version      int               `json:"version,omitempty"`
	Labels       map[string]string `json:"labels"` // external labels
	Downsample   Downsample        `json:"downsample"`
	Source       string            `json:"source"`
	SegmentFiles []string          `json:"segment_files,omitempty"`
	Files        []File            `json:"files,omitempty"`
	Rewrites     []Rewritten       `json:"rewrites,omitempty"`
	IndexStats   IndexStats        `json:"index_stats,omitzero"`
	Extensions   Extensions        `json:"extensions,omitzero"`
	UploadTime   time.Time         `json:"upload_time,omitzero"`
}

// Downsample holds the resolution in milliseconds; 0 is raw.
type Downsample struct {
	Resolution int64 `json:"resolution"`
}

// File is one file of the block. meta.json has neither size nor hash.
type File struct {
	RelPath   string `json:"rel_path"` // with slashes
	SizeBytes int64  `json:"size_bytes,omitempty"`
	Hash      *Hash  `json:"hash,omitempty"`
}

// Hash of a file; Func is always "SHA256", Value is in hexadecimal.
type Hash struct {
	Func  string `json:"hashFunc"`
	Value string `json:"value"`
}

// IndexStats are the largest sizes in bytes of a series entry and of a chunk.
type IndexStats struct {
	SeriesMaxSize int64 `json:"series_max_size,omitempty"`
	ChunkMaxSize  int64 `json:"chunk_max_size,omitempty"`
}

// Rewritten tells what was taken out of the blocks Sources when this was written.
type Rewritten struct {
	Sources   []ulid.ULID `json:"sources,omitempty"`
	Deletions []Deletion  `json:"deletions_applied,omitempty"`
}

// Deletion takes out the samples, or the points, of the series that match all of
// Matchers: those in Intervals (both ends inclusive, Unix milliseconds), or all if
// there are none.
type Deletion struct {
	Matchers  Matchers             `json:"matchers"`
	Intervals tombstones.Intervals `json:"intervals,omitempty"`
	RequestID string               `json:"request_id,omitempty"`
}

// Matchers of one selector.
type Matchers []*labels.Matcher

// UnmarshalJSON compiles regular expressions, too.
func (m *Matchers) UnmarshalJSON(b []byte) error {
	var plain []struct {
		Type        labels.MatchType
		Name, Value string
	}
	if err := json.Unmarshal(b, &plain); err != nil {
		return err
	}
	*m = nil
	for _, p := range plain {
		x, err := labels.NewMatcher(p.Type, p.Name, p.Value)
		if err != nil {
			return err
		}
		*m = append(*m, x)
	}
	return nil
}

// String prints a selector as PromQL has it; "" takes all series.
func (m Matchers) String() string {
	if len(m) == 0 {
		return ""
	}
	s := make([]string, len(m))
	for i, x := range m {
		s[i] = x.String()
	}
	return "{" + strings.Join(s, ",") + "}"
}

// Extensions of the Thanos section: ours, and others' as they came.
type Extensions struct {
	Weir   *Weir
	Others map[string]json.RawMessage
}

// Weir is what Weir notes of a block it wrote.
type Weir struct {
	// Selector of the rung, in PromQL; "" takes all series.
	Selector string `json:"selector,omitempty"`
	// Replaces says that older blocks of the same resolution are not to be asked
	// for this one's time any more.
	Replaces bool `json:"replaces,omitempty"`
	// RolledFrom are the raw blocks that were read.
	RolledFrom []ulid.ULID `json:"rolled_from,omitempty"`
	// Samples is how many raw samples the points count. Stale markers are none.
	Samples uint64 `json:"samples"`
	// CRC32C of meta.json, in hexadecimal, taken with zeros in this place.
	CRC32C string `json:"crc32c"`
}

// IsZero says that there is nothing to write.
func (e Extensions) IsZero() bool { return e.Weir == nil && len(e.Others) == 0 }

// MarshalJSON writes ours among the others.
func (e Extensions) MarshalJSON() ([]byte, error) {
	all := map[string]any{}
	for k, v := range e.Others {
		all[k] = v
	}
	if e.Weir != nil {
		all["weir"] = e.Weir
	}
	return json.Marshal(all)
}

// UnmarshalJSON takes ours out from among the others.
func (e *Extensions) UnmarshalJSON(b []byte) error {
	*e = Extensions{}
	if err := json.Unmarshal(b, &e.Others); err != nil {
		return err
	}
	ours, ok := e.Others["weir"]
	if !ok {
		return nil
	}
	delete(e.Others, "weir")
	return json.Unmarshal(ours, &e.Weir)
}

// Resolution in milliseconds; 0 is raw.
func (m *Meta) Resolution() int64 { return m.Thanos.Downsample.Resolution }

// Weir returns our notes, or the zero value for a block of somebody else.
func (m *Meta) Weir() Weir {
	if m.Thanos.Extensions.Weir == nil {
		return Weir{}
	}
	return *m.Thanos.Extensions.Weir
}

// Size is the sum of the files' sizes as far as they are given, in bytes.
func (m *Meta) Size() (n int64) {
	for _, f := range m.Thanos.Files {
		n += f.SizeBytes
	}
	return n
}

const (
	crcKey    = `"crc32c": "`
	zeroCRC   = "00000000"
	maxMeta   = 64 << 20 // bounds memory; Thanos' largest known ones, with thousands of sources, are below 1 MiB
	tsdbV1    = 1
	thanosV1  = 1
	tmpSuffix = ".tmp-for-creation" // the TSDB's, which removes such directories, too
)

// Encode returns the bytes of meta.json. A block's own CRC is set.
func (m *Meta) Encode() ([]byte, error) {
	c := *m
	c.Version = tsdbV1
	if c.Thanos.Version == 0 {
		c.Thanos.Version = thanosV1
	}
	if c.Thanos.Labels == nil {
		c.Thanos.Labels = map[string]string{}
	}
	if w := c.Thanos.Extensions.Weir; w != nil {
		sealed := *w
		sealed.CRC32C = zeroCRC
		c.Thanos.Extensions.Weir = &sealed
	}
	b, err := json.MarshalIndent(&c, "", "\t")
	if err != nil {
		return nil, fmt.Errorf("encode meta of block %s: %w", m.ULID, err)
	}
	b = append(b, '\n')
	if at := crcAt(b); at >= 0 {
		copy(b[at:], fmt.Sprintf("%08x", crc32.Checksum(b, castagnoli)))
	}
	return b, nil
}

// crcAt finds the digits of our CRC, which is the last field that has this name.
func crcAt(b []byte) int {
	at := bytes.LastIndex(b, []byte(crcKey))
	if at < 0 || at+len(crcKey)+len(zeroCRC) > len(b) {
		return -1
	}
	return at + len(crcKey)
}

// thanosSources write meta.json anew, extensions and all, so our CRC means nothing.
var thanosSources = []string{"sidecar", "receive", "compactor", "compactor.repair", "ruler", "bucket.repair", "bucket.rewrite", "bucket.upload", "test"}

// DecodeMeta reads what [Meta.Encode], the TSDB or Thanos wrote. Errors name the field.
func DecodeMeta(b []byte) (*Meta, error) {
	m := &Meta{}
	if err := json.Unmarshal(b, m); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) {
			return nil, fmt.Errorf("field %s: got a %s, want a value for %s", strings.TrimPrefix(typ.Field, "BlockMeta."), typ.Value, typ.Type)
		}
		var syn *json.SyntaxError
		if errors.As(err, &syn) {
			return nil, fmt.Errorf("at byte %d: %w", syn.Offset, err)
		}
		return nil, err
	}
	if m.Thanos.Labels == nil {
		m.Thanos.Labels = map[string]string{}
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return m, m.checkCRC(b)
}

// check finds the first field whose value cannot be.
func (m *Meta) check() error {
	for _, c := range []struct {
		ok    bool
		field string
		got   any
		want  string
	}{
		{m.Version == tsdbV1, "version", m.Version, "1"},
		{m.ULID != ulid.ULID{}, "ulid", m.ULID, "the block's ULID"},
		{m.MaxTime > m.MinTime, "maxTime", m.MaxTime, "more than minTime " + strconv.FormatInt(m.MinTime, 10)},
		{m.Thanos.Version == 0 || m.Thanos.Version == thanosV1, "thanos.version", m.Thanos.Version, "1"},
		{m.Resolution() >= 0, "thanos.downsample.resolution", m.Resolution(), "0 (raw) or more"},
		{len(m.Compaction.Sources) > 0 || m.Thanos.Extensions.Weir == nil, "compaction.sources", "none", "at least one"},
	} {
		if !c.ok {
			return fmt.Errorf("field %s: got %v, want %s", c.field, c.got, c.want)
		}
	}
	return nil
}

func (m *Meta) checkCRC(b []byte) error {
	w := m.Thanos.Extensions.Weir
	if slices.Contains(thanosSources, m.Thanos.Source) || m.Thanos.Source == "" && w == nil {
		return nil
	}
	at := crcAt(b)
	if w == nil || at < 0 {
		return fmt.Errorf("field thanos.extensions.weir.crc32c: got none from source %q", m.Thanos.Source)
	}
	zeroed := slices.Clone(b)
	copy(zeroed[at:], zeroCRC)
	said, got := string(b[at:at+len(zeroCRC)]), fmt.Sprintf("%08x", crc32.Checksum(zeroed, castagnoli))
	if said != got {
		return fmt.Errorf("field thanos.extensions.weir.crc32c: got %s, but the file's is %s: it was changed after it was written", said, got)
	}
	return nil
}

// ReadMeta reads and checks meta.json of the block in dir. A directory that is named
// by a ULID must hold the block of that name. Errors are a [*Fault], or come from
// the file system.
func ReadMeta(dir string) (*Meta, error) {
	f, err := os.Open(filepath.Join(dir, MetaFile))
	if err != nil {
		return nil, fmt.Errorf("read block %s: %w", dir, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMeta+1))
	if err != nil {
		return nil, fmt.Errorf("read block %s: %w", dir, err)
	}
	if len(b) > maxMeta {
		return nil, fault(dir, MetaFile, -1, "is larger than %d bytes", maxMeta)
	}
	m, err := DecodeMeta(b)
	if err != nil {
		return nil, &Fault{dir, MetaFile, -1, err}
	}
	if id, err := ulid.ParseStrict(strings.TrimSuffix(filepath.Base(dir), tmpSuffix)); err == nil && id != m.ULID {
		return nil, fault(dir, MetaFile, -1, "field ulid: got %s, want the directory's %s", m.ULID, id)
	}
	return m, nil
}

// Write replaces meta.json in dir at once and durably.
func (m *Meta) Write(dir string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s of block %s: %w", MetaFile, dir, err)
		}
	}()
	b, err := m.Encode()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, MetaFile)
	if err := writeSynced(path+".tmp", b); err != nil {
		return errors.Join(err, os.RemoveAll(path+".tmp"))
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(dir)
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
