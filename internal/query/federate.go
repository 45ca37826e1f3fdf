package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/httputil"
)

// federation answers /federate: the newest sample of every series that a match[]
// selects, in a format that Prometheus scrapes. Upstream's handler is a method of
// its whole web server, hence this one, which is compared with it byte by byte in
// the tests.
//
// One sample a series is held in memory between selection and encoding, because
// the format wants families together; query.max_samples bounds their number and
// the places of query.max_concurrency the requests at once.
type federation struct {
	storage    storage.Queryable
	parser     parser.Parser
	turns      *promql.ActiveQueryTracker
	lookback   time.Duration
	timeout    time.Duration
	maxSamples int
	now        func() time.Time
	log        *slog.Logger

	errors, warnings prometheus.Counter
}

func newFederation(a *API) *federation {
	f := &federation{
		storage:    a.deps.Storage,
		parser:     a.parser,
		turns:      a.tracker,
		lookback:   a.cfg.Lookback.Std(),
		timeout:    a.cfg.Timeout.Std(),
		maxSamples: a.cfg.MaxSamples,
		now:        a.deps.Now,
		log:        a.deps.Log,
		errors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_query_federation_errors_total",
			Help: "Requests of /federate that failed or were cut short.",
		}),
		warnings: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_query_federation_warnings_total",
			Help: "Warnings that the storage gave while answering /federate.",
		}),
	}
	a.deps.Registerer.MustRegister(f.errors, f.warnings)
	return f
}

func compressed(h http.Handler) http.Handler { return httputil.CompressionHandler{Handler: h} }

func (f *federation) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, fmt.Sprintf("error parsing form values: %v", err), http.StatusBadRequest)
		return
	}
	selectors, err := f.parser.ParseMetricSelectors(r.Form["match[]"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), f.timeout)
	defer cancel()
	turn, err := f.turns.Insert(ctx, r.URL.RequestURI())
	if err != nil {
		f.fail(w, errQueue)
		return
	}
	defer f.turns.Delete(turn)

	format := expfmt.NegotiateAccept(r.Header, federateFormats...)
	samples, done, err := f.newest(ctx, selectors)
	defer done()
	if err != nil {
		f.fail(w, err)
		return
	}
	w.Header().Set("Content-Type", string(format))
	if err := encodeFamilies(w, format, samples, f.log); err != nil {
		f.errors.Inc()
		f.log.Error("federation answer cut short", "err", err)
	}
}

// fail answers with the status that err deserves.
func (f *federation) fail(w http.ResponseWriter, err error) {
	f.errors.Inc()
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, tsdb.ErrNotReady), errors.Is(err, errQueue), errors.Is(err, context.DeadlineExceeded):
		status = http.StatusServiceUnavailable
	case errors.Is(err, errTooMany):
		status = http.StatusUnprocessableEntity
	}
	http.Error(w, err.Error(), status)
}

var errTooMany = errors.New("federation selects more series than one query may hold samples (query.max_samples)")

// sample is the newest sample of one series. Its labels are borrowed from the
// querier.
type sample struct {
	metric labels.Labels
	name   string
	t      int64 // ms
	v      float64
	h      *histogram.FloatHistogram // nil for a float
}

// newest selects the newest sample of each series within the lookback, in the
// order of their names. Series that have gone stale are left out: the format
// cannot say so, and their absence says it. The samples are valid until done,
// which is never nil, is called.
func (f *federation) newest(ctx context.Context, selectors [][]*labels.Matcher) (samples []sample, done func(), err error) {
	now := f.now()
	mint, maxt := timestamp.FromTime(now.Add(-f.lookback)), timestamp.FromTime(now)
	q, err := f.storage.Querier(mint, maxt)
	if err != nil {
		return nil, func() {}, err
	}
	done = func() {
		if err := q.Close(); err != nil {
			f.log.Warn("querier of a federation request not closed", "err", err)
		}
	}

	sets := make([]storage.SeriesSet, len(selectors))
	for i, matchers := range selectors {
		sets[i] = q.Select(ctx, true, &storage.SelectHints{Start: mint, End: maxt}, matchers...)
	}
	set := storage.NewMergeSeriesSet(sets, 0, storage.ChainedSeriesMerge)
	var raw chunkenc.Iterator
	it := storage.NewMemoizedEmptyIterator(f.lookback.Milliseconds())
	for set.Next() {
		series := set.At()
		raw = series.Iterator(raw)
		it.Reset(raw)
		s, ok := last(it, maxt)
		if err := it.Err(); err != nil {
			return nil, done, fmt.Errorf("read series %s: %w", series.Labels(), err)
		}
		if !ok || value.IsStaleNaN(s.v) || s.h != nil && value.IsStaleNaN(s.h.Sum) {
			continue
		}
		if len(samples) == f.maxSamples {
			return nil, done, errTooMany
		}
		s.metric = series.Labels()
		s.name = s.metric.Get(model.MetricNameLabel)
		samples = append(samples, s)
	}
	if ws := set.Warnings(); len(ws) > 0 {
		f.warnings.Add(float64(len(ws)))
		f.log.Debug("federation selected with warnings", "warnings", ws)
	}
	slices.SortFunc(samples, func(a, b sample) int { return cmp.Compare(a.name, b.name) })
	return samples, done, set.Err()
}

// last returns the sample at maxt, else the newest before it.
func last(it *storage.MemoizedSeriesIterator, maxt int64) (s sample, ok bool) {
	switch it.Seek(maxt) {
	case chunkenc.ValFloat:
		s.t, s.v = it.At()
		return s, true
	case chunkenc.ValFloatHistogram:
		s.t, s.h = it.AtFloatHistogram()
		return s, true
	}
	_, s.t, s.v, s.h, ok = it.PeekPrev()
	return s, ok
}
