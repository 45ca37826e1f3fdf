package ingest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/ingest/internal/wire"
)

// TestJournalTorn cuts the journal at every few bytes, as a kill may: what was
// acknowledged before the cut is there, and everything goes on.
func TestJournalTorn(t *testing.T) {
	h := newHARig(t)
	h.from(t, "a", smp{"m_total", 0, 0})
	h.from(t, "b", smp{"m_total", 5, 5})
	h.from(t, "b", smp{"m_total", 10, 10}, smp{"new", 10, 10})
	path := wlog.SegmentName(filepath.Join(h.dir, "ha"), 0)
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	size := len(strings.TrimRight(string(whole), "\x00"))
	for cut := size; cut >= 0; cut -= 31 {
		dir := filepath.Join(t.TempDir(), "data")
		require.NoError(t, os.CopyFS(dir, os.DirFS(h.dir)))
		require.NoError(t, os.WriteFile(wlog.SegmentName(filepath.Join(dir, "ha"), 0), whole[:cut], 0o600))
		n := openHARig(t, dir, h.base)
		n.from(t, "b", smp{"m_total", 15, 15})
		n.from(t, "a", smp{"m_total", 0, 0})
		n.pass(time.Minute)
		if cut == size {
			require.Equal(t, "0=0 5=5 10=10 15=15", n.stored(t, "m_total"))
			require.Equal(t, "10=10", n.stored(t, "new"))
		}
		require.Contains(t, n.stored(t, "m_total"), "15=15")
		require.Zero(t, n.balanced(t).Held)
		n.stop()
	}
}

// TestJournalSegments writes over several segments: series are described in
// each, and settled ones are deleted while others stay.
func TestJournalSegments(t *testing.T) {
	h := newHARig(t)
	h.from(t, "a", smp{"m_total", 0, 0}, smp{"n_total", 0, 0})
	for s := 1.0; s <= 20; s++ {
		h.from(t, "b", smp{"m_total", s, s}, smp{fmt.Sprintf("b%g_total", s), s, s})
		h.in.w.ha.journal.torn = true // a new segment with the next
	}
	h.from(t, "a", smp{"m_total", 20, 20})
	h.from(t, "a", smp{"m_total", 40, 40}) // passes 1 to 10
	h.pass(time.Millisecond)
	first, last, err := wlog.Segments(filepath.Join(h.dir, "ha"))
	require.NoError(t, err)
	require.Equal(t, 10+1, last-first+1, "11 to 20, and the one being written")
	h = h.kill(t)
	h.from(t, "b", smp{"m_total", 71, 71})
	require.Equal(t, "b", h.elected(t))
	require.Equal(t, "0=0 20=20 40=40 71=71", h.stored(t, "m_total"))
	for s := 1.0; s <= 20; s++ {
		require.Equal(t, fmt.Sprintf("%g=%g", s, s), h.stored(t, fmt.Sprintf("b%g_total", s)))
	}
	require.Zero(t, h.balanced(t).Held)
}

// TestJournalStaysShort lets one odd block keep the oldest segment: it is settled
// when the journal has grown past its bound.
func TestJournalStaysShort(t *testing.T) {
	h := newHARig(t)
	h.from(t, "a", smp{"m_total", 0, 0})
	h.from(t, "b", smp{"odd_total", 20, 20})
	require.EqualValues(t, 1, h.balanced(t).Held)
	h.in.w.ha.journal.mu.Lock()
	for range 2 + int(2*h.in.w.ha.budget/rotateAt) {
		h.in.w.ha.journal.torn = true
		require.NoError(t, h.in.w.ha.journal.ready())
	}
	h.in.w.ha.journal.mu.Unlock()
	h.pass(time.Millisecond)
	require.Equal(t, "20=20", h.stored(t, "odd_total"))
	files, err := os.ReadDir(filepath.Join(h.dir, "ha"))
	require.NoError(t, err)
	require.Len(t, files, 1)
}

// TestJournalDiskFull fills the journal's disk: requests that would be held are
// refused until there is room again, all others are not.
func TestJournalDiskFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	ha := filepath.Join(dir, "ha")
	require.NoError(t, os.MkdirAll(ha, 0o750))
	if err := syscall.Mount("tmpfs", ha, "tmpfs", 0, "size=262144"); err != nil {
		t.Skipf("a small file system to fill cannot be mounted, which takes root: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(ha, syscall.MNT_DETACH)) })
	h := openHARig(t, dir, time.Now().Add(-50*time.Minute).UnixMilli())
	h.from(t, "a", smp{"m_total", 0, 0})
	h.from(t, "b", smp{"m_total", 1, 1})
	filler := filepath.Join(ha, "filler")
	fill(t, filler)
	refused := 0
	for s := 2.0; s < 20; s += 0.5 {
		req := &prompb.WriteRequest{}
		for i := range 200 {
			req.Timeseries = append(req.Timeseries, h.series("c", "b", smp{fmt.Sprintf("m%d_total", i), s, s}))
		}
		switch w := h.v1(t, req); w.Code {
		case http.StatusNoContent:
			require.Zero(t, refused, "accepted after the disk was full")
		case http.StatusServiceUnavailable:
			require.Contains(t, w.Body.String(), "ingest.ha.dir")
			require.Equal(t, "0", w.Header().Get("X-Prometheus-Remote-Write-Samples-Written"))
			refused++
		default:
			t.Fatalf("got %d: %s", w.Code, w.Body.String())
		}
	}
	require.Positive(t, refused)
	h.from(t, "a", smp{"m_total", 15, 15}) // needs no journal
	held := h.balanced(t).Held
	require.NoError(t, os.Remove(filler))
	h.from(t, "b", smp{"m_total", 20, 20})
	require.Equal(t, held+1, h.balanced(t).Held)

	n := h.kill(t)
	n.pass(time.Millisecond)
	n.pass(time.Minute)
	require.Equal(t, "0=0 15=15 20=20", n.stored(t, "m_total"))
	require.Zero(t, n.balanced(t).Held)
}

// fill writes to path until nothing more fits.
func fill(t *testing.T, path string) {
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
}

// TestJournalRuns: a stale marker behind a histogram of the same series comes
// back behind it, in an entry of its own.
func TestJournalRuns(t *testing.T) {
	h := func(t int64) wire.Histogram { return wire.Histogram{T: t, H: &histogram.Histogram{}} }
	f := func(t int64) wire.Sample { return wire.Sample{T: t} }
	got := inRuns([]journaledSeries{
		{ref: 1, samples: []wire.Sample{f(2), f(5)}, histograms: []wire.Histogram{h(1), h(3), h(4)}},
		{ref: 2, samples: []wire.Sample{f(1)}},
	})
	require.Equal(t, []journaledSeries{
		{ref: 1, histograms: []wire.Histogram{h(1)}},
		{ref: 1, samples: []wire.Sample{f(2)}},
		{ref: 1, histograms: []wire.Histogram{h(3), h(4)}},
		{ref: 1, samples: []wire.Sample{f(5)}},
		{ref: 2, samples: []wire.Sample{f(1)}},
	}, got)
}
