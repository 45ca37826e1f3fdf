package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/store"
)

// rig is an Ingest over a real store in a temporary directory.
type rig struct {
	in    *Ingest
	store *store.Store
	reg   *prometheus.Registry
	stop  func()
}

func newRig(t testing.TB, change ...func(*Config, *store.Config)) *rig {
	t.Helper()
	return openRig(t, filepath.Join(t.TempDir(), "data"), change...)
}

func openRig(t testing.TB, dir string, change ...func(*Config, *store.Config)) *rig {
	t.Helper()
	cfg, scfg := DefaultConfig(), store.DefaultConfig()
	scfg.Dir = dir
	for _, c := range change {
		c(&cfg, &scfg)
	}
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	limits := NewLimits(cfg.Limits, cfg.HA.ClusterLabel)
	st, err := store.New(scfg, limits, log, reg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- st.Run(ctx) }()
	require.Eventually(t, func() bool { ok, _ := st.Ready(); return ok }, 20*time.Second, time.Millisecond)
	in, err := New(cfg, st, limits, log, reg)
	require.NoError(t, err)
	r := &rig{in: in, store: st, reg: reg}
	closed := false
	r.stop = func() {
		if closed {
			return
		}
		closed = true
		cancel()
		require.NoError(t, <-ran)
		require.NoError(t, st.Close())
	}
	t.Cleanup(r.stop)
	return r
}

// post sends one remote_write body, already encoded as protobuf.
func (r *rig) post(contentType string, raw []byte) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodPost, "/api/v1/write", strings.NewReader(string(snappy.Encode(nil, raw))))
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Content-Encoding", "snappy")
	w := httptest.NewRecorder()
	r.in.WriteHandler().ServeHTTP(w, req)
	return w
}

const (
	typeV1 = "application/x-protobuf"
	typeV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

func (r *rig) v1(t testing.TB, req *prompb.WriteRequest) *httptest.ResponseRecorder {
	t.Helper()
	raw, err := req.Marshal()
	require.NoError(t, err)
	return r.post(typeV1, raw)
}

// dump returns every stored sample as "series @time value" lines, in the order
// of the store.
func (r *rig) dump(t testing.TB) []string {
	t.Helper()
	return dump(t, r.store)
}

func dump(t testing.TB, q storage.Queryable) (out []string) {
	t.Helper()
	each(t, q, func(ls labels.Labels, x point) { out = append(out, fmt.Sprintf("%s @%d %v", ls, x.t, x)) })
	return out
}

// each calls add for every stored sample in the order of the store, of series
// that match more.
func each(t testing.TB, q storage.Queryable, add func(labels.Labels, point), more ...*labels.Matcher) {
	t.Helper()
	qr, err := q.Querier(math.MinInt64, math.MaxInt64)
	require.NoError(t, err)
	defer qr.Close()
	all := labels.MustNewMatcher(labels.MatchRegexp, model.MetricNameLabel, ".*")
	set := qr.Select(context.Background(), true, nil, append(more, all)...)
	for set.Next() {
		s := set.At()
		it := s.Iterator(nil)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			x := point{t: it.AtT()}
			switch vt {
			case chunkenc.ValFloat:
				_, x.v = it.At()
			case chunkenc.ValHistogram:
				_, x.h = it.AtHistogram(nil)
			case chunkenc.ValFloatHistogram:
				_, x.fh = it.AtFloatHistogram(nil)
			}
			add(s.Labels(), x)
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
}
