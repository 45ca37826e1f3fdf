package ingest

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"

	"go.opentelemetry.io/collector/extension/extensionmiddleware"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

const (
	otlpMetricsPath = "/v1/metrics"
	otlpTracesPath  = "/v1/traces"
	mediaProtobuf   = "application/x-protobuf"
	mediaJSON       = "application/json"
)

// GetHTTPHandler implements extensionmiddleware.HTTPServer. What comes here has
// passed the receiver's decompression and is held to its size limit.
func (m otlpMiddleware) GetHTTPHandler(context.Context) (extensionmiddleware.WrapHTTPHandlerFunc, error) {
	return func(_ context.Context, next http.Handler) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.s.serveHTTP(w, r, next) }), nil
	}, nil
}

// signalAt returns the signal that is taken over at a path.
func (s *otlpServer) signalAt(path string) (signal, bool) {
	switch {
	case path == otlpMetricsPath:
		return metricsSignal, true
	case path == otlpTracesPath && s.traces != nil:
		return tracesSignal, true
	}
	return 0, false
}

// serveHTTP answers posts of metrics and spans and leaves the rest to the receiver.
func (s *otlpServer) serveHTTP(w http.ResponseWriter, r *http.Request, next http.Handler) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	known := err == nil && (media == mediaProtobuf || media == mediaJSON)
	sig, ours := s.signalAt(r.URL.Path)
	if !ours || r.Method != http.MethodPost || !known {
		next.ServeHTTP(w, r)
		return
	}
	deadline := http.NewResponseController(w)
	defer context.AfterFunc(s.halt, func() { _ = deadline.SetReadDeadline(time.Now()) })()
	c := &otlpCall{s: s, transport: "http"}
	c.begin()
	err = s.exportHTTP(context.WithValue(r.Context(), otlpCallKey{}, c), c, sig, r.Body, media)
	c.end("malformed_body")
	c.answer(w, sig, media, err)
}

// exportHTTP reads and writes the metrics or spans of one request. Its error has a
// gRPC status.
func (s *otlpServer) exportHTTP(ctx context.Context, c *otlpCall, sig signal, from io.Reader, media string) error {
	if c.over != nil {
		return unavailableStatus(c.over.Error())
	}
	b := s.bodies.get()
	defer s.bodies.put(b)
	var err error
	if b.decoded, err = readCounted(c, from, b.decoded[:0]); err != nil {
		return err
	}
	if media == mediaProtobuf {
		return s.receive(ctx, sig, b.decoded)
	}
	if sig == tracesSignal {
		return s.tracesJSON(ctx, b.decoded)
	}
	req := pmetricotlp.NewExportRequest()
	if err := req.UnmarshalJSON(b.decoded); err != nil {
		return malformed(b.decoded, err)
	}
	return s.otlp.consume(ctx, req.Metrics())
}

// readCounted reads all of r into buf and counts it against what may be in
// flight.
func readCounted(c *otlpCall, r io.Reader, buf []byte) ([]byte, error) {
	for {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), max(2*cap(buf), 64<<10))
			copy(grown, buf)
			buf = grown
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if over := c.received(n); over != nil {
			return buf, unavailableStatus(over.Error())
		}
		var tooLarge *http.MaxBytesError
		switch {
		case errors.Is(err, io.EOF):
			return buf, nil
		case errors.As(err, &tooLarge):
			c.tooLarge = true
			return buf, status.Error(codes.InvalidArgument, c.s.tooLarge())
		case err != nil:
			return buf, status.Errorf(codes.InvalidArgument, "read body: %v", err)
		}
	}
}

// answer writes what has become of the request, in the encoding it came in.
func (c *otlpCall) answer(w http.ResponseWriter, sig signal, media string, failed error) {
	code, body := http.StatusOK, []byte(nil)
	var err error
	if failed == nil {
		body, err = c.response(sig, media)
	} else {
		s := status.Convert(failed)
		if code = http.StatusBadRequest; s.Code() == codes.Unavailable {
			code = http.StatusServiceUnavailable
			w.Header().Set("Retry-After", retryAfterOf(s))
		} else if c.tooLarge {
			code = http.StatusRequestEntityTooLarge
		}
		body, err = marshalStatus(s, media)
	}
	if err != nil {
		http.Error(w, "encode answer: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", media)
	w.WriteHeader(code)
	_, _ = w.Write(body) // the client has gone; nobody is left to tell
}

func (c *otlpCall) response(sig signal, media string) ([]byte, error) {
	if sig == tracesSignal {
		return c.tracesResponse(media)
	}
	r := pmetricotlp.NewExportResponse()
	if c.message != "" {
		r.PartialSuccess().SetRejectedDataPoints(c.rejected)
		r.PartialSuccess().SetErrorMessage(c.message)
	}
	if media == mediaJSON {
		return r.MarshalJSON()
	}
	return r.MarshalProto()
}

func marshalStatus(s *status.Status, media string) ([]byte, error) {
	if media == mediaJSON {
		return protojson.Marshal(s.Proto())
	}
	return proto.Marshal(s.Proto())
}

func retryAfterOf(s *status.Status) string {
	for _, d := range s.Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return strconv.Itoa(int(r.GetRetryDelay().AsDuration() / time.Second))
		}
	}
	return retryAfter()
}
