package bucket

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/store/block"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The S3 client keeps idle connections, which the test's server closes.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("go.opencensus.io/stats/view.(*worker).start"), // of the GCS client, from init
	)
}

const (
	secretKey = "hush-hush-secret"
	hour      = int64(3600_000)
	base      = int64(1_700_000_000_000) / (2 * hour) * (2 * hour) // of the first block
)

// fakeS3 is a real S3 server in memory behind a handler that can break requests.
type fakeS3 struct {
	backend gofakes3.Backend
	server  *httptest.Server
	fault   atomic.Pointer[func(w http.ResponseWriter, r *http.Request, next http.Handler) bool]
	mu      sync.Mutex
	asked   map[string]int // method and path
}

func startS3(t *testing.T) *fakeS3 {
	s := &fakeS3{backend: s3mem.New(), asked: map[string]int{}}
	require.NoError(t, s.backend.CreateBucket("metrics"))
	backend := gofakes3.New(s.backend).Server()
	// TLS, for over plain HTTP the client signs parts in a way that this server does not know.
	s.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked[r.Method+" "+r.URL.Path]++
		s.mu.Unlock()
		if f := s.fault.Load(); f != nil && (*f)(w, r, backend) {
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(s.server.Close)
	return s
}

// breaks makes f answer requests; those for which it returns false go on.
func (s *fakeS3) breaks(f func(w http.ResponseWriter, r *http.Request, next http.Handler) bool) {
	s.fault.Store(&f)
}

func (s *fakeS3) mend() { s.fault.Store(nil) }

func (s *fakeS3) count(method, suffix string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.asked {
		if len(k) >= len(suffix) && k[:len(method)] == method && k[len(k)-len(suffix):] == suffix {
			n += v
		}
	}
	return n
}

func (s *fakeS3) location() Location {
	u, _ := url.Parse(s.server.URL)
	return Location{Type: "S3", Config: Provider{
		"bucket": "metrics", "endpoint": u.Host, "http_config": map[string]any{"insecure_skip_verify": true}, "region": "eu",
		"access_key": "key-of-test", "secret_key": secretKey, "bucket_lookup_type": "path",
	}}
}

func onDisk(dir string) Location {
	return Location{Type: "filesystem", Config: Provider{"directory": dir}, Prefix: "a/b"}
}

// stores runs f against both kinds of store.
func stores(t *testing.T, f func(t *testing.T, l Location)) {
	t.Run("filesystem", func(t *testing.T) { f(t, onDisk(t.TempDir())) })
	t.Run("s3", func(t *testing.T) { f(t, startS3(t).location()) })
}

func testConfig(l Location) Config {
	c := DefaultConfig()
	c.Location = l
	c.ExternalLabels = map[string]string{"cluster": "eu1"}
	c.CacheSize = minCache
	c.Retries = 2
	c.Timeout = conf.Duration(5 * time.Second)
	return c
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func dial(t *testing.T, cfg Config) *Objects {
	t.Helper()
	o, err := Dial(cfg.Location, cfg, quiet(), prometheus.NewRegistry())
	require.NoError(t, err)
	o.c.wait = time.Millisecond
	t.Cleanup(func() { require.NoError(t, o.Close()) })
	return o
}

// makeBlock writes a raw block of n series with a sample a minute for hours from at.
func makeBlock(t *testing.T, dir string, n int, at int64, hours int) *block.Meta {
	t.Helper()
	var series []storage.Series
	rnd := rand.New(rand.NewPCG(uint64(at), uint64(n)))
	for i := range n {
		var s []chunks.Sample
		for ts := at; ts < at+int64(hours)*hour; ts += 60_000 {
			s = append(s, sample{ts, rnd.Float64()})
		}
		series = append(series, storage.NewListSeries(labels.FromStrings("__name__", "m", "i", fmt.Sprint(i), "job", fmt.Sprint(i%7)), s))
	}
	path, err := tsdb.CreateBlock(series, dir, 2*int64(hours)*hour, quiet()) // else the head refuses its first half
	require.NoError(t, err)
	m, err := block.ReadMeta(path)
	require.NoError(t, err)
	return m
}

type sample struct {
	t int64
	v float64
}

func (s sample) ST() int64                     { return 0 }
func (s sample) T() int64                      { return s.t }
func (s sample) F() float64                    { return s.v }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }

// local is a store's directory with its blocks.
type local struct {
	dir string
	mu  sync.Mutex
	has []Durable
	ch  chan struct{}
	now atomic.Int64 // Unix milliseconds
}

func newLocal(t *testing.T) *local {
	l := &local{dir: t.TempDir(), ch: make(chan struct{}, 1)}
	l.now.Store(base + 100*hour)
	return l
}

func (l *local) add(m *block.Meta) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.has = append(l.has, Durable{m, filepath.Join(l.dir, m.ULID.String())})
}

func (l *local) remove(t *testing.T, id ulid.ULID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, d := range l.has {
		if d.Meta.ULID == id {
			l.has = append(l.has[:i:i], l.has[i+1:]...)
			require.NoError(t, os.RemoveAll(d.Dir))
			return
		}
	}
}

func (l *local) durable() []Durable {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Durable(nil), l.has...)
}

func (l *local) clock() time.Time { return time.UnixMilli(l.now.Load()) }

func (l *local) pass(d time.Duration) { l.now.Add(d.Milliseconds()) }

// open makes a Bucket for l whose rounds the test runs itself.
func (l *local) open(t *testing.T, cfg Config, keep time.Duration) *Bucket {
	t.Helper()
	b, err := New(cfg, Deps{
		Durable: l.durable, Changed: l.ch, Dir: l.dir, Log: quiet(), Now: l.clock, Registerer: prometheus.NewRegistry(),
		Keep: func(int64) time.Duration { return keep },
	})
	require.NoError(t, err)
	b.objects.c.wait, b.grace = time.Millisecond, 0
	var once sync.Once
	t.Cleanup(func() { once.Do(func() { require.NoError(t, b.Close()) }) })
	return b
}

// next runs a round that lists the bucket.
func (l *local) next(t *testing.T, b *Bucket) error {
	l.pass(b.cfg.Refresh.Std())
	return b.round(t.Context())
}

// content reads all series of a block.
func content(t *testing.T, b tsdb.BlockReader) map[string][]sample {
	t.Helper()
	q, err := tsdb.NewBlockQuerier(b, 0, 1<<62)
	require.NoError(t, err)
	defer q.Close()
	all := make(map[string][]sample)
	set := q.Select(context.Background(), true, nil, labels.MustNewMatcher(labels.MatchRegexp, "__name__", ".+"))
	for set.Next() {
		name := set.At().Labels().String()
		it := set.At().Iterator(nil)
		for it.Next() == chunkenc.ValFloat {
			ts, v := it.At()
			all[name] = append(all[name], sample{ts, v})
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	return all
}

func contentOf(t *testing.T, dir string) map[string][]sample {
	t.Helper()
	b, err := block.Open(dir)
	require.NoError(t, err)
	defer b.Close()
	return content(t, b)
}

// answer403 is S3's.
func answer403(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusForbidden)
	_, _ = io.WriteString(w, `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`)
}

// cut sends half of what next answers and closes the connection.
func cut(w http.ResponseWriter, r *http.Request, next http.Handler) {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Length", fmt.Sprint(rec.Body.Len()))
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

type ctx = context.Context

func contextUntil(stop <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-stop; cancel() }()
	return ctx, cancel
}
