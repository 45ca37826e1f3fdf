package bucket

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/weir-dev/weir/internal/store/block"
)

// tombstonesFile lists deleted samples of a raw block of the TSDB.
const tombstonesFile = "tombstones"

// emptyTombstones is the size of a file without any: magic 4, version 1, CRC 4.
const emptyTombstones = 9

// ErrTombstones refuses blocks with samples that are deleted only by a note beside
// them, which no reader of a bucket looks at.
var ErrTombstones = errors.New("it has tombstones: the samples they delete would be back in the bucket; " +
	"it is uploaded once it has been compacted, or rewritten (weir blocks rewrite)")

// HasTombstones says whether the block in dir has deleted samples.
func HasTombstones(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, tombstonesFile))
	return err == nil && info.Size() > emptyTombstones
}

// Upload puts the block in dir into the bucket, with labels as its external labels:
// chunks, then the index, then a check of all, then meta.json, by which a block is
// known to be whole. Objects that are there with the right size, from an upload
// that was cut off, are not sent again. It returns the block as it is in the
// bucket.
func (o *Objects) Upload(ctx context.Context, dir string, labels map[string]string, now time.Time) (*Remote, error) {
	m, err := block.ReadMeta(dir)
	if err != nil {
		return nil, err
	}
	if len(labels) == 0 {
		return nil, fmt.Errorf("upload block %s: no external labels (store.bucket.external_labels), Thanos needs one", m.ULID)
	}
	if HasTombstones(dir) {
		return nil, fmt.Errorf("upload block %s: %w", m.ULID, ErrTombstones)
	}
	files, err := fileStats(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("upload block %s: %w", m.ULID, err)
	}
	stamp(m, labels, files, now)

	chunks, index := files[:len(files)-1], files[len(files)-1:]
	for _, group := range [][]block.File{chunks, index} {
		err := each(ctx, cap(o.c.slots), group, func(ctx context.Context, f block.File) error {
			return o.uploadFile(ctx, dir, m.ULID.String(), f)
		})
		if err != nil {
			return nil, err
		}
	}
	err = each(ctx, cap(o.c.slots), files, func(ctx context.Context, f block.File) error {
		name := path.Join(m.ULID.String(), f.RelPath)
		err := o.checkFile(ctx, name, f, o.verify == VerifyHash)
		if !errors.Is(err, errHalf) {
			return err
		}
		if err := o.c.putFile(ctx, name, filepath.Join(dir, f.RelPath), f.SizeBytes); err != nil {
			return err
		}
		return o.checkFile(ctx, name, f, o.verify == VerifyHash)
	})
	if err != nil {
		return nil, err
	}
	data, err := m.Encode()
	if err != nil {
		return nil, err
	}
	if err := o.c.put(ctx, path.Join(m.ULID.String(), block.MetaFile), data); err != nil {
		return nil, err
	}
	name := path.Join(m.ULID.String(), block.MetaFile)
	if err := o.checkFile(ctx, name, block.File{SizeBytes: int64(len(data))}, false); err != nil {
		return nil, err
	}
	r := &Remote{ID: m.ULID, Meta: m, Objects: map[string]bool{block.MetaFile: true}}
	for _, f := range files {
		r.Objects[f.RelPath] = true
	}
	return r, nil
}

// stamp fills in Thanos' section.
func stamp(m *block.Meta, labels map[string]string, files []block.File, now time.Time) {
	t := &m.Thanos
	t.Version, t.Labels, t.Source, t.UploadTime = 1, labels, block.Source, now.UTC()
	if t.Extensions.Weir == nil {
		t.Extensions.Weir = &block.Weir{Samples: m.Stats.NumSamples}
	}
	t.SegmentFiles = nil
	for _, f := range files[:len(files)-1] {
		t.SegmentFiles = append(t.SegmentFiles, path.Base(f.RelPath))
	}
	t.Files = append(files[:len(files):len(files)], block.File{RelPath: block.MetaFile})
}

// fileStats lists the files of a block that are uploaded, with size and hash: the
// segments of chunks in order, and the index last, as their paths sort.
func fileStats(ctx context.Context, dir string) ([]block.File, error) {
	segments, err := os.ReadDir(filepath.Join(dir, block.ChunksDir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var files []block.File
	for _, s := range segments {
		if strings.Trim(s.Name(), "0123456789") == "" {
			files = append(files, block.File{RelPath: path.Join(block.ChunksDir, s.Name())})
		}
	}
	files = append(files, block.File{RelPath: block.IndexFile})
	for i := range files {
		f := &files[i]
		sum, size, err := hashFile(ctx, filepath.Join(dir, f.RelPath))
		if err != nil {
			return nil, err
		}
		f.SizeBytes, f.Hash = size, &block.Hash{Func: "SHA256", Value: sum}
	}
	return files, nil
}

func hashFile(ctx context.Context, name string) (sum string, size int64, err error) {
	f, err := os.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.CopyBuffer(h, untilDone{ctx, f}, make([]byte, 256<<10))
	return hex.EncodeToString(h.Sum(nil)), size, err
}

func (o *Objects) uploadFile(ctx context.Context, dir, id string, f block.File) error {
	name := path.Join(id, f.RelPath)
	if size, err := o.c.size(ctx, name); err == nil && size == f.SizeBytes {
		return nil
	} else if err != nil && !IsKind(err, NotFound) {
		return err
	}
	return o.c.putFile(ctx, name, filepath.Join(dir, f.RelPath), f.SizeBytes)
}

// Download fetches a block into parent/<ULID>, checks every file's size and hash,
// and renames it into place. It returns the directory.
func (o *Objects) Download(ctx context.Context, r *Remote, parent string) (dir string, err error) {
	if !r.Complete() {
		return "", fmt.Errorf("download block %s: %s", r.ID, r.Why())
	}
	dir = filepath.Join(parent, r.ID.String())
	if _, err := os.Stat(dir); err == nil {
		return "", fmt.Errorf("download block %s: %s exists", r.ID, dir)
	}
	tmp := dir + ".tmp-for-creation" // the TSDB removes such directories at start
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(tmp, block.ChunksDir), 0o750); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(tmp)
		}
	}()
	err = each(ctx, cap(o.c.slots), r.Meta.Thanos.Files, func(ctx context.Context, f block.File) error {
		if f.RelPath == block.MetaFile {
			return nil
		}
		return o.downloadFile(ctx, path.Join(r.ID.String(), f.RelPath), filepath.Join(tmp, filepath.FromSlash(f.RelPath)), f)
	})
	if err != nil {
		return "", err
	}
	if err := r.Meta.Write(tmp); err != nil {
		return "", err
	}
	if err := errors.Join(syncDir(filepath.Join(tmp, block.ChunksDir)), os.Rename(tmp, dir)); err != nil {
		return "", err
	}
	return dir, syncDir(parent)
}

// downloadFile writes an object to a new file, synced.
func (o *Objects) downloadFile(ctx context.Context, name, file string, want block.File) error {
	if !filepath.IsLocal(filepath.FromSlash(want.RelPath)) {
		return fmt.Errorf("download %s: %q leads out of its directory", name, want.RelPath)
	}
	size := want.SizeBytes
	if size == 0 {
		n, err := o.c.size(ctx, name)
		if err != nil {
			return err
		}
		size = n
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	sum, err := o.c.copyOut(ctx, name, size, f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if want.Hash != nil && want.Hash.Func == "SHA256" && sum != want.Hash.Value {
		return fmt.Errorf("%w: %s in %s has SHA-256 %s, want %s", errHalf, name, o.c.name, sum, want.Hash.Value)
	}
	return nil
}
