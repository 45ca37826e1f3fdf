package block_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/tombstones"

	"github.com/weir-dev/weir/internal/store/block"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func id(n uint64) ulid.ULID { return ulid.MustNew(uint64(base)+n, nil) }

func goldenMeta() *block.Meta {
	m := &block.Meta{
		BlockMeta: tsdb.BlockMeta{
			ULID: id(9), MinTime: base, MaxTime: base + 2*hour, Version: 1,
			Stats: tsdb.BlockStats{NumSamples: 25, NumFloatSamples: 24, NumHistogramSamples: 1, NumSeries: 2, NumChunks: 2},
			Compaction: tsdb.BlockMetaCompaction{
				Level: 2, Sources: []ulid.ULID{id(1), id(2)},
				Parents: []tsdb.BlockDesc{{ULID: id(3), MinTime: base, MaxTime: base + hour}},
			},
		},
		Thanos: block.Thanos{
			Version:      1,
			Labels:       map[string]string{"cluster": "eu1", "replica": "a"},
			Downsample:   block.Downsample{Resolution: 5 * minute},
			Source:       block.Source,
			SegmentFiles: []string{"000001"},
			Files: []block.File{
				{RelPath: "chunks/000001", SizeBytes: 1234, Hash: &block.Hash{Func: "SHA256", Value: strings.Repeat("ab", 32)}},
				{RelPath: "index", SizeBytes: 567, Hash: &block.Hash{Func: "SHA256", Value: strings.Repeat("cd", 32)}},
				{RelPath: "meta.json"},
			},
			Rewrites: []block.Rewritten{{Sources: []ulid.ULID{id(4)}, Deletions: []block.Deletion{{
				Matchers:  block.Matchers{labels.MustNewMatcher(labels.MatchEqual, "env", "dev"), labels.MustNewMatcher(labels.MatchRegexp, "job", "a|b")},
				Intervals: tombstones.Intervals{{Mint: base, Maxt: base + hour}}, RequestID: "r1",
			}}}},
			IndexStats: block.IndexStats{SeriesMaxSize: 64, ChunkMaxSize: 700},
			Extensions: block.Extensions{
				Weir:   &block.Weir{Selector: `{env!="test"}`, Replaces: true, RolledFrom: []ulid.ULID{id(5)}, Samples: 480},
				Others: map[string]json.RawMessage{"somebody": json.RawMessage(`{"else":1}`)},
			},
		},
	}
	return m
}

func TestMetaGolden(t *testing.T) {
	path := filepath.Join("testdata", "meta.json")
	got, err := goldenMeta().Encode()
	check(t, err)
	if *update {
		check(t, os.MkdirAll("testdata", 0o777))
		check(t, os.WriteFile(path, got, 0o666))
	}
	want, err := os.ReadFile(path)
	check(t, err)
	if string(got) != string(want) {
		t.Errorf("got %s\nwant %s", got, want)
	}
	m, err := block.DecodeMeta(want)
	check(t, err)
	again, err := m.Encode()
	check(t, err)
	if string(again) != string(want) {
		t.Errorf("decoded and encoded: got %s\nwant %s", again, want)
	}
	ms := m.Thanos.Rewrites[0].Deletions[0].Matchers
	if !ms[1].Matches("b") || ms[1].Matches("c") || ms.String() != `{env="dev",job=~"a|b"}` {
		t.Errorf("got matchers %s", ms)
	}
}

func TestMetaRefuses(t *testing.T) {
	good, err := goldenMeta().Encode()
	check(t, err)
	for _, c := range []struct{ from, to, want string }{
		{`"minTime": 1700006400000`, `"minTime": "soon"`, "field minTime: got a string"},
		{`"maxTime": 17`, `"maxTime": 16`, "field maxTime"},
		{`"version": 1,` + "\n\t\"thanos\"", `"version": 2,` + "\n\t\"thanos\"", "field version: got 2, want 1"},
		{`"resolution": 300000`, `"resolution": -1`, "field thanos.downsample.resolution: got -1"},
		{`"numSeries": 2`, `"numSeries": 3`, "field thanos.extensions.weir.crc32c: got"},
		{`"source": "weir"`, `"source": "weis"`, "crc32c"},
		{`"ulid": "01`, `"ulid": "U`, "ulid"},
		{`{`, `{{`, "at byte 2"},
	} {
		bad := strings.Replace(string(good), c.from, c.to, 1)
		if _, err := block.DecodeMeta([]byte(bad)); bad == string(good) || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("with %s: got error %v, want one about %q", c.to, err, c.want)
		}
	}
	dir := t.TempDir()
	elsewhere := filepath.Join(dir, id(1).String())
	check(t, os.Mkdir(elsewhere, 0o777))
	check(t, goldenMeta().Write(elsewhere))
	if _, err := block.ReadMeta(elsewhere); err == nil || !strings.Contains(err.Error(), elsewhere) || !strings.Contains(err.Error(), "field ulid") {
		t.Errorf("in a directory of another ULID: got error %v", err)
	}
}

// TestMetaOfOthers reads what the TSDB and Thanos write.
func TestMetaOfOthers(t *testing.T) {
	thanos := goldenMeta()
	thanos.Thanos.Source = "compactor" // carries our extension on, with a CRC of another file
	b, err := thanos.Encode()
	check(t, err)
	b = []byte(strings.Replace(string(b), `"numSeries": 2`, `"numSeries": 3`, 1))
	if _, err := block.DecodeMeta(b); err != nil {
		t.Errorf("Thanos': %v", err)
	}
	b, err = json.Marshal(goldenMeta().BlockMeta)
	check(t, err)
	m, err := block.DecodeMeta(b)
	if err != nil || !reflect.DeepEqual(m.BlockMeta, goldenMeta().BlockMeta) || m.Resolution() != 0 || m.Thanos.Labels == nil {
		t.Errorf("the TSDB's: got %+v and error %v", m, err)
	}
}
