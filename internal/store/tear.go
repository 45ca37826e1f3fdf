package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
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
	typeLast   = 4

	// unknownRecord is a record type no Prometheus writes; replay, checkpoints and
	// WAL readers skip it.
	unknownRecord = 0xff
)

type fragment struct {
	at   int64 // offset of the header in the segment
	size int   // of the data
}

// closeTears overwrites each fragment of a record without an end, or without a
// beginning, by a whole record of unknown type and the same size, and returns how
// many there were. Nobody may write the segment meanwhile. A tear at the end of the
// segment counts.
func closeTears(path string) (int, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	torn, err := findTears(f)
	if err != nil || len(torn) == 0 {
		return 0, err
	}
	for _, t := range torn {
		if _, err := f.WriteAt(blank(t.size), t.at); err != nil {
			return 0, fmt.Errorf("blank %d bytes at %d: %w", t.size, t.at, err)
		}
	}
	return len(torn), f.Sync()
}

func findTears(f *os.File) (torn []fragment, err error) {
	var open []fragment // of the record that has begun and not ended
	page := make([]byte, pageSize)
	for base := int64(0); ; base += pageSize {
		n, err := f.ReadAt(page, base)
		if n == 0 {
			if !errors.Is(err, io.EOF) {
				return nil, err
			}
			return append(torn, open...), nil
		}
		for at := 0; at+headerSize <= n; {
			typ := page[at] & typeMask
			if typ == 0 {
				break
			}
			size := int(binary.BigEndian.Uint16(page[at+1:]))
			if at+headerSize+size > n {
				return nil, fmt.Errorf("fragment at %d is longer than the segment", base+int64(at))
			}
			torn, open = step(torn, open, typ, fragment{base + int64(at), size})
			at += headerSize + size
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
	return torn, nil
}

func blank(size int) []byte {
	b := make([]byte, headerSize+size)
	b[0] = typeFull
	binary.BigEndian.PutUint16(b[1:], uint16(size))
	if size > 0 {
		b[headerSize] = unknownRecord
	}
	binary.BigEndian.PutUint32(b[3:], crc32.Checksum(b[headerSize:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}
