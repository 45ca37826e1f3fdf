package bucket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weir-dev/weir/internal/store/block"
)

// Names in a bucket that Thanos knows, and the directory of our own.
const (
	markFile = "deletion-mark.json"
	ours     = "weir"
)

// smallObject bounds what is read of a meta.json, a mark or a manifest, in bytes;
// block.Meta has the same bound.
const smallObject = 64 << 20

// Objects is a bucket seen from below: its blocks, whosever they are. Its methods
// may be called from any goroutine.
type Objects struct {
	c      *client
	verify string
}

// Dial makes a client of the bucket at l, which Validate has let through, with the
// timeouts and so on of cfg. Nothing is asked yet.
func Dial(l Location, cfg Config, log *slog.Logger, reg prometheus.Registerer) (*Objects, error) {
	c, err := newClient(l, cfg.Timeout.Std(), cfg.Retries, cfg.Concurrency, log, newMetrics(reg))
	if err != nil {
		return nil, err
	}
	return &Objects{c: c, verify: cfg.Verify}, nil
}

// String names the bucket: `s3 bucket "metrics"`.
func (o *Objects) String() string { return o.c.name }

// Close lets go of connections.
func (o *Objects) Close() error { return o.c.raw.Close() }

// Remote is a block in a bucket, or what there is of it.
type Remote struct {
	ID      ulid.ULID
	Objects map[string]bool // names below the block's directory
	Meta    *block.Meta     // nil while it is being uploaded, or if it cannot be read
	Mark    *Mark           // nil unless the block is to be deleted
	Bad     error           // why the block cannot be used, unless it is just partial
}

// Mark is Thanos' deletion-mark.json.
type Mark struct {
	ID      ulid.ULID `json:"id"`
	Version int       `json:"version"` // 1
	Details string    `json:"details,omitempty"`
	Time    int64     `json:"deletion_time"` // when the block was marked, Unix seconds
}

// clone copies what methods of [Objects] change.
func (r *Remote) clone() *Remote {
	c := *r
	c.Objects = maps.Clone(r.Objects)
	return &c
}

// Complete says whether meta.json and every file it names are there.
func (r *Remote) Complete() bool { return r.Meta != nil && r.Bad == nil && r.missing() == "" }

// missing returns the name of a file that meta.json names and the bucket has not.
func (r *Remote) missing() string {
	for _, f := range r.Meta.Thanos.Files {
		if !r.Objects[f.RelPath] {
			return f.RelPath
		}
	}
	if !r.Objects[block.IndexFile] {
		return block.IndexFile
	}
	return ""
}

// State in a word: complete, marked, partial or bad.
func (r *Remote) State() string {
	switch {
	case r.Bad != nil:
		return "bad"
	case !r.Complete():
		return "partial"
	case r.Mark != nil:
		return "marked"
	}
	return "complete"
}

// Why explains a state other than complete.
func (r *Remote) Why() string {
	switch {
	case r.Bad != nil:
		return r.Bad.Error()
	case r.Meta == nil:
		return "there is no meta.json: it is being uploaded, or an upload ended early"
	case r.missing() != "":
		return r.missing() + " is missing"
	case r.Mark != nil:
		return "to be deleted: " + r.Mark.Details
	}
	return ""
}

// metaCache remembers what meta.json said; it may be nil.
type metaCache interface {
	load(id ulid.ULID) *block.Meta
	store(id ulid.ULID, text []byte)
}

// List returns all blocks, by ULID.
func (o *Objects) List(ctx context.Context) (map[ulid.ULID]*Remote, error) { return o.list(ctx, nil) }

func (o *Objects) list(ctx context.Context, cache metaCache) (map[ulid.ULID]*Remote, error) {
	names, err := o.c.list(ctx, "")
	if err != nil {
		return nil, err
	}
	blocks := make(map[ulid.ULID]*Remote)
	for _, name := range names {
		dir, file, ok := strings.Cut(name, "/")
		id, err := ulid.ParseStrict(dir)
		if !ok || file == "" || err != nil {
			continue
		}
		if blocks[id] == nil {
			blocks[id] = &Remote{ID: id, Objects: make(map[string]bool)}
		}
		blocks[id].Objects[file] = true
	}
	all := slices.Collect(maps.Values(blocks))
	return blocks, each(ctx, cap(o.c.slots), all, func(ctx context.Context, r *Remote) error { return o.describe(ctx, r, cache) })
}

