package tiers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// put makes a block of 5 bytes of index and 7 of chunks.
func put(t *testing.T, dir, meta string) Block {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "chunks"), 0o777); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"index": "12345", "chunks/000001": "1234567", "meta.json": meta} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func raw(t *testing.T, dir, id string, hours int) Block {
	t.Helper()
	meta := fmt.Sprintf(`{"ulid":%q,"minTime":1793404800123,"maxTime":%d,"compaction":{"sources":[%q]}}`, id, 1793404800123+hours*3_600_000, id)
	return put(t, filepath.Join(dir, id), meta)
}

func TestFindAndCovered(t *testing.T) {
	dir := t.TempDir()
	a, b := raw(t, dir, "A", 48), raw(t, dir, "B", 48)
	if a.MinTime != 1793404800123 || a.Size.Total() != 12 || a.Resolution != 0 {
		t.Errorf("Read: got %+v", a)
	}
	put(t, filepath.Join(dir, "rollup", "5m", "C"), `{"compaction":{"sources":["A"]},"thanos":{"downsample":{"resolution":300000}}}`)
	if err := os.MkdirAll(filepath.Join(dir, "D.tmp", "chunks"), 0o777); err != nil {
		t.Fatal(err)
	}
	found, err := Find(dir)
	if err != nil || len(found) != 3 {
		t.Fatalf("Find: got %+v, %v, want three blocks", found, err)
	}
	if !Covered([]Block{a}, found, 5*time.Minute) {
		t.Error("A is covered at 5m and was not seen")
	}
	if Covered([]Block{a, b}, found, 5*time.Minute) || Covered([]Block{a}, found, time.Hour) {
		t.Error("B at 5m and A at 1h are not covered")
	}
}

func TestBucket(t *testing.T) {
	dir := t.TempDir()
	blocks := []Block{raw(t, dir, "A", 39), raw(t, dir, "B", 40), raw(t, dir, "C", 240)}
	b, err := FillBucket(filepath.Join(dir, "x"), blocks)
	if err != nil {
		t.Fatal(err)
	}
	if b.expected() != 3 {
		t.Errorf("got %d rollups expected of 39, 40 and 240 h, want 3", b.expected())
	}
	text, err := os.ReadFile(filepath.Join(b.Dir, "A", "meta.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"minTime":1793404800123`, `"cluster":"bench"`, `"resolution":0`, `"ulid":"A"`} {
		if !strings.Contains(string(text), part) {
			t.Errorf("meta.json lacks %s: %s", part, text)
		}
	}
	mine, err := os.ReadFile(filepath.Join(dir, "A", "meta.json"))
	if err != nil || strings.Contains(string(mine), "thanos") {
		t.Errorf("the data set's own meta.json was changed: %s, %v", mine, err)
	}
	short := &Bucket{raw: blocks[:1]}
	if _, err := short.Downsample(t.Context(), "thanos", dir, 0); err == nil || !strings.Contains(err.Error(), "40 h") {
		t.Errorf("short blocks: got %v", err)
	}
}
