package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/metadata"
)

// WriteHandler serves POST /api/v1/write: remote_write 1.0 and 2.0
// (https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/).
//
// The message is chosen by Content-Type alone. Headers are checked before the
// body is read, and the decoded length before it is decompressed. Answers:
//
//	204  every sample is stored, was stored before, or is dropped on purpose
//	400  some or all were refused; the rest is stored; the body says which
//	413  the body is larger than ingest.max_request_bytes
//	415  Content-Type or Content-Encoding is not ours
//	503  with Retry-After: try again, nothing acknowledged
//
// The X-Prometheus-Remote-Write-*-Written headers count what is accounted for,
// on success and on failure.
func (in *Ingest) WriteHandler() http.Handler { return http.HandlerFunc(in.serveWrite) }

func (in *Ingest) serveWrite(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "method "+r.Method+" is not allowed, want POST", http.StatusMethodNotAllowed)
		return
	}
	proto, err := negotiate(r.Header)
	if err != nil {
		in.reject(w, http.StatusUnsupportedMediaType, "unsupported_media_type", err)
		return
	}
	size := r.ContentLength
	if size > int64(in.cfg.MaxRequestBytes) {
		in.reject(w, http.StatusRequestEntityTooLarge, "body_too_large", in.tooLarge(size))
		return
	}
	pass, err := in.flight.enter(max(size, 0))
	if err != nil {
		in.reject(w, http.StatusServiceUnavailable, "overload", err)
		return
	}
	defer pass.leave()
	body, status, err := in.readBody(r, pass)
	if err != nil {
		in.reject(w, status, bodyReason(status), err)
		return
	}
	defer in.bodies.put(body)
	in.answer(w, in.receive(r.Context(), proto, body.decoded))
}

// negotiate reads Content-Type and Content-Encoding. Both may be absent, as
// senders older than the specification have it.
func negotiate(h http.Header) (protocol, error) {
	if enc := h.Get("Content-Encoding"); enc != "" && enc != "snappy" {
		return 0, fmt.Errorf("content-encoding %q is not supported, want snappy (block format)", enc)
	}
	ct := h.Get("Content-Type")
	if ct == "" {
		return protoV1, nil
	}
	media, params, err := mime.ParseMediaType(ct)
	if err != nil || media != "application/x-protobuf" {
		return 0, fmt.Errorf("content-type %q is not supported, want application/x-protobuf", ct)
	}
	switch params["proto"] {
	case "", "prometheus.WriteRequest":
		return protoV1, nil
	case "io.prometheus.write.v2.Request":
		return protoV2, nil
	}
	return 0, fmt.Errorf("content-type %q names a message that is not supported, want prometheus.WriteRequest or io.prometheus.write.v2.Request", ct)
}

func (in *Ingest) tooLarge(n int64) error {
	return fmt.Errorf("body of %d bytes is over ingest.max_request_bytes (%d): send fewer samples a request or raise it", n, in.cfg.MaxRequestBytes)
}

// readBody reads and decompresses the body. status is that of the answer when
// err is set.
func (in *Ingest) readBody(r *http.Request, pass *pass) (_ *body, status int, err error) {
	b := in.bodies.get()
	defer func() {
		if err != nil {
			in.bodies.put(b)
		}
	}()
	limit := int64(in.cfg.MaxRequestBytes)
	if b.compressed, err = readAll(r.Body, b.compressed, r.ContentLength, limit); err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("read body: %w", err)
	}
	if int64(len(b.compressed)) > limit {
		return nil, http.StatusRequestEntityTooLarge, in.tooLarge(int64(len(b.compressed)))
	}
	n, err := snappy.DecodedLen(b.compressed)
	if err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("decode snappy (%d bytes): %w", len(b.compressed), err)
	}
	if int64(n) > limit {
		return nil, http.StatusBadRequest, fmt.Errorf("body claims to decode to %d bytes, over ingest.max_request_bytes (%d): send fewer samples a request or raise it", n, limit)
	}
	if r.ContentLength < 0 {
		n += len(b.compressed)
	}
	if err := pass.more(int64(n)); err != nil {
		return nil, http.StatusServiceUnavailable, err
	}
	if b.decoded, err = snappy.Decode(b.decoded[:cap(b.decoded)], b.compressed); err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("decode snappy (%d bytes): %w", len(b.compressed), err)
	}
	return b, 0, nil
}

