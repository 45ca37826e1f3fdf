package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/fileutil"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/store/block"
)

// openMetricsFill makes blocks from one OpenMetrics text. The text may name a series
// anywhere and go through years for each, so its samples are first sorted into one
// file a block; each such file is then read once, into a head, and flushed.
type openMetricsFill struct {
	dir    string
	length conf.Duration
	labels map[string]string
	tick   *ticker

	minBlock time.Duration // the server's

	tmp    string
	series []labels.Labels   // by number
	number map[string]uint64 // of the series as the text writes it
	spools map[int64]*spool  // by the block's beginning
	held   int               // bytes in the buffers of spools
}

// spool holds the samples of one block: number of the series, milliseconds since the
// block's beginning as uvarints, the value's 8 bytes.
type spool struct {
	file string
	buf  []byte
}

const (
	// spoolMemory bounds what spools hold before they are written. A year in blocks of
	// 2h has 4380 spools, so that each is written in pieces of 15 KiB or more.
	spoolMemory = 64 << 20
	// commitEvery bounds the samples of one commit, as in Prometheus' own backfill.
	commitEvery = 5000
)

// staging is where blocks are made before they are checked and put into place. A
// running server and backups pass over it.
func staging(dir string) (string, error) {
	tmp := filepath.Join(dir, "backfill.tmp")
	if err := os.RemoveAll(tmp); err != nil { // of a run that was killed
		return "", fmt.Errorf("backfill: %w", err)
	}
	if err := os.MkdirAll(tmp, 0o750); err != nil {
		return "", fmt.Errorf("backfill: %w", err)
	}
	return tmp, nil
}

func (f *openMetricsFill) run(ctx context.Context, name string, stdin io.Reader) (rows []blockRow, err error) {
	if f.tmp, err = staging(f.dir); err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(f.tmp) }()
	f.number, f.spools = make(map[string]uint64), make(map[int64]*spool)
	if name == "-" {
		name = filepath.Join(f.tmp, "stdin")
		if err := copyIn(name, stdin); err != nil {
			return nil, fmt.Errorf("backfill: %w", err)
		}
	}
	if info, err := os.Stat(name); err == nil && info.Size() == 0 {
		return nil, fmt.Errorf("backfill %s: the file is empty", name)
	}
	text, err := fileutil.OpenMmapFile(name)
	if err != nil {
		return nil, fmt.Errorf("backfill %s: %w", name, err)
	}
	defer func() { _ = text.Close() }()
	if err := f.sort(ctx, text.Bytes()); err != nil {
		return nil, fmt.Errorf("backfill %s: %w", name, err)
	}
	var dirs []string
	for i, start := range slices.Sorted(maps.Keys(f.spools)) {
		f.tick.say("block %d of %d", i+1, len(f.spools))
		dir, err := f.block(ctx, start)
		if err != nil {
			return nil, fmt.Errorf("backfill %s: %w", name, err)
		}
		dirs = append(dirs, dir)
	}
	return place(ctx, dirs, f.dir, f.minBlock)
}

