package ingest

import (
	"context"
	"encoding/json"
	"errors"
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
	otlp    *otlp
	otlpIn  *otlpServer // nil when no endpoint is set
}

// New checks and allocates; it starts nothing. limits must be the hooks of st.
func New(cfg Config, st Store, limits *Limits, log *slog.Logger, reg prometheus.Registerer) (*Ingest, error) {
	in := &Ingest{cfg: cfg, log: log, flight: newFlight(cfg)}
	in.w = &writer{
		store: st, limits: limits, hasher: newHasher(),
		keys: newKeyTable(), known: newKeyTable(), series: newSlab(),
		ha: newPairs(cfg.HA, log), metadata: newMetadata(), ledger: newLedger(), now: time.Now,
	}
	in.w.rules.Store(newRules(cfg))
	in.metrics = newMetrics(in, reg)
	in.w.flushes = promauto.With(reg).NewCounter(prometheus.CounterOpts{
		Name: "weir_ingest_series_cache_flushes_total",
		Help: "Times that more label sets were seen than are remembered, and remembering started over.",
	})
	in.otlp = newOTLP(cfg.OTLP, in.w, &in.batches, log)
	if !cfg.OTLP.on() {
		return in, nil
	}
	var err error
	in.otlpIn, err = newOTLPServer(in)
	return in, err
}

// Run receives OTLP and forgets what the store has forgotten until ctx ends.
func (in *Ingest) Run(ctx context.Context) (err error) {
	var failed <-chan error
	if in.otlpIn != nil {
		if err := in.otlpIn.start(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, in.otlpIn.stop()) }()
		failed = in.otlpIn.fatal
	}
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	pairs := time.NewTicker(in.w.ha.tickEvery())
	defer pairs.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-tick.C:
			in.w.sweep(in.log)
		case <-pairs.C:
			in.w.tickPairs(ctx)
		}
	}
}

// Close closes the journal of held samples; handlers must have returned.
func (in *Ingest) Close() error { return in.w.closePairs() }

// Apply takes over what can be reloaded: relabel configs, external labels, limits
// and the translation of OTLP. Labels of every series are read anew with its next sample.
func (in *Ingest) Apply(cfg Config) {
	in.w.limits.cfg.Store(&cfg.Limits)
	in.otlp.apply(cfg.OTLP)
	in.w.gate.Lock() // no batch may remember what the old rules made of a series
	defer in.w.gate.Unlock()
	in.w.rules.Store(newRules(cfg))
	in.w.keys.forget()
}

// Metadata returns what senders said of their metric families.
func (in *Ingest) Metadata() *Metadata { return in.w.metadata }

// LedgerHandler serves the books as JSON.
func (in *Ingest) LedgerHandler() http.Handler { return http.HandlerFunc(in.w.ledger.serve) }

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone; nobody is left to tell
}
