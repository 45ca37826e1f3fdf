package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weir-dev/weir/bench/shop"
)

const (
	// visitsPerBody is how many traces the shop sends at once.
	visitsPerBody = 10
	// betweenBodies is the time between two of them: 20 traces a second, which a
	// waterfall of the last minute shows well.
	betweenBodies = 500 * time.Millisecond
)

// Shop is five services whose spans are sent as one collector would send them, by
// OTLP over gRPC.
type Shop struct {
	conn   *grpc.ClientConn
	client ptraceotlp.GRPCClient

	mu     sync.Mutex
	stream *shop.Stream
}

// NewShop makes a shop that sends to a host:port. The caller closes it.
func NewShop(otlp string) (*Shop, error) {
	s, err := shop.New(shop.Spec{Seed: uint64(time.Now().UnixNano()), Batch: visitsPerBody * 10})
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient("passthrough:///"+otlp, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("send traces to %s: %w", otlp, err)
	}
	return &Shop{conn: conn, client: ptraceotlp.NewGRPCClient(conn), stream: s.Stream(0)}, nil
}

// Close hangs up.
func (s *Shop) Close() error { return s.conn.Close() }

// Send sends some traces that end about now and returns one of them. All of them are
// acknowledged when there is no error.
func (s *Shop) Send(ctx context.Context) (shop.Trace, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	req := ptraceotlp.NewExportRequest()
	if err := req.UnmarshalProto(s.stream.Next(time.Now()).Data); err != nil {
		return shop.Trace{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	resp, err := s.client.Export(ctx, req)
	if err != nil {
		return shop.Trace{}, fmt.Errorf("send traces: %w", err)
	}
	if p := resp.PartialSuccess(); p.RejectedSpans() > 0 {
		return shop.Trace{}, fmt.Errorf("send traces: %d spans rejected: %s", p.RejectedSpans(), p.ErrorMessage())
	}
	return s.stream.Sample(), nil
}

// Calls are how often one service has called another so far.
func (s *Shop) Calls() map[shop.Edge]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stream.Calls()
}

// Live sends traces until ctx ends. What is not acknowledged is lost, and say is told.
func (s *Shop) Live(ctx context.Context, say func(format string, args ...any)) {
	tick := time.NewTicker(betweenBodies)
	defer tick.Stop()
	for wrong := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_, err := s.Send(ctx)
			if err != nil && !wrong && !errors.Is(ctx.Err(), context.Canceled) {
				say("the shop's traces are lost: %v", err)
			}
			wrong = err != nil
		}
	}
}
