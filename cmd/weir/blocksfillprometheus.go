package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/weir-dev/weir/internal/store/block"
)

// prometheusFill takes over blocks of another Prometheus.
type prometheusFill struct {
	dir    string
	labels map[string]string
	tick   *ticker

	minBlock time.Duration // the server's
}

func (f *prometheusFill) run(ctx context.Context, args []string) (rows []blockRow, err error) {
	var from []localBlock
	for _, arg := range args {
		list, err := foreignBlocks(arg)
		if err != nil {
			return nil, err
		}
		from = append(from, list...)
	}
	tmp, err := staging(f.dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	var dirs []string
	for i, b := range from {
		f.tick.say("block %d of %d: %s", i+1, len(from), b.name())
		if _, err := os.Stat(filepath.Join(f.dir, b.name())); err == nil && len(f.labels) == 0 {
			continue // taken over before
		}
		dir, err := f.take(ctx, b, tmp)
		if err != nil {
			return nil, fmt.Errorf("backfill %s: %w", b.dir, err)
		}
		dirs = append(dirs, dir)
	}
	return place(ctx, dirs, f.dir, f.minBlock)
}

// foreignBlocks lists the blocks at a path: of a data directory, or the one it is.
func foreignBlocks(path string) ([]localBlock, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(abs, block.MetaFile)); err == nil {
		return goodForeign([]localBlock{readLocal(abs)})
	}
	entries, err := os.ReadDir(abs)
	if err != nil {
		return nil, fmt.Errorf("backfill: %w", err)
	}
	var list []localBlock
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err == nil && e.IsDir() {
			list = append(list, readLocal(filepath.Join(abs, e.Name())))
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("backfill: there is no block in %s", path)
	}
	return goodForeign(list)
}

func goodForeign(list []localBlock) ([]localBlock, error) {
	for _, b := range list {
		if b.err != nil {
			return nil, b.err
		}
		if b.meta.Resolution() > 0 {
			return nil, fmt.Errorf("backfill %s: it is a rollup (%s), and rollups are made here from raw blocks", b.dir, tierText(b.meta))
		}
	}
	return list, nil
}

// take copies a block, or writes it anew with labels, and returns the copy.
func (f *prometheusFill) take(ctx context.Context, b localBlock, tmp string) (string, error) {
	if len(f.labels) > 0 {
		return f.relabel(ctx, b, tmp)
	}
	to := filepath.Join(tmp, b.name())
	return to, os.CopyFS(to, blockFiles{os.DirFS(b.dir)})
}

// blockFiles leaves out what is not part of a block.
type blockFiles struct{ fs.FS }

// ReadDir implements [fs.ReadDirFS].
func (f blockFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	list, err := fs.ReadDir(f.FS, name)
	known := []string{block.MetaFile, block.IndexFile, block.ChunksDir, "tombstones"}
	return slices.DeleteFunc(list, func(e fs.DirEntry) bool { return name == "." && !slices.Contains(known, e.Name()) }), err
}

func (f *prometheusFill) relabel(ctx context.Context, b localBlock, tmp string) (_ string, err error) {
	open, err := block.Open(b.dir)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, open.Close()) }()
	length := b.meta.MaxTime - b.meta.MinTime
	c, err := tsdb.NewLeveledCompactor(ctx, nil, slog.New(slog.DiscardHandler), []int64{length}, chunkenc.NewPool(), nil)
	if err != nil {
		return "", err
	}
	ids, err := c.Write(tmp, labelled{open, f.labels}, b.meta.MinTime, b.meta.MaxTime, nil)
	if err != nil {
		return "", err
	}
	if len(ids) != 1 {
		return "", errors.New("it is empty")
	}
	return filepath.Join(tmp, ids[0].String()), nil
}

// labelled is a block all of whose series have some labels more.
type labelled struct {
	tsdb.BlockReader
	add map[string]string
}

// Index implements [tsdb.BlockReader].
func (l labelled) Index() (tsdb.IndexReader, error) {
	r, err := l.BlockReader.Index()
	return labelledIndex{r, l.add}, err
}

type labelledIndex struct {
	tsdb.IndexReader
	add map[string]string
}

// Symbols of the block and of the labels, sorted.
func (r labelledIndex) Symbols() index.StringIter {
	var all []string
	it := r.IndexReader.Symbols()
	for it.Next() {
		all = append(all, it.At())
	}
	if it.Err() != nil {
		return it
	}
	for k, v := range r.add {
		all = append(all, k, v)
	}
	slices.Sort(all)
	return index.NewStringListIter(slices.Compact(all))
}

// Series adds the labels that a series lacks.
func (r labelledIndex) Series(ref storage.SeriesRef, b *labels.ScratchBuilder, chks *[]chunks.Meta) error {
	if err := r.IndexReader.Series(ref, b, chks); err != nil {
		return err
	}
	b.Assign(withLabels(b.Labels(), r.add))
	return nil
}

// withLabels adds the labels that l lacks.
func withLabels(l labels.Labels, add map[string]string) labels.Labels {
	b := labels.NewBuilder(l)
	for k, v := range add {
		if l.Get(k) == "" {
			b.Set(k, v)
		}
	}
	return b.Labels()
}

// SortedPostings sorts by the new labels, which need not be in the order of the old.
func (r labelledIndex) SortedPostings(p index.Postings) index.Postings {
	type series struct {
		ref storage.SeriesRef
		l   labels.Labels
	}
	var all []series
	var b labels.ScratchBuilder
	for p.Next() {
		if err := r.Series(p.At(), &b, nil); err != nil {
			return index.ErrPostings(err)
		}
		all = append(all, series{p.At(), b.Labels()})
	}
	if p.Err() != nil {
		return index.ErrPostings(p.Err())
	}
	slices.SortFunc(all, func(x, y series) int { return labels.Compare(x.l, y.l) })
	refs := make([]storage.SeriesRef, len(all))
	for i, s := range all {
		refs[i] = s.ref
	}
	return index.NewListPostings(refs)
}
