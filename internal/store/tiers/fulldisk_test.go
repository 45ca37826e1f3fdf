package tiers

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-dev/weir/internal/store/storetest"
)

// TestFullDisk lets the disk itself refuse, in rolling, merging and deleting.
func TestFullDisk(t *testing.T) {
	disk := storetest.SmallDisk(t, 32<<20, "")
	r := open(t, config(filepath.Join(disk, "data")))
	r.fill(0, 14)
	r.compact()
	dev := labels.MustNewMatcher(labels.MatchEqual, "env", "dev")
	later := time.Duration(0)
	r.now = func() time.Time { return time.Now().Add(later) }
	done := func() bool { return r.tiers.Status().Waiting == 0 && len(r.tiers.state.Deletions) == 0 }
	for _, leave := range []int64{0, 4 << 10, 12 << 10, 40 << 10, 100 << 10, 400 << 10} {
		free := storetest.FillDisk(t, disk, leave)
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

	free := storetest.FillDisk(t, disk, 0)
	if err := r.tiers.Delete(t.Context(), base, base+10*hour, dev); err == nil {
		t.Error("a deletion is acknowledged that could not be noted")
	}
	r.wantCounts("after a refused deletion", 14*60, 14*60)
	free()
	r.must(r.tiers.Delete(t.Context(), base, base+10*hour, dev))
	free = storetest.FillDisk(t, disk, 8<<10)
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
