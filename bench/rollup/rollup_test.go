package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/tsdb"

	"github.com/weir-dev/weir/bench/dataset"
)

// dataSet writes 20 series of so many days, one block.
func dataSet(t *testing.T, days int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "set")
	s := dataset.Spec{Mix: "counters", Series: 20, Days: days, Seed: 1}
	if err := dataset.Write(t.Context(), dir, s, func(tsdb.BlockMeta) {}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// script writes a shell script that stands for weir or thanos. In it, $make is a
// command that makes a block of a resolution in ms, 5 bytes of index and 7 of
// chunks, in a directory.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	text := `#!/bin/sh
[ "$1" = version ] || [ "$1" = --version ] && echo fake && exit
make() { mkdir -p $2/chunks; printf 12345 >$2/index; printf 1234567 >$2/chunks/000001; echo "{\"thanos\":{\"downsample\":{\"resolution\":$1}}}" >$2/meta.json; }
` + body
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// weirScript checks the command line that the verb has.
const weirScript = `
[ "$*" = "blocks rollup --resolutions=5m,1h $4 $5" ] && [ -f $5/index ] || { echo bad line $* >&2; exit 3; }
out=${4#--out=}
make 300000 $out/5m/A; make 3600000 $out/1h/B
`

// thanosScript writes its blocks late and stays.
const thanosScript = `
for a; do case $a in --objstore.config-file=*) bucket=$(sed -n 's/ *directory: //p' ${a#*=});; esac; done
sleep 0.3; make 300000 $bucket/A; make 3600000 $bucket/B
exec sleep 60
`

func TestRunBoth(t *testing.T) {
	data := dataSet(t, 11)
	out := filepath.Join(t.TempDir(), "result.md")
	err := run(t.Context(), []string{
		"-data", data, "-weir", script(t, weirScript), "-thanos", script(t, thanosScript), "-n", "2", "-o", out,
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"weir over thanos", "| weir | 5m | 1 | 7 | 5 |", "| thanos | 1h | 1 | 7 | 5 |", "program=weir"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("result lacks %q:\n%s", want, text)
		}
	}
	if n := strings.Count(string(text), "BenchmarkRollup"); n != 4 {
		t.Errorf("got %d benchstat lines, want 4", n)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(data), "rollup-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("runs left %v, %v", left, err)
	}
}

func TestFailuresAreNamed(t *testing.T) {
	long := dataSet(t, 11)
	short := dataSet(t, 1)
	for _, tt := range []struct{ data, flag, body, want string }{
		{long, "-weir", "echo no such verb >&2; exit 2", "exit status 2: no such verb"},
		{long, "-weir", "exit 0", "no rollups below"},
		{long, "-thanos", "echo bad bucket; exit 1", "bad bucket"},
		{short, "-thanos", "sleep 60", "blocks of 40 h and more"},
	} {
		err := run(t.Context(), []string{"-data", tt.data, tt.flag, script(t, tt.body), "-n", "1"})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %q: got %v, want %q", tt.flag, tt.body, err, tt.want)
		}
	}
	for _, args := range [][]string{{}, {"-data", long}, {"-data", long, "-weir", "/nowhere"}, {"-data", long, "x"}} {
		if err := run(t.Context(), args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
