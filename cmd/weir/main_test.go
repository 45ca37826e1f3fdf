package main

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/conf/gen"
)

var update = flag.Bool("update", false, "write golden files and generated pages instead of comparing them")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"weir": main})
}

// TestScripts runs the binary as a user would, a script a verb.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", UpdateScripts: *update, RequireExplicitExec: true})
}

func TestDefaultConfigIsGood(t *testing.T) {
	cfg := DefaultConfig()
	var f conf.Faults
	cfg.Validate(&f)
	if err := f.Err(); err != nil {
		t.Error(err)
	}
}

func TestDefaultConfigPrintsAndReadsBack(t *testing.T) {
	printed, err := conf.Print(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	if err := conf.Decode(bytes.NewReader(printed), &cfg); err != nil {
		t.Fatalf("%v\nin\n%s", err, printed)
	}
	if diff, err := conf.Diff(cfg, DefaultConfig()); err != nil || diff != nil {
		t.Errorf("%v, differs by\n%s", err, diff)
	}
}

// FuzzConfig looks for a file that makes a room's Validate panic, or that is
// accepted and does not come back from its printed form.
func FuzzConfig(f *testing.F) {
	printed, err := conf.Print(DefaultConfig())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(printed))
	f.Add("ingest: {relabel_configs: [{source_labels: [a], action: drop, regex: 'x.*'}], external_labels: {a: b}}")
	f.Add("store: {retention: {time: 1y, size: 1TiB}, wal_compression: true}\nquery: {cors_origin: '('}")
	f.Fuzz(func(t *testing.T, text string) {
		cfg := DefaultConfig()
		if conf.Decode(strings.NewReader(text), &cfg) != nil {
			return
		}
		printed, err := conf.Print(cfg)
		if err != nil {
			t.Fatalf("print what %q gave: %v", text, err)
		}
		back := DefaultConfig()
		if err := conf.Decode(bytes.NewReader(printed), &back); err != nil {
			t.Fatalf("%q prints as\n%s\nwhich is refused: %v", text, printed, err)
		}
	})
}

const configurationIntro = `# Configuration

Generated from the Go structs by ` + "`make gen`" + `; edit the comments there.

` + "`weir serve --config.file=weir.yaml`" + ` reads one YAML file. Every setting has a default, so a file holds
only what differs, and ` + "`weir config print`" + ` shows the whole. Reading is strict: an unknown or repeated key or a
value of another type is refused, and all faults are named at once; ` + "`weir config check weir.yaml`" + ` does the
same without starting.

- A duration is written as Prometheus writes it: ` + "`30s`, `1h30m`, `15d`" + `.
- A size is a whole number of bytes or has a unit of 1024: ` + "`512KiB`, `64MiB`, `1GiB`" + `.
- A list or map in the file replaces the default; a section is merged into it key by key.
- "reload": SIGHUP or ` + "`POST /-/reload`" + ` makes a change effective. "restart": only a restart does.
`

// TestConfigurationPage fails when docs/configuration.md is not what the structs
// and their comments say, or when a setting has no proper comment.
func TestConfigurationPage(t *testing.T) {
	settings, err := gen.Walk(DefaultConfig(), gen.Source{
		Module: "github.com/weir-dev/weir", Root: "../..", Main: "cmd/weir",
	})
	if err != nil {
		t.Fatal(err)
	}
	page, err := gen.Markdown(configurationIntro, settings)
	if err != nil {
		t.Fatal(err)
	}
	const file = "../../docs/configuration.md"
	if *update {
		if err := os.WriteFile(file, page, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, page) {
		t.Errorf("docs/configuration.md is stale, run make gen; %s", firstDifference(string(have), string(page)))
	}
}

func firstDifference(have, want string) string {
	h, w := strings.Split(have, "\n"), strings.Split(want, "\n")
	for i := range min(len(h), len(w)) {
		if h[i] != w[i] {
			return "have\n" + h[i] + "\nwant\n" + w[i]
		}
	}
	return "one is longer than the other"
}
