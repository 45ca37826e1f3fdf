package bucket

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/store/block"
)

// compacted merges blocks as the TSDB does.
func compacted(t *testing.T, l *local, ms ...*block.Meta) *block.Meta {
	t.Helper()
	c, err := tsdb.NewLeveledCompactor(t.Context(), prometheus.NewRegistry(), quiet(), []int64{2 * hour, 4 * hour}, nil, nil)
	require.NoError(t, err)
	var dirs []string
	for _, m := range ms {
		dirs = append(dirs, filepath.Join(l.dir, m.ULID.String()))
	}
	ids, err := c.Compact(l.dir, dirs, nil)
	require.NoError(t, err)
	m, err := block.ReadMeta(filepath.Join(l.dir, ids[0].String()))
	require.NoError(t, err)
	return m
}

func TestShip(t *testing.T) {
	stores(t, func(t *testing.T, loc Location) {
		l := newLocal(t)
		cfg := testConfig(loc)
		m1, m2 := makeBlock(t, l.dir, 3, base, 2), makeBlock(t, l.dir, 3, base+2*hour, 2)
		l.add(m1)
		b := l.open(t, cfg, 0)
		require.False(t, b.Shipped(m1.ULID), "nothing is shipped before the bucket has been listed")
		require.NoError(t, l.next(t, b))
		require.True(t, b.Shipped(m1.ULID))
		require.False(t, b.Shipped(m2.ULID))
		l.add(m2)
		require.NoError(t, b.round(t.Context()), "a round without listing ships, too")
		require.True(t, b.Shipped(m2.ULID))

		// What is there is what Thanos wants.
		all, err := b.objects.List(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 2)
		r := all[m1.ULID]
		require.Equal(t, "complete", r.State())
		require.Equal(t, map[string]bool{"meta.json": true, "index": true, "chunks/000001": true}, r.Objects)
		th := r.Meta.Thanos
		require.Equal(t, map[string]string{"cluster": "eu1"}, th.Labels)
		require.Equal(t, []string{"000001"}, th.SegmentFiles)
		require.Len(t, th.Files, 3)
		require.Equal(t, []string{"chunks/000001", "index", "meta.json"}, []string{th.Files[0].RelPath, th.Files[1].RelPath, th.Files[2].RelPath})
		require.NoError(t, b.objects.Check(t.Context(), r.Meta, true))
		require.Equal(t, l.clock().UTC(), th.UploadTime)

		// A compacted block takes its parents' place.
		m3 := compacted(t, l, m1, m2)
		l.add(m3)
		l.remove(t, m1.ULID)
		require.NoError(t, l.next(t, b))
		require.True(t, b.Shipped(m3.ULID))
		require.True(t, b.Shipped(m2.ULID), "it is still there itself")
		require.Equal(t, []ulid.ULID{m3.ULID}, idsOf(b.Remote()))
		all, err = b.objects.List(t.Context())
		require.NoError(t, err)
		require.Equal(t, "marked", all[m1.ULID].State())
		require.Equal(t, "superseded by "+m3.ULID.String(), all[m2.ULID].Mark.Details)

		// And after the delay they go, but not before.
		l.pass(47 * time.Hour)
		require.NoError(t, l.next(t, b))
		require.Len(t, b.blocks, 3)
		l.pass(time.Hour)
		require.NoError(t, l.next(t, b))
		all, err = b.objects.List(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)
		require.True(t, b.Shipped(m2.ULID), "its data is in the one that supersedes it")
		names, err := b.objects.c.list(t.Context(), m1.ULID.String())
		require.NoError(t, err)
		require.Empty(t, names)
	})
}

func idsOf(ms []*block.Meta) (ids []ulid.ULID) {
	for _, m := range ms {
		ids = append(ids, m.ULID)
	}
	return ids
}

// TestMarkFormat pins the bytes of a mark, which Thanos must read.
func TestMarkFormat(t *testing.T) {
	dir := t.TempDir()
	o := dial(t, testConfig(Location{Type: "filesystem", Config: Provider{"directory": dir}}))
	id := ulid.MustParse("01ARZ3NDEKTSV4RRFFQ69G5FAV")
	r := &Remote{ID: id, Objects: map[string]bool{}}
	require.NoError(t, o.MarkForDeletion(t.Context(), r, "superseded", time.Unix(1700000000, 5)))
	data, err := os.ReadFile(filepath.Join(dir, id.String(), "deletion-mark.json"))
	require.NoError(t, err)
	require.Equal(t, `{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","version":1,"details":"superseded","deletion_time":1700000000}`, string(data))
}

