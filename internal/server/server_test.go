package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/weir-dev/weir/internal/conf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a server under test.
type running struct {
	*Server
	url  string
	reg  *prometheus.Registry
	stop func() error // ends the context and returns what Run returned
}

// start serves h with quick timeouts; edit may change settings and deps.
func start(t *testing.T, h http.Handler, edit func(*Config, *Deps)) *running {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Listen = "127.0.0.1:0"
	cfg.DrainDelay = 0
	cfg.DrainTimeout = conf.Duration(5 * time.Second)
	reg := prometheus.NewRegistry()
	deps := Deps{
		Handler:    h,
		Ready:      func() (bool, string) { return true, "" },
		Reload:     func() error { return nil },
		Gatherer:   reg,
		Registerer: reg,
	}
	if edit != nil {
		edit(&cfg, &deps)
	}
	s, err := New(cfg, deps)
	require.NoError(t, err)
	require.NoError(t, s.Open())

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := &running{Server: s, url: "http://" + s.Addr().String(), reg: reg}
	r.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		require.NoError(t, r.stop())
	})
	return r
}

func do(t *testing.T, c *http.Client, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	resp, err := c.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

func TestDoors(t *testing.T) {
	var ready atomic.Bool
	var reloadErr error
	rooms := http.NewServeMux()
	rooms.HandleFunc("/api/v1/thing/{name}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a room") })
	s := start(t, rooms, func(c *Config, d *Deps) {
		c.AdminListen = "127.0.0.1:0"
		d.Doors = []Door{{"api/v1/thing/x", "a <thing>"}}
		d.Ready = func() (bool, string) { return ready.Load(), "replaying the WAL, 3 of 7" }
		d.Reload = func() error { return reloadErr }
	})
	admin := "http://" + s.AdminAddr().String()

	check := func(method, url string, status int, text string) {
		t.Helper()
		got, body := do(t, http.DefaultClient, method, url)
		require.Equal(t, status, got, "%s %s: %s", method, url, body)
		require.Contains(t, body, text, "%s %s", method, url)
	}
	check("GET", s.url+"/-/ready", 503, "replaying the WAL, 3 of 7")
	check("GET", s.url+"/-/healthy", 200, "healthy")
	ready.Store(true)
	check("GET", s.url+"/-/ready", 200, "ready")
	check("HEAD", s.url+"/-/ready", 200, "")
	check("GET", s.url+"/", 200, `<a href="api/v1/thing/x"><code>/api/v1/thing/x</code></a> a &lt;thing&gt;`)
	check("GET", s.url+"/api/v1/thing/x", 200, "a room")
	check("GET", s.url+"/nowhere", 404, "")
	check("GET", s.url+"/metrics", 200, "weir_server_requests_in_flight 1")
	check("GET", s.url+"/-/reload", 405, "")
	check("POST", s.url+"/-/reload", 200, "reloaded")
	check("POST", s.url+"/-/quit", 404, "")
	reloadErr = errors.New("ingest.limits.max_series: got -1")
	check("PUT", s.url+"/-/reload", 500, "the old one stays: ingest.limits.max_series: got -1")

	for _, p := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/pprof/profile", "/debug/pprof/trace"} {
		check("GET", s.url+p, 404, "")
	}
	check("GET", admin+"/debug/pprof/heap?debug=1", 200, "heap profile")
	check("GET", admin+"/debug/pprof/cmdline", 200, "server.test")
	check("GET", admin+"/metrics", 200, "weir_server_requests_total")
	check("GET", admin+"/api/v1/thing/x", 404, "")

	count := func(handler, code string) float64 {
		m, err := s.reg.Gather()
		require.NoError(t, err)
		for _, f := range m {
			for _, s := range f.GetMetric() {
				if l := s.GetLabel(); f.GetName() == "weir_server_requests_total" &&
					l[0].GetValue() == code && l[1].GetValue() == handler {
					return s.GetCounter().GetValue()
				}
			}
		}
		return 0
	}
	require.Equal(t, 1.0, count("/api/v1/thing/{name}", "200"), "the pattern of the inner mux is the name")
	require.Equal(t, 7.0, count("unmatched", "404"))
	require.Equal(t, 1.0, count("/-/ready", "503"))
	require.Equal(t, 1.0, count("/-/reload", "500"))
	problems, err := testutil.GatherAndLint(s.reg)
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestReloadRefusesOtherOrigins(t *testing.T) {
	var reloads atomic.Int32
	s := start(t, http.NotFoundHandler(), func(_ *Config, d *Deps) {
		d.Reload = func() error { reloads.Add(1); return nil }
	})
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/-/reload", nil)
	require.NoError(t, err)
	req.Header.Set("Origin", "https://elsewhere.example")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, http.StatusForbidden, resp.StatusCode)
	require.Zero(t, reloads.Load())
}

