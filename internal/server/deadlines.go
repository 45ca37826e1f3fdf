package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// deadlines bounds the time that a peer may hold a handler: for sending a body
// and for taking an answer, body_timeout plus the size at min_rate. A sender of
// one byte a second so loses its connection after about body_timeout, while a
// large body on a slow line gets the time it needs. Time that the handler itself
// spends is not counted: a query is bounded by its own timeout.
func deadlines(cfg Config, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := pace{http.NewResponseController(w), cfg.BodyTimeout.Std(), int64(cfg.MinRate)}
		// The last request of this connection may have left a deadline that is over.
		_ = p.c.SetWriteDeadline(time.Time{})
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = p.body(r.Body)
		}
		next.ServeHTTP(&pacedWriter{ResponseWriter: w, pace: p}, r)
		// What is still buffered is sent after this.
		_ = p.c.SetWriteDeadline(time.Now().Add(p.grace))
	})
}

// pace sets the deadlines of one request. The errors of setting them are dropped:
// they come from tests' recorders, which have no connection.
type pace struct {
	c     *http.ResponseController
	grace time.Duration
	rate  int64 // bytes a second
}

// allow is the time that n bytes may take.
func (p pace) allow(n int64) time.Duration {
	return p.grace + time.Duration(float64(n)/float64(p.rate)*float64(time.Second))
}

func (p pace) body(b io.ReadCloser) io.ReadCloser {
	pb := &pacedBody{ReadCloser: b, pace: p, start: time.Now()}
	_ = p.c.SetReadDeadline(pb.start.Add(p.grace))
	return pb
}

// pacedBody moves the read deadline on as bytes arrive.
type pacedBody struct {
	io.ReadCloser
	pace
	start   time.Time
	read    int64
	granted int64 // of read, what the deadline counts already
}

func (b *pacedBody) Read(buf []byte) (int, error) {
	n, err := b.ReadCloser.Read(buf)
	b.read += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		// Else net/http, which waits for the peer to hang up, takes the deadline
		// for that and cancels the running handler.
		_ = b.c.SetReadDeadline(time.Time{})
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("request body too slow: %d bytes in %s (server.body_timeout, server.min_rate): %w",
			b.read, time.Since(b.start).Round(time.Millisecond), err)
	case b.read-b.granted >= b.rate: // a second's worth: rarely enough to cost nothing
		b.granted = b.read
		_ = b.c.SetReadDeadline(b.start.Add(b.allow(b.read)))
	}
	return n, err
}

// pacedWriter has a write deadline only while it writes: HTTP/2 ends a stream at
// its deadline even when nobody is writing.
type pacedWriter struct {
	http.ResponseWriter
	pace
}

func (w *pacedWriter) Write(buf []byte) (int, error) {
	_ = w.c.SetWriteDeadline(time.Now().Add(w.allow(int64(len(buf)))))
	n, err := w.ResponseWriter.Write(buf)
	_ = w.c.SetWriteDeadline(time.Time{})
	return n, err
}

// Flush makes the writer an http.Flusher, which remote read asks for.
func (w *pacedWriter) Flush() {
	_ = w.c.SetWriteDeadline(time.Now().Add(w.grace))
	_ = w.c.Flush()
	_ = w.c.SetWriteDeadline(time.Time{})
}

// Unwrap lets http.ResponseController find the connection.
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
