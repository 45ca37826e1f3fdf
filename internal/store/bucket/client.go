package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"time"

	"github.com/thanos-io/objstore"
)

// client asks an object store, repeats what fails, and says clearly what failed
// in the end. All requests of the package go through it.
type client struct {
	raw     objstore.Bucket
	name    string // for messages
	secrets []string
	timeout time.Duration // without a byte moved
	retries int
	wait    time.Duration // before the first repetition
	slots   chan struct{} // one a transfer
	log     *slog.Logger
	metrics *metrics
}

// firstWait is the wait before a request is repeated the first time; each further
// one is twice as long, up to maxWait. Unmeasured: S3 asks for backing off in
// seconds when it answers 503 SlowDown.
const (
	firstWait = 500 * time.Millisecond
	maxWait   = 30 * time.Second
)

func newClient(l Location, timeout time.Duration, retries, concurrency int, log *slog.Logger, m *metrics) (*client, error) {
	raw, name, err := l.open()
	if err != nil {
		return nil, err
	}
	return &client{
		raw: raw, name: name, secrets: l.Config.secrets(), timeout: timeout, retries: retries,
		wait: firstWait, slots: make(chan struct{}, concurrency), log: log, metrics: m,
	}, nil
}

// Kind says what went wrong with a request, as far as it matters to the caller.
type Kind string

// The kinds of [Error].
const (
	NotFound Kind = "not found"
	Denied   Kind = "access denied"
	TimedOut Kind = "timed out"
	Short    Kind = "cut short"
	Failed   Kind = "failed"
)

// Error is a request that was given up.
type Error struct {
	Op, Object, Store string // "upload", "01J.../index", `s3 bucket "metrics"`
	Kind              Kind
	Tries             int
	Err               error
}

