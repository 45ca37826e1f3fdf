package tiers

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/weir-dev/weir/internal/store/block"
)

// QuarantineDir is where damaged blocks are put, beside those they were among.
const QuarantineDir = "quarantine"

// reasonFile says in a quarantined block why it is there.
const reasonFile = "reason.txt"

// quarantine moves the block in dir out of the way and says so. The bytes stay as
// they were, for whoever wants to repair them.
func (t *Tiers) quarantine(tier, dir string, why error) error {
	parent := filepath.Dir(dir)
	dest := filepath.Join(parent, QuarantineDir, filepath.Base(dir))
	if err := os.MkdirAll(filepath.Dir(dest), 0o750); err != nil {
		return fmt.Errorf("quarantine block %s: %w", dir, err)
	}
	if err := os.RemoveAll(dest); err != nil { // of an earlier life of the same block
		return fmt.Errorf("quarantine block %s: %w", dir, err)
	}
	if err := os.Rename(dir, dest); err != nil {
		return fmt.Errorf("quarantine block %s: %w", dir, err)
	}
	text := t.now().UTC().Format("2006-01-02T15:04:05Z ") + why.Error() + "\n"
	err := errors.Join(replaceFile(filepath.Join(dest, reasonFile), []byte(text)), syncDir(parent), syncDir(filepath.Dir(dest)))
	t.metrics.quarantined.WithLabelValues(tier).Inc()
	t.log.Error("block quarantined, the rest is served", "tier", tier, "block", filepath.Base(dir), "moved_to", dest, "reason", why)
	if err != nil {
		return fmt.Errorf("quarantine block %s: %w", dir, err)
	}
	return nil
}

// QuarantineRaw moves away each raw block that would keep the TSDB from opening. It
// is called before the TSDB opens the directory.
func (t *Tiers) QuarantineRaw() error {
	entries, err := os.ReadDir(t.cfg.Dir)
	if err != nil {
		return fmt.Errorf("look for damaged blocks: %w", err)
	}
	faults, replaced := map[ulid.ULID]error{}, map[ulid.ULID]bool{}
	for _, e := range entries {
		id, err := ulid.ParseStrict(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		meta, err := checkRaw(filepath.Join(t.cfg.Dir, e.Name()))
		if err != nil && !damage(err) {
			return fmt.Errorf("look at block %s: %w", filepath.Join(t.cfg.Dir, e.Name()), err)
		}
		if err != nil {
			faults[id] = err
			continue
		}
		for _, p := range meta.Compaction.Parents {
			replaced[p.ULID] = true
		}
	}
	for id, why := range faults {
		if replaced[id] { // the TSDB was about to delete it
			continue
		}
		if err := t.quarantine(Raw, filepath.Join(t.cfg.Dir, id.String()), why); err != nil {
			return err
		}
	}
	return nil
}

// damage says whether err is about the block's bytes, rather than that the file
// system refuses to hand them out.
func damage(err error) bool {
	var fault *block.Fault
	if errors.As(err, &fault) {
		return true
	}
	var refused syscall.Errno
	return !errors.As(err, &refused) || refused == syscall.ENOENT || refused == syscall.ENOTDIR
}

// checkRaw reads as little of a raw block as tells whether the TSDB opens it: the
// meta, the ends of the index, and the first bytes of each file of chunks.
func checkRaw(dir string) (*tsdb.BlockMeta, error) {
	b, err := os.ReadFile(filepath.Join(dir, block.MetaFile))
	if err != nil {
		return nil, fmt.Errorf("read meta.json: %w", err)
	}
	var meta tsdb.BlockMeta
	if err := json.Unmarshal(b, &meta); err != nil {
		return nil, fmt.Errorf("read meta.json: %w", err)
	}
	if meta.Version != 1 {
		return nil, fmt.Errorf("read meta.json: version is %d, want 1", meta.Version)
	}
	if meta.ULID.String() != filepath.Base(dir) {
		return nil, fmt.Errorf("read meta.json: it is of block %s", meta.ULID)
	}
	r, err := index.NewFileReader(filepath.Join(dir, block.IndexFile), index.DecodePostingsRaw)
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("close index: %w", err)
	}
	if _, _, err := tombstones.ReadTombstones(dir); err != nil {
		return nil, fmt.Errorf("read tombstones: %w", err)
	}
	if err := checkSegments(filepath.Join(dir, block.ChunksDir), meta.Stats.NumChunks > 0); err != nil {
		return nil, err
	}
	return &meta, nil
}

func checkSegments(dir string, wanted bool) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list files of chunks: %w", err)
	}
	n := 0
	for _, e := range files {
		if len(e.Name()) != 6 { // the TSDB's own test of a name, more or less
			continue
		}
		n++
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			return fmt.Errorf("open chunks: %w", err)
		}
		head := make([]byte, chunks.SegmentHeaderSize)
		_, err = f.ReadAt(head, 0)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("read header of chunks/%s: %w", e.Name(), err)
		}
		if got := binary.BigEndian.Uint32(head); got != chunks.MagicChunks {
			return fmt.Errorf("read header of chunks/%s: begins with %#x, want %#x", e.Name(), got, uint32(chunks.MagicChunks))
		}
	}
	if n == 0 && wanted {
		return errors.New("no file of chunks")
	}
	return nil
}
