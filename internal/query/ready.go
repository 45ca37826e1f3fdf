package query

import (
	"context"
	"net/http"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// whenReady answers 503 with the reason while the storage is not open, as
// Prometheus does during the replay of its WAL.
func (a *API) whenReady(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ok, why := a.deps.Ready(); !ok {
			w.Header().Set("X-Prometheus-Stopping", "false") // read by Prometheus' own web page
			w.Header().Set("Retry-After", "5")
			http.Error(w, "Service Unavailable: "+why, http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// readyStorage is a storage that fails with tsdb.ErrNotReady while it is not open,
// which every door turns into 503, whatever the storage itself would say.
type readyStorage struct {
	storage.SampleAndChunkQueryable
	ready func() (bool, string)
}

func (s readyStorage) Querier(mint, maxt int64) (storage.Querier, error) {
	if ok, _ := s.ready(); !ok {
		return nil, tsdb.ErrNotReady
	}
	return s.SampleAndChunkQueryable.Querier(mint, maxt)
}

func (s readyStorage) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	if ok, _ := s.ready(); !ok {
		return nil, tsdb.ErrNotReady
	}
	return s.SampleAndChunkQueryable.ChunkQuerier(mint, maxt)
}

type readyExemplars struct {
	storage.ExemplarQueryable
	ready func() (bool, string)
}

func (s readyExemplars) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	if ok, _ := s.ready(); !ok {
		return nil, tsdb.ErrNotReady
	}
	return s.ExemplarQueryable.ExemplarQuerier(ctx)
}