func TestKeepInBucket(t *testing.T) {
	l := newLocal(t)
	cfg := testConfig(onDisk(t.TempDir()))
	cfg.DeleteDelay = 0
	l.now.Store(base + 3*hour)
	m := makeBlock(t, l.dir, 1, base, 2)
	l.add(m)
	b := l.open(t, cfg, 24*time.Hour)
	require.NoError(t, l.next(t, b))
	require.Len(t, b.Remote(), 1)
	l.pass(24 * time.Hour)
	require.NoError(t, l.next(t, b))
	require.Empty(t, b.Remote())
	require.NoError(t, l.next(t, b))
	require.Empty(t, b.blocks, "deleted, and not uploaded again though it is still on disk")
	require.True(t, b.Shipped(m.ULID), "else it could never leave the disk")
}

func TestDelayHoldsBack(t *testing.T) {
	l := newLocal(t)
	cfg := testConfig(onDisk(t.TempDir()))
	cfg.Delay = conf.Duration(time.Hour)
	l.now.Store(base + 2*hour)
	m := makeBlock(t, l.dir, 1, base, 2)
	l.add(m)
	b := l.open(t, cfg, 0)
	require.NoError(t, l.next(t, b))
	require.False(t, b.Shipped(m.ULID))
	l.pass(time.Hour)
	require.NoError(t, l.next(t, b))
	require.True(t, b.Shipped(m.ULID))
}

// TestUploadIsResumed cuts uploads at each object.
func TestUploadIsResumed(t *testing.T) {
	s := startS3(t)
	l := newLocal(t)
	m := makeBlock(t, l.dir, 50, base, 2)
	l.add(m)
	cfg := testConfig(s.location())
	cfg.Retries = 0
	b := l.open(t, cfg, 0)
	for _, object := range []string{"/chunks/000001", "/index", m.ULID.String() + "/meta.json"} {
		s.breaks(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, object) {
				return false
			}
			_, _ = io.CopyN(io.Discard, r.Body, 100)
			panic(http.ErrAbortHandler)
		})
		require.ErrorContains(t, l.next(t, b), "1 of 1 blocks not shipped: upload "+m.ULID.String())
		require.False(t, b.Shipped(m.ULID))
		require.Empty(t, b.Remote())
		require.NoError(t, b.round(t.Context()), "the same error is not told twice")
	}
	require.Equal(t, "partial", func() string { require.NoError(t, b.refresh(t.Context())); return b.blocks[m.ULID].State() }())
	s.mend()
	puts := s.count("PUT", "/chunks/000001")
	require.NoError(t, l.next(t, b))
	require.True(t, b.Shipped(m.ULID))
	require.Equal(t, puts, s.count("PUT", "/chunks/000001"), "what was there is not sent again")
	require.Equal(t, 0.0, testutil.ToFloat64(b.metrics.waiting))
	require.Positive(t, testutil.ToFloat64(b.metrics.shipErrors))
}

// TestHalfObject damages objects in the bucket behind the shipper's back.
func TestHalfObject(t *testing.T) {
	dir := t.TempDir()
	l := newLocal(t)
	m := makeBlock(t, l.dir, 50, base, 2)
	l.add(m)
	b := l.open(t, testConfig(onDisk(dir)), 0)
	require.NoError(t, l.next(t, b))
	index := filepath.Join(dir, "a/b", m.ULID.String(), "index")
	require.NoError(t, os.Truncate(index, 100))

	// Another process finds it, says so, and uploads it again.
	require.NoError(t, b.Close())
	b = l.open(t, testConfig(onDisk(dir)), 0)
	require.NoError(t, b.refresh(t.Context()))
	require.NoError(t, b.owner.claim(t.Context()))
	b.check(t.Context())
	require.False(t, b.Shipped(m.ULID))
	require.Contains(t, b.Status().Bad[m.ULID.String()], "index in filesystem bucket \""+dir+"\" below \"a/b\" has 100 bytes of ")
	require.NoError(t, l.next(t, b))
	require.True(t, b.Shipped(m.ULID))
	info, err := os.Stat(index)
	require.NoError(t, err)
	require.Greater(t, info.Size(), int64(100))
}

// TestVerifyByHash damages a byte of an object that a cut upload left.
func TestVerifyByHash(t *testing.T) {
	dir := t.TempDir()
	l := newLocal(t)
	m := makeBlock(t, l.dir, 50, base, 2)
	cfg := testConfig(Location{Type: "filesystem", Config: Provider{"directory": dir}})
	cfg.Verify = VerifyHash
	o := dial(t, cfg)
	name := filepath.Join(dir, m.ULID.String(), "index")
	data, err := os.ReadFile(filepath.Join(l.dir, m.ULID.String(), "index"))
	require.NoError(t, err)
	data[len(data)/2] ^= 1
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
	require.NoError(t, os.WriteFile(name, data, 0o600))
	r, err := o.Upload(t.Context(), filepath.Join(l.dir, m.ULID.String()), map[string]string{"a": "b"}, time.Now())
	require.NoError(t, err)
	require.NoError(t, o.Check(t.Context(), r.Meta, true))
}

