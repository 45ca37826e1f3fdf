package bucket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb/fileutil"
)

// Source is a data directory that holds still.
type Source struct {
	Head  string // see [Manifest]
	files []sourceFile
	close func() error
}

type sourceFile struct {
	path      string // in the backup
	file      string // on disk
	size      int64
	immutable bool // part of a block, but for meta.json and tombstones
}

// Close gives the directory free again and removes what was copied.
func (s *Source) Close() error { return s.close() }

// Files is how many there are.
func (s *Source) Files() int { return len(s.files) }

// notBackedUp are what a server makes anew, in its data directory.
var notBackedUp = []string{"lock", "snapshots", "bucket-cache", "bucket.json", "queries.active"}

// headParts are the head's, which change all the time while a server runs.
var headParts = []string{"wal", "wbl", "chunks_head"}

// Stopped locks a data directory whose server is stopped, so that none starts
// before [Source.Close].
func Stopped(dir string) (*Source, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("back up %s: there is no such data directory (store.dir)", dir)
	}
	lock, _, err := fileutil.Flock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("back up %s: a server holds it: stop the server, or give its address with --url (%w)", dir, err)
	}
	s := &Source{Head: "wal", close: lock.Release}
	if err := s.add(dir, "", false); err != nil {
		return nil, errors.Join(fmt.Errorf("back up %s: %w", dir, err), lock.Release())
	}
	return s, nil
}

// Running asks the server at base to write a snapshot into its data directory dir,
// which must be reachable from here, and links the rollups beside it. The server goes
// on meanwhile; its query.admin_api must be on.
func Running(ctx context.Context, dir, base string) (_ *Source, err error) {
	name, err := askSnapshot(ctx, base)
	if err != nil {
		return nil, fmt.Errorf("back up %s: %w", dir, err)
	}
	snap := filepath.Join(dir, "snapshots", filepath.Base(name))
	if _, err := os.Stat(snap); err != nil {
		return nil, fmt.Errorf("back up %s: the server at %s wrote its snapshot %s elsewhere, is this its store.dir? (%w)", dir, redactURL(base), name, err)
	}
	s := &Source{Head: "snapshot", close: func() error { return os.RemoveAll(snap) }}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("back up %s: %w", dir, err), s.close())
		}
	}()
	// The rollups after the raw blocks: what has left raw in between is in them.
	rest := filepath.Join(snap, "weir")
	if err := freeze(dir, rest); err != nil {
		return nil, err
	}
	if err := s.add(rest, "", false); err != nil {
		return nil, err
	}
	return s, s.add(snap, "", true)
}

// freeze links, below to, all of dir but raw blocks, the head, and what is not backed
// up: files of blocks by hard links, others by copies.
func freeze(dir, to string) error {
	if err := os.MkdirAll(to, 0o750); err != nil {
		return err
	}
	return walk(dir, func(rel string, d fs.DirEntry) error {
		top, _, _ := strings.Cut(rel, "/")
		if isULID(top) || slices.Contains(headParts, top) {
			return nil
		}
		from, dest := filepath.Join(dir, rel), filepath.Join(to, rel)
		if err := os.MkdirAll(filepath.Dir(dest), 0o750); err != nil {
			return err
		}
		err := errNoLink
		if blockFile(rel) {
			err = os.Link(from, dest)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			err = copyFile(from, dest)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // merged or deleted meanwhile, and then another has its data
		}
		return err
	})
}

var errNoLink = errors.New("not linked")

// add takes in all files below dir.
func (s *Source) add(dir, prefix string, rawOnly bool) error {
	return walk(dir, func(rel string, d fs.DirEntry) error {
		if top, _, _ := strings.Cut(rel, "/"); rawOnly && !isULID(top) {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		s.files = append(s.files, sourceFile{
			path: prefix + rel, file: filepath.Join(dir, rel), size: info.Size(), immutable: blockFile(rel),
		})
		return nil
	})
}

// walk calls f for each regular file below dir that belongs into a backup, with its
// path from there, with slashes.
func walk(dir string, f func(rel string, d fs.DirEntry) error) error {
	return filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && p != dir {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		unfinished := strings.HasSuffix(rel, ".tmp") || strings.HasSuffix(rel, ".tmp-for-creation") || strings.HasSuffix(rel, ".tmp-for-deletion")
		if unfinished || slices.Contains(notBackedUp, rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		return f(rel, d)
	})
}

func isULID(name string) bool {
	_, err := ulid.ParseStrict(name)
	return err == nil
}

// blockFile says whether a path ends in <ULID>/index or <ULID>/chunks/<n>, which
// never change.
func blockFile(rel string) bool {
	parts := strings.Split(rel, "/")
	n := len(parts)
	return n >= 2 && parts[n-1] == "index" && isULID(parts[n-2]) ||
		n >= 3 && parts[n-2] == "chunks" && isULID(parts[n-3])
}

func copyFile(from, to string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, r)
	return errors.Join(err, w.Close())
}

// snapshotWait bounds how long a server may take to write its head as a block: some
// 10 s for 1M series, unmeasured beyond.
const snapshotWait = 10 * time.Minute

// askSnapshot returns the name of the snapshot the server has written.
func askSnapshot(ctx context.Context, base string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, snapshotWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(base, "/")+"/api/v1/admin/tsdb/snapshot", nil)
	if err != nil {
		return "", errors.New("ask the server for a snapshot: the address cannot be read, want for instance http://127.0.0.1:9480")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address may hold a password
		}
		return "", fmt.Errorf("ask the server at %s for a snapshot: %w", redactURL(base), err)
	}
	defer resp.Body.Close()
	var body struct {
		Error string
		Data  struct{ Name string }
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&body)
	if resp.StatusCode != http.StatusOK || err != nil || body.Data.Name == "" {
		return "", fmt.Errorf("ask the server at %s for a snapshot: it answers %s: %s (query.admin_api must be true)", redactURL(base), resp.Status, body.Error)
	}
	return body.Data.Name, nil
}

func redactURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(an address that cannot be read)"
	}
	return u.Redacted()
}