// A request in flight when the context ends gets its answer; meanwhile /-/ready
// says 503 and other requests are still served, until the port closes.
func TestDrain(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-release
		io.WriteString(w, "finished")
	})
	mux.HandleFunc("/quick", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "quick") })
	s := start(t, mux, func(c *Config, _ *Deps) { c.DrainDelay = conf.Duration(300 * time.Millisecond) })

	type answer struct {
		status int
		body   string
	}
	slow := make(chan answer, 1)
	go func() {
		status, body := do(t, http.DefaultClient, "GET", s.url+"/slow")
		slow <- answer{status, body}
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()

	require.Eventually(t, s.draining.Load, 5*time.Second, time.Millisecond)
	status, body := do(t, http.DefaultClient, "GET", s.url+"/-/ready")
	require.Equal(t, 503, status)
	require.Contains(t, body, "draining")
	status, _ = do(t, http.DefaultClient, "GET", s.url+"/quick")
	require.Equal(t, 200, status, "served during the drain delay")

	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", s.Addr().String())
		if err == nil {
			c.Close()
		}
		return err != nil
	}, 5*time.Second, 10*time.Millisecond, "the port closes after the delay")
	select {
	case err := <-stopped:
		t.Fatalf("Run returned (%v) with a request in flight", err)
	default:
	}
	close(release)
	require.Equal(t, answer{200, "finished"}, <-slow)
	require.NoError(t, <-stopped)
}

func TestDrainTimeoutCutsOff(t *testing.T) {
	entered, gone := make(chan struct{}), make(chan struct{})
	s := start(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(gone)
	}), func(c *Config, _ *Deps) { c.DrainTimeout = conf.Duration(50 * time.Millisecond) })
	failed := make(chan error, 1)
	go func() {
		resp, err := http.Get(s.url + "/x")
		if err == nil {
			resp.Body.Close()
		}
		failed <- err
	}()
	<-entered
	begin := time.Now()
	require.NoError(t, s.stop())
	require.Less(t, time.Since(begin), 3*time.Second)
	<-gone
	require.Error(t, <-failed)
}

func TestOpenFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for name, edit := range map[string]func(*Config){
		"server.listen":       func(c *Config) { c.Listen = taken.Addr().String() },
		"server.admin_listen": func(c *Config) { c.AdminListen = taken.Addr().String() },
	} {
		cfg := DefaultConfig()
		cfg.Listen = "127.0.0.1:0"
		edit(&cfg)
		s, err := New(cfg, Deps{Registerer: prometheus.NewRegistry(), Gatherer: prometheus.NewRegistry(), Handler: http.NotFoundHandler()})
		require.NoError(t, err)
		err = s.Run(t.Context())
		require.ErrorContains(t, err, name)
		require.ErrorContains(t, err, taken.Addr().String())
	}
}

func TestMaxConnections(t *testing.T) {
	s := start(t, http.NotFoundHandler(), func(c *Config, _ *Deps) { c.MaxConnections = 1 })
	first, err := net.Dial("tcp", s.Addr().String())
	require.NoError(t, err)
	// The first connection must be accepted before the second is tried.
	_, err = io.WriteString(first, "GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	_, err = first.Read(make([]byte, 1))
	require.NoError(t, err)

	second, err := net.Dial("tcp", s.Addr().String())
	require.NoError(t, err)
	defer second.Close()
	_, err = io.WriteString(second, "GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	require.NoError(t, err)
	require.NoError(t, second.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
	_, err = second.Read(make([]byte, 1))
	require.Error(t, err, "waits while the only place is taken")

	first.Close()
	require.NoError(t, second.SetReadDeadline(time.Now().Add(5*time.Second)))
	answer, err := io.ReadAll(second)
	require.NoError(t, err)
	require.Contains(t, string(answer), "200 OK")
}

func TestWarnIfBare(t *testing.T) {
	for _, c := range []struct {
		ip   string
		file string
		warn bool
	}{
		{"127.0.0.1", "", false}, {"::1", "", false},
		{"0.0.0.0", "", true}, {"10.0.0.1", "", true}, {"::", "", true},
		{"0.0.0.0", "web.yml", false},
	} {
		var log bytes.Buffer
		s := &Server{cfg: Config{WebConfigFile: c.file}, deps: Deps{Log: slog.New(slog.NewTextHandler(&log, nil))}}
		s.warnIfBare(&net.TCPAddr{IP: net.ParseIP(c.ip), Port: 9480}, "server.listen")
		require.Equal(t, c.warn, strings.Contains(log.String(), "server.web_config_file"), "%+v: %s", c, &log)
	}
}

func TestValidate(t *testing.T) {
	var f conf.Faults
	cfg := DefaultConfig()
	cfg.Validate(&f)
	require.NoError(t, f.Err())

	cfg = Config{Listen: "9480", AdminListen: "x", ExternalURL: "https://me:secret@weir.example", MaxConnections: -1, DrainDelay: -1, DrainTimeout: -1}
	cfg.Validate(f.At("server"))
	for _, field := range []string{
		"listen", "admin_listen", "external_url", "max_connections", "max_header_bytes", "min_rate",
		"header_timeout", "body_timeout", "idle_timeout", "drain_delay", "drain_timeout",
	} {
		require.ErrorContains(t, f.Err(), "server."+field+": got ")
	}
	require.NotContains(t, f.Err().Error(), "secret")
}
