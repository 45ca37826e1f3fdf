package bucket

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/conf"
)

// TestFaultyStore breaks requests of a real client to a real server, over HTTP.
func TestFaultyStore(t *testing.T) {
	s := startS3(t)
	cfg := testConfig(s.location())
	cfg.Timeout = conf.Duration(200 * time.Millisecond)
	o := dial(t, cfg)
	ctx := t.Context()
	data := bytes.Repeat([]byte("0123456789"), 5000)
	require.NoError(t, o.c.put(ctx, "x/object", data))

	var asked atomic.Int32
	fail := func(times int32, f func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
		asked.Store(0)
		s.breaks(func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
			if r.URL.Query().Has("location") || asked.Add(1) > times {
				return false
			}
			f(w, r, next)
			return true
		})
	}
	get := func() error {
		p := make([]byte, len(data))
		err := o.c.getRange(ctx, "x/object", 0, p)
		if err == nil {
			require.Equal(t, data, p)
		}
		return err
	}
	busy := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>`)
	}
	hang := func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
		case <-time.After(5 * time.Second):
		}
	}
	denied := func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { answer403(w) }

	t.Run("busy for a while", func(t *testing.T) {
		fail(2, busy)
		require.NoError(t, get())
		require.EqualValues(t, 3, asked.Load(), "each try is one request: the client's own retries are off")
	})
	t.Run("busy for ever", func(t *testing.T) {
		fail(100, busy)
		err := get()
		require.ErrorContains(t, err, `get x/object in s3 bucket "metrics": failed 3 times: Reduce your request rate`)
		require.EqualValues(t, 3, asked.Load())
	})
	t.Run("cut once", func(t *testing.T) {
		fail(1, cut)
		require.NoError(t, get())
	})
	t.Run("always cut", func(t *testing.T) {
		fail(100, cut)
		require.True(t, IsKind(get(), Short), "%v", get())
	})
	t.Run("silent", func(t *testing.T) {
		fail(100, hang)
		began := time.Now()
		err := get()
		require.True(t, IsKind(err, TimedOut))
		require.ErrorContains(t, err, "timed out 3 times (store.bucket.timeout, store.bucket.retries): no byte moved for too long: 200ms")
		require.Less(t, time.Since(began), 3*time.Second)
		require.True(t, IsKind(o.c.put(ctx, "x/other", data), TimedOut))
	})
	t.Run("slow but alive", func(t *testing.T) {
		slow := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			maps.Copy(w.Header(), rec.Header())
			w.WriteHeader(rec.Code)
			for part := range slices.Chunk(rec.Body.Bytes(), 5000) {
				_, _ = w.Write(part)
				w.(http.Flusher).Flush()
				time.Sleep(50 * time.Millisecond)
			}
		}
		fail(1, slow)
		require.NoError(t, get())
		require.EqualValues(t, 1, asked.Load(), "half a second without a pause of 200ms is no timeout")
	})
	t.Run("denied", func(t *testing.T) {
		fail(100, denied)
		err := get()
		require.True(t, IsKind(err, Denied))
		require.EqualValues(t, 1, asked.Load(), "not repeated")
		for op, err := range map[string]error{
			"upload": o.c.put(ctx, "x/other", data),
			"delete": o.c.delete(ctx, "x/object"),
			"stat":   func() error { _, err := o.c.size(ctx, "x/object"); return err }(),
			"list":   func() error { _, err := o.c.list(ctx, ""); return err }(),
		} {
			require.ErrorContains(t, err, "access denied, the credentials (store.bucket.config) do not allow to "+op)
			require.NotContains(t, err.Error(), secretKey)
		}
	})
	s.mend()
	t.Run("not there", func(t *testing.T) {
		_, err := o.c.get(ctx, "x/absent", 10)
		require.True(t, IsKind(err, NotFound))
		require.NoError(t, o.c.delete(ctx, "x/absent"))
	})
	t.Run("too short", func(t *testing.T) {
		err := o.c.getRange(ctx, "x/object", int64(len(data))-10, make([]byte, 20))
		require.True(t, IsKind(err, Short), "%v", err)
	})
	t.Run("cancelled", func(t *testing.T) {
		fail(100, hang)
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(50*time.Millisecond, cancel)
		require.ErrorIs(t, o.c.getRange(ctx, "x/object", 0, make([]byte, 10)), context.Canceled)
	})
}

func TestObjectsInPieces(t *testing.T) {
	stores(t, func(t *testing.T, l Location) {
		o := dial(t, testConfig(l))
		data := bytes.Repeat([]byte("abcdefg"), 3<<20) // 21 MiB, more than two pieces
		file := filepath.Join(t.TempDir(), "f")
		require.NoError(t, os.WriteFile(file, data, 0o600))
		require.NoError(t, o.c.putFile(t.Context(), "d/big", file, int64(len(data))))
		var got bytes.Buffer
		sum, err := o.c.copyOut(t.Context(), "d/big", int64(len(data)), &got)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got.Bytes()))
		want, _, err := hashFile(t.Context(), file)
		require.NoError(t, err)
		require.Equal(t, want, sum)
		names, err := o.c.list(t.Context(), "")
		require.NoError(t, err)
		require.Equal(t, []string{"d/big"}, names)
	})
}

// TestFilesAreWholeOrAbsent kills an upload to a directory half-way.
func TestFilesAreWholeOrAbsent(t *testing.T) {
	dir := t.TempDir()
	o := dial(t, testConfig(onDisk(dir)))
	err := o.c.raw.Upload(t.Context(), "d/object", io.MultiReader(bytes.NewReader(make([]byte, 1<<20)), failing{}))
	require.Error(t, err)
	// What a killed process leaves.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a/b/d/.object.123.part"), []byte("half"), 0o600))
	names, err := o.c.list(t.Context(), "")
	require.NoError(t, err)
	require.Empty(t, names)
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestTransportTellsOfBytes: parts of large uploads are in memory long before they
// are sent, so what is read of files says nothing about the line.
func TestTransportTellsOfBytes(t *testing.T) {
	told := 0
	next := roundTrip(func(r *http.Request) (*http.Response, error) {
		for range 10 {
			_, _ = r.Body.Read(make([]byte, 10))
		}
		return &http.Response{Body: io.NopCloser(bytes.NewReader(make([]byte, 100)))}, nil
	})
	ctx := context.WithValue(t.Context(), movedKey{}, func() { told++ })
	r, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://x", bytes.NewReader(make([]byte, 100)))
	require.NoError(t, err)
	body := r.Body
	resp, err := watched(next).RoundTrip(r)
	require.NoError(t, err)
	require.Equal(t, 11, told, "once each piece sent, and for the answer")
	_, err = resp.Body.Read(make([]byte, 10))
	require.NoError(t, err)
	require.Equal(t, 12, told)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, body, r.Body, "the request is as it was")
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
