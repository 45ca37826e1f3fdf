package block_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/weir-dev/weir/internal/store/block"
)

// TestVerifyFlips flips bits of many bytes, one at a time.
func TestVerifyFlips(t *testing.T) {
	dir := t.TempDir()
	in := data(2 * hour)
	raw := rawBlock(t, dir, in, base, base+2*hour)
	tier := at(dir, roll(t, raw, dir, block.Rung{Resolution: 5 * minute})[0])
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct {
		dir, file string
		every     int
	}{
		{tier, block.IndexFile, 3}, {tier, block.SegmentName(0), 12}, {tier, block.MetaFile, 3},
		{raw, block.IndexFile, 6}, {raw, block.SegmentName(0), 50},
	} {
		path := filepath.Join(c.dir, c.file)
		good, err := os.ReadFile(path)
		check(t, err)
		for i := rnd.IntN(c.every); i < len(good); i += 1 + rnd.IntN(2*c.every-1) {
			bad := append([]byte{}, good...)
			bad[i] ^= 1 << rnd.IntN(8)
			check(t, os.WriteFile(path, bad, 0o666))
			r, err := block.Verify(context.Background(), c.dir)
			if err != nil || len(r.Faults) == 0 {
				t.Fatalf("%s: byte %d is %02x, was %02x: got %d faults and error %v", path, i, bad[i], good[i], len(r.Faults), err)
			}
			if !strings.Contains(r.Err().Error(), c.dir) {
				t.Fatalf("%s: a fault names no block: %v", path, r.Err())
			}
			if b, err := block.Open(c.dir); err == nil { // must not panic
				if s, err := b.Select(context.Background()); err == nil {
					for s.Next() {
						for _, m := range s.Chunks() {
							_, _, _ = b.Chunk(m.Ref, nil)
						}
					}
				}
				check(t, b.Close())
			}
		}
		check(t, os.WriteFile(path, good, 0o666))
	}
	verified(t, tier)
	verified(t, raw)
}

// TestVerifyNames has damage beyond CRCs, or two at once.
func TestVerifyNames(t *testing.T) {
	fresh := func(t *testing.T) string {
		dir := t.TempDir()
		return at(dir, roll(t, rawBlock(t, dir, data(2*hour), base, base+2*hour), dir, block.Rung{Resolution: 5 * minute})[0])
	}
	for _, c := range []struct {
		name string
		harm func(t *testing.T, dir string)
		want []string
	}{
		{"two chunks", func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, block.SegmentName(0)), chunks.SegmentHeaderSize+20)
			flip(t, filepath.Join(dir, block.SegmentName(0)), -10)
		}, []string{"chunks/000001 at byte 8: the CRC-32C", "SHA-256"}},
		{"no index", func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, block.IndexFile))) }, []string{"file index: is missing"}},
		{"no meta", func(t *testing.T, dir string) { check(t, os.Remove(filepath.Join(dir, block.MetaFile))) }, []string{"file meta.json"}},
		{"no chunks", func(t *testing.T, dir string) { check(t, os.RemoveAll(filepath.Join(dir, block.ChunksDir))) }, []string{"file chunks: "}},
		{"short segment", func(t *testing.T, dir string) { check(t, os.Truncate(filepath.Join(dir, block.SegmentName(0)), 100)) }, []string{"chunks/000001: has 100 bytes", "ends within a chunk"}},
		{"empty index", func(t *testing.T, dir string) { check(t, os.Truncate(filepath.Join(dir, block.IndexFile), 0)) }, []string{"file index: has 0 bytes"}},
		{"gap", func(t *testing.T, dir string) {
			check(t, os.Rename(filepath.Join(dir, block.SegmentName(0)), filepath.Join(dir, block.SegmentName(1))))
		}, []string{"is not chunks/000001"}},
		{"wrong count", func(t *testing.T, dir string) {
			m, err := block.ReadMeta(dir)
			check(t, err)
			m.Thanos.Extensions.Weir.Samples++
			check(t, m.Write(dir))
		}, []string{"field thanos.extensions.weir.samples"}},
		{"moved", func(t *testing.T, dir string) {
			m, err := block.ReadMeta(dir)
			check(t, err)
			m.MaxTime -= hour
			check(t, m.Write(dir))
		}, []string{"is not within the block"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := fresh(t)
			c.harm(t, dir)
			r, err := block.Verify(context.Background(), dir)
			check(t, err)
			got := fmt.Sprint(r.Err())
			for _, want := range c.want {
				if !strings.Contains(got, want) {
					t.Errorf("got %s\nwant it to have %q", got, want)
				}
			}
		})
	}
}

