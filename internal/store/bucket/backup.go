package bucket

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weir-dev/weir/internal/store/block"
)

// Where backups lie in a bucket. A file is stored once under its SHA-256, however
// many backups have it.
const (
	manifestDir = ours + "/backups" // <name>.json
	contentDir  = ours + "/files"   // <first two digits>/<SHA-256>
)

// Manifest is one backup: what the files of a data directory were. It is written
// last, so a backup that was cut off is none; what it has sent is found by the next.
type Manifest struct {
	Version int       `json:"version"` // 1
	Name    string    `json:"name"`    // begins with the time, so that names sort by it
	Created time.Time `json:"created"`
	By      string    `json:"by"`   // version of the program
	Head    string    `json:"head"` // what there is of the head: "snapshot" or "wal"
	// Files by path, sorted.
	Files []Entry `json:"files"`
	// Digest is the SHA-256 of all files' paths, sizes and hashes.
	Digest string `json:"digest"`
	// NewFiles and NewBytes had to be sent; the rest was there from earlier backups.
	NewFiles int   `json:"new_files"`
	NewBytes int64 `json:"new_bytes"`
}

// Entry is one file of a backup.
type Entry struct {
	Path   string `json:"path"` // below the data directory, with slashes
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

func (e Entry) object() string { return path.Join(contentDir, e.SHA256[:2], e.SHA256) }

// Bytes is the sum of the files' sizes.
func (m *Manifest) Bytes() (n int64) {
	for _, e := range m.Files {
		n += e.Size
	}
	return n
}

func (m *Manifest) digest() string {
	h := sha256.New()
	for _, e := range m.Files {
		fmt.Fprintf(h, "%s\x00%d\x00%s\n", e.Path, e.Size, e.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// check says what is wrong with a manifest that was read.
func (m *Manifest) check() error {
	if m.Version != 1 {
		return fmt.Errorf("field version: got %d, want 1", m.Version)
	}
	for _, e := range m.Files {
		if sum, err := hex.DecodeString(e.SHA256); err != nil || len(sum) != sha256.Size || e.Size < 0 || !filepath.IsLocal(filepath.FromSlash(e.Path)) {
			return fmt.Errorf("field files: %q is no file of a backup", e.Path)
		}
	}
	if got := m.digest(); got != m.Digest {
		return fmt.Errorf("field digest: got %s, but the files' is %s: it was changed after it was written", m.Digest, got)
	}
	return nil
}

// Progress is told after each file: how many of how many are done, and bytes.
type Progress func(done, files int, bytes int64)

// Backups are those in a bucket.
type Backups struct {
	o   *Objects
	now func() time.Time
}

// NewBackups looks at the backups in o.
func NewBackups(o *Objects, now func() time.Time) *Backups { return &Backups{o, now} }

// List returns the names of all backups, oldest first.
func (b *Backups) List(ctx context.Context) ([]string, error) {
	objects, err := b.o.c.list(ctx, manifestDir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, o := range objects {
		if name, ok := strings.CutSuffix(path.Base(o), ".json"); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Manifest reads the backup of that name; "" is the newest.
func (b *Backups) Manifest(ctx context.Context, name string) (*Manifest, error) {
	if name == "" {
		names, err := b.List(ctx)
		if err != nil {
			return nil, err
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("there is no backup in %s", b.o)
		}
		name = names[len(names)-1]
	}
	m := new(Manifest)
	object := path.Join(manifestDir, name+".json")
	there, err := b.o.getJSON(ctx, object, m)
	if err != nil {
		return nil, err
	}
	if !there {
		return nil, fmt.Errorf("there is no backup %q in %s", name, b.o)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("backup %s in %s: %w", name, b.o, err)
	}
	return m, nil
}

// Create backs up the files of src. Files that an earlier backup has are not sent.
func (b *Backups) Create(ctx context.Context, src *Source, by string, progress Progress) (*Manifest, error) {
	stored, err := b.stored(ctx)
	if err != nil {
		return nil, err
	}
	known, err := b.known(ctx)
	if err != nil {
		return nil, err
	}
	now := b.now().UTC()
	m := &Manifest{
		Version: 1, Name: now.Format("20060102T150405.000Z") + "-" + strings.ToLower(rand.Text()[:6]),
		Created: now, By: by, Head: src.Head, Files: make([]Entry, len(src.files)),
	}
	var mu sync.Mutex // guards m and stored
	var done int
	index := make([]int, len(src.files))
	for i := range index {
		index[i] = i
	}
	err = each(ctx, cap(b.o.c.slots), index, func(ctx context.Context, i int) error {
		f := src.files[i]
		e, err := f.entry(ctx, known)
		if err != nil {
			return err
		}
		mu.Lock()
		again := stored[e.SHA256]
		stored[e.SHA256] = true // by this goroutine, or it fails and so does the backup
		mu.Unlock()
		if !again {
			if err := b.send(ctx, e, f.file); err != nil {
				return err
			}
		}
		mu.Lock()
		defer mu.Unlock()
		m.Files[i] = e
		if done++; !again {
			m.NewFiles++
			m.NewBytes += e.Size
		}
		progress(done, len(src.files), m.NewBytes)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("create backup: %w", err)
	}
	slices.SortFunc(m.Files, func(x, y Entry) int { return strings.Compare(x.Path, y.Path) })
	m.Digest = m.digest()
	return m, b.o.putJSON(ctx, path.Join(manifestDir, m.Name+".json"), m)
}

// stored returns the hashes of the files that the bucket has.
func (b *Backups) stored(ctx context.Context) (map[string]bool, error) {
	objects, err := b.o.c.list(ctx, contentDir)
	if err != nil {
		return nil, err
	}
	stored := make(map[string]bool, len(objects))
	for _, o := range objects {
		stored[path.Base(o)] = true
	}
	return stored, nil
}

// known returns the files of the newest backup, whose blocks need no hashing again.
func (b *Backups) known(ctx context.Context) (map[string]Entry, error) {
	names, err := b.List(ctx)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	m, err := b.Manifest(ctx, names[len(names)-1])
	if err != nil {
		return nil, nil // it is damaged, which verify says; this one is made without its help
	}
	known := make(map[string]Entry, len(m.Files))
	for _, e := range m.Files {
		known[e.Path] = e
	}
	return known, nil
}

// entry hashes a file, unless it is an immutable one that the last backup has with
// the same path, which holds the block's ULID, and size.
func (f sourceFile) entry(ctx context.Context, known map[string]Entry) (Entry, error) {
	if k, ok := known[f.path]; ok && f.immutable && k.Size == f.size {
		return k, nil
	}
	sum, size, err := hashFile(ctx, f.file)
	return Entry{Path: f.path, Size: size, SHA256: sum}, err
}

func (b *Backups) send(ctx context.Context, e Entry, file string) error {
	if err := b.o.c.putFile(ctx, e.object(), file, e.Size); err != nil {
		return err
	}
	return b.o.checkFile(ctx, e.object(), e.content(), b.o.verify == VerifyHash)
}

func (e Entry) content() block.File {
	return block.File{RelPath: e.SHA256, SizeBytes: e.Size, Hash: &block.Hash{Func: "SHA256", Value: e.SHA256}}
}

// Verify reads every file of a backup and compares its hash. The error names all
// that are missing or damaged.
func (b *Backups) Verify(ctx context.Context, m *Manifest, progress Progress) error {
	unique := make(map[string]Entry)
	for _, e := range m.Files {
		unique[e.SHA256] = e
	}
	var list []Entry
	for _, e := range unique {
		list = append(list, e)
	}
	var mu sync.Mutex
	var faults []error
	var done int
	var bytes int64
	err := each(ctx, cap(b.o.c.slots), list, func(ctx context.Context, e Entry) error {
		err := b.o.checkFile(ctx, e.object(), e.content(), true)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case errors.Is(err, errHalf), IsKind(err, NotFound), IsKind(err, Short):
			faults = append(faults, fmt.Errorf("%s: %w", e.Path, err))
		case err != nil:
			return err
		}
		done++
		bytes += e.Size
		progress(done, len(list), bytes)
		return nil
	})
	if err != nil {
		return fmt.Errorf("verify backup %s: %w", m.Name, err)
	}
	if len(faults) > 0 {
		slices.SortFunc(faults, func(x, y error) int { return strings.Compare(x.Error(), y.Error()) })
		return fmt.Errorf("backup %s cannot be restored whole, %d of %d files are damaged:\n%w", m.Name, len(faults), len(list), errors.Join(faults...))
	}
	return nil
}

// Restore writes a backup to dir, which must not exist or be empty. The files are
// gathered and checked beside it, in dir.restoring, and renamed in one step; when
// that is cut off, the next Restore goes on with it.
func (b *Backups) Restore(ctx context.Context, m *Manifest, dir string, progress Progress) error {
	dir = filepath.Clean(dir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restore backup %s: %w", m.Name, err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("restore backup %s: %s is not empty, it has %s; give an empty directory", m.Name, dir, entries[0].Name())
	}
	tmp := dir + ".restoring"
	var done atomic.Int64
	var bytes atomic.Int64
	err = each(ctx, cap(b.o.c.slots), m.Files, func(ctx context.Context, e Entry) error {
		if err := b.restoreFile(ctx, e, filepath.Join(tmp, filepath.FromSlash(e.Path))); err != nil {
			return err
		}
		progress(int(done.Add(1)), len(m.Files), bytes.Add(e.Size))
		return nil
	})
	if err != nil {
		return fmt.Errorf("restore backup %s: %w", m.Name, err)
	}
	if err := os.MkdirAll(tmp, 0o750); err != nil {
		return fmt.Errorf("restore backup %s: %w", m.Name, err)
	}
	if err := syncTree(tmp); err != nil {
		return fmt.Errorf("restore backup %s: %w", m.Name, err)
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restore backup %s: %w", m.Name, err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("restore backup %s: %w", m.Name, err)
	}
	return syncDir(filepath.Dir(dir))
}

func (b *Backups) restoreFile(ctx context.Context, e Entry, file string) error {
	if sum, size, err := hashFile(ctx, file); err == nil && sum == e.SHA256 && size == e.Size {
		return nil // from a restore that was cut off
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := b.o.downloadFile(ctx, e.object(), file, e.content())
	if err != nil {
		return fmt.Errorf("%s: %w", e.Path, err)
	}
	return nil
}

func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(p)
	})
}
