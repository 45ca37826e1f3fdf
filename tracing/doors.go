package tracing

import (
	"context"
	"net"
	"net/http"

	"google.golang.org/grpc"
)

// API answers questions at listeners of the room. Both are optional.
type API struct {
	HTTP http.Handler
	// GRPC serves until ctx ends; the listener is its own.
	GRPC func(ctx context.Context, l net.Listener, options ...grpc.ServerOption) error
}

// Answer says who answers at the query listeners. It must be called before Open, and is
// apart from New because an API may have a way in, which is the room's.
func (t *Tracing) Answer(api API) { t.api = api }

// openAPI listens where there is somebody to answer.
func (t *Tracing) openAPI(ctx context.Context) error {
	if t.api.HTTP != nil {
		if err := t.listen(ctx, "tracing.query.http.endpoint", t.cfg.Query.HTTP, serveHTTP(t.api.HTTP)); err != nil {
			return err
		}
	}
	if t.api.GRPC == nil {
		return nil
	}
	return t.listen(ctx, "tracing.query.grpc.endpoint", t.cfg.Query.GRPC,
		func(ctx context.Context, l net.Listener, s security) error { return t.api.GRPC(ctx, l, s.grpc()...) })
}
