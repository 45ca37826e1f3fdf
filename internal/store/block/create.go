package block

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// syncDir makes creations, renames and removals in dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// RemoveUnfinished removes from dir, which holds blocks, what a crash left of blocks
// that were being made or deleted, and returns their paths. Nothing may be made in
// dir meanwhile. It is no error if there is no dir.
func RemoveUnfinished(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for unfinished blocks: %w", err)
	}
	var gone []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), tmpSuffix) && !strings.HasSuffix(e.Name(), delSuffix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		if err := os.RemoveAll(path); err != nil {
			return gone, fmt.Errorf("remove unfinished block: %w", err)
		}
		gone = append(gone, path)
	}
	if len(gone) == 0 {
		return nil, nil
	}
	return gone, syncDir(dir)
}

const delSuffix = ".tmp-for-deletion" // the TSDB's

// Remove deletes the block in dir so that a crash leaves it whole or gone, but for
// what [RemoveUnfinished] finds. It is no error if there is none.
func Remove(dir string) error {
	dir = filepath.Clean(dir)
	doomed := dir + delSuffix
	if err := os.RemoveAll(doomed); err != nil {
		return fmt.Errorf("delete block %s: %w", dir, err)
	}
	if err := os.Rename(dir, doomed); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("delete block %s: %w", dir, err)
	}
	if err := errors.Join(syncDir(filepath.Dir(dir)), os.RemoveAll(doomed)); err != nil {
		return fmt.Errorf("delete block %s: %w", dir, err)
	}
	return nil
}
