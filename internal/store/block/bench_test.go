package block_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/weir-dev/weir/internal/store/block"
)

// bigBlock writes a raw block of 15 s samples as the TSDB lays it out: counters,
// random walks and constants in turn.
func bigBlock(tb testing.TB, dir string, series int, span time.Duration) string {
	tb.Helper()
	ctx := context.Background()
	id := ulid.MustNew(uint64(base), nil)
	dir = filepath.Join(dir, id.String())
	cw, err := chunks.NewWriter(filepath.Join(dir, block.ChunksDir))
	check(tb, err)
	iw, err := index.NewWriter(ctx, filepath.Join(dir, block.IndexFile))
	check(tb, err)
	all, syms := make([]labels.Labels, series), map[string]bool{}
	for i := range all {
		all[i] = labels.FromStrings("__name__", fmt.Sprintf("metric_%03d_total", i%100), "cluster", "eu1", "env", "prod",
			"instance", fmt.Sprintf("10.0.%d.%d:9100", i/100/250, i/100%250), "job", fmt.Sprintf("job-%d", i%7), "pod", fmt.Sprintf("app-%08x", i*2654435761))
		all[i].Range(func(l labels.Label) { syms[l.Name], syms[l.Value] = true, true })
	}
	slices.SortFunc(all, labels.Compare)
	sorted := make([]string, 0, len(syms))
	for s := range syms {
		sorted = append(sorted, s)
	}
	slices.Sort(sorted)
	for _, s := range sorted {
		check(tb, iw.AddSymbol(s))
	}
	m := tsdb.BlockMeta{ULID: id, MinTime: base, MaxTime: base + span.Milliseconds(), Version: 1, Compaction: tsdb.BlockMetaCompaction{Level: 1, Sources: []ulid.ULID{id}}}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i, ls := range all {
		var chks []chunks.Meta
		v := float64(rnd.IntN(1000))
		for t := base + int64(rnd.IntN(15000)); t < m.MaxTime; {
			c := chunkenc.NewXORChunk()
			app, err := c.Appender()
			check(tb, err)
			mint, maxt := t, t
			for n := 0; n < 120 && t < m.MaxTime; n++ {
				switch i % 4 {
				case 0, 1:
					v += float64(rnd.IntN(200))
				case 2:
					v = float64(int(v*100)+rnd.IntN(401)-200) / 100
				}
				app.Append(0, t, v)
				m.Stats.NumSamples++
				maxt = t
				t += 15000
			}
			chks = append(chks, chunks.Meta{MinTime: mint, MaxTime: maxt, Chunk: c})
		}
		check(tb, cw.WriteChunks(chks...))
		check(tb, iw.AddSeries(0, ls, chks...))
		m.Stats.NumChunks += uint64(len(chks))
		m.Stats.NumSeries++
	}
	m.Stats.NumFloatSamples = m.Stats.NumSamples
	check(tb, cw.Close())
	check(tb, iw.Close())
	check(tb, (&block.Meta{BlockMeta: m}).Write(dir))
	return dir
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// base is a multiple of all resolutions in use.
const base = int64(1_700_006_400_000)

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRoll gives raw samples per CPU-second for 5m and 1h together, reading
// back what was written included. WEIR_BENCH_BLOCK names a directory to keep the
// blocks in between runs.
func BenchmarkRoll(b *testing.B) {
	for _, c := range []struct {
		series int
		span   time.Duration
	}{{200, 14 * 24 * time.Hour}, {2000, 48 * time.Hour}, {50_000, 2 * time.Hour}, {2000, 14 * 24 * time.Hour}, {20_000, 48 * time.Hour}, {200_000, 2 * time.Hour}, {1_000_000, 2 * time.Hour}} {
		b.Run(fmt.Sprintf("%dx%s", c.series, strings.TrimSuffix(c.span.String(), "0m0s")), func(b *testing.B) {
			keep := os.Getenv("WEIR_BENCH_BLOCK")
			if keep == "" {
				if c.series*int(c.span/time.Hour) > 500_000 {
					b.Skip("takes a minute to write; set WEIR_BENCH_BLOCK to keep it")
				}
				keep = b.TempDir()
			}
			keep = filepath.Join(keep, fmt.Sprintf("%dx%s", c.series, c.span))
			raw, _ := filepath.Glob(filepath.Join(keep, "*", "meta.json"))
			if len(raw) == 0 {
				raw = []string{filepath.Join(bigBlock(b, keep, c.series, c.span), "meta.json")}
			}
			out := b.TempDir()
			var began time.Duration
			samples := uint64(0)
			b.ResetTimer()
			began = cpu()
			for range b.N {
				metas, err := block.Roll(context.Background(), filepath.Dir(raw[0]), []block.Rung{{Resolution: 300_000, Dir: out}, {Resolution: 3_600_000, Dir: out}}, block.Options{})
				check(b, err)
				samples += metas[0].Weir().Samples
				b.ReportMetric(float64(metas[0].Size()+metas[1].Size())/float64(dirSize(b, filepath.Dir(raw[0]))), "of_raw")
				for _, m := range metas {
					check(b, block.Remove(filepath.Join(out, m.ULID.String())))
				}
			}
			b.ReportMetric(float64(samples)/(cpu()-began).Seconds()/1e6, "Msamples/cpu-s")
		})
	}
}

func dirSize(tb testing.TB, dir string) (n int64) {
	check(tb, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			st, err := d.Info()
			check(tb, err)
			n += st.Size()
		}
		return err
	}))
	return n
}
