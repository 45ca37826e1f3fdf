package bucket

import (
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

// TestReadBack ships a block, removes it from the disk and reads it from the bucket.
func TestReadBack(t *testing.T) {
	stores(t, func(t *testing.T, loc Location) {
		l := newLocal(t)
		m := makeBlock(t, l.dir, 2000, base, 2)
		want := contentOf(t, filepath.Join(l.dir, m.ULID.String()))
		require.Len(t, want, 2000)
		l.add(m)
		b := l.open(t, testConfig(loc), 0)
		require.NoError(t, l.next(t, b))
		l.remove(t, m.ULID)
		require.NoError(t, l.next(t, b))
		require.Len(t, b.Remote(), 1)

		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				wantRemote(t, b, m.ULID, want)
			})
		}
		wg.Wait()
		size := b.Remote()[0].Size()
		fetched := testutil.ToFloat64(b.metrics.bytes.WithLabelValues("get"))
		require.Less(t, fetched, float64(size)*1.5+1e5, "each page is fetched once")

		// The next process has the pages on disk.
		require.NoError(t, b.Close())
		b = l.open(t, testConfig(loc), 0)
		require.NoError(t, l.next(t, b))
		before := testutil.ToFloat64(b.metrics.bytes.WithLabelValues("get"))
		wantRemote(t, b, m.ULID, want)
		require.Equal(t, before, testutil.ToFloat64(b.metrics.bytes.WithLabelValues("get")))
		require.Zero(t, testutil.ToFloat64(b.metrics.pageHits.WithLabelValues("bucket")))

		// A damaged page on disk is fetched again.
		require.NoError(t, b.Close())
		file := filepath.Join(l.dir, "bucket-cache", "pages")
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		for at := pageHeader + 100; at < len(data); at += slotSize {
			data[at] ^= 0x80
		}
		require.NoError(t, os.WriteFile(file, data, 0o600))
		b = l.open(t, testConfig(loc), 0)
		require.NoError(t, l.next(t, b))
		wantRemote(t, b, m.ULID, want)
		require.Positive(t, testutil.ToFloat64(b.metrics.pageHits.WithLabelValues("bucket")))
	})
}

// wantRemote reads a block from the bucket, and wants in it what was on disk. It may run
// beside others.
func wantRemote(t *testing.T, b *Bucket, id ulid.ULID, want map[string][]sample) {
	t.Helper()
	blk, err := b.OpenRemote(t.Context(), id)
	if err != nil {
		t.Error(err)
		return
	}
	defer blk.Release()
	if !equal(want, content(t, blk)) {
		t.Errorf("block %s, read from the bucket, differs from what was on disk", id)
	}
}

func equal(a, b map[string][]sample) bool {
	if len(a) != len(b) {
		return false
	}
	for k, x := range a {
		y := b[k]
		if len(x) != len(y) {
			return false
		}
		for i := range x {
			if x[i] != y[i] {
				return false
			}
		}
	}
	return true
}

// TestBucketFailsDuringQuery lets the bucket go away between opening and reading.
func TestBucketFailsDuringQuery(t *testing.T) {
	s := startS3(t)
	l := newLocal(t)
	m := makeBlock(t, l.dir, 2000, base, 2)
	l.add(m)
	cfg := testConfig(s.location())
	cfg.Retries = 0
	b := l.open(t, cfg, 0)
	require.NoError(t, l.next(t, b))

	s.breaks(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method == http.MethodGet {
			answer403(w)
			return true
		}
		return false
	})
	_, err := b.OpenRemote(t.Context(), m.ULID)
	require.ErrorContains(t, err, "open block "+m.ULID.String()+` in s3 bucket "metrics"`)
	require.ErrorContains(t, err, "access denied")
	require.Empty(t, b.Status().Bad, "a bucket that denies is no damage of the block")

	s.mend()
	blk, err := b.OpenRemote(t.Context(), m.ULID)
	require.NoError(t, err)
	s.breaks(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method == http.MethodGet {
			answer403(w)
			return true
		}
		return false
	})
	idx := b.indexes[m.ULID] // too small for the series not to be fetched with the header
	for i := range idx.have {
		idx.have[i].Store(0)
	}
	all := labels.MustNewMatcher(labels.MatchRegexp, "i", ".+")
	series, err := blk.Select(t.Context(), all)
	if err == nil {
		for series.Next() {
		}
		err = series.Err()
	}
	require.Error(t, err)
	b.Quarantine(m.ULID, err)
	require.Empty(t, b.Status().Bad, "a bucket that denies is no damage of the block")
	s.mend()
	series, err = blk.Select(t.Context(), all)
	require.NoError(t, err)
	n := 0
	for series.Next() {
		n++
	}
	require.NoError(t, series.Err())
	require.Equal(t, 2000, n)
	blk.Release()
}

