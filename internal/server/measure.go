package server

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weir_server_requests_total",
			Help: "HTTP requests on the main port, by door and status code.",
		}, []string{"handler", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weir_server_request_duration_seconds",
			Help: "Time from the headers of an HTTP request to the end of its answer, by door.",
			// From a cached label query to the longest query allowed by default.
			Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 10, 30, 120},
		}, []string{"handler"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "weir_server_requests_in_flight",
			Help: "HTTP requests on the main port being answered now.",
		}),
	}
	reg.MustRegister(m.requests, m.seconds, m.inFlight)
	return m
}

// measure counts requests by the pattern that the mux found for them. Patterns
// are as many as the code registers, so a stranger cannot make series.
func (m *metrics) measure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.inFlight.Inc()
		start := time.Now()
		sw := &statusWriter{ResponseWriter: w}
		defer func() { // also when the handler panics
			m.inFlight.Dec()
			door := doorOf(r)
			m.requests.WithLabelValues(door, sw.code()).Inc()
			m.seconds.WithLabelValues(door).Observe(time.Since(start).Seconds())
		}()
		next.ServeHTTP(sw, r)
	})
}

// doorOf is the path of the pattern that r matched, which the mux has left in r.
func doorOf(r *http.Request) string {
	_, path, found := strings.Cut(r.Pattern, " ")
	if !found {
		path = r.Pattern
	}
	if path == "" || path == "/" { // the page itself is "/{$}"
		return "unmatched"
	}
	return path
}

// statusWriter remembers the status code.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 { // 1xx come before the answer
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) code() string {
	if w.status == 0 {
		return "200" // nothing said is 200 in net/http
	}
	return strconv.Itoa(w.status)
}

// Unwrap lets http.ResponseController find the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
