package bucket

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
)

func silent(int, int, int64) {}

func openTSDB(t *testing.T, dir string) *tsdb.DB {
	t.Helper()
	o := tsdb.DefaultOptions()
	o.NoLockfile = true // the store's lock is not the TSDB's own
	o.StripeSize = 64
	o.RetentionDuration = 0
	db, err := tsdb.Open(dir, quiet(), prometheus.NewRegistry(), o, tsdb.NewDBStats())
	require.NoError(t, err)
	return db
}

// queried reads everything from a database.
func queried(t *testing.T, db *tsdb.DB) map[string][]sample {
	t.Helper()
	q, err := db.Querier(0, 1<<62)
	require.NoError(t, err)
	defer q.Close()
	all := make(map[string][]sample)
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() == chunkenc.ValFloat {
			ts, v := it.At()
			name := set.At().Labels().String()
			all[name] = append(all[name], sample{ts, v})
		}
	}
	require.NoError(t, set.Err())
	return all
}

// fillHead appends an hour of samples that no block has.
func fillHead(t *testing.T, db *tsdb.DB, from int64) {
	t.Helper()
	app := db.Appender(context.Background())
	for i := range 60 {
		_, err := app.Append(0, labels.FromStrings("__name__", "head", "i", fmt.Sprint(i%3)), from+int64(i)*60_000, float64(i))
		require.NoError(t, err)
	}
	require.NoError(t, app.Commit())
}

// dataDir is a data directory with two raw blocks, a rollup, a head and what is not
// backed up.
func dataDir(t *testing.T) (dir string, want map[string][]sample) {
	dir = t.TempDir()
	makeBlock(t, dir, 5, base, 2)
	makeBlock(t, dir, 5, base+2*hour, 2)
	rung := filepath.Join(dir, "rollup", "5m")
	require.NoError(t, os.MkdirAll(rung, 0o750))
	makeBlock(t, rung, 2, base, 2)
	db := openTSDB(t, dir)
	fillHead(t, db, base+4*hour)
	want = queried(t, db)
	require.Len(t, want, 5+3)
	require.NoError(t, db.Close())
	for name, text := range map[string]string{
		"audit.log": "line\n", "lock": "", "bucket.json": "{}", "bucket-cache/pages": "x", "snapshots/old/file": "x",
		"01ARZ3NDEKTSV4RRFFQ69G5FAV.tmp-for-creation/index": "half",
	} {
		file := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o750))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	return dir, want
}

func backUp(t *testing.T, b *Backups, dir string) *Manifest {
	t.Helper()
	src, err := Stopped(dir)
	require.NoError(t, err)
	m, err := b.Create(t.Context(), src, "test", silent)
	require.NoError(t, err)
	require.NoError(t, src.Close())
	return m
}

func TestBackupAndRestore(t *testing.T) {
	stores(t, func(t *testing.T, loc Location) {
		dir, want := dataDir(t)
		b := NewBackups(dial(t, testConfig(loc)), time.Now)
		m1 := backUp(t, b, dir)
		require.Equal(t, "wal", m1.Head)
		var paths []string
		for _, e := range m1.Files {
			paths = append(paths, e.Path)
			for _, no := range append([]string{".tmp-for-creation"}, notBackedUp...) {
				require.NotContains(t, e.Path, no)
			}
		}
		require.Contains(t, paths, "audit.log")
		require.Contains(t, paths, "wal/00000000")
		require.Len(t, paths, m1.NewFiles+2, "all are new, and the three empty tombstones are one")
		require.NoError(t, b.Verify(t.Context(), m1, silent))

		// The next one sends only what is new.
		again := backUp(t, b, dir)
		require.Zero(t, again.NewFiles)
		makeBlock(t, dir, 5, base-2*hour, 2)
		m2 := backUp(t, b, dir)
		require.Equal(t, 3, m2.NewFiles, "chunks, index and meta.json of one block: %v", m2.Files)
		require.Less(t, m2.NewBytes, m1.NewBytes)
		require.NotEqual(t, m1.Name, m2.Name)

		// The first can be restored though there is a second.
		names, err := b.List(t.Context())
		require.NoError(t, err)
		require.Len(t, names, 3)
		m, err := b.Manifest(t.Context(), m1.Name)
		require.NoError(t, err)
		to := filepath.Join(t.TempDir(), "restored")
		require.NoError(t, b.Restore(t.Context(), m, to, silent))
		db := openTSDB(t, to)
		require.True(t, equal(want, queried(t, db)))
		require.NoError(t, db.Close())
		require.ErrorContains(t, b.Restore(t.Context(), m, to, silent), "is not empty")

		latest, err := b.Manifest(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, m2.Name, latest.Name)
		_, err = b.Manifest(t.Context(), "nobody")
		require.ErrorContains(t, err, `there is no backup "nobody"`)
	})
}

