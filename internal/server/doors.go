package server

import (
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Door is a line of the page at /: a path on the main port, without its leading
// slash so that it holds behind a prefix too, or no path for a door elsewhere.
type Door struct{ Path, Text string }

// mainDoors puts the operators' doors before those of the rooms.
func (s *Server) mainDoors() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.deps.Handler)
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /-/healthy", healthy)
	mux.HandleFunc("GET /-/ready", s.ready)
	mux.Handle("GET /metrics", s.metrics())
	// A web page that its reader opened must not be able to reload us.
	reload := http.NewCrossOriginProtection().Handler(http.HandlerFunc(s.reload))
	mux.Handle("POST /-/reload", reload)
	mux.Handle("PUT /-/reload", reload)
	mux.HandleFunc("/-/reload", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", "POST, PUT")
		http.Error(w, "only POST and PUT reload", http.StatusMethodNotAllowed)
	})
	return mux
}

// adminDoors are for those who may look inside the process.
func (s *Server) adminDoors() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /-/healthy", healthy)
	mux.Handle("GET /metrics", s.metrics())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func healthy(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintln(w, "Weir is healthy.")
}

// ready says whether to send work here; while not, its text is the reason.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	ok, why := s.deps.Ready()
	if s.draining.Load() {
		ok, why = false, "draining before shutdown"
	}
	if !ok {
		http.Error(w, "Weir is not ready: "+why, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "Weir is ready.")
}

func (s *Server) reload(w http.ResponseWriter, _ *http.Request) {
	if err := s.deps.Reload(); err != nil {
		http.Error(w, "configuration not reloaded, the old one stays: "+err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprintln(w, "Configuration reloaded.")
}

func (s *Server) metrics() http.Handler {
	return promhttp.HandlerFor(s.deps.Gatherer, promhttp.HandlerOpts{
		ErrorHandling:     promhttp.ContinueOnError, // one broken collector must not blind the rest
		EnableOpenMetrics: true,
		// Gathering walks every collector; more at once only wait for each other.
		MaxRequestsInFlight: 8,
	})
}

//go:embed page.html
var pageHTML string

var page = template.Must(template.New("page").Parse(pageHTML))

func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	doors := append([]Door{
		{"-/ready", "ready, and if not, why"},
		{"-/healthy", "alive"},
		{"metrics", "metrics about Weir itself"},
	}, s.deps.Doors...)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_ = page.Execute(w, doors) // the client has gone: nobody to tell
}
