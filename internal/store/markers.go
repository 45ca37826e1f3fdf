package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
)

const (
	typeLast = 4

	snappyFlag = 1 << 3
	zstdFlag   = 1 << 4
)

// forgetMarkers overwrites, in the out-of-order log in dir, each record that says
// a series' chunk has been mapped to disk, and is called before the TSDB opens it.
//
// Replay skips the samples that such a marker covers. But a compaction of
// out-of-order data puts a series' open chunk into a write buffer first, and the
// next sample logs the marker: killed before the buffer is written, the chunk is
// nowhere and its samples are skipped all the same (found by TestChaosKill, in
// Prometheus 0.315 itself too). Without markers every sample in the log is
// replayed; those that are on disk as well are merged where they are read. The log
// is cut at each compaction, so little is replayed twice.
func (s *Store) forgetMarkers(dir string) error {
	first, last, err := wlog.Segments(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && first < 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list segments of %s: %w", dir, err)
	}
	for i := first; i <= last; i++ {
		path := wlog.SegmentName(dir, i)
		n, err := blankMarkers(path)
		if err != nil {
			return fmt.Errorf("forget markers in %s: %w", path, err)
		}
		if n > 0 {
			s.log.Debug("markers of mapped chunks forgotten", "segment", path, "records", n)
		}
	}
	return nil
}

// blankMarkers overwrites the marker records of one segment by records of unknown
// type and the same size, and returns how many there were.
func blankMarkers(path string) (n int, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	page, buf := make([]byte, pageSize), compression.NewSyncDecodeBuffer()
	var open []fragment // of the record that has begun and not ended
	var data []byte     // of those fragments
	for base := int64(0); ; base += pageSize {
		got, err := f.ReadAt(page, base)
		if err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		for at := 0; at+headerSize <= got && page[at]&typeMask != 0; {
			head := page[at]
			x := fragment{base + int64(at), int(binary.BigEndian.Uint16(page[at+1:]))}
			end := at + headerSize + x.size
			if end > got {
				break // cut short: closeKilledTears has dealt with it, or the TSDB will
			}
			if typ := head & typeMask; typ == typeFull || typ == typeFirst {
				open, data = open[:0], data[:0]
			}
			open, data = append(open, x), append(data, page[at+headerSize:end]...)
			at = end
			if typ := head & typeMask; typ != typeFull && typ != typeLast {
				continue
			}
			if !isMarkers(data, head, buf) {
				continue
			}
			n++
			for _, x := range open {
				if _, err := f.WriteAt(blank(x.size), x.at); err != nil {
					return n, fmt.Errorf("blank %d bytes at %d: %w", x.size, x.at, err)
				}
			}
		}
		if got < pageSize {
			if n > 0 {
				return n, f.Sync()
			}
			return n, nil
		}
	}
}

// isMarkers says whether data, compressed as head says, is a marker record. What
// cannot be read is left to the TSDB, which reports it.
func isMarkers(data []byte, head byte, buf compression.DecodeBuffer) bool {
	typ := compression.None
	switch {
	case head&snappyFlag != 0:
		typ = compression.Snappy
	case head&zstdFlag != 0:
		typ = compression.Zstd
	}
	rec, err := compression.Decode(typ, data, buf)
	return err == nil && len(rec) > 0 && record.Type(rec[0]) == record.MmapMarkers
}
