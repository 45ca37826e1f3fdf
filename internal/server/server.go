package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Deps is what a Server needs from the process. All but Log must be set.
type Deps struct {
	// Handler has the doors of the rooms. A ServeMux that is handed requests as
	// they are names them in the metrics by its patterns.
	Handler http.Handler
	// Doors are listed on the page at /, after the operators' own.
	Doors []Door
	// Ready reports whether the process can serve, and if not, why in a few words.
	Ready func() (ok bool, why string)
	// Reload takes over the configuration file; it may be called at once by many.
	Reload func() error

	Gatherer   prometheus.Gatherer
	Registerer prometheus.Registerer
	Log        *slog.Logger // nil logs nothing
}

// Server is the main port and, if configured, the admin port.
type Server struct {
	cfg      Config
	deps     Deps
	main     *port
	admin    *port // nil for none
	draining atomic.Bool
}

// New makes a server that listens nowhere yet.
func New(cfg Config, deps Deps) (*Server, error) {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if err := checkWebConfig(cfg.WebConfigFile); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, deps: deps}
	m := newMetrics(deps.Registerer)
	s.main = newPort("main", cfg, m.measure(deadlines(cfg, s.mainDoors())), deps.Log)
	if cfg.AdminListen != "" {
		s.admin = newPort("admin", cfg, s.adminDoors(), deps.Log)
	}
	return s, nil
}

// Open binds the sockets, so that a taken address is known before anything else
// is started. Connections wait until Run.
func (s *Server) Open() error {
	if err := s.main.open(s.cfg.Listen, s.cfg.MaxConnections); err != nil {
		return fmt.Errorf("listen on %s (server.listen): %w", s.cfg.Listen, err)
	}
	s.warnIfBare(s.main.addr(), "server.listen")
	if s.admin == nil {
		return nil
	}
	if err := s.admin.open(s.cfg.AdminListen, adminConnections); err != nil {
		return errors.Join(fmt.Errorf("listen on %s (server.admin_listen): %w", s.cfg.AdminListen, err), s.Close())
	}
	s.warnIfBare(s.admin.addr(), "server.admin_listen")
	return nil
}

// adminConnections bounds the admin port: a few people and one scraper.
const adminConnections = 16

// warnIfBare tells the operator that anyone who reaches addr may use it.
func (s *Server) warnIfBare(addr net.Addr, setting string) {
	tcp, ok := addr.(*net.TCPAddr)
	if s.cfg.WebConfigFile != "" || ok && tcp.IP.IsLoopback() {
		return
	}
	s.deps.Log.Warn("port is open to the network without TLS or authentication",
		"address", addr.String(), "setting", setting, "remedy", "set server.web_config_file")
}

// Addr is where the main port listens, nil before Open.
func (s *Server) Addr() net.Addr { return s.main.addr() }

// AdminAddr is where the admin port listens, nil without one or before Open.
func (s *Server) AdminAddr() net.Addr {
	if s.admin == nil {
		return nil
	}
	return s.admin.addr()
}

// Close frees the sockets of a server that is not run.
func (s *Server) Close() error {
	err := s.main.close()
	if s.admin != nil {
		err = errors.Join(err, s.admin.close())
	}
	return err
}

// Run serves until ctx ends, and then leaves in three steps: /-/ready turns 503
// while all else goes on for drain_delay; the ports close to new connections and
// requests in flight get drain_timeout; what is left is cut off. It returns nil,
// or why a port could not be served. It opens the sockets if Open has not.
func (s *Server) Run(ctx context.Context) error {
	if s.main.addr() == nil {
		if err := s.Open(); err != nil {
			return err
		}
	}
	ports := []*port{s.main}
	if s.admin != nil {
		ports = append(ports, s.admin)
	}
	failed := make(chan error, len(ports))
	for _, p := range ports {
		go func() { failed <- p.serve(s.cfg.WebConfigFile) }()
	}

	var err error
	running := len(ports)
	select {
	case err = <-failed:
		running--
	case <-ctx.Done():
		s.drain(failed)
	}
	s.shutdown(ports)
	for range running {
		err = errors.Join(err, <-failed)
	}
	return err
}

// drain keeps serving while load balancers read from /-/ready that they should go
// elsewhere.
func (s *Server) drain(failed chan error) {
	s.draining.Store(true)
	s.deps.Log.Info("draining", "delay", s.cfg.DrainDelay, "timeout", s.cfg.DrainTimeout)
	select {
	case <-time.After(s.cfg.DrainDelay.Std()):
	case err := <-failed: // nothing is served any more, so nobody is to be waited for
		failed <- err
	}
}

func (s *Server) shutdown(ports []*port) {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.DrainTimeout.Std())
	defer cancel()
	for _, p := range ports {
		if err := p.srv.Shutdown(ctx); err != nil {
			s.deps.Log.Warn("requests in flight cut off", "port", p.name, "after", s.cfg.DrainTimeout,
				"setting", "server.drain_timeout")
			_ = p.srv.Close() // its sockets are gone either way
		}
	}
}