func copyIn(name string, r io.Reader) error {
	w, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

// sort reads the text and writes the spools.
func (f *openMetricsFill) sort(ctx context.Context, text []byte) error {
	p := textparse.NewOpenMetricsParser(text, labels.NewSymbolTable())
	length := f.length.Std().Milliseconds()
	for n := 0; ; n++ {
		e, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d samples: %w", n, err)
		}
		if e != textparse.EntrySeries {
			n--
			continue
		}
		name, ts, v := p.Series()
		if ts == nil {
			return fmt.Errorf("sample %d, of %s, has no timestamp", n+1, name)
		}
		id, ok := f.number[string(name)]
		if !ok {
			id = f.add(p, string(name))
		}
		start := *ts - mod(*ts, length)
		if err := f.put(start, id, uint64(*ts-start), v); err != nil {
			return err
		}
		if n%100_000 == 0 {
			f.tick.say("%d samples of %d series read", n, len(f.series))
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	if len(f.series) == 0 {
		return errors.New("there is no sample in it")
	}
	return f.flush()
}

// mod is never negative: blocks of the time before 1970 begin at multiples, too.
func mod(t, length int64) int64 { return (t%length + length) % length }

func (f *openMetricsFill) add(p textparse.Parser, name string) uint64 {
	var l labels.Labels
	p.Labels(&l)
	id := uint64(len(f.series))
	f.series = append(f.series, withLabels(l, f.labels))
	f.number[name] = id
	return id
}

func (f *openMetricsFill) put(start int64, id, offset uint64, v float64) error {
	s := f.spools[start]
	if s == nil {
		s = &spool{file: filepath.Join(f.tmp, fmt.Sprintf("spool%d", start))}
		f.spools[start] = s
	}
	before := len(s.buf)
	s.buf = binary.AppendUvarint(s.buf, id)
	s.buf = binary.AppendUvarint(s.buf, offset)
	s.buf = binary.LittleEndian.AppendUint64(s.buf, math.Float64bits(v))
	if f.held += len(s.buf) - before; f.held > spoolMemory {
		return f.flush()
	}
	return nil
}

func (f *openMetricsFill) flush() error {
	for _, s := range f.spools {
		if len(s.buf) == 0 {
			continue
		}
		w, err := os.OpenFile(s.file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return err
		}
		_, err = w.Write(s.buf)
		if err := errors.Join(err, w.Close()); err != nil {
			return err
		}
		s.buf = s.buf[:0]
	}
	f.held = 0
	return nil
}

// block makes the block of one spool and returns its directory.
func (f *openMetricsFill) block(ctx context.Context, start int64) (dir string, err error) {
	file, err := os.Open(f.spools[start].file)
	if err != nil {
		return "", err
	}
	defer file.Close()
	h, err := f.head()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, h.Close(), os.RemoveAll(filepath.Join(f.tmp, "head"))) }()
	r := bufio.NewReaderSize(file, 1<<20)
	heads := make(map[uint64]filled)
	app := h.Appender(ctx)
	count := uint64(0)
	for n := 1; ; n++ {
		id, err := binary.ReadUvarint(r)
		if errors.Is(err, io.EOF) {
			break
		}
		offset, oerr := binary.ReadUvarint(r)
		var v [8]byte
		_, verr := io.ReadFull(r, v[:])
		if err := errors.Join(err, oerr, verr); err != nil {
			return "", err
		}
		next := filled{t: start + int64(offset), bits: binary.LittleEndian.Uint64(v[:])}
		last, seen := heads[id]
		if seen && next.t == last.t && next.bits == last.bits {
			continue
		}
		if seen && next.t <= last.t { // the head would drop it at Commit, and say nothing
			return "", fmt.Errorf("series %s at %s: %w", f.series[id], time.UnixMilli(next.t).UTC().Format(time.RFC3339Nano), storage.ErrOutOfOrderSample)
		}
		if next.ref, err = app.Append(last.ref, f.series[id], next.t, math.Float64frombits(next.bits)); err != nil {
			return "", fmt.Errorf("series %s at %s: %w", f.series[id], time.UnixMilli(next.t).UTC().Format(time.RFC3339Nano), err)
		}
		heads[id] = next
		count++
		if n%commitEvery == 0 {
			if err := app.Commit(); err != nil {
				return "", err
			}
			app = h.Appender(ctx)
		}
	}
	if err := app.Commit(); err != nil {
		return "", err
	}
	if dir, err = f.write(ctx, h, start); err != nil {
		return "", err
	}
	m, err := block.ReadMeta(dir)
	if err == nil && m.Stats.NumSamples != count {
		err = fmt.Errorf("the block has %d samples of %d", m.Stats.NumSamples, count)
	}
	return dir, errors.Join(err, os.Remove(file.Name()))
}

// head makes an empty one. It takes samples down to half its range before the newest,
// hence twice the block's length.
func (f *openMetricsFill) head() (*tsdb.Head, error) {
	o := tsdb.DefaultHeadOptions()
	o.ChunkRange = 2 * f.length.Std().Milliseconds()
	o.ChunkDirRoot = filepath.Join(f.tmp, "head")
	h, err := tsdb.NewHead(nil, slog.New(slog.DiscardHandler), nil, nil, o, tsdb.NewHeadStats())
	if err != nil {
		return nil, err
	}
	return h, h.Init(math.MinInt64)
}

// write makes the block. Where another one follows it ends where that begins, so that
// there is no gap between them; the first begins with its first sample and the last
// ends with its last, for they may meet blocks that are there.
func (f *openMetricsFill) write(ctx context.Context, h *tsdb.Head, start int64) (string, error) {
	length := f.length.Std().Milliseconds()
	c, err := tsdb.NewLeveledCompactor(ctx, nil, slog.New(slog.DiscardHandler), []int64{length}, chunkenc.NewPool(), nil)
	if err != nil {
		return "", err
	}
	mint, maxt := h.MinTime(), h.MaxTime()+1
	if f.spools[start-length] != nil {
		mint = start
	}
	if f.spools[start+length] != nil {
		maxt = start + length
	}
	ids, err := c.Write(f.tmp, h, mint, maxt, nil)
	if err != nil {
		return "", err
	}
	if len(ids) != 1 {
		return "", errors.New("the block came out empty")
	}
	return filepath.Join(f.tmp, ids[0].String()), nil
}

// filled is the last sample of a series in a block that is being made.
type filled struct {
	ref  storage.SeriesRef
	t    int64
	bits uint64
}

// place checks new blocks and moves them into the data directory, all or none but
// for a crash. Where a server has a head, blocks of its time are refused: at its next
// start it would take all that the newest block spans for written, and drop it from
// the write-ahead log.
func place(ctx context.Context, dirs []string, to string, minBlock time.Duration) (rows []blockRow, err error) {
	rows = []blockRow{}
	_, err = os.Stat(filepath.Join(to, "wal"))
	served := err == nil
	limit := time.Now().Add(-minBlock * 3 / 2) // a head is cut when it spans half a block more than one
	for _, dir := range dirs {
		r, err := block.Verify(ctx, dir)
		if err = errors.Join(err, r.Err()); err != nil {
			return nil, err
		}
		if served && r.Meta.MaxTime > limit.UnixMilli() {
			return nil, fmt.Errorf("backfill: there are samples newer than %s, of a time that the server's head may hold (store.min_block_duration); wait, or leave them out",
				limit.UTC().Format(time.RFC3339))
		}
	}
	for _, dir := range dirs {
		final := filepath.Join(to, filepath.Base(dir))
		if err := fileutil.Rename(dir, final); err != nil {
			return nil, err
		}
		rows = append(rows, readLocal(final).row())
	}
	return rows, nil
}