// readAll reads r into buf: exactly, when the size is known, at most one byte
// over limit otherwise.
func readAll(r io.Reader, buf []byte, size, limit int64) ([]byte, error) {
	if size >= 0 {
		if int64(cap(buf)) < size {
			buf = make([]byte, size)
		}
		buf = buf[:size]
		_, err := io.ReadFull(r, buf)
		return buf, err
	}
	buf = buf[:0]
	for int64(len(buf)) <= limit {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):min(int64(cap(buf)), limit+1)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

func bodyReason(status int) string {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return "body_too_large"
	case http.StatusServiceUnavailable:
		return "overload"
	}
	return "malformed_body"
}

// result is the answer to one request.
type result struct {
	status  int
	text    string
	written [numKinds]int
}

// receive decodes a body and writes its samples.
func (in *Ingest) receive(ctx context.Context, proto protocol, raw []byte) result {
	b := in.batches.get(proto)
	defer in.batches.put(b)
	if err := in.decode(b, raw); err != nil {
		in.metrics.requests.WithLabelValues("malformed_body").Inc()
		return result{status: http.StatusBadRequest, text: fmt.Sprintf("decode %v (%d bytes): %v\n", proto, len(raw), err)}
	}
	for k, n := range b.sizes() {
		in.w.ledger.received[proto][k].Add(uint64(n))
	}
	if err := in.w.write(ctx, b); err != nil {
		b.tally = b.tally[:0] // what was said of its first series no longer matters
		b.refuseAll(badRequest)
		b.flush(in.w.ledger)
		in.metrics.requests.WithLabelValues("malformed_body").Inc()
		return result{status: http.StatusBadRequest, text: fmt.Sprintf("decode %v (%d bytes): %v\n", proto, len(raw), err)}
	}
	b.flush(in.w.ledger)
	for _, m := range b.req.Metadata {
		in.w.metadata.set(m.Family, metadata.Metadata{Type: m.Type, Help: m.Help, Unit: m.Unit})
	}
	return in.conclude(b)
}

func (in *Ingest) decode(b *batch, raw []byte) error {
	if b.proto == protoV2 {
		b.src = sourceV2{&b.req}
		if err := b.req.DecodeV2(raw); err != nil {
			return err
		}
		b.keys, b.symbols = in.w.hasher.keysV2(&b.req, b.keys, b.symbols)
		return nil
	}
	b.src = sourceV1{&b.req}
	if err := b.req.DecodeV1(raw); err != nil {
		return err
	}
	if len(b.req.Exemplars) > 0 {
		if err := checkExemplarsV1(&b.req); err != nil {
			return err
		}
	}
	b.keys = in.w.hasher.keysV1(&b.req, b.keys)
	return nil
}

// conclude turns a written batch into an answer.
func (in *Ingest) conclude(b *batch) result {
	res := result{status: http.StatusNoContent}
	for k := range numKinds {
		res.written[k] = b.accepted(k)
	}
	if !b.say.any {
		in.metrics.requests.WithLabelValues("ok").Inc()
		return res
	}
	refusedAny := false
	count := func(o outcome) int {
		n := 0
		for k := range numKinds {
			n += b.total(k, o)
		}
		return n
	}
	for o := firstRefusal; o < numOutcomes; o++ {
		if b.say.first[o] == "" {
			continue
		}
		// 1.0 has no word about exemplars, and its senders cannot mend them: they
		// are counted, not complained of.
		if b.proto == protoV1 && o == exemplarRefused {
			continue
		}
		refusedAny = true
	}
	switch {
	case b.failed != nil:
		res.status = http.StatusServiceUnavailable
		in.metrics.requests.WithLabelValues("unavailable").Inc()
	case refusedAny:
		res.status = http.StatusBadRequest
		in.metrics.requests.WithLabelValues("partial").Inc()
	default:
		in.metrics.requests.WithLabelValues("ok").Inc()
		return res
	}
	res.text = b.say.text(count)
	return res
}

