package query

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/util/httputil"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/weir-dev/weir/internal/query/plan"
)

// request is what a query's HTTP request says beyond upstream's parameters, and
// what is to be told of the query in its answer. It goes with the context, because
// upstream's handler lies between the door and the engine.
type request struct {
	source  source
	stats   string     // parameter "stats"
	planned []*planned // set when the query was executed
}

type requestKey struct{}

// requestOf returns the request that ctx belongs to, or one of its own.
func requestOf(ctx context.Context) *request {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r
	}
	return &request{}
}

// source is the parameter max_source_resolution: the coarsest resolution that
// samples may be replaced by. The zero value is a request without it.
type source struct {
	given bool
	auto  bool // a fifth of the step
	most  time.Duration
}

// limit is the resolution in milliseconds for a query with the step, plan.Unset if
// none was given.
func (s source) limit(step time.Duration) int64 {
	switch {
	case !s.given:
		return plan.Unset
	case s.auto:
		return (step / 5).Milliseconds()
	default:
		return s.most.Milliseconds()
	}
}

const sourceParam = "max_source_resolution"

// parseSource reads what Thanos reads: a duration, seconds, or "auto".
func parseSource(text string) (source, error) {
	switch text {
	case "":
		return source{}, nil
	case "auto":
		return source{given: true, auto: true}, nil
	}
	d, err := parseDuration(text)
	if err != nil || d < 0 {
		return source{}, fmt.Errorf("invalid parameter %q: got %q, want auto, 0s, or a duration such as 5m or 1h", sourceParam, text)
	}
	return source{given: true, most: d}, nil
}

// parseDuration reads a duration or a number of seconds, as upstream's parameters.
func parseDuration(text string) (time.Duration, error) {
	if s, err := strconv.ParseFloat(text, 64); err == nil {
		if math.Abs(s) > math.MaxInt64/float64(time.Second) || math.IsNaN(s) {
			return 0, fmt.Errorf("cannot parse %q to a valid duration", text)
		}
		return time.Duration(s * float64(time.Second)), nil
	}
	d, err := model.ParseDuration(text)
	return time.Duration(d), err
}

// withRequest reads the parameters of our own and gives the request to the engine.
func (a *API) withRequest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := parseSource(r.FormValue(sourceParam))
		if err != nil {
			a.refuse(w, r, http.StatusBadRequest, "bad_data", err)
			return
		}
		ctx := context.WithValue(r.Context(), requestKey{}, &request{source: s, stats: r.FormValue("stats")})
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// refuse answers with an error in upstream's envelope.
func (a *API) refuse(w http.ResponseWriter, r *http.Request, status int, kind string, err error) {
	a.respond(w, r, status, &v1.Response{Status: "error", ErrorType: kind, Error: err.Error()})
}

// respond answers in upstream's envelope.
func (a *API) respond(w http.ResponseWriter, r *http.Request, status int, answer *v1.Response) {
	httputil.SetCORS(w, a.prom.CORSOrigin, r)
	codec := v1.JSONCodec{}
	body, err := codec.Encode(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", codec.ContentType().String())
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone: nobody to tell
}
