package bucket

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// ownerLapse is how long the word of another server counts after it was last heard
// of. It is many times the time between two listings by default (5 minutes), so
// that one failed listing does not hand the bucket over.
const ownerLapse = 30 * time.Minute

// claim is the object weir/owners/<hash of the labels>.json: which process ships
// with these labels.
type claim struct {
	Labels   map[string]string `json:"labels"`
	Instance string            `json:"instance"` // of a data directory
	Session  string            `json:"session"`  // of a process
	Host     string            `json:"host"`
	Seen     time.Time         `json:"seen"`
}

// owner sees to it that two servers with the same labels do not ship to one bucket:
// each would take the other's blocks for its own, serve and delete them. There is no
// lock in object stores, so this is no lock: the later of two that start in the same
// second wins, and the earlier notices at its next listing. Until then both only add
// blocks.
type owner struct {
	objects *Objects
	name    string
	mine    claim
	now     func() time.Time
	held    bool // used by the goroutine that ships only
	first   bool
}

func newOwner(o *Objects, labels map[string]string, instance string, now func() time.Time) owner {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		fmt.Fprintf(h, "%s\xff%s\xff", k, labels[k])
	}
	host, _ := os.Hostname() // for people only
	return owner{
		objects: o, now: now, first: true,
		name: path.Join(ours, "owners", hex.EncodeToString(h.Sum(nil)[:8])+".json"),
		mine: claim{Labels: labels, Instance: instance, Session: rand.Text(), Host: host},
	}
}

// claim renews our claim, or says whose it is.
func (o *owner) claim(ctx context.Context) error {
	var is claim
	there, err := o.objects.getJSON(ctx, o.name, &is)
	if err != nil && !there {
		return err
	}
	fresh := there && err == nil && o.now().Sub(is.Seen) < ownerLapse
	theirs := is.Instance != o.mine.Instance || is.Session != o.mine.Session && !o.first
	if fresh && theirs {
		o.held = false
		return fmt.Errorf("another server, on host %q, ships to %s with the external labels %v, last seen %s: give each its own store.bucket.external_labels, or stop it and delete %s",
			is.Host, o.objects, is.Labels, is.Seen.UTC().Format(time.RFC3339), o.name)
	}
	o.mine.Seen = o.now()
	if err := o.objects.putJSON(ctx, o.name, o.mine); err != nil {
		return err
	}
	o.held, o.first = true, false
	return nil
}

// state is a file in the store's directory: the name of this data directory, and the
// uploads and deletions that were begun and not finished, so that what is left of them
// can be told from others' uploads.
type state struct {
	*stateFile
}

type stateFile struct {
	file string
	mu   sync.Mutex

	Instance string               `json:"instance"`
	Begun    map[ulid.ULID]string `json:"begun"` // block whose upload or deletion is not finished, to when
}

func readState(file string) (state, error) {
	s := state{&stateFile{file: file}}
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return state{}, fmt.Errorf("read state of the bucket: %w", err)
	}
	if err != nil || json.Unmarshal(data, s.stateFile) != nil || s.Instance == "" {
		// Half a file, or none: what it said can be told from the bucket, but for the
		// remains of uploads, which Thanos and people can delete.
		s.Instance = rand.Text()
	}
	if s.Begun == nil {
		s.Begun = make(map[ulid.ULID]string)
	}
	return s, s.write()
}

func (s state) write() error {
	data, err := json.MarshalIndent(s.stateFile, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.file), 0o750); err != nil {
		return fmt.Errorf("write state of the bucket: %w", err)
	}
	tmp := s.file + ".tmp"
	if err := os.WriteFile(tmp, append(data, '\n'), 0o640); err != nil {
		return fmt.Errorf("write state of the bucket: %w", err)
	}
	if err := os.Rename(tmp, s.file); err != nil {
		return fmt.Errorf("write state of the bucket: %w", err)
	}
	return nil
}

func (s state) begin(id ulid.ULID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.Begun[id]; ok {
		return nil
	}
	s.Begun[id] = time.Now().UTC().Format(time.RFC3339)
	return s.write()
}

func (s state) begun(id ulid.ULID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.Begun[id]
	return ok
}

// all returns the blocks whose upload or deletion was begun and not finished.
func (s state) all() []ulid.ULID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.Begun))
}

func (s state) end(id ulid.ULID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.Begun[id]; !ok {
		return nil
	}
	delete(s.Begun, id)
	return s.write()
}
