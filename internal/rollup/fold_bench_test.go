package rollup

import (
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

const (
	minute = int64(60_000)
	hour   = 60 * minute
	day    = 24 * hour
)

// blockSeries returns the chunks of series of one shape over a block of a day.
func blockSeries(b testing.TB, shape, series int, mint int64) [][][]byte {
	r := rand.New(rand.NewPCG(9, uint64(shape)))
	all := make([][][]byte, series)
	for i := range all {
		ts, vs := shaped(r, shape, int(day/15_000), mint+r.Int64N(15_000), 0)
		for len(ts) > 0 {
			n := min(120, len(ts))
			all[i] = append(all[i], xorData(b, ts[:n], vs[:n]))
			ts, vs = ts[n:], vs[n:]
		}
	}
	return all
}

// cpuSeconds is the CPU time of the process so far; it survives a busy machine.
func cpuSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

func BenchmarkFold(b *testing.B) {
	const mint = 19_000 * day
	for i, s := range shapes {
		b.Run(s.name, func(b *testing.B) {
			all := blockSeries(b, i, 8, mint)
			chunks, bytes := 0, 0
			f, err := NewFolder([]int64{5 * minute, hour}, func(_ int, _, _ int64, c AggrChunk) error {
				chunks++
				bytes += len(c)
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			cpu := cpuSeconds(b)
			for k := 0; b.Loop(); k++ {
				f.Begin(mint, mint+day, ^uint64(0))
				for _, data := range all[k%len(all)] {
					if err := f.Fold(chunkenc.EncXOR, data, nil); err != nil {
						b.Fatal(err)
					}
				}
				if err := f.End(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(f.Samples())/(cpuSeconds(b)-cpu)/1e6, "Msamples/cpu-s")
			b.ReportMetric(float64(bytes)/float64(f.Samples()), "B/sample")
		})
	}
}

func BenchmarkFoldHistograms(b *testing.B) {
	const mint = 19_000 * day
	for _, what := range []string{"histogram", "custom histogram", "gauge histogram"} {
		b.Run(what, func(b *testing.B) {
			samples := randomSeries(rand.New(rand.NewPCG(1, 33)), what, 5760, mint, mint+30*day)
			chunks := encode(b, samples, true, false)
			f, err := NewFolder(ladder, func(int, int64, int64, AggrChunk) error { return nil })
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			cpu := cpuSeconds(b)
			for b.Loop() {
				f.Begin(mint, mint+30*day, ^uint64(0))
				for _, c := range chunks {
					if err := f.Fold(c.enc, c.data, nil); err != nil {
						b.Fatal(err)
					}
				}
				if err := f.End(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(f.Samples())/(cpuSeconds(b)-cpu)/1e6, "Msamples/cpu-s")
		})
	}
}
