package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
)

// receiver is Prometheus' own write handlers and query engine over its own TSDB,
// in this process.
type receiver struct {
	*httptest.Server
	swallow atomic.Int64 // write requests still to be answered and thrown away
	refuse  atomic.Int64 // write requests still to be answered 503
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	opts := tsdb.DefaultOptions()
	opts.OutOfOrderTimeWindow = time.Hour.Milliseconds() // target_info of OTLP, as in prometheusConfig
	db, err := tsdb.Open(t.TempDir(), log, nil, opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	engine := promql.NewEngine(promql.EngineOpts{Logger: log, MaxSamples: 1e7, Timeout: time.Minute})
	r := &receiver{}
	mux := http.NewServeMux()
	msgs := remoteapi.MessageTypes{remoteapi.WriteV1MessageType, remoteapi.WriteV2MessageType}
	mux.Handle("/api/v1/write", r.spoil(remote.NewWriteHandler(log, prom.NewRegistry(), db, msgs, false, false, false)))
	mux.Handle("/v1/metrics", r.spoil(remote.NewOTLPWriteHandler(log, prom.NewRegistry(), db,
		func() config.Config { return config.DefaultConfig }, remote.OTLPOptions{LookbackDelta: 5 * time.Minute})))
	mux.HandleFunc("/api/v1/query", func(w http.ResponseWriter, q *http.Request) { answer(w, q, engine, db) })
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

// spoil loses or refuses the requests it was told to.
func (r *receiver) spoil(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		switch {
		case r.refuse.Add(-1) >= 0:
			http.Error(w, "too busy", http.StatusServiceUnavailable)
		case r.swallow.Add(-1) >= 0:
			w.WriteHeader(http.StatusNoContent)
		default:
			next.ServeHTTP(w, q)
		}
	})
}

func answer(w http.ResponseWriter, q *http.Request, engine *promql.Engine, db *tsdb.DB) {
	sec, err := strconv.ParseFloat(q.FormValue("time"), 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	query, err := engine.NewInstantQuery(q.Context(), db, nil, q.FormValue("query"), time.UnixMilli(int64(sec*1000+0.5)))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	defer query.Close()
	res := query.Exec(q.Context())
	if res.Err != nil {
		http.Error(w, res.Err.Error(), http.StatusUnprocessableEntity)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"result": res.Value}})
}

// play sends both phases of a scenario and returns their outcomes.
func (r *receiver) play(t *testing.T, line string) (*load, outcome, outcome) {
	t.Helper()
	b := &bench{seed: 1}
	ld, err := b.encode(mustScenario(t, line))
	if err != nil {
		t.Fatal(err)
	}
	url := r.URL + "/api/v1/write"
	if ld.plan.scenario.Proto == otlp {
		url = r.URL + "/v1/metrics"
	}
	proto := ld.plan.scenario.Proto
	warm := send(context.Background(), url, proto, ld.warm)
	return ld, warm, send(context.Background(), url, proto, ld.window)
}

func TestSendAndVerify(t *testing.T) {
	for _, line := range []string{
		"rw1 series=2k batch=500 rounds=3",
		"rw2 series=2k batch=500 k=5 rounds=3 churn=0.1",
		"otlp series=2k batch=500 rounds=3 churn=0.1",
	} {
		t.Run(line, func(t *testing.T) {
			r := newReceiver(t)
			ld, warm, window := r.play(t, line)
			if f := refusals(ld.plan.scenario.Proto, warm, window); f != "" {
				t.Fatal(f)
			}
			if sc := ld.plan.scenario; window.samples != sc.windowSamples() || len(window.latencies) != window.requests {
				t.Errorf("got %d samples, %d latencies of %d requests, want %d samples",
					window.samples, len(window.latencies), window.requests, sc.windowSamples())
			}
			if err := verify(context.Background(), r.URL, ld.plan); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestVerifyFindsLoss is the reason of verify: a server that answers 2xx and
// drops.
func TestVerifyFindsLoss(t *testing.T) {
	r := newReceiver(t)
	r.swallow.Store(1)
	ld, warm, window := r.play(t, "rw1 series=2k batch=500 rounds=3")
	if f := refusals(rw1, warm, window); f != "" {
		t.Fatal(f)
	}
	if err := verify(context.Background(), r.URL, ld.plan); err == nil {
		t.Error("verify: found nothing, though one request was thrown away")
	}
}

func TestVerifyComparesValues(t *testing.T) {
	r := newReceiver(t)
	ld, _, _ := r.play(t, "rw1 series=2k batch=500 rounds=3")
	other := *ld.plan
	other.start++ // the same series and values, a millisecond later
	if err := verify(context.Background(), r.URL, &other); err == nil || !strings.Contains(err.Error(), "got time") {
		t.Errorf("verify of a shifted plan: got %v, want a wrong time", err)
	}
}

func TestRefusalsFailTheRun(t *testing.T) {
	r := newReceiver(t)
	r.refuse.Store(2)
	_, warm, window := r.play(t, "rw2 series=2k batch=500 rounds=3")
	if warm.refused+window.refused != 2 {
		t.Errorf("got %d refused, want 2", warm.refused+window.refused)
	}
	if f := refusals(rw2, warm, window); !strings.Contains(f, "503") || !strings.Contains(f, "too busy") {
		t.Errorf("refusals: got %q, want the status and its text", f)
	}
}

func TestPartialSuccessIsARefusal(t *testing.T) {
	resp := pmetricotlp.NewExportResponse()
	resp.PartialSuccess().SetRejectedDataPoints(3)
	resp.PartialSuccess().SetErrorMessage("out of order")
	answer, err := resp.MarshalProto()
	if err != nil {
		t.Fatal(err)
	}
	if err := partialSuccess("u", answer); err == nil || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("partialSuccess: got %v, want the reason", err)
	}
	if err := partialSuccess("u", nil); err != nil {
		t.Errorf("partialSuccess of an empty answer: %v", err)
	}
}

// TestWrittenCountIsChecked uses a 2.0 receiver that keeps quiet about what it
// wrote, as one of 1.0 does.
func TestWrittenCountIsChecked(t *testing.T) {
	r := newReceiver(t)
	r.swallow.Store(1)
	_, warm, window := r.play(t, "rw2 series=2k batch=500 rounds=3")
	if f := refusals(rw2, warm, window); !strings.Contains(f, "Samples-Written") {
		t.Errorf("refusals: got %q, want the missing header", f)
	}
}
