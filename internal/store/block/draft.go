package block

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/weir-dev/weir/internal/rollup"
)

// draft is a block in the making, in a directory that [RemoveUnfinished] knows.
//
//	newDraft -> symbols -> (chunk... -> series)... -> commit, or discard
type draft struct {
	dest, tmp string
	meta      *Meta
	index     *indexWriter
	chunks    *chunkWriter
	o         *Options
	buffer    int

	series []chunks.Meta // chunks of the current one
	xor    rollup.XOR
	ts     []int64
	vs     []float64
}

// newDraft begins dest/<ULID>, the ULID that meta has.
func newDraft(dest string, meta *Meta, o *Options, buffer int) (*draft, error) {
	d := &draft{dest: filepath.Join(dest, meta.ULID.String()), meta: meta, o: o, buffer: buffer}
	d.tmp = d.dest + tmpSuffix
	err := os.Mkdir(d.tmp, 0o777)
	if err != nil {
		return nil, fmt.Errorf("make block %s: %w", d.dest, err)
	}
	if d.chunks, err = newChunkWriter(d.tmp, buffer, o.Hashes); err == nil {
		d.index, err = newIndexWriter(d.tmp, buffer, o.Hashes)
	}
	if err != nil {
		return nil, errors.Join(err, d.discard())
	}
	return d, nil
}

// discard removes the block. It does nothing once it is committed.
func (d *draft) discard() error {
	if d == nil || d.tmp == "" {
		return nil
	}
	if d.chunks != nil {
		d.chunks.abort()
	}
	if d.index != nil {
		d.index.w.f.Close() // it may be closed
	}
	tmp := d.tmp
	d.tmp = ""
	return os.RemoveAll(tmp)
}

func discardAll(ds []*draft) (err error) {
	for _, d := range ds {
		err = errors.Join(err, d.discard())
	}
	return err
}

// chunk appends a chunk of the current series, and counts what is in it.
func (d *draft) chunk(mint, maxt int64, enc chunkenc.Encoding, data []byte) error {
	ref, err := d.chunks.add(enc, data)
	if err != nil {
		return err
	}
	d.series = append(d.series, chunks.Meta{Ref: ref, MinTime: mint, MaxTime: maxt})
	points, isFloat := uint64(0), false
	if enc == rollup.EncAggr {
		n, samples, float, err := d.countAggr(data)
		if err != nil {
			return fmt.Errorf("make block %s: %w", d.dest, err)
		}
		points, isFloat = n, float
		d.meta.Thanos.Extensions.Weir.Samples += samples
	} else {
		points, isFloat = uint64(samplesOf(data)), isFloatEnc(enc)
		d.meta.Thanos.Extensions.Weir.Samples += points
	}
	d.meta.Stats.NumSamples += points
	if isFloat {
		d.meta.Stats.NumFloatSamples += points
	} else {
		d.meta.Stats.NumHistogramSamples += points
	}
	return nil
}

func isFloatEnc(enc chunkenc.Encoding) bool { return enc == chunkenc.EncXOR || enc == chunkenc.EncXOR2 }

// samplesOf reads the head that all of the TSDB's chunks have.
func samplesOf(data []byte) int {
	if len(data) < 2 {
		return 0
	}
	return int(data[0])<<8 | int(data[1])
}

// countAggr returns the number of points, and of the samples that they count.
func (d *draft) countAggr(data rollup.AggrChunk) (points, samples uint64, isFloat bool, err error) {
	_, counts, err := data.Part(rollup.Count)
	if err != nil {
		return 0, 0, false, err
	}
	enc, _, err := data.Part(rollup.Sum)
	if err != nil {
		return 0, 0, false, err
	}
	n, err := d.read(counts)
	if err != nil {
		return 0, 0, false, err
	}
	for _, v := range d.vs[:n] {
		samples += uint64(v)
	}
	return uint64(n), samples, enc == chunkenc.EncXOR, nil
}

// read decodes XOR data to d.ts and d.vs.
func (d *draft) read(data []byte) (int, error) {
	d.xor.Reset(data)
	n := d.xor.Len()
	if cap(d.ts) < n {
		d.ts, d.vs = make([]int64, n), make([]float64, n)
	}
	if got := d.xor.Read(d.ts[:n], d.vs[:n]); got < n {
		return got, fmt.Errorf("%d of %d points can be decoded: %w", got, n, d.xor.Err())
	}
	return n, nil
}

// endSeries adds the series to the index, if it has chunks.
func (d *draft) endSeries(labels []uint32) error {
	if len(d.series) == 0 {
		return nil
	}
	err := d.index.addSeries(labels, d.series)
	d.series = d.series[:0]
	return err
}

// commit completes the blocks, verifies them and puts them into their places, one
// after the other but all or none unless there is a crash or the disk fails.
func commit(ctx context.Context, s *scratch, drafts ...*draft) ([]*Meta, error) {
	for _, d := range drafts {
		if err := d.complete(ctx, s); err != nil {
			return nil, err
		}
		r, err := verify(ctx, d.tmp, d.buffer, false)
		if err != nil {
			return nil, err
		}
		if err := r.Err(); err != nil {
			return nil, fmt.Errorf("make block %s: what was written is not what is read back: %w", d.dest, err)
		}
	}
	var metas []*Meta
	for _, d := range drafts {
		if err := d.place(); err != nil {
			return metas, fmt.Errorf("make block %s: %w", d.dest, err)
		}
		metas = append(metas, d.meta)
	}
	return metas, nil
}

func (d *draft) place() error {
	if err := syncDir(d.tmp); err != nil {
		return err
	}
	if err := os.Rename(d.tmp, d.dest); err != nil {
		return err
	}
	d.tmp = ""
	if err := syncDir(filepath.Dir(d.dest)); err != nil {
		return err
	}
	d.o.log().Info("block made", "dir", d.dest, "resolution_ms", d.meta.Resolution(), "mint", d.meta.MinTime, "maxt", d.meta.MaxTime,
		"series", d.meta.Stats.NumSeries, "points", d.meta.Stats.NumSamples, "bytes", d.meta.Size())
	return nil
}

func (d *draft) complete(ctx context.Context, s *scratch) error {
	if err := d.chunks.finish(); err != nil {
		return err
	}
	file, err := d.index.finish(ctx, d.buffer, s)
	if err != nil {
		return err
	}
	m := d.meta
	m.Stats.NumSeries, m.Stats.NumChunks = d.index.series, d.chunks.count
	m.Thanos.IndexStats = IndexStats{d.index.max, d.chunks.max}
	m.Thanos.Files = append(slices.Clone(d.chunks.files), file, File{RelPath: MetaFile})
	m.Thanos.SegmentFiles = nil
	for _, f := range d.chunks.files {
		m.Thanos.SegmentFiles = append(m.Thanos.SegmentFiles, filepath.Base(f.RelPath))
	}
	return m.Write(d.tmp)
}

// tierMeta is the meta of a tier block that is to be made of others.
func tierMeta(id ulid.ULID, resolution int64, o *Options) *Meta {
	m := &Meta{Thanos: Thanos{
		Version:    thanosV1,
		Labels:     o.Labels,
		Downsample: Downsample{resolution},
		Source:     Source,
		Extensions: Extensions{Weir: &Weir{}},
	}}
	m.ULID, m.Version = id, tsdbV1
	if m.Thanos.Labels == nil {
		m.Thanos.Labels = map[string]string{}
	}
	return m
}