// describe reads meta.json and the mark of a listed block. What is wrong with the
// block itself is noted in it; an error means that the bucket does not answer.
func (o *Objects) describe(ctx context.Context, r *Remote, cache metaCache) error {
	if r.Objects[markFile] {
		data, err := o.c.get(ctx, path.Join(r.ID.String(), markFile), smallObject)
		if err != nil && !IsKind(err, NotFound) {
			return err
		}
		r.Mark = &Mark{ID: r.ID, Version: 1, Details: "its mark cannot be read", Time: time.Now().Unix()}
		_ = json.Unmarshal(data, r.Mark) // half a mark is a mark
	}
	if !r.Objects[block.MetaFile] {
		return nil
	}
	if cache != nil {
		if r.Meta = cache.load(r.ID); r.Meta != nil {
			return nil
		}
	}
	data, err := o.c.get(ctx, path.Join(r.ID.String(), block.MetaFile), smallObject)
	if IsKind(err, NotFound) {
		delete(r.Objects, block.MetaFile)
		return nil
	}
	if err != nil {
		return err
	}
	m, err := block.DecodeMeta(data)
	if err == nil && m.ULID != r.ID {
		err = fmt.Errorf("field ulid: got %s, want the directory's %s", m.ULID, r.ID)
	}
	if err != nil {
		r.Bad = fmt.Errorf("%s/%s in %s: %w", r.ID, block.MetaFile, o.c.name, err)
		return nil
	}
	r.Meta = m
	if cache != nil {
		cache.store(r.ID, data)
	}
	return nil
}

// Check compares the size of each file of a complete block with what meta.json
// says, and with deep its SHA-256 too.
func (o *Objects) Check(ctx context.Context, m *block.Meta, deep bool) error {
	return each(ctx, cap(o.c.slots), m.Thanos.Files, func(ctx context.Context, f block.File) error {
		if f.RelPath == block.MetaFile {
			return nil // has no size, for it holds the others'
		}
		return o.checkFile(ctx, path.Join(m.ULID.String(), f.RelPath), f, deep)
	})
}

// errHalf marks objects that are not what was uploaded.
var errHalf = errors.New("the object in the bucket is damaged")

func (o *Objects) checkFile(ctx context.Context, name string, f block.File, deep bool) error {
	size, err := o.c.size(ctx, name)
	if err != nil {
		return err
	}
	if f.SizeBytes > 0 && size != f.SizeBytes {
		return fmt.Errorf("%w: %s in %s has %d bytes of %d", errHalf, name, o.c.name, size, f.SizeBytes)
	}
	if !deep || f.Hash == nil || f.Hash.Func != "SHA256" {
		return nil
	}
	sum, err := o.c.copyOut(ctx, name, size, discard{})
	if err == nil && sum != f.Hash.Value {
		err = fmt.Errorf("%w: %s in %s has SHA-256 %s, want %s", errHalf, name, o.c.name, sum, f.Hash.Value)
	}
	return err
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// MarkForDeletion writes Thanos' mark, unless there is one.
func (o *Objects) MarkForDeletion(ctx context.Context, r *Remote, details string, now time.Time) error {
	if r.Mark != nil {
		return nil
	}
	m := &Mark{ID: r.ID, Version: 1, Details: details, Time: now.Unix()}
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := o.c.put(ctx, path.Join(r.ID.String(), markFile), data); err != nil {
		return err
	}
	r.Mark = m
	r.Objects[markFile] = true
	return nil
}

// Delete removes a block: meta.json first, so that what is left of it when this is
// cut short is taken for no block, and the mark last.
func (o *Objects) Delete(ctx context.Context, r *Remote) error {
	rank := func(name string) int {
		switch name {
		case block.MetaFile:
			return 0
		case markFile:
			return 2
		}
		return 1
	}
	names := slices.SortedFunc(maps.Keys(r.Objects), func(a, b string) int { return rank(a) - rank(b) })
	for _, name := range names {
		if err := o.c.delete(ctx, path.Join(r.ID.String(), name)); err != nil {
			return err
		}
		delete(r.Objects, name)
	}
	// A file system keeps the empty directories of a deletion that was cut short.
	return o.c.delete(ctx, r.ID.String())
}

// getJSON reads a small object; false when there is none.
func (o *Objects) getJSON(ctx context.Context, name string, v any) (bool, error) {
	data, err := o.c.get(ctx, name, smallObject)
	if IsKind(err, NotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return true, fmt.Errorf("read %s in %s: %w", name, o.c.name, err)
	}
	return true, nil
}

func (o *Objects) putJSON(ctx context.Context, name string, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "\t")
	if err := enc.Encode(v); err != nil {
		return err
	}
	return o.c.put(ctx, name, b.Bytes())
}

// each calls f for all of list, n at a time, and returns the first error, with
// which the others are told to end.
func each[T any](ctx context.Context, n int, list []T, f func(context.Context, T) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var once sync.Once
	var first error
	next := make(chan T)
	for range min(n, len(list)) {
		wg.Go(func() {
			for v := range next {
				if ctx.Err() != nil {
					continue
				}
				if err := f(ctx, v); err != nil {
					once.Do(func() { first = err; cancel(err) })
				}
			}
		})
	}
feed:
	for _, v := range list {
		select {
		case next <- v:
		case <-ctx.Done():
			once.Do(func() { first = context.Cause(ctx) })
			break feed
		}
	}
	close(next)
	wg.Wait()
	return first
}
