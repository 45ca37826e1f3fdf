package tiers

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/weir-dev/weir/internal/store/block"
)

// stateFile is below rollup/. It holds what the blocks themselves cannot tell. To
// lose it costs work, not data, but for deletions that were still under way.
const stateFile = "state.json"

// state is the content of stateFile. Its owner guards it.
type state struct {
	// Settled are raw blocks out of which retention has taken, or is about to take,
	// series: they say less than their rollups, which they never replace.
	Settled []ulid.ULID `json:"settled,omitempty"`
	// Derived are raw blocks that the TSDB wrote anew without what was deleted,
	// under a new ULID as their only source, and the sources they stand for.
	Derived map[ulid.ULID][]ulid.ULID `json:"derived,omitempty"`
	// RawFrom is where raw data is whole: the end of the newest raw block that
	// retention has deleted. Late samples of an older time may be raw blocks still.
	RawFrom int64 `json:"raw_from,omitempty"` // Unix milliseconds; 0: nothing was deleted
	// Deletions asked for and not yet done, oldest first.
	Deletions []deletion `json:"deletions,omitempty"`
}

// deletion is one call of [Tiers.Delete].
type deletion struct {
	ID       string         `json:"id"`
	Asked    time.Time      `json:"asked"`
	MinT     int64          `json:"mint"` // both inclusive
	MaxT     int64          `json:"maxt"`
	Matchers block.Matchers `json:"matchers"`
	RawDone  bool           `json:"raw_done,omitempty"`   // the samples have tombstones
	TierDone bool           `json:"tiers_done,omitempty"` // the tier blocks are rewritten
	// Done is when it was done on disk. Older blocks of the bucket may still have what
	// is deleted, which is then hidden on reading.
	Done time.Time `json:"done,omitzero"`
}

func readState(dir string) (state, error) {
	s := state{}
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return state{}, fmt.Errorf("read state of the rollups: %w", err)
	}
	return s, nil
}

// write replaces the file at once and durably.
func (s *state) write(dir string) error {
	b, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return fmt.Errorf("encode state of the rollups: %w", err)
	}
	if err := replaceFile(filepath.Join(dir, stateFile), append(b, '\n')); err != nil {
		return fmt.Errorf("write state of the rollups: %w", err)
	}
	return nil
}

func (s *state) settled(id ulid.ULID) bool { return slices.Contains(s.Settled, id) }

func (s *state) settle(id ulid.ULID) bool {
	if s.settled(id) {
		return false
	}
	s.Settled = append(s.Settled, id)
	return true
}

func (s *state) derive(id ulid.ULID, of []ulid.ULID) bool {
	if _, ok := s.Derived[id]; ok {
		return false
	}
	if s.Derived == nil {
		s.Derived = map[ulid.ULID][]ulid.ULID{}
	}
	s.Derived[id] = slices.Clone(of)
	return true
}

// forget drops what is said of blocks that used does not have.
func (s *state) forget(used map[ulid.ULID]bool) bool {
	n := len(s.Settled) + len(s.Derived)
	gone := func(id ulid.ULID) bool { return !used[id] }
	s.Settled = slices.DeleteFunc(s.Settled, gone)
	for id := range s.Derived {
		if gone(id) {
			delete(s.Derived, id)
		}
	}
	return n != len(s.Settled)+len(s.Derived)
}

func replaceFile(path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
