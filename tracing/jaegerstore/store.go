package jaegerstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // what other messages are passed to
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/tracing/proto/storagev2"
	"github.com/weir-dev/weir/tracing/spanstore"
)

var (
	_ spanstore.Reader = (*Store)(nil)
	_ spanstore.Writer = (*Store)(nil)
)

// Deps are what the store is given.
type Deps struct {
	Now func() time.Time // nil: time.Now
}

// Store is a storage behind jaeger.storage.v2.
type Store struct {
	cfg Config
	now func() time.Time

	read, write *grpc.ClientConn // the same where there is one endpoint
	traces      storagev2.TraceReaderClient
	links       storagev2.DependencyReaderClient
	can         capabilities
}

// New checks the configuration.
func New(cfg Config, deps Deps) (*Store, error) {
	var faults conf.Faults
	cfg.Validate(faults.At("jaeger"))
	if err := faults.Err(); err != nil {
		return nil, fmt.Errorf("remote span store: %w", err)
	}
	if cfg.WriteEndpoint == "" {
		cfg.WriteEndpoint = cfg.Endpoint
	}
	s := &Store{cfg: cfg, now: deps.Now}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// policy retries what was not answered, four times within 2 s, unless the storage
// has begun to answer. A storage that restarts is back then, or has been away for
// longer than who asks would wait.
const policy = `{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":4,"initialBackoff":"0.2s","maxBackoff":"1s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}`

// Open reads the certificates and prepares the connections; it waits for nobody.
func (s *Store) Open(context.Context) error {
	creds := insecure.NewCredentials()
	if s.cfg.TLS.Enabled {
		t, err := s.cfg.TLS.config()
		if err != nil {
			return fmt.Errorf("open remote span store: %w", err)
		}
		creds = credentials.NewTLS(t)
	}
	dial := func(endpoint string) (*grpc.ClientConn, error) {
		return grpc.NewClient("dns:///"+endpoint, grpc.WithTransportCredentials(creds), grpc.WithDefaultServiceConfig(policy),
			grpc.WithUserAgent("weir"), grpc.WithDefaultCallOptions(
				grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(int(s.cfg.MaxRecv)),
				grpc.MaxRetryRPCBufferSize(int(s.cfg.MaxSend)+maxOverhead)))
	}
	var err error
	if s.read, err = dial(s.cfg.Endpoint); err != nil {
		return fmt.Errorf("open remote span store: jaeger.endpoint %s: %w", s.cfg.Endpoint, err)
	}
	s.write = s.read
	if s.cfg.WriteEndpoint != s.cfg.Endpoint {
		if s.write, err = dial(s.cfg.WriteEndpoint); err != nil {
			return errors.Join(fmt.Errorf("open remote span store: jaeger.write_endpoint %s: %w", s.cfg.WriteEndpoint, err), s.read.Close())
		}
	}
	s.traces, s.links = storagev2.NewTraceReaderClient(s.read), storagev2.NewDependencyReaderClient(s.read)
	return nil
}

// Close ends the connections and the calls on them.
func (s *Store) Close() error {
	if s.read == nil {
		return nil
	}
	err := s.read.Close()
	if s.write != nil && s.write != s.read {
		err = errors.Join(err, s.write.Close())
	}
	return err
}

// body is a message that is bytes already, or stays so.
type body []byte

// codec passes everything but bodies to gRPC's own.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(message any) (mem.BufferSlice, error) {
	if b, ok := message.(body); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return encoding.GetCodecV2("proto").Marshal(message)
}

func (codec) Unmarshal(data mem.BufferSlice, message any) error {
	if b, ok := message.(*body); ok {
		*b = data.Materialize() // memory of its own
		return nil
	}
	return encoding.GetCodecV2("proto").Unmarshal(data, message)
}

// Error is a call that the storage did not answer as it should.
type Error struct {
	call, endpoint string
	err            error // with a gRPC status
	cause          error // of our own context, or nil
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s at jaeger storage %s: %v", e.call, e.endpoint, e.err)
	switch status.Code(e.err) {
	case codes.DeadlineExceeded:
		return text + " (jaeger.timeout)"
	case codes.ResourceExhausted:
		return text + " (jaeger.max_recv bounds what is read, jaeger.max_send what is written)"
	case codes.Unimplemented:
		return text + " (is it jaeger.storage.v2 that is served there? Jaeger before 1.67 has only jaeger.storage.v1)"
	}
	return text
}

// Unwrap gives the gRPC status and, if the caller's context ended, its error.
func (e *Error) Unwrap() []error {
	if e.cause != nil {
		return []error{e.cause, e.err}
	}
	return []error{e.err}
}

// Retryable tells what may pass, as OTLP has it.
func (e *Error) Retryable() bool {
	switch status.Code(e.err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Aborted, codes.OutOfRange, codes.DataLoss, codes.Canceled, codes.ResourceExhausted:
		return true
	}
	return false
}

func (s *Store) failed(ctx context.Context, call, endpoint string, err error) error {
	return &Error{call: call, endpoint: endpoint, err: err, cause: ctx.Err()}
}

// capabilities are asked for once an hour, since a storage may be replaced.
type capabilities struct {
	mu         sync.Mutex
	until      time.Time
	anyService bool
}

// anyService tells whether the storage searches without the name of a service. One
// that has no such call, like Jaeger 1, does not.
func (s *Store) anyService(ctx context.Context) (bool, error) {
	c := &s.can
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.now().Before(c.until) {
		return c.anyService, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout.Std())
	defer cancel()
	got, err := storagev2.NewCapabilitiesClient(s.read).GetCapabilities(ctx, &storagev2.GetCapabilitiesRequest{})
	if err != nil && status.Code(err) != codes.Unimplemented {
		return false, s.failed(ctx, "get capabilities", s.cfg.Endpoint, err)
	}
	c.anyService, c.until = got.GetSearch().GetWithoutServiceName(), s.now().Add(time.Hour)
	return c.anyService, nil
}
