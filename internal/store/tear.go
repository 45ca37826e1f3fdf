package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/prometheus/prometheus/tsdb/wlog"
)

// The WAL's own layout (Prometheus, tsdb/docs/format/wal.md): pages of 32 KiB; in
// them fragments of a 7-byte header (type and flags, length, CRC-32C of the data)
// and data. Type 0 ends a page early.
const (
	pageSize   = 32 << 10
	headerSize = 7

	typeMask   = 0x07
	typeFull   = 1
	typeFirst  = 2
	typeMiddle = 3

	// unknownRecord is a record type no Prometheus writes; replay, checkpoints and
	// WAL readers skip it.
	unknownRecord = 0xff
)

type fragment struct {
	at   int64 // offset of the header in the segment
	size int   // of the data; -1: the segment ends before the fragment does
}

// closeKilledTears makes the log in dir readable to its end after a kill, and is
// called before the TSDB opens it. A record of several pages may have been written
// in part. The TSDB would take that for corruption and repair it, but would not
// replay the out-of-order log then, so that acknowledged samples were missing.
func (s *Store) closeKilledTears(dir string) error {
	first, last, err := wlog.Segments(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && first < 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list segments of %s: %w", dir, err)
	}
	// The last two segments that hold anything: the one that was written to, and
	// the one before, should the kill have come while a full disk tore both.
	for i, seen := last, 0; i >= first && seen < 2; i-- {
		path := wlog.SegmentName(dir, i)
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		if st.Size() == 0 {
			continue
		}
		seen++
		n, err := closeTears(path, true)
		if err != nil {
			return fmt.Errorf("mend %s: %w", path, err)
		}
		if n > 0 {
			s.log.Warn("torn record blanked, left by a kill", "segment", path, "fragments", n)
		}
	}
	return nil
}

// closeTears overwrites each fragment of a record without an end, or without a
// beginning, by a whole record of unknown type and the same size, and returns how
// many there were. Nobody may append to a sealed segment any more; there a fragment
// that is cut short is overwritten by zeros, which end a page.
func closeTears(path string, sealed bool) (int, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	torn, err := findTears(f)
	if err != nil || len(torn) == 0 {
		return 0, err
	}
	for _, t := range torn {
		patch := blank(t.size)
		if t.size < 0 {
			if !sealed {
				return 0, fmt.Errorf("the fragment at %d is cut short", t.at)
			}
			patch = make([]byte, size-t.at)
		}
		if _, err := f.WriteAt(patch, t.at); err != nil {
			return 0, fmt.Errorf("blank %d bytes at %d: %w", len(patch), t.at, err)
		}
	}
	return len(torn), f.Sync()
}

func findTears(f io.ReaderAt) (torn []fragment, err error) {
	var open []fragment // of the record that has begun and not ended
	page := make([]byte, pageSize)
	for base := int64(0); ; base += pageSize {
		n, err := f.ReadAt(page, base)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		for at := 0; at < n && page[at]&typeMask != 0 && at+headerSize <= pageSize; {
			x := fragment{base + int64(at), -1}
			end := n + 1
			if at+headerSize <= n {
				x.size = int(binary.BigEndian.Uint16(page[at+1:]))
				end = at + headerSize + x.size
			}
			if end > n {
				x.size = -1
				return append(append(torn, open...), x), nil
			}
			torn, open = step(torn, open, page[at]&typeMask, x)
			at = end
		}
		if n < pageSize {
			return append(torn, open...), nil
		}
	}
}

// step moves the reader over one fragment.
func step(torn, open []fragment, typ byte, f fragment) (_, _ []fragment) {
	switch {
	case typ == typeFirst:
		return append(torn, open...), []fragment{f}
	case typ == typeFull:
		return append(torn, open...), nil
	case len(open) == 0: // middle or last of nothing
		return append(torn, f), nil
	case typ == typeMiddle:
		return torn, append(open, f)
	}
	return torn, nil // last
}

// blank returns a record of unknown type with size bytes of data.
func blank(size int) []byte {
	b := make([]byte, headerSize+max(size, 0))
	b[0] = typeFull
	binary.BigEndian.PutUint16(b[1:], uint16(max(size, 0)))
	if size > 0 {
		b[headerSize] = unknownRecord
	}
	binary.BigEndian.PutUint32(b[3:], crc32.Checksum(b[headerSize:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}
