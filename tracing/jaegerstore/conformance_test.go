package jaegerstore_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weir-dev/weir/tracing/jaegerrpc"
	"github.com/weir-dev/weir/tracing/jaegerstore"
	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
	"github.com/weir-dev/weir/tracing/spanstore/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A Weir behind a Weir: what one serves, the other can use in full.
func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (spanstore.Reader, spanstore.Writer) {
		embedded := embed(t)
		s := connect(t, serve(t, embedded, listen(t)), nil)
		return s, linked{s, embedded}
	}, storetest.DuplicateCount, storetest.Completeness)
}

// linked adds the way by which the embedded store learns of dependencies.
type linked struct {
	spanstore.Writer
	embedded *pebblestore.Store
}

func (l linked) AddLinks(ctx context.Context, at time.Time, links []spanstore.Dependency) error {
	return l.embedded.AddLinks(ctx, at, links)
}

func embed(t *testing.T) *pebblestore.Store {
	t.Helper()
	cfg := pebblestore.DefaultConfig()
	cfg.Dir, cfg.MinFree, cfg.Sync = t.TempDir(), 0, false
	cfg.Memory.Cache, cfg.Memory.Memtable, cfg.Memory.RecentSpans = 8<<20, 4<<20, 64<<10
	s, err := pebblestore.New(cfg, pebblestore.Deps{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serve answers jaeger.storage.v2 with the store, and writes to it, until the test ends.
func serve(t *testing.T, store *pebblestore.Store, l net.Listener) string {
	t.Helper()
	server, err := jaegerrpc.New(jaegerrpc.Deps{
		Reader: store, Log: slog.New(slog.DiscardHandler),
		Export: func(ctx context.Context, body []byte) (int64, string, error) {
			b := &span.Batch{}
			if err := b.Decode(body); err != nil {
				return 0, "", err
			}
			_, err := store.Append(ctx, b)
			return 0, "", err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func connect(t *testing.T, endpoint string, change func(*jaegerstore.Config)) *jaegerstore.Store {
	t.Helper()
	cfg := jaegerstore.DefaultConfig()
	cfg.Endpoint = endpoint
	if change != nil {
		change(&cfg)
	}
	s, err := jaegerstore.New(cfg, jaegerstore.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
