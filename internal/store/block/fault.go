package block

import (
	"fmt"
	"path/filepath"
)

// Fault is damage in a block. It is no fault if the file system refuses.
type Fault struct {
	Dir    string
	File   string // within Dir, "" if the whole is meant
	Offset int64  // in bytes; negative if the whole file is meant
	Err    error
}

func (f *Fault) Error() string {
	switch {
	case f.File == "":
		return fmt.Sprintf("block %s: %v", f.Dir, f.Err)
	case f.Offset < 0:
		return fmt.Sprintf("block %s: file %s: %v", f.Dir, f.File, f.Err)
	}
	return fmt.Sprintf("block %s: file %s at byte %d: %v", f.Dir, f.File, f.Offset, f.Err)
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

func fault(dir, file string, offset int64, format string, args ...any) *Fault {
	return &Fault{dir, file, offset, fmt.Errorf(format, args...)}
}

// SegmentName is the path of the i-th file of chunks, from 0, within a block.
func SegmentName(i int) string {
	return filepath.ToSlash(filepath.Join(ChunksDir, fmt.Sprintf("%06d", i+1)))
}