// TestCorruptIndexIsQuarantined damages the index in the bucket without changing
// its size.
func TestCorruptIndexIsQuarantined(t *testing.T) {
	dir := t.TempDir()
	l := newLocal(t)
	m, good := makeBlock(t, l.dir, 50, base, 2), makeBlock(t, l.dir, 50, base+2*hour, 2)
	l.add(m)
	l.add(good)
	b := l.open(t, testConfig(onDisk(dir)), 0)
	require.NoError(t, l.next(t, b))
	index := filepath.Join(dir, "a/b", m.ULID.String(), "index")
	data, err := os.ReadFile(index)
	require.NoError(t, err)
	damaged := append([]byte(nil), data...)
	damaged[len(data)-10] ^= 1 // in the table of contents
	require.NoError(t, os.WriteFile(index, damaged, 0o600))
	_, err = b.OpenRemote(t.Context(), m.ULID)
	require.ErrorContains(t, err, m.ULID.String())
	require.Contains(t, b.Status().Bad, m.ULID.String())
	require.Len(t, b.Remote(), 1, "the rest is served")
	blk, err := b.OpenRemote(t.Context(), good.ULID)
	require.NoError(t, err)
	blk.Release()
	_, err = b.OpenRemote(t.Context(), m.ULID)
	require.ErrorContains(t, err, "index", "and says why")
	// Mended, it is served again after an hour.
	require.NoError(t, os.WriteFile(index, data, 0o600))
	l.pass(badFor)
	require.NoError(t, l.next(t, b))
	blk, err = b.OpenRemote(t.Context(), m.ULID)
	require.NoError(t, err)
	blk.Release()
}

func TestBadMetaIsNamed(t *testing.T) {
	dir := t.TempDir()
	l := newLocal(t)
	l.add(makeBlock(t, l.dir, 2, base, 2))
	b := l.open(t, testConfig(onDisk(dir)), 0)
	id := "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	require.NoError(t, b.objects.c.put(t.Context(), id+"/meta.json", []byte(`{"version": 1, "ulid": "01ARZ3`)))
	require.NoError(t, l.next(t, b))
	require.Contains(t, b.Status().Bad[id], id+"/meta.json in filesystem bucket")
	require.Len(t, b.Remote(), 1)
}

// TestCacheIsBounded reads more than the cache holds.
func TestCacheIsBounded(t *testing.T) {
	dir := t.TempDir()
	o := dial(t, testConfig(onDisk(dir)))
	const pagesInAll = 600
	data := make([]byte, pagesInAll*pageSize-1000)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	require.NoError(t, o.c.put(t.Context(), "x/index", data))
	cache := t.TempDir()
	p, err := openPages(cache, minCache, o.c, quiet())
	require.NoError(t, err)
	defer p.Close()
	obj := &object{pages: p, name: "x/index", size: int64(len(data))}
	for range 2000 {
		off := rand.IntN(len(data))
		n := rand.IntN(min(3*pageSize, len(data)-off))
		buf := make([]byte, n)
		got, err := obj.ReadAt(buf, int64(off))
		require.NoError(t, err)
		require.Equal(t, n, got)
		require.Equal(t, data[off:off+n], buf)
	}
	info, err := os.Stat(filepath.Join(cache, "pages"))
	require.NoError(t, err)
	require.LessOrEqual(t, info.Size(), int64(minCache))
	require.LessOrEqual(t, len(p.memory.at), memoryPages)
}

// TestReadingInOrderFetchesAhead counts requests.
func TestReadingInOrderFetchesAhead(t *testing.T) {
	s := startS3(t)
	o := dial(t, testConfig(s.location()))
	data := make([]byte, 100*pageSize)
	require.NoError(t, o.c.put(t.Context(), "x/index", data))
	p, err := openPages(t.TempDir(), minCache, o.c, quiet())
	require.NoError(t, err)
	defer p.Close()
	obj := &object{pages: p, name: "x/index", size: int64(len(data))}
	for off := range 100 {
		_, err := obj.ReadAt(make([]byte, 10), int64(off)*pageSize)
		require.NoError(t, err)
	}
	require.Less(t, s.count("GET", "/index"), 12)
	before := s.count("GET", "/index")
	obj.block[0] = 1 // another block, nothing cached
	_, err = obj.ReadAt(make([]byte, len(data)), 0)
	require.NoError(t, err)
	require.Equal(t, before+1, s.count("GET", "/index"), "what is asked for at once is one request")
}

// TestIndexesAreBounded opens more blocks than the cache has room for, while the first
// is being read.
func TestIndexesAreBounded(t *testing.T) {
	l := newLocal(t)
	cfg := testConfig(onDisk(t.TempDir()))
	cfg.CacheSize = 1 << 20 // smaller than Validate lets through: room for 8 indexes of a page
	const n = 20
	var want []map[string][]sample
	for i := range n {
		m := makeBlock(t, l.dir, 20, base+int64(i)*2*hour, 2)
		l.add(m)
		want = append(want, contentOf(t, filepath.Join(l.dir, m.ULID.String())))
	}
	b := l.open(t, cfg, 0)
	require.NoError(t, l.next(t, b))
	metas := b.Remote()
	require.Len(t, metas, n)
	b.grace = 50 * time.Millisecond
	held, err := b.OpenRemote(t.Context(), metas[0].ULID)
	require.NoError(t, err)
	defer held.Release()
	for range 2 {
		var wg sync.WaitGroup
		for i, m := range metas {
			wg.Go(func() {
				wantRemote(t, b, m.ULID, want[i])
			})
		}
		wg.Wait()
	}
	series, err := held.Select(t.Context())
	require.NoError(t, err)
	n0 := 0
	for series.Next() {
		_, _, err := held.Chunk(series.Chunks()[0].Ref, nil)
		require.NoError(t, err)
		n0++
	}
	require.NoError(t, series.Err())
	require.Equal(t, 20, n0, "what is being read stays")
	b.mu.Lock()
	b.trim()
	open := len(b.open.at)
	b.mu.Unlock()
	require.LessOrEqual(t, open, 8)
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.indexes) <= 9 // and the one that is held
	}, 5*time.Second, time.Millisecond)
	files, err := filepath.Glob(filepath.Join(l.dir, "bucket-cache", "index", "*"))
	require.NoError(t, err)
	require.LessOrEqual(t, len(files), 9)
}
