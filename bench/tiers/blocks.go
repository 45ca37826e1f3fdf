package tiers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/weir-dev/weir/bench/dataset"
)

// Block is one block directory.
type Block struct {
	Dir        string
	Resolution time.Duration // 0: raw
	MinTime    int64         // Unix ms
	MaxTime    int64         // Unix ms, not in the block
	Sources    []string      // ULIDs of the blocks it was made of, its own if of none
	Size       Size
}

// Size is bytes of blocks; what else lies in their directories is a few hundred.
type Size struct{ Index, Chunks int64 }

// Total is index and chunks together.
func (s Size) Total() int64 { return s.Index + s.Chunks }

// Add returns the sum of both.
func (s Size) Add(o Size) Size { return Size{s.Index + o.Index, s.Chunks + o.Chunks} }

// Sum is the size of all blocks together.
func Sum(blocks []Block) Size {
	var sum Size
	for _, b := range blocks {
		sum = sum.Add(b.Size)
	}
	return sum
}

// OpenSet returns the spec of the data set in dir and its blocks, oldest first.
func OpenSet(dir string) (dataset.Spec, []Block, error) {
	spec, dirs, err := dataset.Open(dir)
	if err != nil {
		return spec, nil, err
	}
	blocks := make([]Block, len(dirs))
	for i, d := range dirs {
		if blocks[i], err = Read(d); err != nil {
			return spec, nil, err
		}
	}
	return spec, blocks, nil
}

// Find returns all blocks below dir, in the order of their paths. A block is a
// directory with a meta.json, which is written last. What a running program
// removes meanwhile is left out.
func Find(dir string) ([]Block, error) {
	var out []Block
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "meta.json" {
			return ignoreGone(err)
		}
		b, err := Read(filepath.Dir(path))
		if err == nil {
			out = append(out, b)
		}
		return ignoreGone(err)
	})
	return out, err
}

// Read returns the block in dir.
func Read(dir string) (Block, error) {
	b := Block{Dir: dir}
	path := filepath.Join(dir, "meta.json")
	text, err := os.ReadFile(path)
	if err != nil {
		return b, err
	}
	var meta struct {
		MinTime, MaxTime int64
		Compaction       struct{ Sources []string }
		Thanos           struct{ Downsample struct{ Resolution int64 } }
	}
	if err := json.Unmarshal(text, &meta); err != nil {
		return b, fmt.Errorf("parse %s: %w", path, err)
	}
	b.MinTime, b.MaxTime, b.Sources = meta.MinTime, meta.MaxTime, meta.Compaction.Sources
	b.Resolution = time.Duration(meta.Thanos.Downsample.Resolution) * time.Millisecond
	files, err := b.files()
	if err != nil {
		return b, err
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return b, err
		}
		if filepath.Base(f) == "index" {
			b.Size.Index += info.Size()
		} else {
			b.Size.Chunks += info.Size()
		}
	}
	return b, nil
}

// files are the large ones: index and chunks.
func (b *Block) files() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(b.Dir, "chunks", "*"))
	return append(files, filepath.Join(b.Dir, "index")), err
}

// Warm reads all of the block once, so that no program waits for the disk.
func (b *Block) Warm() error {
	files, err := b.files()
	if err != nil {
		return err
	}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// Link makes dir/<ULID> with hard links to the block's index and chunks and a copy
// of its meta.json. dir is made when missing and must be on the block's file system.
func (b *Block) Link(dir string) (string, error) {
	dest := filepath.Join(dir, filepath.Base(b.Dir))
	if err := os.MkdirAll(filepath.Join(dest, "chunks"), 0o777); err != nil {
		return "", err
	}
	files, err := b.files()
	if err != nil {
		return "", err
	}
	for _, f := range files {
		rel, err := filepath.Rel(b.Dir, f)
		if err != nil {
			return "", err
		}
		if err := os.Link(f, filepath.Join(dest, rel)); err != nil {
			return "", fmt.Errorf("link a block into %s, which must be on the file system of the data set: %w", dir, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(b.Dir, "meta.json"))
	if err != nil {
		return "", err
	}
	return dest, os.WriteFile(filepath.Join(dest, "meta.json"), text, 0o666)
}

// Covered reports whether the blocks among found of a resolution were made of all
// of raw.
func Covered(raw, found []Block, resolution time.Duration) bool {
	have := map[string]bool{}
	for _, b := range found {
		if b.Resolution == resolution {
			for _, s := range b.Sources {
				have[s] = true
			}
		}
	}
	for _, b := range raw {
		for _, s := range b.Sources {
			if !have[s] {
				return false
			}
		}
	}
	return true
}

// ignoreGone forgives what a running program removes while it is looked at.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