func (in *Ingest) answer(w http.ResponseWriter, res result) {
	h := w.Header()
	h.Set("X-Prometheus-Remote-Write-Samples-Written", strconv.Itoa(res.written[kindFloat]))
	h.Set("X-Prometheus-Remote-Write-Histograms-Written", strconv.Itoa(res.written[kindHistogram]))
	h.Set("X-Prometheus-Remote-Write-Exemplars-Written", strconv.Itoa(res.written[kindExemplar]))
	if res.status == http.StatusNoContent {
		w.WriteHeader(res.status)
		return
	}
	if res.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", retryAfter())
	}
	http.Error(w, res.text, res.status)
}

// reject answers a request of which no sample was looked at.
func (in *Ingest) reject(w http.ResponseWriter, status int, reason string, err error) {
	in.metrics.requests.WithLabelValues(reason).Inc()
	in.log.Debug("remote write request rejected", "reason", reason, "err", err)
	h := w.Header()
	for _, k := range []string{"Samples", "Histograms", "Exemplars"} {
		h.Set("X-Prometheus-Remote-Write-"+k+"-Written", "0")
	}
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", retryAfter())
	}
	http.Error(w, err.Error(), status)
}

// retryAfter spreads the return of senders that were turned away together. One
// to five seconds is between a sender's own 30 ms and 5 s backoff bounds.
func retryAfter() string { return strconv.Itoa(1 + rand.IntN(5)) }

// body is the pooled memory of one request.
type body struct{ compressed, decoded []byte }

// maxPooledBody bounds what an idle body keeps: 2,000 series of 460 bytes are
// 0.9 MiB decoded.
const maxPooledBody = 4 << 20

type bodyPool struct{ sync.Pool }

func (p *bodyPool) get() *body {
	if b, ok := p.Get().(*body); ok {
		return b
	}
	return &body{}
}

func (p *bodyPool) put(b *body) {
	if cap(b.compressed)+cap(b.decoded) <= maxPooledBody {
		p.Put(b)
	}
}

// flight bounds the requests being handled and the bytes that they hold.
type flight struct {
	maxRequests, maxBytes int64
	requests, bytes       *atomic.Int64
}

func newFlight(cfg Config) flight {
	return flight{int64(cfg.MaxInFlightRequests), int64(cfg.MaxInFlightBytes), &atomic.Int64{}, &atomic.Int64{}}
}

// pass is one request's share.
type pass struct {
	f     flight
	bytes int64
}

func (f flight) enter(bytes int64) (*pass, error) {
	p := &pass{f: f}
	if n := f.requests.Add(1); n > f.maxRequests {
		f.requests.Add(-1)
		return nil, fmt.Errorf("%d requests are being handled: try again later, or raise ingest.max_in_flight_requests", f.maxRequests)
	}
	if err := p.more(bytes); err != nil {
		f.requests.Add(-1)
		return nil, err
	}
	return p, nil
}

// more takes n further bytes.
func (p *pass) more(n int64) error {
	if total := p.f.bytes.Add(n); total > p.f.maxBytes {
		p.f.bytes.Add(-n)
		return fmt.Errorf("requests in flight hold %d bytes: try again later, or raise ingest.max_in_flight_bytes (%d)", total, p.f.maxBytes)
	}
	p.bytes += n
	return nil
}

func (p *pass) leave() {
	p.f.bytes.Add(-p.bytes)
	p.f.requests.Add(-1)
}
