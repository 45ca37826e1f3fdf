package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-kit/log" //nolint:depguard // what the stores of objstore log with; it is given a logger that says nothing
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/azure"
	"github.com/thanos-io/objstore/providers/filesystem"
	"github.com/thanos-io/objstore/providers/gcs"
	"github.com/thanos-io/objstore/providers/s3"

	"github.com/weir-dev/weir/internal/conf"
)

// component is what stores are told of who asks, in the user agent.
const component = "weir"

// provider is one kind of object store. The clients' own retries are off where
// they can be: client.do has the only policy.
type provider struct {
	config func() any // pointer to the defaults
	check  func(config any, f *conf.Faults)
	open   func(config any) (objstore.Bucket, error)
}

func providers() map[string]provider {
	return map[string]provider{
		"filesystem": {
			config: func() any { return new(filesystem.Config) },
			check:  func(c any, f *conf.Faults) { need(f, "directory", c.(*filesystem.Config).Directory) },
			open: func(c any) (objstore.Bucket, error) {
				b, err := filesystem.NewBucket(c.(*filesystem.Config).Directory)
				return files{b, c.(*filesystem.Config).Directory}, err
			},
		},
		"s3": {
			config: func() any {
				c := s3.DefaultConfig
				c.PutUserMetadata = maps.Clone(c.PutUserMetadata) // the client changes it
				c.MaxRetries = 1
				c.PartSize = pieceSize // the client holds one part of a large object in memory
				return &c
			},
			check: func(c any, f *conf.Faults) {
				s := c.(*s3.Config)
				need(f, "bucket", s.Bucket)
				need(f, "endpoint", s.Endpoint)
				if (s.AccessKey == "") != (s.SecretKey == "") {
					f.Add("secret_key", errors.New("only one of access_key and secret_key"), "both, or none for the environment or the instance's role")
				}
			},
			open: func(c any) (objstore.Bucket, error) {
				return s3.NewBucketWithConfig(log.NewNopLogger(), *c.(*s3.Config), component, watched)
			},
		},
		"gcs": {
			config: func() any {
				c := gcs.DefaultConfig
				c.MaxRetries = 1
				return &c
			},
			check: func(c any, f *conf.Faults) { need(f, "bucket", c.(*gcs.Config).Bucket) },
			open: func(c any) (objstore.Bucket, error) {
				return gcs.NewBucketWithConfig(context.Background(), log.NewNopLogger(), *c.(*gcs.Config), component, watched)
			},
		},
		"azure": {
			config: func() any {
				c := azure.DefaultConfig
				c.PipelineConfig.MaxTries = 1
				return &c
			},
			check: func(c any, f *conf.Faults) {
				need(f, "storage_account", c.(*azure.Config).StorageAccountName)
				need(f, "container", c.(*azure.Config).ContainerName)
			},
			open: func(c any) (objstore.Bucket, error) {
				return azure.NewBucketWithConfig(log.NewNopLogger(), *c.(*azure.Config), component, watched)
			},
		},
	}
}

func need(f *conf.Faults, key, got string) {
	if got == "" {
		f.Add(key, got, "a name")
	}
}

// open returns the store at l, which Validate has let through, and its name for
// messages: `s3 bucket "metrics" below "weir"`.
func (l *Location) open() (_ objstore.Bucket, name string, err error) {
	kind := strings.ToLower(l.Type)
	p, ok := providers()[kind]
	if !ok {
		return nil, "", fmt.Errorf("open bucket (store.bucket.type): got %q, want filesystem, s3, gcs or azure", l.Type)
	}
	c := p.config()
	if err := l.Config.decode(c); err != nil {
		return nil, "", fmt.Errorf("open %s bucket: settings in store.bucket.config cannot be read", kind)
	}
	b, err := p.open(c)
	if err != nil {
		return nil, "", fmt.Errorf("open %s bucket (store.bucket.config): %w", kind, scrub(err, l.Config.secrets()))
	}
	name = fmt.Sprintf("%s bucket %q", kind, strings.TrimPrefix(b.Name(), "fs: "))
	if l.Prefix != "" {
		name += fmt.Sprintf(" below %q", l.Prefix)
		b = objstore.NewPrefixedBucket(b, l.Prefix)
	}
	return b, name, nil
}

// scrub returns err, or if its text holds a secret, an error without it.
func scrub(err error, secrets []string) error {
	text := err.Error()
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, conf.Secret(s).String())
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// watched lets a transport tell of every byte that moves, which the client's own reader
// cannot: parts of large objects are read long before they are sent.
func watched(next http.RoundTripper) http.RoundTripper { return watch{next} }

type watch struct{ next http.RoundTripper }

type movedKey struct{}

// RoundTrip implements [http.RoundTripper].
func (w watch) RoundTrip(r *http.Request) (*http.Response, error) {
	moved, ok := r.Context().Value(movedKey{}).(func())
	if !ok {
		return w.next.RoundTrip(r)
	}
	if r.Body != nil && r.Body != http.NoBody {
		copied := *r // a request given to a transport must not be changed
		copied.Body = movingBody{progress{r.Body, moved}, r.Body}
		r = &copied
	}
	resp, err := w.next.RoundTrip(r)
	if err == nil && resp.Body != nil {
		moved()
		resp.Body = movingBody{progress{resp.Body, moved}, resp.Body}
	}
	return resp, err
}

type movingBody struct {
	progress
	io.Closer
}

// files is a directory as a bucket. The library's own writes each object in place:
// one that was cut off would look whole until its size is compared, and nothing
// would be synced.
type files struct {
	*filesystem.Bucket
	root string
}

// Upload writes to a file beside, syncs it and renames it into place.
func (b files) Upload(ctx context.Context, name string, r io.Reader, _ ...objstore.ObjectUploadOption) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	file := filepath.Join(b.root, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*.part")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := io.Copy(f, untilDone{ctx, r}); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	// What killed uploads of it have left. Another one under way meets its own loss at
	// the renaming, and is repeated.
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".*.part")) // the pattern is good
	for _, l := range left {
		_ = os.Remove(l)
	}
	return syncDir(filepath.Dir(file))
}

// IterWithAttributes passes over what an upload that was killed has left.
func (b files) IterWithAttributes(ctx context.Context, dir string, f func(objstore.IterObjectAttributes) error, o ...objstore.IterOption) error {
	return b.Bucket.IterWithAttributes(ctx, dir, func(a objstore.IterObjectAttributes) error {
		if part(a.Name) {
			return nil
		}
		return f(a)
	}, o...)
}

// Iter is as IterWithAttributes.
func (b files) Iter(ctx context.Context, dir string, f func(string) error, o ...objstore.IterOption) error {
	return b.Bucket.Iter(ctx, dir, func(name string) error {
		if part(name) {
			return nil
		}
		return f(name)
	}, o...)
}

func part(name string) bool {
	base := filepath.Base(name)
	return strings.HasPrefix(base, ".") && strings.HasSuffix(base, ".part")
}

// untilDone is a reader that ends with its context.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