func TestDeniedBucketSaysWhatToTurn(t *testing.T) {
	s := startS3(t)
	l := newLocal(t)
	l.add(makeBlock(t, l.dir, 1, base, 2))
	s.breaks(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/index") {
			answer403(w)
			return true
		}
		return false
	})
	b := l.open(t, testConfig(s.location()), 0)
	err := l.next(t, b)
	require.ErrorContains(t, err, "access denied, the credentials (store.bucket.config) do not allow to upload")
	require.Equal(t, 1.0, testutil.ToFloat64(b.metrics.waiting))
	require.Positive(t, testutil.ToFloat64(b.metrics.lag))
}

func TestTwoServersWithTheSameLabels(t *testing.T) {
	loc := onDisk(t.TempDir())
	one, two := newLocal(t), newLocal(t)
	one.add(makeBlock(t, one.dir, 1, base, 2))
	m := makeBlock(t, two.dir, 1, base+2*hour, 2)
	two.add(m)
	b1, b2 := one.open(t, testConfig(loc), 0), two.open(t, testConfig(loc), 0)
	require.NoError(t, one.next(t, b1))
	err := two.next(t, b2)
	require.ErrorContains(t, err, "nothing is shipped: another server, on host ")
	require.ErrorContains(t, err, "give each its own store.bucket.external_labels")
	require.Equal(t, 1.0, testutil.ToFloat64(b2.metrics.conflict))
	require.NoError(t, b2.round(t.Context()))
	require.False(t, b2.Shipped(m.ULID))
	require.Len(t, b2.Remote(), 1, "what is there can be read")

	// A restart of the first is no conflict with itself.
	require.NoError(t, b1.Close())
	b1 = one.open(t, testConfig(loc), 0)
	require.NoError(t, one.next(t, b1))
	// A copy of its directory is: the process before notices.
	b3 := one.open(t, testConfig(loc), 0)
	require.NoError(t, one.next(t, b3))
	require.ErrorContains(t, one.next(t, b1), "another server")
	// When the first has been silent for long, the second takes over.
	two.now.Store(one.now.Load() + ownerLapse.Milliseconds())
	require.NoError(t, two.next(t, b2))
	require.True(t, b2.Shipped(m.ULID))
	// Other labels are no conflict.
	cfg := testConfig(loc)
	cfg.ExternalLabels = map[string]string{"cluster": "us1"}
	three := newLocal(t)
	b4 := three.open(t, cfg, 0)
	require.NoError(t, three.next(t, b4))
	require.Empty(t, b4.Remote())
	require.Equal(t, 2, b4.foreign)
}

func TestTombstonesAreHeld(t *testing.T) {
	l := newLocal(t)
	m := makeBlock(t, l.dir, 2, base, 2)
	l.add(m)
	dir := filepath.Join(l.dir, m.ULID.String())
	raw, err := tsdb.OpenBlock(quiet(), dir, nil, nil)
	require.NoError(t, err)
	require.NoError(t, raw.Delete(t.Context(), base, base+hour, labels.MustNewMatcher(labels.MatchEqual, "i", "0")))
	require.NoError(t, raw.Close())
	b := l.open(t, testConfig(onDisk(t.TempDir())), 0)
	require.NoError(t, l.next(t, b))
	require.False(t, b.Shipped(m.ULID))
	require.Equal(t, 1.0, testutil.ToFloat64(b.metrics.held))
	_, err = b.objects.Upload(t.Context(), dir, map[string]string{"a": "b"}, l.clock())
	require.ErrorIs(t, err, ErrTombstones)
	_, err = tombstones.WriteFile(quiet(), dir, tombstones.NewMemTombstones())
	require.NoError(t, err)
	require.NoError(t, l.next(t, b))
	require.True(t, b.Shipped(m.ULID))
}

// TestAbortedUploadIsSwept compacts a block away while it is being uploaded.
func TestAbortedUploadIsSwept(t *testing.T) {
	s := startS3(t)
	l := newLocal(t)
	m := makeBlock(t, l.dir, 2, base, 2)
	foreign := ulid.MustNew(1, nil)
	l.add(m)
	b := l.open(t, testConfig(s.location()), 0)
	require.NoError(t, b.objects.c.put(t.Context(), foreign.String()+"/index", []byte("another's upload")))
	s.breaks(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/index") {
			l.remove(t, m.ULID)
			answer403(w)
			return true
		}
		return false
	})
	_ = l.next(t, b)
	s.mend()
	require.NoError(t, l.next(t, b))
	names, err := b.objects.c.list(t.Context(), m.ULID.String())
	require.NoError(t, err)
	require.Empty(t, names)
	names, err = b.objects.c.list(t.Context(), foreign.String())
	require.NoError(t, err)
	require.Len(t, names, 1, "what we did not begin is not ours to delete")
}

