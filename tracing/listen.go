package tracing

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.opentelemetry.io/collector/config/configtls"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Bounds of a client over time.
const (
	// headerTimeout is how long a client may take to send the headers of a request.
	headerTimeout = 10 * time.Second
	// bodyTimeout is how long it may take to send a request: 16 MiB at 5 Mbit/s.
	bodyTimeout = 30 * time.Second
	// answerTimeout is how long it may take from then on until it has its answer:
	// twice what a query may run.
	answerTimeout = 2 * time.Minute
	// idleTimeout closes connections that are not used.
	idleTimeout = 3 * time.Minute
	// drain is how long requests in flight have at shutdown.
	drain = 10 * time.Second
)

// serve answers on a listener until ctx ends, and returns nil then.
type serve func(ctx context.Context, l net.Listener, s security) error

// security is the TLS of a listener; nil is none.
type security struct{ tls *tls.Config }

func (s security) grpc() []grpc.ServerOption {
	if s.tls == nil {
		return nil
	}
	return []grpc.ServerOption{grpc.Creds(credentials.NewTLS(s.tls.Clone()))}
}

// door is a listener and who answers there.
type door struct {
	setting string
	l       net.Listener
	serve   serve
	s       security
	served  bool
}

func (d *door) close() error {
	if d.served {
		return nil // who served it has closed it
	}
	return d.l.Close()
}

// listen adds a door, unless its endpoint is empty.
func (t *Tracing) listen(ctx context.Context, setting string, at Endpoint, f serve) error {
	if at.Endpoint == "" {
		return nil
	}
	s, err := t.security(ctx)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", at.Endpoint)
	if err != nil {
		return fmt.Errorf("listen on %s (%s): %w", at.Endpoint, setting, err)
	}
	t.doors = append(t.doors, &door{setting: setting, l: l, serve: f, s: s})
	t.deps.Log.Info("listening for traces", "setting", setting, "address", l.Addr().String())
	return nil
}

func (t *Tracing) security(ctx context.Context) (security, error) {
	if t.cfg.TLS.CertFile == "" {
		return security{}, nil
	}
	c := configtls.NewDefaultServerConfig()
	c.CertFile, c.KeyFile, c.ClientCAFile = t.cfg.TLS.CertFile, t.cfg.TLS.KeyFile, t.cfg.TLS.ClientCAFile
	c.MinVersion, c.ReloadInterval = t.cfg.TLS.MinVersion, t.cfg.TLS.ReloadInterval.Std()
	loaded, err := c.LoadTLSConfig(ctx)
	if err != nil {
		return security{}, fmt.Errorf("load tracing.tls: %w", err)
	}
	return security{loaded}, nil
}

// Addr is where the listener of a setting, such as "tracing.query.http.endpoint",
// listens; nil if it does not.
func (t *Tracing) Addr(setting string) net.Addr {
	for _, d := range t.doors {
		if d.setting == setting {
			return d.l.Addr()
		}
	}
	return nil
}

// Run serves all listeners until ctx ends or one of them fails, and lets requests in
// flight finish.
func (t *Tracing) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(t.doors))
	for _, d := range t.doors {
		d.served = true
		go func() {
			err := d.serve(ctx, d.l, d.s)
			if err != nil {
				err = fmt.Errorf("serve %s (%s): %w", d.l.Addr(), d.setting, err)
			}
			cancel() // the others' too
			ended <- err
		}()
	}
	if len(t.doors) == 0 {
		<-ctx.Done()
	}
	var errs []error
	for range t.doors {
		errs = append(errs, <-ended)
	}
	return errors.Join(errs...)
}

// serveHTTP serves a handler.
func serveHTTP(h http.Handler) serve {
	return func(ctx context.Context, l net.Listener, s security) error {
		srv := &http.Server{
			Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout,
			WriteTimeout: bodyTimeout + answerTimeout, IdleTimeout: idleTimeout,
		}
		stopped := make(chan struct{})
		stop := context.AfterFunc(ctx, func() {
			defer close(stopped)
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
			defer cancel()
			if srv.Shutdown(last) != nil {
				_ = srv.Close() // who is not done by now tries again
			}
		})
		var err error
		if s.tls == nil {
			err = srv.Serve(l)
		} else {
			srv.TLSConfig = s.tls.Clone()
			err = srv.ServeTLS(l, "", "")
		}
		if stop() { // ctx has not ended
			return errors.Join(err, srv.Close())
		}
		<-stopped
		return nil
	}
}

// serveGRPC serves g, whose services are registered.
func serveGRPC(ctx context.Context, g *grpc.Server, l net.Listener) error {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		hard := time.AfterFunc(drain, g.Stop)
		defer hard.Stop()
		g.GracefulStop()
	})
	err := g.Serve(l)
	if stop() {
		g.Stop()
		return err
	}
	<-stopped
	return nil
}
