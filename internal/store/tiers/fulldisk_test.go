package tiers

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// TestFullDisk lets the disk itself refuse, in rolling, merging and deleting.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=33554432"); err != nil {
		t.Skipf("a small file system to fill cannot be mounted, which takes root: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(disk, syscall.MNT_DETACH) })
	r := open(t, config(filepath.Join(disk, "data")))
	r.fill(0, 14)
	r.compact()
	dev := labels.MustNewMatcher(labels.MatchEqual, "env", "dev")
	later := time.Duration(0)
	r.now = func() time.Time { return time.Now().Add(later) }
	done := func() bool { return r.tiers.Status().Waiting == 0 && len(r.tiers.state.Deletions) == 0 }
	for _, leave := range []int64{0, 4 << 10, 12 << 10, 40 << 10, 100 << 10, 400 << 10} {
		free := fillDisk(t, disk, leave)
		for range 20 {
			r.tiers.Pass(t.Context())
		}
		free()
		r.wantCounts("with space again", 14*60, 14*60)
		later += time.Hour // what failed may be tried again
	}
	for range 50 {
		r.tiers.Pass(t.Context())
	}
	if f := r.tiers.retry.lastFailure(); f == nil {
		t.Error("nothing failed")
	}
	if !done() {
		t.Errorf("status %+v, last failure %+v", r.tiers.Status(), r.tiers.retry.lastFailure())
	}
	r.wantNoOrphans()

	free := fillDisk(t, disk, 0)
	if err := r.tiers.Delete(t.Context(), base, base+10*hour, dev); err == nil {
		t.Error("a deletion is acknowledged that could not be noted")
	}
	r.wantCounts("after a refused deletion", 14*60, 14*60)
	free()
	r.must(r.tiers.Delete(t.Context(), base, base+10*hour, dev))
	free = fillDisk(t, disk, 8<<10)
	for range 20 {
		r.tiers.Pass(t.Context())
	}
	r.wantCounts("deletion on a full disk", 14*60, 4*60)
	free()
	later += time.Hour
	for range 50 {
		r.tiers.Pass(t.Context())
	}
	r.wantCounts("deleted", 14*60, 4*60)
	if !done() {
		t.Errorf("status %+v, last failure %+v", r.tiers.Status(), r.tiers.retry.lastFailure())
	}
}

// fillDisk takes all space but about leave bytes, until the returned function frees it.
func fillDisk(t *testing.T, dir string, leave int64) (free func()) {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	err = syscall.Fallocate(int(f.Fd()), 0, 0, max(int64(fs.Bavail)*fs.Bsize-leave, 1))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}
