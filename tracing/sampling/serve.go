package sampling

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"github.com/jaegertracing/jaeger-idl/proto-gen/api_v2"
	"google.golang.org/grpc"
)

// Handler answers `GET /sampling?service=`, which Jaeger has at port 5778 and SDKs ask
// by default, the same below `/api` as Jaeger's collector has it, and at `/` the oldest
// form, where the type is a number. 400: not exactly one service.
func (s *Sampling) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/sampling", "/api/sampling", "/{$}"} {
		oldest := path == "/{$}"
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, oldest) })
	}
	return mux
}

func (s *Sampling) serve(w http.ResponseWriter, r *http.Request, oldest bool) {
	services := r.URL.Query()["service"]
	if len(services) != 1 {
		s.metrics.strategies.WithLabelValues("http", "refused").Inc()
		http.Error(w, "'service' parameter must be provided once", http.StatusBadRequest)
		return
	}
	body, err := s.answer(services[0]).json(oldest)
	if err != nil {
		http.Error(w, "encode sampling strategy: "+err.Error(), http.StatusInternalServerError)
		return
	}
	s.metrics.strategies.WithLabelValues("http", "answered").Inc()
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // who asked has gone
}

// json is Jaeger's; in the oldest form the type is a number.
func (a answer) json(oldest bool) ([]byte, error) {
	body, err := json.Marshal(a)
	if err != nil || !oldest {
		return body, err
	}
	body = bytes.Replace(body, []byte(`"strategyType":"PROBABILISTIC"`), []byte(`"strategyType":0`), 1)
	return bytes.Replace(body, []byte(`"strategyType":"RATE_LIMITING"`), []byte(`"strategyType":1`), 1), nil
}

// RegisterGRPC adds jaeger.api_v2.SamplingManager, which Jaeger has at port 5779 and at
// its collector's.
func (s *Sampling) RegisterGRPC(g *grpc.Server) {
	api_v2.RegisterSamplingManagerServer(g, manager{s})
}

type manager struct{ s *Sampling }

// GetSamplingStrategy implements api_v2.SamplingManagerServer.
func (m manager) GetSamplingStrategy(_ context.Context, q *api_v2.SamplingStrategyParameters) (*api_v2.SamplingStrategyResponse, error) {
	m.s.metrics.strategies.WithLabelValues("grpc", "answered").Inc()
	return m.s.answer(q.ServiceName).message(), nil
}

func (a answer) message() *api_v2.SamplingStrategyResponse {
	r := &api_v2.SamplingStrategyResponse{}
	if a.Probabilistic != nil {
		r.ProbabilisticSampling = &api_v2.ProbabilisticSamplingStrategy{SamplingRate: a.Probabilistic.Rate}
	}
	if a.RateLimiting != nil {
		r.StrategyType = api_v2.SamplingStrategyType_RATE_LIMITING
		r.RateLimitingSampling = &api_v2.RateLimitingSamplingStrategy{MaxTracesPerSecond: a.RateLimiting.Traces}
	}
	if by := a.Operations; by != nil {
		to := &api_v2.PerOperationSamplingStrategies{
			DefaultSamplingProbability:       by.Default,
			DefaultLowerBoundTracesPerSecond: by.LowerBound,
			DefaultUpperBoundTracesPerSecond: by.UpperBound,
		}
		for _, o := range by.List {
			to.PerOperationStrategies = append(to.PerOperationStrategies, &api_v2.OperationSamplingStrategy{
				Operation:             o.Operation,
				ProbabilisticSampling: &api_v2.ProbabilisticSamplingStrategy{SamplingRate: o.Probabilistic.Rate},
			})
		}
		r.OperationSampling = to
	}
	return r
}
