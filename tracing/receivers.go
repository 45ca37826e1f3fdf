package tracing

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/klauspost/compress/zstd"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/weir-dev/weir/tracing/span"
)

// openReceivers listens for each receiver that has an endpoint.
func (t *Tracing) openReceivers(ctx context.Context) error {
	r := t.cfg.Receivers
	for _, d := range []struct {
		setting string
		at      Endpoint
		serve   serve
	}{
		{"tracing.receivers.jaeger_grpc.endpoint", r.JaegerGRPC, t.serveJaegerGRPC},
		{"tracing.receivers.jaeger_thrift.endpoint", r.JaegerThrift, serveHTTP(t.jaegerThrift())},
		{"tracing.receivers.zipkin.endpoint", r.Zipkin, serveHTTP(t.zipkin())},
	} {
		if err := t.listen(ctx, d.setting, d.at, d.serve); err != nil {
			return err
		}
	}
	return nil
}

// decoder makes spans of a body of a media type; nil if it knows no such type.
type decoder func(media string) func(body []byte) (ptrace.Traces, error)

// receive answers posts of spans: 202 when they are durable, 400 with the reason for a
// body that cannot be read or of which no span can be stored, 413 for one too large,
// 415 for a type or encoding that is not known, 503 with Retry-After to try again.
func (t *Tracing) receive(p protocol, decode decoder) http.Handler {
	places := make(chan struct{}, t.cfg.Receivers.MaxInFlightRequests)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			t.answer(w, p, fmt.Errorf("%w: %d requests are being handled: try again later, or raise tracing.receivers.max_in_flight_requests", errBusy, cap(places)))
			return
		}
		media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		read := decode(media)
		if err != nil || read == nil {
			t.answer(w, p, fmt.Errorf("%w: content type %.100q", errUnknownType, r.Header.Get("Content-Type")))
			return
		}
		t.answer(w, p, t.receiveBody(r, p, read))
	})
}

func (t *Tracing) receiveBody(r *http.Request, p protocol, read func([]byte) (ptrace.Traces, error)) error {
	var held int
	defer func() { t.flight.leave(held) }()
	body, err := t.readBody(r, &held)
	if err != nil {
		return err
	}
	// What the decoders of others make of a body is not bounded by us but by its size.
	room := decodedFactor * len(body)
	if err := t.flight.enter(room); err != nil {
		return err
	}
	held += room
	traces, err := decodeSafely(read, body)
	if err != nil {
		return fmt.Errorf("%w: %s (%d bytes): %w", errMalformed, p, len(body), err)
	}
	return t.takeTraces(r.Context(), p, traces)
}

// takeTraces takes what somebody else has decoded.
func (t *Tracing) takeTraces(ctx context.Context, p protocol, traces ptrace.Traces) error {
	body, err := (&ptrace.ProtoMarshaler{}).MarshalTraces(traces)
	if err != nil {
		return fmt.Errorf("encode %s spans: %w", p, err)
	}
	_, err = t.take(ctx, p, body)
	return err
}

// decodeSafely makes an error of a panic: the decoders are others', and read what
// anybody may send.
func decodeSafely(read func([]byte) (ptrace.Traces, error), body []byte) (traces ptrace.Traces, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decoder gave up: %v", p)
		}
	}()
	return read(body)
}

var (
	errMalformed   = errors.New("malformed request")
	errBusy        = errors.New("too many requests")
	errUnknownType = errors.New("unknown type of request")
	errBodyTooBig  = errors.New("body too large")
)

// readBody reads and decompresses a body, and counts what it holds in flight.
func (t *Tracing) readBody(r *http.Request, held *int) ([]byte, error) {
	most := int(t.cfg.Receivers.MaxRequestBytes)
	from := io.Reader(http.MaxBytesReader(nil, r.Body, int64(most)))
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		z, err := gzip.NewReader(from)
		if err != nil {
			return nil, fmt.Errorf("%w: read gzip: %w", errMalformed, err)
		}
		from = z
	case "zstd":
		z, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(most)))
		if err != nil {
			return nil, fmt.Errorf("%w: read zstd: %w", errMalformed, err)
		}
		defer z.Close()
		from = z
	default:
		return nil, fmt.Errorf("%w: content encoding %.100q, want gzip, zstd or none", errUnknownType, encoding)
	}
	return t.readAll(from, most, held)
}

// readAll reads up to most bytes.
func (t *Tracing) readAll(from io.Reader, most int, held *int) (body []byte, err error) {
	for {
		if len(body) == cap(body) {
			grow := max(cap(body), 32<<10)
			if err := t.flight.enter(grow); err != nil {
				return nil, err
			}
			*held += grow
			grown := make([]byte, len(body), cap(body)+grow)
			copy(grown, body)
			body = grown
		}
		n, err := from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		var tooBig *http.MaxBytesError
		switch {
		case len(body) > most, errors.As(err, &tooBig), errors.Is(err, zstd.ErrDecoderSizeExceeded):
			return nil, fmt.Errorf("%w: more than tracing.receivers.max_request_bytes (%d): send fewer spans a request or raise it", errBodyTooBig, most)
		case errors.Is(err, io.EOF):
			return body, nil
		case err != nil:
			return nil, fmt.Errorf("%w: read body: %w", errMalformed, err)
		}
	}
}

// verdicts is how errors are answered, the first that is found; others are 500.
var verdicts = []struct {
	err    error
	code   int
	result string
}{
	{errBusy, http.StatusServiceUnavailable, "overload"},
	{errUnknownType, http.StatusUnsupportedMediaType, "unknown_type"},
	{errBodyTooBig, http.StatusRequestEntityTooLarge, "body_too_large"},
	{span.ErrTooLarge, http.StatusRequestEntityTooLarge, "body_too_large"},
	{span.ErrMalformed, http.StatusBadRequest, "malformed_body"},
	{errMalformed, http.StatusBadRequest, "malformed_body"},
	{ErrRefused, http.StatusBadRequest, "refused"},
}

// verdict returns how an error is answered and counted.
func verdict(err error) (code int, result string) {
	if err == nil {
		return http.StatusAccepted, "ok"
	}
	var again interface{ Retryable() bool }
	if errors.As(err, &again) && again.Retryable() {
		return http.StatusServiceUnavailable, "unavailable"
	}
	for _, v := range verdicts {
		if errors.Is(err, v.err) {
			return v.code, v.result
		}
	}
	return http.StatusInternalServerError, "failed"
}

func (t *Tracing) answer(w http.ResponseWriter, p protocol, err error) {
	code, result := verdict(err)
	t.bodies.WithLabelValues(p.String(), result).Inc()
	switch code {
	case http.StatusAccepted:
		w.WriteHeader(code)
		return
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	case http.StatusInternalServerError:
		t.deps.Log.Error("request of spans failed", "protocol", p, "err", err)
	}
	http.Error(w, err.Error(), code)
}