// TestKilledUploadLeavesNothing leaves half a file as a kill does, of a block that is
// there at the next start and of one that is not.
func TestKilledUploadLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	l := newLocal(t)
	m := makeBlock(t, l.dir, 2, base, 2)
	gone := ulid.MustNew(1, nil)
	b := l.open(t, testConfig(onDisk(dir)), 0)
	for _, id := range []ulid.ULID{m.ULID, gone} {
		require.NoError(t, b.state.begin(id))
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "a/b", id.String()), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "a/b", id.String(), ".index.123.part"), []byte("half"), 0o600))
	}
	require.NoError(t, b.Close())
	l.add(m)
	b = l.open(t, testConfig(onDisk(dir)), 0)
	require.NoError(t, l.next(t, b))
	require.True(t, b.Shipped(m.ULID))
	left, err := filepath.Glob(filepath.Join(dir, "a/b/*/.*"))
	require.NoError(t, err)
	require.Empty(t, left)
	require.NoDirExists(t, filepath.Join(dir, "a/b", gone.String()))
	require.Empty(t, b.state.Begun)
}

// TestRunShips runs the loop itself.
func TestRunShips(t *testing.T) {
	l := newLocal(t)
	b := l.open(t, testConfig(onDisk(t.TempDir())), 0)
	ended := make(chan error)
	stop := make(chan struct{})
	go func() {
		ctx, cancel := contextUntil(stop)
		defer cancel()
		ended <- b.Run(ctx)
	}()
	<-b.RemoteChanged()
	m := makeBlock(t, l.dir, 2, base, 2)
	l.add(m)
	l.ch <- struct{}{}
	require.Eventually(t, func() bool { return b.Shipped(m.ULID) }, 5*time.Second, time.Millisecond)
	close(stop)
	require.NoError(t, <-ended)
}

// TestStateIsOnlyACache loses the file of state, and then the cache.
func TestStateIsOnlyACache(t *testing.T) {
	loc := onDisk(t.TempDir())
	l := newLocal(t)
	m := makeBlock(t, l.dir, 2, base, 2)
	l.add(m)
	b := l.open(t, testConfig(loc), 0)
	require.NoError(t, l.next(t, b))
	require.NoError(t, b.Close())
	require.NoError(t, os.WriteFile(filepath.Join(l.dir, "bucket.json"), []byte(`{"inst`), 0o600))
	require.NoError(t, os.RemoveAll(filepath.Join(l.dir, "bucket-cache")))
	l.pass(ownerLapse) // it cannot know that it was itself
	b = l.open(t, testConfig(loc), 0)
	require.NoError(t, l.next(t, b))
	require.True(t, b.Shipped(m.ULID))
	var s stateFile
	data, err := os.ReadFile(filepath.Join(l.dir, "bucket.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &s))
	require.Empty(t, s.Begun)
	require.NotEmpty(t, s.Instance)
}

func TestEachEndsWithTheFirstError(t *testing.T) {
	boom := errors.New("boom")
	n := 0
	require.ErrorIs(t, each(t.Context(), 1, []int{1, 2, 3}, func(_ ctx, i int) error { n++; return boom }), boom)
	require.Equal(t, 1, n)
}

// TestDeletionIsResumed ends a server between the objects of a block that it deletes:
// what is left has no meta.json to say whose it is.
func TestDeletionIsResumed(t *testing.T) {
	s := startS3(t)
	l := newLocal(t)
	m := makeBlock(t, l.dir, 2, base, 2)
	l.add(m)
	cfg := testConfig(s.location())
	cfg.Retries, cfg.DeleteDelay = 0, 0
	b := l.open(t, cfg, 0)
	require.NoError(t, l.next(t, b))
	l.remove(t, m.ULID)
	require.NoError(t, b.objects.MarkForDeletion(t.Context(), b.blocks[m.ULID].clone(), "a test", l.clock()))
	s.breaks(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method != http.MethodDelete || strings.HasSuffix(r.URL.Path, "/meta.json") {
			return false
		}
		answer403(w)
		return true
	})
	require.ErrorContains(t, l.next(t, b), "access denied")
	names, err := b.objects.c.list(t.Context(), m.ULID.String())
	require.NoError(t, err)
	require.NotEmpty(t, names)
	require.NotContains(t, names, m.ULID.String()+"/meta.json")
	require.NoError(t, b.Close())
	s.mend()

	b = l.open(t, cfg, 0)
	require.NoError(t, l.next(t, b))
	names, err = b.objects.c.list(t.Context(), m.ULID.String())
	require.NoError(t, err)
	require.Empty(t, names)
	require.Empty(t, b.state.Begun)
}