// Error says what was asked, what came of it, and what to turn.
func (e *Error) Error() string {
	what := e.Op
	if e.Object != "" {
		what += " " + e.Object
	}
	what += " in " + e.Store
	switch e.Kind {
	case NotFound:
		return what + ": there is no such object"
	case Denied:
		return fmt.Sprintf("%s: access denied, the credentials (store.bucket.config) do not allow to %s: %v", what, e.Op, e.Err)
	case TimedOut:
		return fmt.Sprintf("%s: timed out %s (store.bucket.timeout, store.bucket.retries): %v", what, times(e.Tries), e.Err)
	}
	return fmt.Sprintf("%s: failed %s: %v", what, times(e.Tries), e.Err)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// Unwrap returns the store's own error.
func (e *Error) Unwrap() error { return e.Err }

// IsKind reports whether err is an [Error] of kind k.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

var (
	errStalled = errors.New("no byte moved for too long")
	errShort   = errors.New("the object ends too early")
)

// do runs f until it succeeds, cannot, or has been repeated often enough. f calls
// moved whenever the store has given a sign of life.
func (c *client) do(ctx context.Context, op, object string, f func(ctx context.Context, moved func()) error) error {
	wait := c.wait
	for try := 1; ; try++ {
		began := time.Now()
		err := c.once(ctx, f)
		c.metrics.seconds.WithLabelValues(op).Observe(time.Since(began).Seconds())
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		e := &Error{Op: op, Object: object, Store: c.name, Kind: c.kind(err), Tries: try, Err: scrub(err, c.secrets)}
		if op == "upload" && e.Kind == NotFound {
			e.Kind = Failed // a directory that another upload has just emptied, or no such bucket
		}
		if e.Kind == NotFound || e.Kind == Denied || errors.Is(err, errLocal) || try > c.retries {
			if e.Kind != NotFound {
				c.metrics.failures.WithLabelValues(op, string(e.Kind)).Inc()
			}
			return e
		}
		c.metrics.retried.WithLabelValues(op).Inc()
		c.log.Debug("bucket request repeated", "op", op, "object", object, "try", try, "err", e.Err)
		if !sleep(ctx, wait/2+rand.N(wait/2+1)) {
			return context.Cause(ctx)
		}
		wait = min(2*wait, maxWait)
	}
}

func (c *client) once(ctx context.Context, f func(ctx context.Context, moved func()) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(c.timeout, func() { cancel(fmt.Errorf("%w: %s", errStalled, c.timeout)) })
	defer watch.Stop()
	moved := func() { watch.Reset(c.timeout) }
	err := f(context.WithValue(ctx, movedKey{}, moved), moved)
	if err != nil && errors.Is(context.Cause(ctx), errStalled) {
		return context.Cause(ctx)
	}
	return err
}

func (c *client) kind(err error) Kind {
	switch {
	case errors.Is(err, errLocal):
		return Failed // not there is said of objects only
	case errors.Is(err, errStalled), errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		return TimedOut
	case c.raw.IsObjNotFoundErr(err), errors.Is(err, fs.ErrNotExist):
		return NotFound
	case c.raw.IsAccessDeniedErr(err), errors.Is(err, fs.ErrPermission):
		return Denied
	case errors.Is(err, errShort), errors.Is(err, io.ErrUnexpectedEOF):
		return Short
	}
	return Failed
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// slot waits for one of the transfers that may run at a time.
func (c *client) slot(ctx context.Context) (free func(), err error) {
	select {
	case c.slots <- struct{}{}:
		return func() { <-c.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// list returns the names of all objects below dir, "" for the whole bucket.
func (c *client) list(ctx context.Context, dir string) (names []string, err error) {
	err = c.do(ctx, "list", dir, func(ctx context.Context, moved func()) error {
		names = names[:0]
		return c.raw.Iter(ctx, dir, func(name string) error {
			moved()
			names = append(names, name)
			return nil
		}, objstore.WithRecursiveIter())
	})
	return names, err
}

// size returns the size of an object in bytes.
func (c *client) size(ctx context.Context, object string) (n int64, err error) {
	err = c.do(ctx, "stat", object, func(ctx context.Context, _ func()) error {
		a, err := c.raw.Attributes(ctx, object)
		n = a.Size
		return err
	})
	return n, err
}

// get returns a small object whole.
func (c *client) get(ctx context.Context, object string, limit int64) (data []byte, err error) {
	err = c.do(ctx, "get", object, func(ctx context.Context, moved func()) error {
		r, err := c.raw.Get(ctx, object)
		if err != nil {
			return err
		}
		defer r.Close()
		data, err = io.ReadAll(io.LimitReader(progress{r, moved}, limit+1))
		return err
	})
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("get %s in %s: larger than %d bytes", object, c.name, limit)
	}
	c.metrics.bytes.WithLabelValues("get").Add(float64(len(data)))
	return data, err
}

// getRange fills p with the object's bytes from off on.
func (c *client) getRange(ctx context.Context, object string, off int64, p []byte) error {
	err := c.do(ctx, "get", object, func(ctx context.Context, moved func()) error {
		r, err := c.raw.GetRange(ctx, object, off, int64(len(p)))
		if err != nil {
			return err
		}
		defer r.Close()
		n, err := io.ReadFull(progress{r, moved}, p)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%w: got %d of %d bytes from %d on", errShort, n, len(p), off)
		}
		return err
	})
	if err == nil {
		c.metrics.bytes.WithLabelValues("get").Add(float64(len(p)))
	}
	return err
}

// pieceSize is how much of an object is fetched by one request when all of it is
// wanted. It bounds what is asked for again after a cut, and the memory a transfer
// takes. Unmeasured: S3's own advice is 8 to 16 MiB.
const pieceSize = 8 << 20

// copyOut writes the object's size bytes to w and returns their SHA-256.
func (c *client) copyOut(ctx context.Context, object string, size int64, w io.Writer) (sum string, err error) {
	free, err := c.slot(ctx)
	if err != nil {
		return "", err
	}
	defer free()
	buf := make([]byte, min(size, pieceSize))
	hash := sha256.New()
	for off := int64(0); off < size; off += int64(len(buf)) {
		buf = buf[:min(size-off, pieceSize)]
		if err := c.getRange(ctx, object, off, buf); err != nil {
			return "", err
		}
		hash.Write(buf)
		if _, err := w.Write(buf); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// put uploads data.
func (c *client) put(ctx context.Context, object string, data []byte) error {
	return c.upload(ctx, object, int64(len(data)), func(_ context.Context, moved func()) (io.ReadCloser, error) {
		return &sized{Reader: bytes.NewReader(data), size: int64(len(data)), moved: moved}, nil
	})
}

// putFile uploads the file at path, which must not change meanwhile.
func (c *client) putFile(ctx context.Context, object, path string, size int64) error {
	return c.upload(ctx, object, size, func(_ context.Context, moved func()) (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errLocal, err)
		}
		return &sized{Reader: f, closer: f, size: size, moved: moved}, nil
	})
}

var errLocal = errors.New("local file")

func (c *client) upload(ctx context.Context, object string, size int64, open func(context.Context, func()) (io.ReadCloser, error)) error {
	free, err := c.slot(ctx)
	if err != nil {
		return err
	}
	defer free()
	err = c.do(ctx, "upload", object, func(ctx context.Context, moved func()) error {
		r, err := open(ctx, moved)
		if err != nil {
			return err
		}
		defer r.Close()
		return c.raw.Upload(ctx, object, r)
	})
	if err == nil {
		c.metrics.bytes.WithLabelValues("upload").Add(float64(size))
	}
	return err
}

// delete removes an object; one that is gone is fine.
func (c *client) delete(ctx context.Context, object string) error {
	err := c.do(ctx, "delete", object, func(ctx context.Context, _ func()) error { return c.raw.Delete(ctx, object) })
	if IsKind(err, NotFound) {
		return nil
	}
	return err
}

// progress tells of every read.
type progress struct {
	io.Reader
	moved func()
}

func (p progress) Read(b []byte) (int, error) {
	p.moved()
	return p.Reader.Read(b)
}

// sized is what is uploaded: S3's client sends it part by part, straight from the
// file, because it can seek and read at an offset and knows its size. Without that
// it would hold whole parts in memory.
type sized struct {
	Reader interface {
		io.ReadSeeker
		io.ReaderAt
	}
	closer io.Closer
	size   int64
	moved  func()
}

func (s *sized) Read(p []byte) (int, error)                { s.moved(); return s.Reader.Read(p) }
func (s *sized) ReadAt(p []byte, off int64) (int, error)   { s.moved(); return s.Reader.ReadAt(p, off) }
func (s *sized) Seek(off int64, whence int) (int64, error) { return s.Reader.Seek(off, whence) }
func (s *sized) ObjectSize() (int64, error)                { return s.size, nil }
func (s *sized) Close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}
