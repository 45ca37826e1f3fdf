package store_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/wlog"

	"github.com/weir-dev/weir/internal/store"
	"github.com/weir-dev/weir/internal/store/storetest"
)

// TestKilledInRecord leaves the WAL as a kill between the pages of one record does:
// in order and out of order, everything before it must be there.
func TestKilledInRecord(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, config(dir), nil)
	ls := labels.FromStrings("a", "1")
	add(t, s, ls, storetest.Base+5000, 5, 6, 7)
	add(t, s, ls, storetest.Base, 1)
	want := storetest.Read(t, s, ls)

	first := func(data string, lost int) []byte { // the first fragment of a record, less its last bytes
		b := binary.BigEndian.AppendUint16([]byte{2}, uint16(len(data)))
		b = binary.BigEndian.AppendUint32(b, crc32.Checksum([]byte(data), crc32.MakeTable(crc32.Castagnoli)))
		return append(b, data...)[:7+len(data)-lost]
	}
	for name, tail := range map[string][]byte{
		"no end":         first("some of it", 0),
		"no data":        first("", 0),
		"cut in data":    first("some of it", 3),
		"cut in header":  first("some of it", 12),
		"two beginnings": append(first("some of it", 0), first("again", 0)...),
	} {
		t.Run(name, func(t *testing.T) {
			copied := t.TempDir()
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			os.Remove(filepath.Join(copied, "lock"))
			for _, log := range []string{"wal", "wbl"} {
				path := wlog.SegmentName(filepath.Join(copied, log), 0)
				f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Write(tail); err != nil {
					t.Fatal(err)
				}
				f.Close()
			}
			have := slices.Clone(want)
			for range 2 { // what was mended stays so
				s, closing := open(t, config(copied), nil)
				storetest.Expect(t, s, ls, have)
				next := have[len(have)-1].T + 1
				add(t, s, ls, next, 9)
				have = append(have, storetest.Sample{T: next, V: 9})
				storetest.Expect(t, s, ls, have)
				closing()
			}
		})
	}
}

// TestRecordsOfManySizes has records begin and end at every place of a page, and
// opens the log when nothing is torn.
func TestRecordsOfManySizes(t *testing.T) {
	dir := t.TempDir()
	var told strings.Builder
	cfg := config(dir)
	cfg.WALCompression = store.CompressionNone
	s, closing := open(t, cfg, nil)
	want := map[string]float64{}
	for i := range 400 {
		app := s.AppenderV2(context.Background())
		n := fmt.Sprint(i)
		want[n] = float64(i)
		ls := labels.FromStrings("n", n, "padding", strings.Repeat("x", i*i%70_001))
		if _, err := app.Append(0, ls, 0, storetest.Base, float64(i), nil, nil, storage.AOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	closing()
	for _, dir := range []string{dir, copied} {
		os.Remove(filepath.Join(dir, "lock"))
		cfg.Dir = dir
		s, closing := openLogged(t, cfg, nil, slog.New(slog.NewTextHandler(&told, nil)))
		if n := s.DB().Head().NumSeries(); n != uint64(len(want)) {
			t.Errorf("%d series, want %d", n, len(want))
		}
		closing()
	}
	if strings.Contains(told.String(), "torn") || strings.Contains(told.String(), "repair") {
		t.Errorf("a whole log was mended:\n%s", told.String())
	}
}
