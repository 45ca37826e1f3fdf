//go:build chaos

package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/oklog/ulid/v2"
)

// blockFiles is a block on a disk, as its meta.json tells.
type blockFiles struct {
	dir string

	ULID             ulid.ULID
	MinTime, MaxTime int64
	Compaction       struct {
		Sources []ulid.ULID
		Parents []struct{ ULID ulid.ULID }
	}
	Thanos struct {
		Downsample struct{ Resolution int64 }
		Files      []struct {
			RelPath string `json:"rel_path"`
			Size    int64  `json:"size_bytes"`
		}
	}
}

// looks says what on the disks is not as it should be once all work is done.
func (c *pastChaos) looks() (faults []string) {
	faults = append(c.orphans(c.data), c.orphans(c.bucket)...)
	raw, more := blocksIn(c.data)
	faults = append(faults, more...)
	shipped, more := blocksIn(c.bucket)
	faults = append(faults, more...)
	in := sources(shipped)
	all := raw
	newest := int64(0)
	for _, b := range raw {
		newest = max(newest, b.MaxTime)
	}
	for _, r := range []struct {
		name string
		ms   int64
		keep int64 // 0: for ever
	}{{dur(pastRung), pastRung.Milliseconds(), pastFine.Milliseconds()}, {dur(pastCoarse), pastCoarse.Milliseconds(), 0}} {
		blocks, more := blocksIn(filepath.Join(c.data, "rollup", r.name))
		faults = append(faults, more...)
		has := sources(blocks)
		for _, b := range raw {
			if s := lacks(has[r.ms], b); s != "" && (r.keep == 0 || b.MaxTime > newest-r.keep) {
				faults = append(faults, fmt.Sprintf("raw block %s: its source %s is not rolled up to %s", b.ULID, s, r.name))
			}
		}
		for _, b := range blocks {
			if r.keep > 0 && b.MaxTime <= newest-r.keep {
				faults = append(faults, fmt.Sprintf("block %s of %s is still there, %dh after its last sample", b.ULID, r.name, (newest-b.MaxTime)/3_600_000))
			}
		}
		if len(blocks) == 0 {
			faults = append(faults, "no blocks of "+r.name)
		}
		all = append(all, blocks...)
	}
	for _, b := range raw {
		if b.MaxTime <= newest-pastRaw.Milliseconds() {
			faults = append(faults, fmt.Sprintf("raw block %s is still there, %dh after its last sample", b.ULID, (newest-b.MaxTime)/3_600_000))
		}
	}
	for _, b := range all {
		if s := lacks(in[b.Thanos.Downsample.Resolution], b); s != "" {
			faults = append(faults, fmt.Sprintf("block %s of %dms is not in the bucket: source %s", b.ULID, b.Thanos.Downsample.Resolution, s))
		}
	}
	return append(faults, replaced(all)...)
}

// replaced finds blocks that others have been made of.
func replaced(blocks []blockFiles) (faults []string) {
	by := map[ulid.ULID]ulid.ULID{}
	for _, b := range blocks {
		for _, p := range b.Compaction.Parents {
			by[p.ULID] = b.ULID
		}
	}
	for _, b := range blocks {
		if child, ok := by[b.ULID]; ok {
			faults = append(faults, fmt.Sprintf("block %s is still there beside %s that was made of it", b.dir, child))
		}
	}
	return faults
}

// sources are by resolution those that blocks have been made of.
func sources(blocks []blockFiles) map[int64]map[ulid.ULID]bool {
	has := map[int64]map[ulid.ULID]bool{}
	for _, b := range blocks {
		r := b.Thanos.Downsample.Resolution
		if has[r] == nil {
			has[r] = map[ulid.ULID]bool{}
		}
		for _, s := range b.Compaction.Sources {
			has[r][s] = true
		}
	}
	return has
}

// lacks names a source of b that is not there.
func lacks(there map[ulid.ULID]bool, b blockFiles) string {
	for _, s := range b.Compaction.Sources {
		if !there[s] {
			return s.String()
		}
	}
	return ""
}

// orphans finds what a crash may leave behind, and what was found damaged.
func (c *pastChaos) orphans(root string) (found []string) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile
			return nil
		case err != nil:
			return err
		case strings.Contains(d.Name(), ".tmp"):
			found = append(found, "left behind: "+path)
		case filepath.Base(filepath.Dir(path)) == "quarantine":
			found = append(found, "in quarantine: "+path)
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return found
}

// blocksIn reads the blocks in a folder and looks whether their files are there.
func blocksIn(dir string) (blocks []blockFiles, faults []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, []string{err.Error()}
	}
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil {
			continue
		}
		b := blockFiles{dir: filepath.Join(dir, e.Name())}
		text, err := os.ReadFile(filepath.Join(b.dir, "meta.json"))
		if err == nil {
			err = json.Unmarshal(text, &b)
		}
		if err != nil {
			there, _ := filepath.Glob(filepath.Join(b.dir, "*"))
			faults = append(faults, fmt.Sprintf("half a block: %v; there is %q", err, there))
			continue
		}
		if _, err := os.Stat(filepath.Join(b.dir, "index")); err != nil {
			faults = append(faults, fmt.Sprintf("half a block: %v", err))
		}
		for _, f := range b.Thanos.Files {
			if info, err := os.Stat(filepath.Join(b.dir, f.RelPath)); err != nil || f.Size > 0 && info.Size() != f.Size {
				faults = append(faults, fmt.Sprintf("half a block: %s of %s has not %d bytes: %v", f.RelPath, b.dir, f.Size, err))
			}
		}
		blocks = append(blocks, b)
	}
	return blocks, faults
}
