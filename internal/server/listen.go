package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"

	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/net/netutil"
)

// port is one listener and its HTTP server.
type port struct {
	name string
	srv  *http.Server
	ln   net.Listener
	log  *slog.Logger
}

func newPort(name string, cfg Config, h http.Handler, log *slog.Logger) *port {
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(cfg.H2C)
	return &port{name: name, log: log, srv: &http.Server{
		Handler:           h,
		Protocols:         &p,
		ReadHeaderTimeout: cfg.HeaderTimeout.Std(),
		IdleTimeout:       cfg.IdleTimeout.Std(),
		MaxHeaderBytes:    int(cfg.MaxHeaderBytes),
		ErrorLog:          slog.NewLogLogger(log.With("port", name).Handler(), slog.LevelWarn),
	}}
}

func (p *port) open(address string, limit int) error {
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	if limit > 0 {
		ln = netutil.LimitListener(ln, limit)
	}
	p.ln = ln
	return nil
}

func (p *port) addr() net.Addr {
	if p.ln == nil {
		return nil
	}
	return p.ln.Addr()
}

func (p *port) close() error {
	if p.ln == nil {
		return nil
	}
	if err := p.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// serve accepts until Shutdown or Close of the server, and frees the socket.
func (p *port) serve(webConfig string) error {
	p.log.Info("serving", "port", p.name, "address", p.addr().String(), "web_config_file", webConfig)
	quiet := slog.New(slog.DiscardHandler) // of the toolkit: it would say the same in other words
	if webConfig != "" {
		quiet = p.log.With("port", p.name) // there its errors of later reloads count
	}
	err := web.Serve(p.ln, p.srv, &web.FlagConfig{WebConfigFile: &webConfig}, quiet)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return errors.Join(fmt.Errorf("serve %s on %s: %w", p.name, p.addr(), err), p.close())
}

// checkWebConfig refuses a bad file at the start, where the toolkit would first
// refuse every request.
func checkWebConfig(file string) error {
	if file == "" {
		return nil
	}
	if err := web.Validate(file); err != nil {
		return fmt.Errorf("read %s (server.web_config_file): %w", file, err)
	}
	return nil
}