// flip flips a bit; a negative place is from the end.
func flip(tb testing.TB, path string, at int) {
	tb.Helper()
	b, err := os.ReadFile(path)
	check(tb, err)
	if at < 0 {
		at += len(b)
	}
	b[at] ^= 4
	check(tb, os.WriteFile(path, b, 0o666))
}

// TestRollCorrupt is about what is not to become a rollup.
func TestRollCorrupt(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	raw := rawBlock(t, dir, data(2*hour), base, base+2*hour)
	for _, file := range []string{block.IndexFile, block.SegmentName(0)} {
		path := filepath.Join(raw, file)
		good, err := os.ReadFile(path)
		check(t, err)
		for _, at := range []int{3, len(good) / 3, len(good) / 2} {
			flip(t, path, at)
			_, err := block.Roll(context.Background(), raw, []block.Rung{{Resolution: 5 * minute, Dir: out}}, block.Options{})
			var f *block.Fault
			inPostings := file == block.IndexFile && at > len(good)/3 // which rolling up need not read
			if !errors.As(err, &f) && !inPostings || f != nil && f.File != file {
				t.Errorf("%s, byte %d: got error %v", file, at, err)
			}
			check(t, os.WriteFile(path, good, 0o666))
		}
	}
	if left, _ := filepath.Glob(filepath.Join(out, "*tmp*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestRemoveUnfinished(t *testing.T) {
	dir := t.TempDir()
	raw := rawBlock(t, dir, data(hour), base, base+2*hour)
	m := roll(t, raw, dir, block.Rung{Resolution: 5 * minute})[0]
	doomed := roll(t, raw, dir, block.Rung{Resolution: 5 * minute})[0]
	for _, suffix := range []string{".tmp-for-creation", ".tmp-for-deletion"} {
		check(t, os.CopyFS(at(dir, m)+suffix, os.DirFS(at(dir, m))))
	}
	check(t, block.Remove(at(dir, doomed)))
	check(t, block.Remove(at(dir, doomed)))
	gone, err := block.RemoveUnfinished(dir)
	check(t, err)
	left, err := os.ReadDir(dir)
	check(t, err)
	if len(gone) != 2 || len(left) != 2 {
		t.Errorf("got %v removed and %v left", gone, left)
	}
	verified(t, at(dir, m))
	if gone, err := block.RemoveUnfinished(filepath.Join(dir, "none")); gone != nil || err != nil {
		t.Errorf("without a directory: got %v and error %v", gone, err)
	}
}

// TestDiskFull lets the disk refuse at many points of making a block.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	raw := rawBlock(t, dir, data(4*hour), base, base+4*hour)
	out := t.TempDir()
	if err := syscall.Mount("tmpfs", out, "tmpfs", 0, "size=1048576"); err != nil {
		t.Skipf("a small file system to fill cannot be mounted, which takes root: %v", err)
	}
	defer func() { check(t, syscall.Unmount(out, syscall.MNT_DETACH)) }()
	filler := filepath.Join(out, "filler")
	refused := 0
	for leave := int64(0); ; leave += 4096 {
		var fs syscall.Statfs_t
		check(t, syscall.Statfs(out, &fs))
		f, err := os.Create(filler)
		check(t, err)
		check(t, syscall.Fallocate(int(f.Fd()), 0, 0, max(int64(fs.Bavail)*fs.Bsize-leave, 1)))
		check(t, f.Close())
		ms, err := block.Roll(context.Background(), raw, []block.Rung{{Resolution: 5 * minute, Dir: out}, {Resolution: hour, Dir: out}}, block.Options{})
		check(t, os.Remove(filler))
		if err == nil {
			verified(t, at(out, ms[0]))
			break
		}
		refused++
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), out) {
			t.Fatalf("with %d bytes left: got error %v", leave, err)
		}
		if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
			t.Fatalf("with %d bytes left: left %v, or: %v", leave, left, err)
		}
	}
	if refused < 3 {
		t.Errorf("the disk was full %d times only", refused)
	}
}
