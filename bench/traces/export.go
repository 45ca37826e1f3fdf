package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
)

// requestTimeout bounds one export. Far above any answer seen: Jaeger with badger,
// the slowest, has a p99 of 8 s.
const requestTimeout = 2 * time.Minute

// exporter is one connection to a server.
type exporter interface {
	// export sends one body, which it has copied or done with when it returns. An
	// error says that the server did not take all of it.
	export(ctx context.Context, body []byte) error
	io.Closer
}

func (s *server) connect(proto protocol) (exporter, error) {
	if proto == overGRPC {
		return newGRPC(s.grpc)
	}
	return newHTTP(s.http), nil
}

type grpcExporter struct{ conn *grpc.ClientConn }

func newGRPC(address string) (*grpcExporter, error) {
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(encoded{})), grpc.WithUserAgent("OTel-OTLP-Exporter-Go/1.46.0"))
	return &grpcExporter{conn: conn}, err
}

func (e *grpcExporter) export(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var answer []byte
	if err := e.conn.Invoke(ctx, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", body, &answer); err != nil {
		return err
	}
	return partialSuccess(answer)
}

func (e *grpcExporter) Close() error { return e.conn.Close() }

// encoded is a codec for what is encoded already. It copies, since a call that fails
// may leave its body with the transport, and the next one is made in the same place.
type encoded struct{}

func (encoded) Name() string { return "proto" }

func (encoded) Marshal(v any) (mem.BufferSlice, error) {
	body, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("marshal %T: want bytes", v)
	}
	return mem.BufferSlice{mem.Copy(body, mem.DefaultBufferPool())}, nil
}

func (encoded) Unmarshal(data mem.BufferSlice, v any) error {
	into, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("unmarshal into %T: want *[]byte", v)
	}
	*into = data.Materialize()
	return nil
}

type httpExporter struct {
	url    string
	client *http.Client
}

func newHTTP(url string) *httpExporter {
	return &httpExporter{url: url, client: &http.Client{
		Transport: &http.Transport{MaxConnsPerHost: 1, DisableCompression: true}, Timeout: requestTimeout,
	}}
}

func (e *httpExporter) export(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "OTel-OTLP-Exporter-Go/1.46.0")
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err != nil {
		return fmt.Errorf("read answer of %s: %w", e.url, err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s answered %s: %s", e.url, resp.Status, bytes.TrimSpace(answer[:min(len(answer), 300)]))
	}
	return partialSuccess(answer)
}

func (e *httpExporter) Close() error {
	e.client.CloseIdleConnections()
	return nil
}

// partialSuccess turns spans that a receiver rejected in a good answer into an
// error. An empty answer rejects nothing.
func partialSuccess(answer []byte) error {
	resp := ptraceotlp.NewExportResponse()
	if err := resp.UnmarshalProto(answer); err != nil {
		return fmt.Errorf("read OTLP answer: %w", err)
	}
	if p := resp.PartialSuccess(); p.RejectedSpans() > 0 {
		return fmt.Errorf("%d spans rejected: %s", p.RejectedSpans(), p.ErrorMessage())
	}
	return nil
}
