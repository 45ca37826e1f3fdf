package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/tombstones"
)

// samplesPerChunk is what the head of a TSDB cuts chunks of samples at 15 s to.
const samplesPerChunk = 120

// Write makes the blocks of s in dir, which must be missing or empty, and calls
// done after each block. A write that is cut short leaves no spec file and must be
// removed by hand.
func Write(ctx context.Context, dir string, s Spec, done func(tsdb.BlockMeta)) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("write data set %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		return errors.Join(err, fmt.Errorf("write data set %s: got %d files there, want an empty directory", dir, len(names)))
	}
	series, cuts := s.NewSeries(), s.cuts()
	for i := range len(cuts) - 1 {
		meta, err := writeBlock(ctx, dir, s, series, cuts[i], cuts[i+1])
		if err != nil {
			return fmt.Errorf("write block %d of data set %s: %w", i, dir, err)
		}
		done(meta)
	}
	return writeJSON(filepath.Join(dir, specFile), s)
}

// block is a block under way. One series passes through its buffers at a time.
type block struct {
	mint, maxt int64
	chunks     *chunks.Writer
	index      *index.Writer
	stats      tsdb.BlockStats

	ts    [samplesPerChunk]int64
	vs    [samplesPerChunk]float64
	chunk *chunkenc.XORChunk
	metas []chunks.Meta
}

func writeBlock(ctx context.Context, dir string, s Spec, series []*Series, mint, maxt int64) (tsdb.BlockMeta, error) {
	id := blockID(s, mint, maxt)
	meta := tsdb.BlockMeta{
		ULID: id, MinTime: mint, MaxTime: maxt, Version: 1,
		Compaction: tsdb.BlockMetaCompaction{Level: 1, Sources: []ulid.ULID{id}},
	}
	tmp := filepath.Join(dir, id.String()+".tmp")
	if err := os.Mkdir(tmp, 0o777); err != nil {
		return meta, err
	}
	b := &block{mint: mint, maxt: maxt, chunk: chunkenc.NewXORChunk()}
	if err := b.write(ctx, tmp, series); err != nil {
		return meta, err
	}
	meta.Stats = b.stats
	if err := writeJSON(filepath.Join(tmp, "meta.json"), meta); err != nil {
		return meta, err
	}
	return meta, os.Rename(tmp, filepath.Join(dir, id.String()))
}

func (b *block) write(ctx context.Context, tmp string, series []*Series) (err error) {
	if b.chunks, err = chunks.NewWriter(filepath.Join(tmp, "chunks")); err != nil {
		return err
	}
	if b.index, err = index.NewWriter(ctx, filepath.Join(tmp, "index")); err != nil {
		return errors.Join(err, b.chunks.Close())
	}
	for _, symbol := range symbols(series) {
		if err := b.index.AddSymbol(symbol); err != nil {
			return errors.Join(err, b.close())
		}
	}
	for i, x := range series {
		if err := errors.Join(ctx.Err(), b.add(storage.SeriesRef(i), x)); err != nil {
			return errors.Join(fmt.Errorf("series %s: %w", x.Labels, err), b.close())
		}
	}
	if err := b.close(); err != nil {
		return err
	}
	_, err = tombstones.WriteFile(slog.New(slog.DiscardHandler), tmp, tombstones.NewMemTombstones())
	return err
}

func (b *block) close() error { return errors.Join(b.chunks.Close(), b.index.Close()) }

// add writes the samples of x that belong into the block, a chunk at a time.
func (b *block) add(ref storage.SeriesRef, x *Series) error {
	b.metas = b.metas[:0]
	for {
		n := x.Read(b.ts[:], b.vs[:], b.maxt)
		if n == 0 {
			break
		}
		if err := b.addChunk(b.ts[:n], b.vs[:n]); err != nil {
			return err
		}
	}
	b.stats.NumSeries++
	return b.index.AddSeries(ref, x.Labels, b.metas...)
}

func (b *block) addChunk(ts []int64, vs []float64) error {
	// The header of an XOR chunk is the number of its samples, two bytes.
	empty := append(b.chunk.Bytes()[:0], 0, 0)
	b.chunk.Reset(empty)
	app, err := b.chunk.Appender()
	if err != nil {
		return err
	}
	for i, t := range ts {
		app.Append(0, t, vs[i])
	}
	written := []chunks.Meta{{Chunk: b.chunk, MinTime: ts[0], MaxTime: ts[len(ts)-1]}}
	if err := b.chunks.WriteChunks(written...); err != nil {
		return err
	}
	written[0].Chunk = nil
	b.metas = append(b.metas, written[0])
	b.stats.NumChunks++
	b.stats.NumSamples += uint64(len(ts))
	b.stats.NumFloatSamples += uint64(len(ts))
	return nil
}

// symbols returns all names and values of labels, sorted.
func symbols(series []*Series) []string {
	set := map[string]struct{}{}
	for _, x := range series {
		x.Labels.Range(func(l labels.Label) {
			set[l.Name] = struct{}{}
			set[l.Value] = struct{}{}
		})
	}
	return slices.Sorted(maps.Keys(set))
}

// blockID follows from the spec and the block's time, so that equal data sets have
// equal blocks. It begins with the time of the block's end.
func blockID(s Spec, mint, maxt int64) ulid.ULID {
	var id ulid.ULID
	// Neither can fail: times are below 2^48 and the entropy has 10 bytes.
	_ = id.SetTime(uint64(maxt))
	h := mix(s.Seed ^ mix(uint64(s.Series)<<32^uint64(s.Days)<<16^uint64(len(s.Mix))))
	entropy := make([]byte, 0, 16)
	for _, x := range []uint64{mix(h ^ uint64(mint)), mix(h + 1)} {
		for shift := 0; shift < 64; shift += 8 {
			entropy = append(entropy, byte(x>>shift))
		}
	}
	_ = id.SetEntropy(entropy[:10])
	return id
}

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o666)
}