func TestBackupOfRunningServer(t *testing.T) {
	dir, _ := dataDir(t)
	db := openTSDB(t, dir)
	defer db.Close()
	fillHead(t, db, base+5*hour)
	want := queried(t, db)
	admin := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !admin || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, `{"status":"error","error":"admin APIs disabled"}`)
			return
		}
		if err := db.Snapshot(filepath.Join(dir, "snapshots", "now"), true); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, `{"status":"success","data":{"name":"now"}}`)
	}))
	defer server.Close()

	b := NewBackups(dial(t, testConfig(onDisk(t.TempDir()))), time.Now)
	src, err := Running(t.Context(), dir, server.URL)
	require.NoError(t, err)
	m, err := b.Create(t.Context(), src, "test", silent)
	require.NoError(t, err)
	require.NoError(t, src.Close())
	require.NoDirExists(t, filepath.Join(dir, "snapshots", "now"))
	require.Equal(t, "snapshot", m.Head)
	rollups := 0
	for _, e := range m.Files {
		require.False(t, strings.HasPrefix(e.Path, "wal/"), e.Path)
		if strings.HasPrefix(e.Path, "rollup/5m/") {
			rollups++
		}
	}
	require.Equal(t, 4, rollups)

	to := filepath.Join(t.TempDir(), "restored")
	require.NoError(t, b.Restore(t.Context(), m, to, silent))
	restored := openTSDB(t, to)
	require.True(t, equal(want, queried(t, restored)))
	require.NoError(t, restored.Close())

	admin = false
	_, err = Running(t.Context(), dir, server.URL)
	require.ErrorContains(t, err, "query.admin_api must be true")
	_, err = Running(t.Context(), dir, "http://u:hush@127.0.0.1:1")
	require.ErrorContains(t, err, "ask the server at http://u:xxxxx@127.0.0.1:1")
	require.NotContains(t, err.Error(), "hush")
}

func TestBackupNeedsAStoppedServer(t *testing.T) {
	dir, _ := dataDir(t)
	one, err := Stopped(dir)
	require.NoError(t, err)
	_, err = Stopped(dir)
	require.ErrorContains(t, err, "stop the server, or give its address with --url")
	require.NoError(t, one.Close())
	_, err = Stopped(filepath.Join(dir, "nowhere"))
	require.ErrorContains(t, err, "no such data directory")
}

func TestDamagedBackupIsFound(t *testing.T) {
	store := t.TempDir()
	dir, want := dataDir(t)
	b := NewBackups(dial(t, testConfig(Location{Type: "filesystem", Config: Provider{"directory": store}})), time.Now)
	m := backUp(t, b, dir)
	object := func(i int) string { return filepath.Join(store, filepath.FromSlash(m.Files[i].object())) }
	flipped, err := os.ReadFile(object(0))
	require.NoError(t, err)
	good := append([]byte(nil), flipped...)
	flipped[0] ^= 1
	require.NoError(t, os.WriteFile(object(0), flipped, 0o600))
	lost, err := os.ReadFile(object(1))
	require.NoError(t, err)
	require.NoError(t, os.Remove(object(1)))
	err = b.Verify(t.Context(), m, silent)
	require.ErrorContains(t, err, "2 of ")
	require.ErrorContains(t, err, m.Files[0].Path+": the object in the bucket is damaged")
	require.ErrorContains(t, err, m.Files[1].Path)

	// A restore stops at the damage, and goes on when it is mended.
	to := filepath.Join(t.TempDir(), "restored")
	require.Error(t, b.Restore(t.Context(), m, to, silent))
	require.NoDirExists(t, to)
	require.NoError(t, os.WriteFile(object(0), good, 0o600))
	require.NoError(t, os.WriteFile(object(1), lost, 0o600))
	require.NoError(t, b.Restore(t.Context(), m, to, silent))
	db := openTSDB(t, to)
	require.True(t, equal(want, queried(t, db)))
	require.NoError(t, db.Close())

	// A manifest that was changed is refused.
	name := filepath.Join(store, manifestDir, m.Name+".json")
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, []byte(strings.Replace(string(text), `"path": "audit.log"`, `"path": "../audit.log"`, 1)), 0o600))
	_, err = b.Manifest(t.Context(), m.Name)
	require.ErrorContains(t, err, "is no file of a backup")
	require.NoError(t, os.WriteFile(name, []byte(strings.Replace(string(text), `"path": "audit.log"`, `"path": "passwd"`, 1)), 0o600))
	_, err = b.Manifest(t.Context(), m.Name)
	require.ErrorContains(t, err, "field digest")
}

func TestBackupThatFailsLeavesNone(t *testing.T) {
	s := startS3(t)
	dir, _ := dataDir(t)
	cfg := testConfig(s.location())
	cfg.Retries = 0
	b := NewBackups(dial(t, cfg), time.Now)
	var puts atomic.Int32
	s.breaks(func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
		if r.Method != http.MethodPut {
			return false
		}
		if puts.Add(1) < 5 {
			return false
		}
		answer403(w)
		return true
	})
	src, err := Stopped(dir)
	require.NoError(t, err)
	defer src.Close()
	_, err = b.Create(t.Context(), src, "test", silent)
	require.ErrorContains(t, err, "access denied")
	s.mend()
	names, err := b.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, names)
	m, err := b.Create(t.Context(), src, "test", silent)
	require.NoError(t, err)
	require.Less(t, m.NewFiles, len(m.Files), "what the first has sent is not sent again")
	require.NoError(t, b.Verify(t.Context(), m, silent))
}
